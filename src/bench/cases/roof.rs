//! The kernels that measure roofs, as cases like any other: a roof is only one if its kernel does its work.

use super::super::case::{Accuracy, Case, Prepared, wide};
use super::super::shape::Shape;
use super::TOLERANCE;
use crate::kernels::roof::{copy, multiply_add};

/// Multiply-adds of a chain in a launch.
const ROUNDS: u32 = 64;

pub(super) fn cases(shape: &'static Shape, cases: &mut Vec<Case>) {
    let all = shape.hidden * shape.feed_forward / 4 * 4;
    cases.push(Case::new(copy::KERNEL.name, (shape.name, format!("{all} numbers"), 0), move |device, data| {
        let count = all.min(device.binding_limit() as usize / 16 * 4);
        let x = data.values(count);
        let (device, bx) = (device.clone(), device.upload_new(&x)?);
        let by = device.allocate(count as u64 * 4)?;
        let (checked_on, checked) = (device.clone(), by.clone());
        let cost = copy::cost(&copy::Params { count: count as u32 / 4 });
        let check = move || Ok(Accuracy::of(&wide(&checked_on.read(&checked, count)?), &wide(&x), 0.0));
        Ok(Prepared::new(cost, move || copy::run(&device, count, &bx, &by), check))
    }));
    let problem = format!("{ROUNDS} rounds");
    cases.push(Case::new(multiply_add::KERNEL.name, (shape.name, problem, 0), move |device, _| {
        let device = device.clone();
        let sums = device.allocate(multiply_add::INVOCATIONS as u64 * 4)?;
        let (checked_on, checked) = (device.clone(), sums.clone());
        let check = move || {
            let params = multiply_add::Params { rounds: ROUNDS, factor: 0.5, addend: 0.5 };
            let mut want = vec![0.0; 70];
            multiply_add::reference(&params, &mut want);
            Ok(Accuracy::of(&wide(&checked_on.read(&checked, 70)?), &want, TOLERANCE))
        };
        Ok(Prepared::new(multiply_add::cost(ROUNDS), move || multiply_add::run(&device, ROUNDS, &sums), check))
    }));
}
