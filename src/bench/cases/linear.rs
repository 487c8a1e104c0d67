//! Products with a layer's matrices and their importance. Checked at some tokens, rows and columns, each with its whole sum.

use super::super::case::{
    Accuracy, Case, Data, Prepared, columns_of, offsets, read_elements, read_rows, rows_of, wide,
};
use super::super::shape::Shape;
use super::{SAMPLE, TOLERANCE, fitting_rows};
use crate::device::Device;
use crate::kernels::linear::{covariance, matmul_nn, matmul_nt, weight_grads, weight_importance};
use crate::kernels::{Accumulate, Matrix, Segments, Window};
use crate::{Element, Result};

/// The matrices of a layer that differ in shape: name, rows and columns as stored.
pub(super) fn matrices(shape: &Shape) -> [(&'static str, usize, usize); 3] {
    [
        ("o_proj", shape.hidden, shape.heads * shape.head_dim),
        ("up_proj", shape.feed_forward, shape.hidden),
        ("down_proj", shape.hidden, shape.feed_forward),
    ]
}

pub(super) fn cases(shape: &'static Shape, tokens: usize, cases: &mut Vec<Case>) {
    let width = shape.feed_forward;
    let what = (shape.name, format!("{} rows of {width}x{width}", width.min(COVARIANCE_ROWS)), tokens);
    cases.push(Case::new(covariance::KERNEL.name, what, move |device, data| covariance(device, data, tokens, width)));
    for (name, rows, columns) in matrices(shape) {
        for element in [Element::F32, Element::Bf16] {
            let what = || (shape.name, format!("{name} {rows}x{columns} {}", element.name()), tokens);
            cases.push(Case::new(matmul_nt::KERNEL.name, what(), move |device, data| {
                forward(device, data, tokens, element, rows, columns)
            }));
            cases.push(Case::new(matmul_nn::KERNEL.name, what(), move |device, data| {
                input_gradient(device, data, tokens, element, rows, columns)
            }));
        }
        let what = || (shape.name, format!("{name} {rows}x{columns}"), tokens);
        cases.push(Case::new(weight_importance::KERNEL.name, what(), move |device, data| {
            importance(device, data, tokens, rows, columns)
        }));
        cases.push(Case::new(weight_grads::KERNEL.name, what(), move |device, data| {
            gradient(device, data, tokens, rows, columns)
        }));
    }
}

/// Rows of a covariance that are made together, at most.
const COVARIANCE_ROWS: usize = 1024;

/// The first rows of the covariance of what goes into the last projection. Checked on and above its diagonal.
fn covariance(device: &Device, data: &mut Data, tokens: usize, width: usize) -> Result<Prepared> {
    let rows = fitting_rows(device, width.min(COVARIANCE_ROWS), width);
    let (x, some) = (data.values(tokens * width), data.picks(rows, 8));
    let selected: Vec<u32> = (0..tokens as u32).collect();
    let (device, bx, bs) = (device.clone(), device.upload_new(&x)?, device.upload_new(&selected)?);
    let bc = device.allocate((rows * width * 4) as u64)?;
    let (checked_on, checked) = (device.clone(), bc.clone());
    let params = move |rows: usize, width: usize| covariance::Params {
        count: tokens as u32,
        width: width as u32,
        first_row: 0,
        rows: rows as u32,
        stride: width as u32,
        offset: 0,
    };
    let check = move || {
        let few = some.len();
        let mut want = vec![0.0; few * few];
        covariance::reference(&params(few, few), &selected, &columns_of(&x, width, &some), &mut want);
        let got = read_elements(&checked_on, &checked, width, &some, &some)?;
        let upper = |all: &[f64]| (0..few * few).filter(|i| i % few >= i / few).map(|i| all[i]).collect::<Vec<f64>>();
        Ok(Accuracy::of(&upper(&got), &upper(&want), TOLERANCE))
    };
    let launch = move || covariance::run(&device, (tokens, &bs), Window::all(&bx, width), width, (0, rows), &bc);
    Ok(Prepared::new(covariance::cost(&params(rows, width)), launch, check))
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
    let params = params_nt(tokens, rows, columns);
    let launch = move || {
        let matrix = Matrix { buffer: &bw, element, rows, columns };
        matmul_nt::run(&device, tokens, Window::all(&bx, columns), matrix, Window::all(&by, rows), false)
    };
    let check = move || {
        let (few_tokens, few_rows) = (some_tokens.len(), some_rows.len());
        let mut want = vec![0.0; few_tokens * few_rows];
        let [x, w] = [rows_of(&x, columns, &some_tokens), rows_of(&w, columns, &some_rows)];
        matmul_nt::reference(&params_nt(few_tokens, few_rows, columns), &x, &w, &mut want);
        let got = read_elements(&checked_on, &checked, rows, &some_tokens, &some_rows)?;
        Ok(Accuracy::of(&got, &want, TOLERANCE))
    };
    Ok(Prepared::new(matmul_nt::cost(&params, element), launch, check))
}

fn params_nt(tokens: usize, rows: usize, columns: usize) -> matmul_nt::Params {
    let [tokens, rows, columns] = [tokens, rows, columns].map(|n| n as u32);
    matmul_nt::Params {
        tokens,
        rows,
        columns,
        x_stride: columns,
        x_offset: 0,
        y_stride: rows,
        y_offset: 0,
        accumulate: 0,
    }
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
    let params = params_nn(tokens, rows, columns);
    let launch = move || {
        let matrix = Matrix { buffer: &bw, element, rows, columns };
        matmul_nn::run(&device, tokens, Window::all(&bx, rows), matrix, Window::all(&by, columns), false)
    };
    let check = move || {
        let (few_tokens, few_columns) = (some_tokens.len(), some_columns.len());
        let mut want = vec![0.0; few_tokens * few_columns];
        let [x, w] = [rows_of(&x, rows, &some_tokens), columns_of(&w, columns, &some_columns)];
        matmul_nn::reference(&params_nn(few_tokens, rows, few_columns), &x, &w, &mut want);
        let got = read_elements(&checked_on, &checked, columns, &some_tokens, &some_columns)?;
        Ok(Accuracy::of(&got, &want, TOLERANCE))
    };
    Ok(Prepared::new(matmul_nn::cost(&params, element), launch, check))
}

fn params_nn(tokens: usize, rows: usize, columns: usize) -> matmul_nn::Params {
    let [tokens, rows, columns] = [tokens, rows, columns].map(|n| n as u32);
    matmul_nn::Params {
        tokens,
        rows,
        columns,
        x_stride: rows,
        x_offset: 0,
        y_stride: columns,
        y_offset: 0,
        accumulate: 0,
    }
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
    let params = params_importance(offsets.len() - 1, rows, columns);
    let ends = offsets.clone();
    let launch = move || {
        let (left, right) = (Window::all(&bl, rows), Window::all(&br, columns));
        let segments = Segments::new(&bo, &ends);
        weight_importance::run(&device, Accumulate::Square, segments, left, right, rows, columns, &bf)
    };
    let check = move || {
        let (few_rows, few_columns) = (some_rows.len(), some_columns.len());
        let [left, right] = [columns_of(&left, rows, &some_rows), columns_of(&right, columns, &some_columns)];
        let mut want = vec![0.0; few_rows * few_columns];
        let params = params_importance(params.units as usize, few_rows, few_columns);
        weight_importance::reference(&params, Accumulate::Square, &offsets, &left, &right, &mut want);
        let got = read_elements(&checked_on, &checked, columns, &some_rows, &some_columns)?;
        Ok(Accuracy::of(&got, &want, TOLERANCE))
    };
    Ok(Prepared::new(weight_importance::cost(&params, tokens), launch, check))
}

fn params_importance(units: usize, rows: usize, columns: usize) -> weight_importance::Params {
    let [units, rows, columns] = [units, rows, columns].map(|n| n as u32);
    weight_importance::Params {
        units,
        rows,
        columns,
        left_stride: rows,
        left_offset: 0,
        right_stride: columns,
        right_offset: 0,
    }
}

/// The gradient of one sample, which is what a unit of all tokens has.
fn gradient(device: &Device, data: &mut Data, tokens: usize, rows: usize, columns: usize) -> Result<Prepared> {
    let rows = fitting_rows(device, rows, columns);
    let (left, right) = (data.values(tokens * rows), data.values(tokens * columns));
    let some_rows = data.picks(rows, 6);
    let (device, bl, br) = (device.clone(), device.upload_new(&left)?, device.upload_new(&right)?);
    let bg = device.allocate((rows * columns * 4) as u64)?;
    let (checked_on, checked) = (device.clone(), bg.clone());
    let params = params_gradient(tokens, rows, columns);
    let launch = move || {
        let (left, right) = (Window::all(&bl, rows), Window::all(&br, columns));
        weight_grads::run(&device, 0..tokens, left, right, rows, columns, &bg)
    };
    let check = move || {
        let mut want = vec![0.0; some_rows.len() * columns];
        let params = params_gradient(tokens, some_rows.len(), columns);
        weight_grads::reference(&params, &columns_of(&left, rows, &some_rows), &wide(&right), &mut want);
        let got = read_rows(&checked_on, &checked, columns, &some_rows)?;
        Ok(Accuracy::of(&got, &want, TOLERANCE))
    };
    Ok(Prepared::new(weight_grads::cost(&params), launch, check))
}

fn params_gradient(tokens: usize, rows: usize, columns: usize) -> weight_grads::Params {
    let [end, rows, columns] = [tokens, rows, columns].map(|n| n as u32);
    weight_grads::Params {
        begin: 0,
        end,
        rows,
        columns,
        left_stride: rows,
        left_offset: 0,
        right_stride: columns,
        right_offset: 0,
    }
}
