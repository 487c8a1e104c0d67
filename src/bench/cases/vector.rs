//! Importance and gradients of vectors. Checked at some columns.

use super::super::case::{Accuracy, Case, Prepared, columns_of, offsets, wide};
use super::super::shape::Shape;
use super::{SAMPLE, TOLERANCE};
use crate::kernels::vector::{grads, importance};
use crate::kernels::{Accumulate, Segments, Window};

pub(super) fn cases(shape: &'static Shape, tokens: usize, cases: &mut Vec<Case>) {
    let width = shape.hidden;
    let what = || (shape.name, format!("{width} columns"), tokens);
    cases.push(Case::new(importance::KERNEL.name, what(), move |device, data| {
        let (terms, some) = (data.values(tokens * width), data.picks(width, 16));
        let offsets = offsets(tokens, SAMPLE);
        let (device, bt, bo) = (device.clone(), device.upload_new(&terms)?, device.upload_new(&offsets)?);
        let bf = device.allocate((width * 4) as u64)?;
        let (checked_on, checked) = (device.clone(), bf.clone());
        let units = offsets.len() as u32 - 1;
        let params = move |width: usize| importance::Params {
            units,
            rows_per_token: 1,
            width: width as u32,
            terms_stride: width as u32,
            terms_offset: 0,
        };
        let ends = offsets.clone();
        let check = move || {
            let mut want = vec![0.0; some.len()];
            let terms = columns_of(&terms, width, &some);
            importance::reference(&params(some.len()), Accumulate::Square, &offsets, &terms, &mut want);
            let got = wide(&checked_on.read(&checked, width)?);
            let got: Vec<f64> = some.iter().map(|c| got[*c]).collect();
            Ok(Accuracy::of(&got, &want, TOLERANCE))
        };
        let launch = move || {
            let segments = Segments::new(&bo, &ends);
            importance::run(&device, Accumulate::Square, segments, 1, Window::all(&bt, width), width, &bf)
        };
        Ok(Prepared::new(importance::cost(&params(width), tokens), launch, check))
    }));
    cases.push(Case::new(grads::KERNEL.name, what(), move |device, data| {
        let (terms, some) = (data.values(tokens * width), data.picks(width, 16));
        let (device, bt) = (device.clone(), device.upload_new(&terms)?);
        let bg = device.allocate((width * 4) as u64)?;
        let (checked_on, checked) = (device.clone(), bg.clone());
        let params = move |width: usize| grads::Params {
            begin: 0,
            end: tokens as u32,
            width: width as u32,
            terms_stride: width as u32,
            terms_offset: 0,
        };
        let check = move || {
            let mut want = vec![0.0; some.len()];
            grads::reference(&params(some.len()), &columns_of(&terms, width, &some), &mut want);
            let got = wide(&checked_on.read(&checked, width)?);
            let got: Vec<f64> = some.iter().map(|c| got[*c]).collect();
            Ok(Accuracy::of(&got, &want, TOLERANCE))
        };
        let launch = move || grads::run(&device, 0..tokens, 1, Window::all(&bt, width), width, &bg);
        Ok(Prepared::new(grads::cost(&params(width)), launch, check))
    }));
}
