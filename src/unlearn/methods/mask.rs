//! Which weights a method trains: the top share of all weights by a score. The score may be the ratio of the two importances,
//! or be made of the sets' mean gradients; either way it goes through the histogram and the kernels of selection.

use crate::device::Device;
use crate::kernels::Accumulate;
use crate::model::sink::Part;
use crate::model::weights::WeightSource;
use crate::model::{Model, Parameter, ParameterId};
use crate::stream::{Pass, Progress, Unit};
use crate::unlearn::edit::Comparison;
use crate::unlearn::importance::ImportanceSink;
use crate::unlearn::measured::Measured;
use crate::unlearn::selection::{Choice, LogRatioHistogram, Rule};
use crate::unlearn::store::Store;
use crate::unlearn::train::Trainable;
use crate::{Error, Result};

/// A score that is made of gradients. g_f and g_r are the means of the per-sample gradients of the two sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// |g_f|: SalUn (Fan et al., ICLR 2024).
    Gradient,
    /// |(θ − g_r/μ) · g_f|: WAGLE (Jia et al., NeurIPS 2024), what the loss on the forget set would gain if the weight were
    /// taken away, with the retain set's curvature μ.
    Wagle {
        /// The curvature; none: the mean of the retain set's Fisher diagonal.
        curvature: Option<f64>,
    },
}

/// A selection of weights to be trained.
#[derive(Clone, Debug)]
pub struct Mask {
    /// For each parameter which of its elements.
    pub trainable: Vec<Trainable>,
    /// For each parameter how many.
    pub selected: Vec<u64>,
    /// The scores of all weights that could be selected.
    pub histogram: LogRatioHistogram,
    /// The threshold.
    pub choice: Choice,
}

/// Selects the weights with the highest ratios: at most the share `share` of those that may change.
///
/// # Errors
/// When `share` is not above 0 and up to 1, nothing can be selected, or the device failed.
pub fn top_share(device: &Device, comparison: &Comparison, share: f64, progress: Progress<'_>) -> Result<Mask> {
    let histogram = comparison.ratios(device, progress)?;
    let choice = Rule::Share { share, lambda: 1.0 }.choose(&histogram, comparison.against(), 1.0)?;
    let (mut trainable, mut selected) = (Vec::new(), Vec::new());
    for id in 0..comparison.parameters() {
        let bits = comparison.selected(device, id, choice.threshold)?;
        let count = bits.iter().flatten().map(|word| u64::from(word.count_ones())).sum();
        selected.push(count);
        trainable.push(bits.filter(|_| count > 0).map_or(Trainable::None, Trainable::Bits));
    }
    Ok(Mask { trainable, selected, histogram, choice })
}

/// What a score is made of, for both sets: sums of gradients, and what they are sums over.
struct Gradients {
    forget: (Box<dyn Store + Send + Sync>, usize),
    retain: Option<(Box<dyn Store + Send + Sync>, usize)>,
}

/// Measures the scores of the parameters that are `wanted`, ready to be compared with their own mean: see [`top_share`].
/// `stores` makes a place for sums.
///
/// # Errors
/// When a pass fails, or a gradient is not finite.
pub fn gradient_scores(
    pass: &Pass,
    source: &dyn WeightSource,
    score: Score,
    (forget, retain): (&[Unit], &[Unit]),
    wanted: &[bool],
    stores: &dyn Fn() -> Result<Box<dyn Store + Send + Sync>>,
    progress: Progress<'_>,
) -> Result<(Measured, Measured)> {
    let halves = 1 + u64::from(score != Score::Gradient);
    let half = |number: u64| move |done: u64, of: u64| progress(number * of + done, halves * of);
    let measure = |units: &[Unit], sums: Vec<Accumulate>, number: u64| {
        let mut store = stores()?;
        let mut sink = ImportanceSink::new(&pass.model, sums, &mut *store).only(wanted.to_vec());
        pass.gradients(units, &mut sink, &half(number))?;
        Result::Ok((store, units.len()))
    };
    let gradients = Gradients {
        forget: measure(forget, vec![Accumulate::Sum], 0)?,
        retain: match score {
            Score::Gradient => None,
            Score::Wagle { .. } => Some(measure(retain, vec![Accumulate::Sum, Accumulate::Square], 1)?),
        },
    };
    let curvature = match score {
        Score::Wagle { curvature: Some(curvature) } => curvature,
        Score::Wagle { curvature: None } => gradients.curvature(&pass.model, wanted)?,
        Score::Gradient => 1.0,
    };
    let mut scores = stores()?;
    let (mut sum, mut count) = (0.0, 0);
    for (id, parameter) in pass.model.parameters.iter().enumerate().filter(|(id, _)| wanted[*id]) {
        let values = gradients.scores(source, (id, parameter), curvature)?;
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let problem = format!("the score of element {place} of {} is not finite", parameter.name);
            return Err(Error::Failed(format!("{problem}: no mask can be made of it")));
        }
        sum += values.iter().map(|value| f64::from(*value)).sum::<f64>();
        count += values.len();
        let (rows, columns) = (0..parameter.rows(), parameter.columns());
        let part = Part { parameter: id, rows, columns, generation: 0, correction: false };
        scores.save(&part, Accumulate::Square, values)?;
    }
    let mean = (sum / count.max(1) as f64) as f32;
    Ok((Measured::sums(scores, 1, forget.len()), Measured::constant(if mean > 0.0 { mean } else { 1.0 })))
}

impl Gradients {
    /// The mean of the retain set's Fisher diagonal.
    fn curvature(&self, model: &Model, wanted: &[bool]) -> Result<f64> {
        let Some((store, units)) = &self.retain else { return Ok(1.0) };
        let (mut sum, mut count) = (0.0, 0);
        for (id, _) in model.parameters.iter().enumerate().filter(|(id, _)| wanted[*id]) {
            let squares = store.all(id, Accumulate::Square)?;
            sum += squares.iter().map(|square| f64::from(*square)).sum::<f64>();
            count += squares.len();
        }
        // A retain set without any gradient says nothing about curvature: its mean gradient, zero too, must not count.
        let mean = sum / (*units * count.max(1)) as f64;
        Ok(if mean > 0.0 { mean } else { 1.0 })
    }

    fn scores(
        &self,
        source: &dyn WeightSource,
        (id, parameter): (ParameterId, &Parameter),
        curvature: f64,
    ) -> Result<Vec<f32>> {
        let (store, units) = &self.forget;
        let mut scores = store.all(id, Accumulate::Sum)?;
        let scale = 1.0 / *units as f64;
        let Some((retain, retain_units)) = &self.retain else {
            scores.iter_mut().for_each(|g| *g = (f64::from(*g) * scale).abs() as f32);
            return Ok(scores);
        };
        let (element, bytes) = source.tensor(parameter)?;
        let mut weights = vec![0.0; parameter.count()];
        element.decode(&bytes, &mut weights)?;
        let retain_scale = 1.0 / (*retain_units as f64 * curvature);
        let retain = retain.all(id, Accumulate::Sum)?;
        for ((score, weight), retain) in scores.iter_mut().zip(&weights).zip(&retain) {
            let moved = f64::from(*weight) - f64::from(*retain) * retain_scale;
            *score = (moved * f64::from(*score) * scale).abs() as f32;
        }
        Ok(scores)
    }
}
