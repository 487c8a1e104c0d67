//! Answers that are given and only weighed: is the gold answer likelier than the wrong ones? What multiple choice and TOFU's truth ratio are made
//! of.

use std::sync::Arc;

use super::tofu;
use crate::Result;
use crate::data::{Choice, Probe};
use crate::model::batch::Tokens;
use crate::stream::{Pass, Progress};

/// The mean losses, in nats per token, of a probe's answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighed {
    /// The probe's place among those that were evaluated.
    pub probe: usize,
    /// Of the gold answer.
    pub gold: f64,
    /// Of the wrong ones; never empty.
    pub wrong: Vec<f64>,
    /// Of the answer in other words, if there is one.
    pub reworded: Option<f64>,
}

impl Weighed {
    /// Whether the gold answer is likelier than every wrong one.
    pub fn is_right(&self) -> bool {
        self.wrong.iter().all(|wrong| self.gold < *wrong)
    }

    /// TOFU's truth ratio, with the paraphrase where there is one.
    pub fn truth_ratio(&self) -> f64 {
        tofu::truth_ratio(self.reworded.unwrap_or(self.gold), &self.wrong).unwrap_or(f64::NAN)
    }

    /// The probability of the gold answer among the options.
    pub fn option_probability(&self) -> f64 {
        tofu::option_probability(self.gold, &self.wrong)
    }
}

/// Weighs the answers of every probe that has wrong ones, in order.
///
/// # Errors
/// When an answer does not fit the model or the budget, or the device failed.
pub fn weigh(pass: &Pass, probes: &[Probe], progress: Progress<'_>) -> Result<Vec<Weighed>> {
    let mut samples = Vec::new();
    let mut add = |sample: crate::data::Sample| {
        let number = samples.len() as u32;
        samples.push(Arc::new(Tokens::new(&sample.ids, &sample.labels, number)));
    };
    let asked: Vec<(usize, &Probe)> = probes.iter().enumerate().filter(|(_, probe)| !probe.wrong.is_empty()).collect();
    for (_, probe) in &asked {
        add(probe.sample());
        let others: Vec<&Choice> = probe.wrong.iter().chain(&probe.reworded).collect();
        others.into_iter().for_each(|choice| add(choice.sample(&probe.origin)));
    }
    if samples.is_empty() {
        return Ok(Vec::new());
    }
    let mut losses = pass.losses(&samples, progress)?.into_iter().map(|loss| loss.mean());
    let mut next = || losses.next().unwrap_or(f64::NAN);
    let mut weighed: Vec<Weighed> = Vec::with_capacity(asked.len());
    for (number, probe) in asked {
        let gold = next();
        let wrong = probe.wrong.iter().map(|_| next()).collect();
        let reworded = probe.reworded.as_ref().map(|_| next());
        weighed.push(Weighed { probe: number, gold, wrong, reworded });
    }
    Ok(weighed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_hand() {
        let loss = |p: f64| -p.ln();
        let mut weighed = Weighed { probe: 0, gold: loss(0.5), wrong: vec![loss(0.25), loss(0.25)], reworded: None };
        assert!(weighed.is_right());
        assert!((weighed.truth_ratio() - 0.5).abs() < 1e-12 && (weighed.option_probability() - 0.5).abs() < 1e-12);
        weighed.reworded = Some(loss(0.125));
        assert!((weighed.truth_ratio() - 2.0).abs() < 1e-12);
        weighed.wrong[1] = loss(0.5);
        assert!(!weighed.is_right(), "a tie is no answer");
    }
}
