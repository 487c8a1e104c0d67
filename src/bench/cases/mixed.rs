//! Products and importances in mixed precision: on the device's matrix units, or by their emulation where it has none. Held
//! to products of the rounded factors in float64, which is what they promise.

use super::super::case::{Accuracy, Case, Data, Prepared, columns_of, offsets, read_elements, rows_of};
use super::super::shape::Shape;
use super::linear::matrices;
use super::{SAMPLE, TOLERANCE, fitting_rows};
use crate::device::Device;
use crate::kernels::linear::{mixed_importance, mixed_nn, mixed_nt, row_exponents};
use crate::kernels::precision::Unit;
use crate::kernels::{Accumulate, Matrix, Segments, Window};
use crate::{Element, Result};

pub(super) fn cases(shape: &'static Shape, tokens: usize, cases: &mut Vec<Case>) {
    for (name, rows, columns) in matrices(shape) {
        let what = |element: Element| (shape.name, format!("{name} {rows}x{columns} {}", element.name()), tokens);
        for element in [Element::F32, Element::Bf16] {
            cases.push(Case::new(mixed_nt::KERNEL.name, what(element), move |device, data| {
                forward(device, data, tokens, element, rows, columns)
            }));
            cases.push(Case::new(mixed_nn::KERNEL.name, what(element), move |device, data| {
                input_gradient(device, data, tokens, element, rows, columns)
            }));
        }
        let what = (shape.name, format!("{name} {rows}x{columns}"), tokens);
        cases.push(Case::new(mixed_importance::KERNEL.name, what, move |device, data| {
            importance(device, data, tokens, rows, columns)
        }));
    }
    let width = shape.feed_forward;
    cases.push(Case::new(
        row_exponents::KERNEL.name,
        (shape.name, format!("rows of {width}"), tokens),
        move |d, data| exponents(d, data, tokens, width),
    ));
}

fn unit(device: &Device) -> Unit {
    Unit::best(device.features()).unwrap_or(Unit::Emulated)
}

/// The exponents at `some` rows of a dense matrix.
fn exponents_at(values: &[f32], width: usize, some: &[usize]) -> Vec<i32> {
    let all = row_exponents::of(values, values.len() / width, width, width, 0);
    some.iter().map(|row| all[*row]).collect()
}

/// `y = x Wᵀ`.
fn forward(
    device: &Device,
    data: &mut Data,
    tokens: usize,
    element: Element,
    rows: usize,
    columns: usize,
) -> Result<Prepared> {
    let rows = fitting_rows(device, rows, columns);
    let (packed, w) = data.stored(element, rows * columns)?;
    let x = data.values(tokens * columns);
    let (some_tokens, some_rows) = (data.picks(tokens, 4), data.picks(rows, 12));
    let (device, bx, bw) = (device.clone(), device.upload_new(&x)?, device.upload_new(&packed)?);
    let by = device.allocate((tokens * rows * 4) as u64)?;
    let (checked_on, checked) = (device.clone(), by.clone());
    let params = mixed_nt::Params {
        tokens: tokens as u32,
        rows: rows as u32,
        columns: columns as u32,
        x_stride: columns as u32,
        x_offset: 0,
        y_stride: rows as u32,
        y_offset: 0,
        accumulate: 0,
    };
    let few = mixed_nt::Params {
        tokens: some_tokens.len() as u32,
        rows: some_rows.len() as u32,
        y_stride: some_rows.len() as u32,
        ..params
    };
    let launch = move || {
        let matrix = Matrix { buffer: &bw, element, rows, columns };
        let (x, y) = (Window::all(&bx, columns), Window::all(&by, rows));
        mixed_nt::run(&device, unit(&device), tokens, x, matrix, y, false)
    };
    let check = move || {
        let mut want = vec![0.0; some_tokens.len() * some_rows.len()];
        let exponents = exponents_at(&x, columns, &some_tokens);
        let [x, w] = [rows_of(&x, columns, &some_tokens), rows_of(&w, columns, &some_rows)];
        mixed_nt::reference(&few, &x, &w, &mut want, &exponents);
        let got = read_elements(&checked_on, &checked, rows, &some_tokens, &some_rows)?;
        Ok(Accuracy::of(&got, &want, TOLERANCE))
    };
    Ok(Prepared::new(mixed_nt::cost(&params, element), launch, check))
}

/// `y = x W`.
fn input_gradient(
    device: &Device,
    data: &mut Data,
    tokens: usize,
    element: Element,
    rows: usize,
    columns: usize,
) -> Result<Prepared> {
    let rows = fitting_rows(device, rows, columns);
    let (packed, w) = data.stored(element, rows * columns)?;
    let x = data.values(tokens * rows);
    let (some_tokens, some_columns) = (data.picks(tokens, 4), data.picks(columns, 12));
    let (device, bx, bw) = (device.clone(), device.upload_new(&x)?, device.upload_new(&packed)?);
    let by = device.allocate((tokens * columns * 4) as u64)?;
    let (checked_on, checked) = (device.clone(), by.clone());
    let params = mixed_nn::Params {
        tokens: tokens as u32,
        rows: rows as u32,
        columns: columns as u32,
        x_stride: rows as u32,
        x_offset: 0,
        y_stride: columns as u32,
        y_offset: 0,
        accumulate: 0,
    };
    let few = mixed_nn::Params {
        tokens: some_tokens.len() as u32,
        columns: some_columns.len() as u32,
        y_stride: some_columns.len() as u32,
        ..params
    };
    let launch = move || {
        let matrix = Matrix { buffer: &bw, element, rows, columns };
        let (x, y) = (Window::all(&bx, rows), Window::all(&by, columns));
        mixed_nn::run(&device, unit(&device), tokens, x, matrix, y, false)
    };
    let check = move || {
        let mut want = vec![0.0; some_tokens.len() * some_columns.len()];
        let exponents = exponents_at(&x, rows, &some_tokens);
        let [x, w] = [rows_of(&x, rows, &some_tokens), columns_of(&w, columns, &some_columns)];
        mixed_nn::reference(&few, &x, &w, &mut want, &exponents);
        let got = read_elements(&checked_on, &checked, columns, &some_tokens, &some_columns)?;
        Ok(Accuracy::of(&got, &want, TOLERANCE))
    };
    Ok(Prepared::new(mixed_nn::cost(&params, element), launch, check))
}

/// The Fisher diagonal of samples.
fn importance(device: &Device, data: &mut Data, tokens: usize, rows: usize, columns: usize) -> Result<Prepared> {
    let rows = fitting_rows(device, rows, columns);
    let (left, right) = (data.values(tokens * rows), data.values(tokens * columns));
    let offsets = offsets(tokens, SAMPLE);
    let (some_rows, some_columns) = (data.picks(rows, 6), data.picks(columns, 6));
    let (device, bl, br) = (device.clone(), device.upload_new(&left)?, device.upload_new(&right)?);
    let (bo, bf) = (device.upload_new(&offsets)?, device.allocate((rows * columns * 4) as u64)?);
    let (checked_on, checked) = (device.clone(), bf.clone());
    let params = mixed_importance::Params {
        units: offsets.len() as u32 - 1,
        rows: rows as u32,
        columns: columns as u32,
        left_stride: rows as u32,
        left_offset: 0,
        right_stride: columns as u32,
        right_offset: 0,
    };
    let few = mixed_importance::Params {
        rows: some_rows.len() as u32,
        columns: some_columns.len() as u32,
        left_stride: some_rows.len() as u32,
        right_stride: some_columns.len() as u32,
        ..params
    };
    let ends = offsets.clone();
    let launch = move || {
        let (left, right) = (Window::all(&bl, rows), Window::all(&br, columns));
        let segments = Segments::new(&bo, &ends);
        let how = Accumulate::Square;
        mixed_importance::run(&device, unit(&device), how, segments, left, right, rows, columns, &bf)
    };
    let check = move || {
        let exponents = |values: &[f32], width: usize| row_exponents::of(values, tokens, width, width, 0);
        let (el, er) = (exponents(&left, rows), exponents(&right, columns));
        let [left, right] = [columns_of(&left, rows, &some_rows), columns_of(&right, columns, &some_columns)];
        let mut want = vec![0.0; some_rows.len() * some_columns.len()];
        mixed_importance::reference(&few, Accumulate::Square, &offsets, &left, &right, &el, &er, &mut want);
        let got = read_elements(&checked_on, &checked, columns, &some_rows, &some_columns)?;
        Ok(Accuracy::of(&got, &want, TOLERANCE))
    };
    Ok(Prepared::new(mixed_importance::cost(&params, tokens), launch, check))
}

/// By which powers of two rows are scaled.
fn exponents(device: &Device, data: &mut Data, tokens: usize, width: usize) -> Result<Prepared> {
    let x = data.values(tokens * width);
    let (device, bx) = (device.clone(), device.upload_new(&x)?);
    let be = device.allocate(tokens as u64 * 4)?;
    let (checked_on, checked) = (device.clone(), be.clone());
    let params = row_exponents::Params { rows: tokens as u32, width: width as u32, stride: width as u32, offset: 0 };
    let check = move || {
        let mut want = vec![0; tokens];
        row_exponents::reference(&params, &x, &mut want);
        let bits = |exponents: &[i32]| exponents.iter().map(|e| e.cast_unsigned()).collect::<Vec<u32>>();
        Ok(Accuracy::exact(&bits(&checked_on.read(&checked, tokens)?), &bits(&want)))
    };
    let launch = move || row_exponents::run(&device, tokens, width, Window::all(&bx, width), &be);
    Ok(Prepared::new(row_exponents::cost(&params), launch, check))
}
