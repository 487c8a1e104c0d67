//! RMSNorm and LayerNorm, forward and backward. Checked at some tokens.

use super::super::case::{Accuracy, Case, Data, Prepared, read_rows, rows_of, wide};
use super::super::shape::Shape;
use super::TOLERANCE;
use crate::Result;
use crate::device::Device;
use crate::kernels::Window;
use crate::kernels::norm::{layer_backward, layer_forward, rms_backward, rms_forward};

const EPSILON: f32 = 1e-5;

pub(super) fn cases(shape: &'static Shape, tokens: usize, cases: &mut Vec<Case>) {
    let width = shape.hidden;
    let what = || (shape.name, format!("{width} columns"), tokens);
    cases.push(Case::new(rms_forward::KERNEL.name, what(), move |d, data| rms_forward(d, data, tokens, width)));
    cases.push(Case::new(rms_backward::KERNEL.name, what(), move |d, data| rms_backward(d, data, tokens, width)));
    cases.push(Case::new(layer_forward::KERNEL.name, what(), move |d, data| layer_forward(d, data, tokens, width)));
    cases.push(Case::new(layer_backward::KERNEL.name, what(), move |d, data| layer_backward(d, data, tokens, width)));
}

fn rms_forward(device: &Device, data: &mut Data, tokens: usize, width: usize) -> Result<Prepared> {
    let (x, gain, some) = (data.values(tokens * width), data.values(width), data.picks(tokens, 8));
    let (device, bx, bg) = (device.clone(), device.upload_new(&x)?, device.upload_new(&gain)?);
    let by = device.allocate((tokens * width * 4) as u64)?;
    let (checked_on, checked) = (device.clone(), by.clone());
    let params = move |tokens: usize| rms_forward::Params {
        rows: tokens as u32,
        heads: 1,
        width: width as u32,
        epsilon: EPSILON,
        x_stride: width as u32,
        x_offset: 0,
        y_stride: width as u32,
        y_offset: 0,
    };
    let check = move || {
        let mut want = vec![0.0; some.len() * width];
        rms_forward::reference(&params(some.len()), &rows_of(&x, width, &some), &wide(&gain), &mut want);
        Ok(Accuracy::of(&read_rows(&checked_on, &checked, width, &some)?, &want, TOLERANCE))
    };
    let launch = move || {
        rms_forward::run(&device, tokens, 1, width, EPSILON, Window::all(&bx, width), &bg, Window::all(&by, width))
    };
    Ok(Prepared::new(rms_forward::cost(&params(tokens)), launch, check))
}

fn rms_backward(device: &Device, data: &mut Data, tokens: usize, width: usize) -> Result<Prepared> {
    let [x, dy] = [data.values(tokens * width), data.values(tokens * width)];
    let (gain, some) = (data.values(width), data.picks(tokens, 8));
    let (device, bg) = (device.clone(), device.upload_new(&gain)?);
    let [bx, bdy] = [device.upload_new(&x)?, device.upload_new(&dy)?];
    let [bdx, terms] = [device.allocate((tokens * width * 4) as u64)?, device.allocate((tokens * width * 4) as u64)?];
    let (checked_on, checked) = (device.clone(), [bdx.clone(), terms.clone()]);
    let params = move |tokens: usize| rms_backward::Params {
        rows: tokens as u32,
        heads: 1,
        width: width as u32,
        epsilon: EPSILON,
        x_stride: width as u32,
        x_offset: 0,
        dy_stride: width as u32,
        dy_offset: 0,
        dx_stride: width as u32,
        dx_offset: 0,
        accumulate: 0,
    };
    let check = move || {
        let [mut dx, mut terms] = [vec![0.0; some.len() * width], vec![0.0; some.len() * width]];
        let [x, dy] = [rows_of(&x, width, &some), rows_of(&dy, width, &some)];
        rms_backward::reference(&params(some.len()), &x, &wide(&gain), &dy, &mut dx, &mut terms);
        let mut got = read_rows(&checked_on, &checked[0], width, &some)?;
        got.extend(read_rows(&checked_on, &checked[1], width, &some)?);
        dx.append(&mut terms);
        Ok(Accuracy::of(&got, &dx, TOLERANCE))
    };
    let launch = move || {
        let [x, dy, dx] = [&bx, &bdy, &bdx].map(|buffer| Window::all(buffer, width));
        rms_backward::run(&device, tokens, 1, width, EPSILON, x, &bg, dy, dx, false, &terms)
    };
    Ok(Prepared::new(rms_backward::cost(&params(tokens)), launch, check))
}

fn layer_forward(device: &Device, data: &mut Data, tokens: usize, width: usize) -> Result<Prepared> {
    let (x, some) = (data.values(tokens * width), data.picks(tokens, 8));
    let [gain, bias] = [data.values(width), data.values(width)];
    let (device, bx) = (device.clone(), device.upload_new(&x)?);
    let [bg, bb] = [device.upload_new(&gain)?, device.upload_new(&bias)?];
    let by = device.allocate((tokens * width * 4) as u64)?;
    let (checked_on, checked) = (device.clone(), by.clone());
    let params = move |tokens: usize| layer_forward::Params {
        tokens: tokens as u32,
        width: width as u32,
        epsilon: EPSILON,
        x_stride: width as u32,
        x_offset: 0,
        y_stride: width as u32,
        y_offset: 0,
    };
    let check = move || {
        let mut want = vec![0.0; some.len() * width];
        let x = rows_of(&x, width, &some);
        layer_forward::reference(&params(some.len()), &x, &wide(&gain), &wide(&bias), &mut want);
        Ok(Accuracy::of(&read_rows(&checked_on, &checked, width, &some)?, &want, TOLERANCE))
    };
    let launch = move || {
        let [x, y] = [&bx, &by].map(|buffer| Window::all(buffer, width));
        layer_forward::run(&device, tokens, width, EPSILON, x, &bg, &bb, y)
    };
    Ok(Prepared::new(layer_forward::cost(&params(tokens)), launch, check))
}

fn layer_backward(device: &Device, data: &mut Data, tokens: usize, width: usize) -> Result<Prepared> {
    let [x, dy] = [data.values(tokens * width), data.values(tokens * width)];
    let (gain, some) = (data.values(width), data.picks(tokens, 8));
    let (device, bg) = (device.clone(), device.upload_new(&gain)?);
    let [bx, bdy] = [device.upload_new(&x)?, device.upload_new(&dy)?];
    let [bdx, terms] = [device.allocate((tokens * width * 4) as u64)?, device.allocate((tokens * width * 4) as u64)?];
    let (checked_on, checked) = (device.clone(), [bdx.clone(), terms.clone()]);
    let params = move |tokens: usize| layer_backward::Params {
        tokens: tokens as u32,
        width: width as u32,
        epsilon: EPSILON,
        x_stride: width as u32,
        x_offset: 0,
        dy_stride: width as u32,
        dy_offset: 0,
        dx_stride: width as u32,
        dx_offset: 0,
        accumulate: 0,
    };
    let check = move || {
        let [mut dx, mut terms] = [vec![0.0; some.len() * width], vec![0.0; some.len() * width]];
        let [x, dy] = [rows_of(&x, width, &some), rows_of(&dy, width, &some)];
        layer_backward::reference(&params(some.len()), &x, &wide(&gain), &dy, &mut dx, &mut terms);
        let mut got = read_rows(&checked_on, &checked[0], width, &some)?;
        got.extend(read_rows(&checked_on, &checked[1], width, &some)?);
        dx.append(&mut terms);
        Ok(Accuracy::of(&got, &dx, TOLERANCE))
    };
    let launch = move || {
        let [x, dy, dx] = [&bx, &bdy, &bdx].map(|buffer| Window::all(buffer, width));
        layer_backward::run(&device, tokens, width, EPSILON, x, &bg, dy, dx, false, &terms)
    };
    Ok(Prepared::new(layer_backward::cost(&params(tokens)), launch, check))
}
