//! Choosing and changing the weights of one matrix. What the kernels promise bit for bit is checked so, everywhere.

use super::super::case::{Accuracy, Case, Data, Prepared, wide};
use super::super::shape::Shape;
use super::TOLERANCE;
use crate::device::{Buffer, Device};
use crate::kernels::update::log_ratio_histogram::BINS;
use crate::kernels::update::{AdamwStep, adamw, dampen, is_selected, log_ratio_histogram, mask_words, ranks, select};
use crate::{Element, Result};

/// λ: nearly 1, so that weights that are dampened over and over stay ordinary numbers.
const LAMBDA: f32 = 0.999;

pub(super) fn cases(shape: &'static Shape, cases: &mut Vec<Case>) {
    let all = shape.hidden * shape.feed_forward;
    let what = |element: &str| (shape.name, format!("up_proj {}x{}{element}", shape.feed_forward, shape.hidden), 0);
    cases.push(Case::new(log_ratio_histogram::KERNEL.name, what(""), move |d, data| {
        Pair::new(d, data, all)?.histogram()
    }));
    cases.push(Case::new(select::KERNEL.name, what(""), move |d, data| Pair::new(d, data, all)?.select()));
    for element in [Element::F32, Element::Bf16] {
        let what = || what(&format!(" {}", element.name()));
        cases.push(Case::new(dampen::KERNEL.name, what(), move |d, data| {
            Pair::new(d, data, all)?.dampen(data, element)
        }));
        cases.push(Case::new(adamw::KERNEL.name, what(), move |d, data| adamw(d, data, all, element)));
    }
}

/// The importances of two sets.
struct Pair {
    device: Device,
    count: usize,
    forget: Vec<f32>,
    retain: Vec<f32>,
    on_device: [Buffer; 2],
}

impl Pair {
    fn new(device: &Device, data: &mut Data, count: usize) -> Result<Self> {
        let count = count.min((device.binding_limit() / 4) as usize / 32 * 32);
        // Squares of random numbers: small ones are frequent, as in an importance.
        let mut importance = || data.values(count).iter().map(|v| v * v).collect::<Vec<f32>>();
        let [forget, retain] = [importance(), importance()];
        let on_device = [device.upload_new(&forget)?, device.upload_new(&retain)?];
        Ok(Pair { device: device.clone(), count, forget, retain, on_device })
    }

    fn histogram(self) -> Result<Prepared> {
        let bins = self.device.upload_new(&vec![0u32; BINS])?;
        let params =
            log_ratio_histogram::Params { count: self.count as u32, forget_scale: 1.0, retain_scale: 1.0, blend: 0.0 };
        let shared = std::rc::Rc::new(self);
        let (of_check, checked) = (shared.clone(), bins.clone());
        let check = move || {
            let mut want = vec![0; BINS];
            log_ratio_histogram::reference(&params, &of_check.forget, &of_check.retain, &mut want);
            Ok(Accuracy::exact(&of_check.device.read::<u32>(&checked, BINS)?, &want))
        };
        let launch = move || {
            let Pair { device, count, on_device: [forget, retain], .. } = &*shared;
            log_ratio_histogram::run(device, *count, forget, 1.0, retain, 1.0, 0.0, &bins)
        };
        Ok(Prepared::new(log_ratio_histogram::cost(&params), launch, check))
    }

    fn params_select(&self) -> select::Params {
        let threshold = 2.0f32.to_bits();
        select::Params { count: self.count as u32, forget_scale: 1.0, retain_scale: 1.0, blend: 0.0, threshold }
    }

    /// The weights whose forget importance is more than twice the other.
    fn mask(&self) -> Vec<u32> {
        let mut mask = vec![0; mask_words(self.count)];
        select::reference(&self.params_select(), &self.forget, &self.retain, &mut mask);
        mask
    }

    fn select(self) -> Result<Prepared> {
        let words = mask_words(self.count);
        let mask = self.device.allocate(words as u64 * 4)?;
        let cost = select::cost(&self.params_select());
        let shared = std::rc::Rc::new(self);
        let (of_check, checked) = (shared.clone(), mask.clone());
        let check = move || Ok(Accuracy::exact(&of_check.device.read::<u32>(&checked, words)?, &of_check.mask()));
        let launch = move || {
            let Pair { device, count, on_device: [forget, retain], .. } = &*shared;
            select::run(device, *count, forget, 1.0, retain, 1.0, 0.0, 2.0, &mask)
        };
        Ok(Prepared::new(cost, launch, check))
    }

    fn dampen(self, data: &mut Data, element: Element) -> Result<Prepared> {
        let (packed, values) = data.stored(element, self.count)?;
        let mask = self.mask();
        let selected = mask.iter().map(|word| u64::from(word.count_ones())).sum();
        let (weights, on_device) = (self.device.upload_new(&packed)?, self.device.upload_new(&mask)?);
        let params = dampen::Params {
            count: self.count as u32,
            forget_scale: 1.0,
            retain_scale: 1.0,
            blend: 0.0,
            lambda: LAMBDA,
        };
        let shared = std::rc::Rc::new(self);
        let (of_check, checked) = (shared.clone(), weights.clone());
        let check = move || {
            let Pair { device, count, forget, retain, .. } = &*of_check;
            let mut want = values.clone();
            dampen::reference(&params, &mut want, &mask, forget, retain);
            // Rounded to the stored type, as the kernel does.
            let mut rounded = vec![0.0; *count];
            element.decode(&element.encode(&want), &mut rounded)?;
            let mut bytes = vec![0; count * element.size()];
            device.download(&checked, 0, &mut bytes)?;
            let mut got = vec![0.0; *count];
            element.decode(&bytes, &mut got)?;
            Ok(Accuracy::of(&wide(&got), &wide(&rounded), 0.0))
        };
        let launch = move || {
            let Pair { device, count, on_device: [forget, retain], .. } = &*shared;
            dampen::run(device, *count, element, &weights, &on_device, forget, 1.0, retain, 1.0, 0.0, LAMBDA)
        };
        Ok(Prepared::new(dampen::cost(&params, element, selected), launch, check))
    }
}

/// A step on every tenth weight or so.
fn adamw(device: &Device, data: &mut Data, count: usize, element: Element) -> Result<Prepared> {
    let count = count.min((device.binding_limit() / 4) as usize / 32 * 32);
    let (packed, values) = data.stored(element, count)?;
    let gradient = data.values(count);
    let mut mask = vec![0u32; mask_words(count)];
    for i in (0..count).filter(|i| gradient[*i] > 0.8) {
        mask[i / 32] |= 1 << (i % 32);
    }
    let chosen: Vec<usize> = (0..count).filter(|i| is_selected(&mask, *i)).collect();
    let state: Vec<f32> = chosen.iter().flat_map(|i| [values[*i], 0.0, 0.0]).collect();
    let step = AdamwStep::new(1e-3, 1);
    let (device, weights) = (device.clone(), device.upload_new(&packed)?);
    let [on_device, places] = [device.upload_new(&mask)?, device.upload_new(&ranks(&mask))?];
    let [bg, bs] = [device.upload_new(&gradient)?, device.upload_new(&state)?];
    let (checked_on, checked) = (device.clone(), bs.clone());
    let params = adamw::Params {
        count: count as u32,
        learning_rate: step.learning_rate,
        beta1: step.beta1,
        beta2: step.beta2,
        epsilon: step.epsilon,
        weight_decay: step.weight_decay,
        bias_correction1: step.bias_correction1,
        bias_correction2: step.bias_correction2,
        gradient_scale: step.gradient_scale,
    };
    let cost = adamw::cost(&params, element, chosen.len() as u64);
    let check = move || {
        let (mut weights, mut want) = (wide(&values), wide(&state));
        adamw::reference(&params, &mut weights, &mask, &wide(&gradient), &mut want);
        Ok(Accuracy::of(&wide(&checked_on.read(&checked, want.len())?), &want, TOLERANCE))
    };
    let launch = move || adamw::run(&device, count, element, &weights, &on_device, &places, &bg, &bs, step);
    Ok(Prepared::new(cost, launch, check))
}
