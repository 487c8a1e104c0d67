//! Cross-entropy over a slice of the vocabulary. Checked at some tokens.

use super::super::case::{Accuracy, Case, Data, Prepared, read_rows, rows_of};
use super::super::shape::Shape;
use super::TOLERANCE;
use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::loss::{
    argmax, initial_best, initial_moments, initial_state, log_moments, log_sum_exp, logits_grad, sample_labels,
    square_norm_grad,
};

/// Bytes of logits in a launch, about: what a pass has in flight.
const BYTES: usize = 128 << 20;

pub(super) fn cases(shape: &'static Shape, tokens: usize, cases: &mut Vec<Case>) {
    // Whole blocks of 512 columns, as a slice of the vocabulary has.
    let width = (BYTES / (4 * tokens)).min(shape.vocabulary).max(512) / 512 * 512;
    let what = || (shape.name, format!("{width} columns"), tokens);
    cases.push(Case::new(log_sum_exp::KERNEL.name, what(), move |d, data| Logits::new(d, data, tokens, width)?.fold()));
    cases.push(Case::new(log_moments::KERNEL.name, what(), move |d, data| {
        Logits::new(d, data, tokens, width)?.moments()
    }));
    cases.push(Case::new(logits_grad::KERNEL.name, what(), move |d, data| {
        Logits::new(d, data, tokens, width)?.gradient()
    }));
    cases.push(Case::new(argmax::KERNEL.name, what(), move |d, data| Logits::new(d, data, tokens, width)?.argmax()));
    cases.push(Case::new(sample_labels::KERNEL.name, what(), move |d, data| {
        Logits::new(d, data, tokens, width)?.sample()
    }));
    cases.push(Case::new(square_norm_grad::KERNEL.name, what(), move |d, data| {
        Logits::new(d, data, tokens, width)?.square_norm_gradient()
    }));
}

/// Random logits and targets.
struct Logits {
    device: Device,
    tokens: usize,
    width: usize,
    values: Vec<f32>,
    targets: Vec<u32>,
    some: Vec<usize>,
    logits: Buffer,
    on_device: Buffer,
}

impl Logits {
    fn new(device: &Device, data: &mut Data, tokens: usize, width: usize) -> Result<Self> {
        let width = width.min((device.binding_limit() / (4 * tokens as u64)) as usize / 512 * 512).max(512);
        let values: Vec<f32> = data.values(tokens * width).iter().map(|v| 6.0 * v).collect();
        let targets = data.ids(tokens, width);
        let (logits, on_device) = (device.upload_new(&values)?, device.upload_new(&targets)?);
        let (device, some) = (device.clone(), data.picks(tokens, 6));
        Ok(Logits { device, tokens, width, values, targets, some, logits, on_device })
    }

    fn few_targets(&self) -> Vec<u32> {
        self.some.iter().map(|t| self.targets[*t]).collect()
    }

    /// The folds of the tokens that are checked, in float64.
    fn states(&self) -> Vec<f64> {
        let mut state: Vec<f64> = initial_state(self.some.len()).iter().map(|v| f64::from(*v)).collect();
        let params = log_sum_exp::Params { tokens: self.some.len() as u32, width: self.width as u32, first_column: 0 };
        let rows = rows_of(&self.values, self.width, &self.some);
        log_sum_exp::reference(&params, &rows, &self.few_targets(), &mut state);
        state
    }

    fn fold(self) -> Result<Prepared> {
        let state = self.device.upload_new(&initial_state(self.tokens))?;
        let params = log_sum_exp::Params { tokens: self.tokens as u32, width: self.width as u32, first_column: 0 };
        let shared = std::rc::Rc::new(self);
        let (of_check, checked) = (shared.clone(), state.clone());
        // Whose maximum is in which block is decided alike; a sum and a maximum are compared as the loss that they make.
        let loss = |state: &[f64]| state.chunks_exact(3).map(|s| s[0] + s[1].ln() - s[2]).collect::<Vec<f64>>();
        let check = move || {
            let got = read_rows(&of_check.device, &checked, 3, &of_check.some)?;
            Ok(Accuracy::of(&loss(&got), &loss(&of_check.states()), TOLERANCE))
        };
        let launch = move || {
            let Logits { device, tokens, width, logits, on_device, .. } = &*shared;
            log_sum_exp::run(device, *tokens, *width, 0, logits, on_device, &state)
        };
        Ok(Prepared::new(log_sum_exp::cost(&params), launch, check))
    }

    fn moments(self) -> Result<Prepared> {
        const STATE: usize = log_moments::STATE;
        let state = self.device.upload_new(&initial_moments(self.tokens))?;
        let params = |tokens: usize, width: usize| log_moments::Params {
            tokens: tokens as u32,
            width: width as u32,
            first_column: 0,
        };
        let cost = log_moments::cost(&params(self.tokens, self.width));
        let shared = std::rc::Rc::new(self);
        let (of_check, checked) = (shared.clone(), state.clone());
        // Loss, mean and mean square, which do not depend on whose maximum is in which block.
        let figures = |state: &[f64]| {
            let of = |s: &[f64]| [s[0] + s[1].ln() - s[2], s[3] / s[1] - s[1].ln(), s[4] / s[1]];
            state.chunks_exact(STATE).flat_map(of).collect::<Vec<f64>>()
        };
        let check = move || {
            let Logits { device, width, values, some, .. } = &*of_check;
            let mut want: Vec<f64> = initial_moments(some.len()).iter().map(|v| f64::from(*v)).collect();
            let rows = rows_of(values, *width, some);
            log_moments::reference(&params(some.len(), *width), &rows, &of_check.few_targets(), &mut want);
            let got = read_rows(device, &checked, STATE, some)?;
            Ok(Accuracy::of(&figures(&got), &figures(&want), TOLERANCE))
        };
        let launch = move || {
            let Logits { device, tokens, width, logits, on_device, .. } = &*shared;
            log_moments::run(device, *tokens, *width, 0, logits, on_device, &state)
        };
        Ok(Prepared::new(cost, launch, check))
    }

    fn gradient(self) -> Result<Prepared> {
        let state = self.device.upload_new(&initial_state(self.tokens))?;
        log_sum_exp::run(&self.device, self.tokens, self.width, 0, &self.logits, &self.on_device, &state)?;
        let weights = self.device.upload_new(&vec![0.25f32; self.tokens])?;
        let params = |tokens: usize, width: usize| logits_grad::Params {
            tokens: tokens as u32,
            width: width as u32,
            first_column: 0,
        };
        let cost = logits_grad::cost(&params(self.tokens, self.width));
        let shared = std::rc::Rc::new(self);
        let of_check = shared.clone();
        let check = move || {
            let Logits { device, width, values, some, logits, .. } = &*of_check;
            let mut want = rows_of(values, *width, some);
            let weights = vec![0.25; some.len()];
            let params = params(some.len(), *width);
            logits_grad::reference(&params, &of_check.few_targets(), &weights, &of_check.states(), &mut want);
            Ok(Accuracy::of(&read_rows(device, logits, *width, some)?, &want, TOLERANCE))
        };
        let launch = move || {
            let Logits { device, tokens, width, logits, on_device, .. } = &*shared;
            logits_grad::run(device, *tokens, *width, 0, on_device, &weights, &state, logits)
        };
        Ok(Prepared::new(cost, launch, check))
    }

    /// With a weight of a half, so that however often it is launched the logits stay what they are.
    fn square_norm_gradient(self) -> Result<Prepared> {
        let weights = self.device.upload_new(&vec![0.5f32; self.tokens])?;
        let params =
            |tokens: usize, width: usize| square_norm_grad::Params { tokens: tokens as u32, width: width as u32 };
        let cost = square_norm_grad::cost(&params(self.tokens, self.width));
        let shared = std::rc::Rc::new(self);
        let of_check = shared.clone();
        let check = move || {
            let Logits { device, width, values, some, logits, .. } = &*of_check;
            let mut want = rows_of(values, *width, some);
            square_norm_grad::reference(&params(some.len(), *width), &vec![0.5; some.len()], &mut want);
            Ok(Accuracy::of(&read_rows(device, logits, *width, some)?, &want, TOLERANCE))
        };
        let launch = move || {
            let Logits { device, tokens, width, logits, .. } = &*shared;
            square_norm_grad::run(device, *tokens, *width, &weights, logits)
        };
        Ok(Prepared::new(cost, launch, check))
    }

    fn argmax(self) -> Result<Prepared> {
        let best = self.device.upload_new(&initial_best(self.tokens))?;
        let params = |tokens: usize, width: usize| argmax::Params {
            tokens: tokens as u32,
            width: width as u32,
            first_column: 0,
        };
        let cost = argmax::cost(&params(self.tokens, self.width));
        let shared = std::rc::Rc::new(self);
        let (of_check, checked) = (shared.clone(), best.clone());
        let check = move || {
            let Logits { device, tokens, width, values, some, .. } = &*of_check;
            let rows: Vec<f32> = some.iter().flat_map(|t| &values[t * width..(t + 1) * width]).copied().collect();
            let (mut scores, mut columns) = (vec![f32::NEG_INFINITY; some.len()], vec![u32::MAX; some.len()]);
            argmax::reference(&params(some.len(), *width), &rows, &mut scores, &mut columns);
            let best: Vec<u32> = device.read(&checked, 2 * tokens)?;
            let got: Vec<u32> = some.iter().map(|t| best[2 * t + 1]).collect();
            Ok(Accuracy::exact(&got, &columns))
        };
        let launch = move || {
            let Logits { device, tokens, width, logits, .. } = &*shared;
            argmax::run(device, *tokens, *width, 0, logits, &best)
        };
        Ok(Prepared::new(cost, launch, check))
    }

    /// The noisy score that won: which column it is may differ where two are all but equal.
    fn sample(self) -> Result<Prepared> {
        const SEED: u64 = 7;
        let best = self.device.upload_new(&initial_best(self.tokens))?;
        let keys: Vec<u32> = (0..self.tokens as u32).flat_map(|t| [t, t / 3]).collect();
        let on_device = self.device.upload_new(&keys)?;
        let params = |tokens: usize, width: usize| sample_labels::Params {
            tokens: tokens as u32,
            width: width as u32,
            first_column: 0,
            seed_low: SEED as u32,
            seed_high: (SEED >> 32) as u32,
            temperature: 1.0,
        };
        let cost = sample_labels::cost(&params(self.tokens, self.width));
        let shared = std::rc::Rc::new(self);
        let (of_check, checked) = (shared.clone(), best.clone());
        let check = move || {
            let Logits { device, tokens, width, values, some, .. } = &*of_check;
            let keys: Vec<u32> = some.iter().flat_map(|t| [keys[2 * t], keys[2 * t + 1]]).collect();
            let (mut scores, mut columns) = (vec![-1e30f64; some.len()], vec![u32::MAX; some.len()]);
            let rows = rows_of(values, *width, some);
            sample_labels::reference(&params(some.len(), *width), &keys, &rows, &mut scores, &mut columns);
            let best: Vec<u32> = device.read(&checked, 2 * tokens)?;
            let got: Vec<f64> = some.iter().map(|t| f64::from(f32::from_bits(best[2 * t]))).collect();
            Ok(Accuracy::of(&got, &scores, TOLERANCE))
        };
        let launch = move || {
            let Logits { device, tokens, width, logits, .. } = &*shared;
            sample_labels::run(device, *tokens, *width, 0, SEED, 1.0, &on_device, logits, &best)
        };
        Ok(Prepared::new(cost, launch, check))
    }
}
