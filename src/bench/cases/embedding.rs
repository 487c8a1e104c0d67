//! Tables of embeddings: looked up, and their importance. Checked at some columns, which do not depend on each other.

use super::super::case::{Accuracy, Case, Data, Prepared, columns_of, offsets, wide};
use super::super::shape::Shape;
use super::{SAMPLE, TOLERANCE, fitting_rows};
use crate::device::{Buffer, Device};
use crate::kernels::embedding::{RowIndex, grads, head_rows, importance, lookup, tied_importance};
use crate::kernels::{Accumulate, Matrix, Window};
use crate::{Element, Result};

/// Rows of a table that are visited together, at most: what is touched are the tokens' rows, whatever the table's size.
const ROWS: usize = 8192;

pub(super) fn cases(shape: &'static Shape, tokens: usize, cases: &mut Vec<Case>) {
    let (rows, columns) = (shape.vocabulary.min(ROWS), shape.hidden);
    let what = |element: &str| (shape.name, format!("{rows}x{columns}{element}"), tokens);
    cases.push(Case::new(lookup::KERNEL.name, what(" bf16"), move |d, data| lookup(d, data, tokens, rows, columns)));
    cases.push(Case::new(importance::KERNEL.name, what(""), move |d, data| importance(d, data, tokens, rows, columns)));
    cases.push(Case::new(tied_importance::KERNEL.name, what(""), move |d, data| {
        tied_importance(d, data, tokens, rows, columns)
    }));
    cases.push(Case::new(head_rows::KERNEL.name, what(""), move |d, data| head_rows(d, data, tokens, rows, columns)));
    cases.push(Case::new(grads::KERNEL.name, what(""), move |d, data| grads(d, data, tokens, rows, columns)));
}

/// A part of a matrix on the device, the elements of some columns in float64.
fn read_columns(device: &Device, buffer: &Buffer, rows: usize, width: usize, columns: &[usize]) -> Result<Vec<f64>> {
    Ok(columns_of(&device.read::<f32>(buffer, rows * width)?, width, columns))
}

fn lookup(device: &Device, data: &mut Data, tokens: usize, rows: usize, columns: usize) -> Result<Prepared> {
    let rows = fitting_rows(device, rows, columns);
    let element = Element::Bf16;
    let (packed, table) = data.stored(element, rows * columns)?;
    let (ids, some) = (data.ids(tokens, rows), data.picks(columns, 8));
    let (device, bt, bi) = (device.clone(), device.upload_new(&packed)?, device.upload_new(&ids)?);
    let by = device.allocate((tokens * columns * 4) as u64)?;
    let (checked_on, checked) = (device.clone(), by.clone());
    let params = move |columns: usize| lookup::Params {
        tokens: tokens as u32,
        first_row: 0,
        slice_rows: rows as u32,
        columns: columns as u32,
        y_stride: columns as u32,
        y_offset: 0,
        accumulate: 0,
    };
    let check = move || {
        let mut want = vec![0.0; tokens * some.len()];
        lookup::reference(&params(some.len()), &ids, &columns_of(&table, columns, &some), &mut want);
        Ok(Accuracy::of(&read_columns(&checked_on, &checked, tokens, columns, &some)?, &want, 0.0))
    };
    let launch = move || {
        let table = Matrix { buffer: &bt, element, rows, columns };
        lookup::run(&device, tokens, &bi, 0, table, Window::all(&by, columns), false)
    };
    Ok(Prepared::new(lookup::cost(&params(columns), element), launch, check))
}

/// A batch's tokens and the gradient at them.
struct Touched {
    rows: usize,
    index: RowIndex,
    delta: Vec<f32>,
    on_device: Buffer,
    some: Vec<usize>,
}

impl Touched {
    fn new(device: &Device, data: &mut Data, tokens: usize, rows: usize, columns: usize) -> Result<Self> {
        let rows = fitting_rows(device, rows, columns);
        let ids = data.ids(tokens, rows);
        let index = RowIndex::new(device, &offsets(tokens, SAMPLE), &ids)?;
        let delta = data.values(tokens * columns);
        let on_device = device.upload_new(&delta)?;
        Ok(Touched { rows, index, delta, on_device, some: data.picks(columns, 8) })
    }
}

/// An index's buffer, as numbers.
fn numbers(device: &Device, buffer: &Buffer) -> Result<Vec<u32>> {
    device.read(buffer, buffer.bytes() as usize / 4)
}

fn importance(device: &Device, data: &mut Data, tokens: usize, rows: usize, columns: usize) -> Result<Prepared> {
    let touched = Touched::new(device, data, tokens, rows, columns)?;
    let (rows, device) = (touched.rows, device.clone());
    let bf = device.allocate((rows * columns * 4) as u64)?;
    let (checked_on, checked) = (device.clone(), bf.clone());
    let distinct = touched.index.rows() as u32;
    let params = move |columns: usize| importance::Params {
        distinct,
        columns: columns as u32,
        first_row: 0,
        slice_rows: rows as u32,
        delta_stride: columns as u32,
        delta_offset: 0,
    };
    let cost = importance::cost(&params(columns), tokens);
    let shared = std::rc::Rc::new(touched);
    let of_check = shared.clone();
    let check = move || {
        let Touched { index, delta, some, .. } = &*of_check;
        let [r, re, et, t] = [&index.rows, &index.row_entries, &index.entry_tokens, &index.tokens]
            .map(|buffer| numbers(&checked_on, buffer));
        let mut want = vec![0.0; rows * some.len()];
        let delta = columns_of(delta, columns, some);
        importance::reference(&params(some.len()), Accumulate::Square, &r?, &re?, &et?, &t?, &delta, &mut want);
        Ok(Accuracy::of(&read_columns(&checked_on, &checked, rows, columns, some)?, &want, TOLERANCE))
    };
    let launch = move || {
        let delta = Window::all(&shared.on_device, columns);
        importance::run(&device, Accumulate::Square, &shared.index, delta, columns, 0, rows, &bf)
    };
    Ok(Prepared::new(cost, launch, check))
}

fn tied_importance(device: &Device, data: &mut Data, tokens: usize, rows: usize, columns: usize) -> Result<Prepared> {
    let touched = Touched::new(device, data, tokens, rows, columns)?;
    let (rows, device) = (touched.rows, device.clone());
    let entries = touched.index.entries();
    let head = data.values(entries * columns);
    let (bh, bf) = (device.upload_new(&head)?, device.allocate((rows * columns * 4) as u64)?);
    let (checked_on, checked) = (device.clone(), bf.clone());
    let distinct = touched.index.rows() as u32;
    let params = move |columns: usize| tied_importance::Params {
        distinct,
        columns: columns as u32,
        first_row: 0,
        slice_rows: rows as u32,
        delta_stride: columns as u32,
        delta_offset: 0,
    };
    let cost = tied_importance::cost(&params(columns), tokens, entries);
    let shared = std::rc::Rc::new(touched);
    let of_check = shared.clone();
    let check = move || {
        let Touched { index, delta, some, .. } = &*of_check;
        let [r, re, et, t] = [&index.rows, &index.row_entries, &index.entry_tokens, &index.tokens]
            .map(|buffer| numbers(&checked_on, buffer));
        let mut want = vec![0.0; rows * some.len()];
        let [delta, head] = [columns_of(delta, columns, some), columns_of(&head, columns, some)];
        let (params, how) = (params(some.len()), Accumulate::Square);
        tied_importance::reference(&params, how, &r?, &re?, &et?, &t?, &delta, &head, &mut want);
        Ok(Accuracy::of(&read_columns(&checked_on, &checked, rows, columns, some)?, &want, TOLERANCE))
    };
    let launch = move || {
        let delta = Window::all(&shared.on_device, columns);
        tied_importance::run(&device, Accumulate::Square, &shared.index, delta, columns, &bh, 0, rows, &bf)
    };
    Ok(Prepared::new(cost, launch, check))
}

/// The rows of the head's gradient that belong to a unit's own tokens: `[entries, columns]`.
fn head_rows(device: &Device, data: &mut Data, tokens: usize, rows: usize, columns: usize) -> Result<Prepared> {
    let touched = Touched::new(device, data, tokens, rows, columns)?;
    let (rows, device) = (touched.rows, device.clone());
    let entries = touched.index.entries();
    // The gradient at the logits of this slice of the vocabulary.
    let logits = data.values(tokens * rows);
    let (bl, out) = (device.upload_new(&logits)?, device.allocate((entries * columns * 4) as u64)?);
    let (checked_on, checked) = (device.clone(), out.clone());
    let params = move |columns: usize| head_rows::Params {
        entries: entries as u32,
        columns: columns as u32,
        first_row: 0,
        slice_rows: rows as u32,
        delta_stride: rows as u32,
        delta_offset: 0,
        activation_stride: columns as u32,
        activation_offset: 0,
    };
    let cost = head_rows::cost(&params(columns), touched.index.unit_tokens());
    let shared = std::rc::Rc::new(touched);
    let of_check = shared.clone();
    let check = move || {
        let Touched { index, delta, some, .. } = &*of_check;
        let [row, start, end] = [&index.entry_row, &index.entry_segment_start, &index.entry_segment_end]
            .map(|buffer| numbers(&checked_on, buffer));
        let mut want = vec![0.0; entries * some.len()];
        let activation = columns_of(delta, columns, some);
        head_rows::reference(&params(some.len()), &row?, &start?, &end?, &wide(&logits), &activation, &mut want);
        Ok(Accuracy::of(&read_columns(&checked_on, &checked, entries, columns, some)?, &want, TOLERANCE))
    };
    let launch = move || {
        let (delta, activation) = (Window::all(&bl, rows), Window::all(&shared.on_device, columns));
        head_rows::run(&device, &shared.index, 0, rows, delta, activation, columns, &out)
    };
    Ok(Prepared::new(cost, launch, check))
}

fn grads(device: &Device, data: &mut Data, tokens: usize, rows: usize, columns: usize) -> Result<Prepared> {
    let rows = fitting_rows(device, rows, columns);
    let (ids, delta, some) = (data.ids(tokens, rows), data.values(tokens * columns), data.picks(columns, 8));
    let (device, bi, bd) = (device.clone(), device.upload_new(&ids)?, device.upload_new(&delta)?);
    let bg = device.allocate((rows * columns * 4) as u64)?;
    let (checked_on, checked) = (device.clone(), bg.clone());
    let params = move |columns: usize| grads::Params {
        begin: 0,
        end: tokens as u32,
        columns: columns as u32,
        first_row: 0,
        slice_rows: rows as u32,
        delta_stride: columns as u32,
        delta_offset: 0,
    };
    let check = move || {
        let mut want = vec![0.0; rows * some.len()];
        grads::reference(&params(some.len()), &ids, &columns_of(&delta, columns, &some), &mut want);
        Ok(Accuracy::of(&read_columns(&checked_on, &checked, rows, columns, &some)?, &want, TOLERANCE))
    };
    let launch = move || grads::run(&device, 0..tokens, &bi, Window::all(&bd, columns), columns, 0, rows, &bg);
    Ok(Prepared::new(grads::cost(&params(columns)), launch, check))
}
