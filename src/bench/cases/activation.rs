//! Activations, gated and plain, forward and backward. Checked at some tokens.

use super::super::case::{Accuracy, Case, Prepared, read_rows, rows_of};
use super::super::shape::Shape;
use super::TOLERANCE;
use crate::kernels::activation::{Activation, backward, forward, gated_backward, gated_forward};

pub(super) fn cases(shape: &'static Shape, tokens: usize, cases: &mut Vec<Case>) {
    let width = shape.feed_forward;
    let count = tokens * width;
    for activation in [Activation::Silu, Activation::GeluTanh] {
        let what = || (shape.name, format!("{activation:?}, {width} columns"), tokens);
        cases.push(Case::new(forward::KERNEL.name, what(), move |device, data| {
            let (x, some) = (data.values(count), data.picks(tokens, 8));
            let (device, bx) = (device.clone(), device.upload_new(&x)?);
            let by = device.allocate((count * 4) as u64)?;
            let (checked_on, checked) = (device.clone(), by.clone());
            let params = move |tokens: usize| forward::Params { count: (tokens * width) as u32 };
            let check = move || {
                let mut want = vec![0.0; some.len() * width];
                forward::reference(&params(some.len()), activation, &rows_of(&x, width, &some), &mut want);
                Ok(Accuracy::of(&read_rows(&checked_on, &checked, width, &some)?, &want, TOLERANCE))
            };
            let launch = move || forward::run(&device, activation, count, &bx, &by);
            Ok(Prepared::new(forward::cost(&params(tokens)), launch, check))
        }));
        cases.push(Case::new(backward::KERNEL.name, what(), move |device, data| {
            let (x, dy, some) = (data.values(count), data.values(count), data.picks(tokens, 8));
            let (device, bx, bdy) = (device.clone(), device.upload_new(&x)?, device.upload_new(&dy)?);
            let bdx = device.allocate((count * 4) as u64)?;
            let (checked_on, checked) = (device.clone(), bdx.clone());
            let params = move |tokens: usize| backward::Params { count: (tokens * width) as u32 };
            let check = move || {
                let mut want = vec![0.0; some.len() * width];
                let [x, dy] = [&x, &dy].map(|values| rows_of(values, width, &some));
                backward::reference(&params(some.len()), activation, &x, &dy, &mut want);
                Ok(Accuracy::of(&read_rows(&checked_on, &checked, width, &some)?, &want, TOLERANCE))
            };
            let launch = move || backward::run(&device, activation, count, &bx, &bdy, &bdx);
            Ok(Prepared::new(backward::cost(&params(tokens)), launch, check))
        }));
    }
    let activation = Activation::Silu;
    let what = || (shape.name, format!("{activation:?}, {width} columns"), tokens);
    cases.push(Case::new(gated_forward::KERNEL.name, what(), move |device, data| {
        let (x, some) = (data.values(2 * count), data.picks(tokens, 8));
        let (device, bx) = (device.clone(), device.upload_new(&x)?);
        let by = device.allocate((count * 4) as u64)?;
        let (checked_on, checked) = (device.clone(), by.clone());
        let params = move |tokens: usize| gated_forward::Params { tokens: tokens as u32, width: width as u32 };
        let check = move || {
            let mut want = vec![0.0; some.len() * width];
            gated_forward::reference(&params(some.len()), activation, &rows_of(&x, 2 * width, &some), &mut want);
            Ok(Accuracy::of(&read_rows(&checked_on, &checked, width, &some)?, &want, TOLERANCE))
        };
        let launch = move || gated_forward::run(&device, activation, tokens, width, &bx, &by);
        Ok(Prepared::new(gated_forward::cost(&params(tokens)), launch, check))
    }));
    cases.push(Case::new(gated_backward::KERNEL.name, what(), move |device, data| {
        let (x, dy, some) = (data.values(2 * count), data.values(count), data.picks(tokens, 8));
        let (device, bx, bdy) = (device.clone(), device.upload_new(&x)?, device.upload_new(&dy)?);
        let bdx = device.allocate((2 * count * 4) as u64)?;
        let (checked_on, checked) = (device.clone(), bdx.clone());
        let params = move |tokens: usize| gated_backward::Params { tokens: tokens as u32, width: width as u32 };
        let check = move || {
            let mut want = vec![0.0; some.len() * 2 * width];
            let (x, dy) = (rows_of(&x, 2 * width, &some), rows_of(&dy, width, &some));
            gated_backward::reference(&params(some.len()), activation, &x, &dy, &mut want);
            Ok(Accuracy::of(&read_rows(&checked_on, &checked, 2 * width, &some)?, &want, TOLERANCE))
        };
        let launch = move || gated_backward::run(&device, activation, tokens, width, &bx, &bdy, &bdx);
        Ok(Prepared::new(gated_backward::cost(&params(tokens)), launch, check))
    }));
}
