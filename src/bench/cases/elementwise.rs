//! What adds rows to rows, and the sum of squares. Checked at some tokens.

use super::super::case::{Accuracy, Case, Prepared, read_rows, rows_of, wide};
use super::super::shape::Shape;
use super::TOLERANCE;
use crate::kernels::Window;
use crate::kernels::elementwise::{add, broadcast_rows};
use crate::kernels::reduce::square_sum;

pub(super) fn cases(shape: &'static Shape, tokens: usize, cases: &mut Vec<Case>) {
    let width = shape.hidden;
    let what = || (shape.name, format!("{width} columns"), tokens);
    cases.push(Case::new(add::KERNEL.name, what(), move |device, data| {
        let count = tokens * width;
        let (x, y, some) = (data.values(count), data.values(count), data.picks(tokens, 8));
        let (device, bx, by) = (device.clone(), device.upload_new(&x)?, device.upload_new(&y)?);
        let (checked_on, checked) = (device.clone(), by.clone());
        let cost = add::cost(&add::Params { count: count as u32 });
        let check = move || {
            let mut want = rows_of(&y, width, &some);
            add::reference(&add::Params { count: want.len() as u32 }, &rows_of(&x, width, &some), &mut want);
            Ok(Accuracy::of(&read_rows(&checked_on, &checked, width, &some)?, &want, TOLERANCE))
        };
        Ok(Prepared::new(cost, move || add::run(&device, count, &bx, &by), check))
    }));
    cases.push(Case::new(broadcast_rows::KERNEL.name, what(), move |device, data| {
        let (row, some) = (data.values(width), data.picks(tokens, 8));
        let (device, br) = (device.clone(), device.upload_new(&row)?);
        let by = device.allocate((tokens * width * 4) as u64)?;
        let (checked_on, checked) = (device.clone(), by.clone());
        let params = move |tokens: usize| broadcast_rows::Params {
            tokens: tokens as u32,
            width: width as u32,
            y_stride: width as u32,
            y_offset: 0,
        };
        let check = move || {
            let mut want = vec![0.0; some.len() * width];
            broadcast_rows::reference(&params(some.len()), &wide(&row), &mut want);
            Ok(Accuracy::of(&read_rows(&checked_on, &checked, width, &some)?, &want, 0.0))
        };
        let launch = move || broadcast_rows::run(&device, tokens, width, &br, Window::all(&by, width));
        Ok(Prepared::new(broadcast_rows::cost(&params(tokens)), launch, check))
    }));
    let count = tokens * shape.feed_forward;
    let what = (shape.name, format!("{} columns", shape.feed_forward), tokens);
    cases.push(Case::new(square_sum::KERNEL.name, what, move |device, data| {
        let x = data.values(count);
        let partials = square_sum::partial_count(count);
        let (device, bx) = (device.clone(), device.upload_new(&x)?);
        let bp = device.allocate((partials * 4) as u64)?;
        let (checked_on, checked) = (device.clone(), bp.clone());
        let params = square_sum::Params { count: count as u32 };
        let check = move || {
            let mut want = vec![0.0; partials];
            square_sum::reference(&params, &wide(&x), &mut want);
            Ok(Accuracy::of(&wide(&checked_on.read(&checked, partials)?), &want, TOLERANCE))
        };
        Ok(Prepared::new(square_sum::cost(&params), move || square_sum::run(&device, count, &bx, &bp), check))
    }));
}
