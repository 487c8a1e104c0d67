//! A stage's weights on the device: matrices packed as they are stored, in slices of whole rows where one binding could not
//! hold them; vectors as `f32`.

use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::parameters::{Parameter, ParameterId, Role};
use crate::checkpoint::LowRank;
use crate::device::{Buffer, Device, Staged};
use crate::kernels::Matrix;
use crate::{Element, Error, Result};

/// A tensor's bytes on the host: mapped from a file or owned.
pub type HostBytes = Arc<dyn Deref<Target = [u8]> + Send + Sync>;

/// Where weights come from: a checkpoint, or one with edits on top.
pub trait WeightSource: Send + Sync {
    /// The parameter's element type and bytes, as stored.
    ///
    /// # Errors
    /// When it cannot be read or holds numbers that are not finite.
    fn tensor(&self, parameter: &Parameter) -> Result<(Element, HostBytes)>;

    /// The parameter's element type.
    ///
    /// # Errors
    /// When it cannot be read.
    fn element(&self, parameter: &Parameter) -> Result<Element>;

    /// Is told that a pass is done with a parameter for now: memory that holds nothing but it may go.
    fn rest(&self, _parameter: &Parameter) {}

    /// What was added to the stored tensor of the checkpoint, where that is of low rank and makes the same bits.
    fn low_rank(&self, _parameter: &Parameter) -> Option<Arc<LowRank>> {
        None
    }

    /// Device memory that making a tensor takes while a pass is running, in bytes.
    fn device_bytes(&self) -> u64 {
        0
    }
}

/// Whole rows of a stored matrix on the device.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The matrix's rows that it holds.
    pub rows: Range<usize>,
    /// The packed elements.
    pub buffer: Buffer,
}

/// One parameter on the device.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// How the elements are stored there (`f32` for vectors).
    pub element: Element,
    /// Columns of a row.
    pub columns: usize,
    /// Slices in ascending order of rows.
    pub slices: Vec<Slice>,
}

impl Loaded {
    /// The slices as the kernels take them, each with its first row.
    pub fn matrices(&self) -> impl Iterator<Item = (usize, Matrix<'_>)> {
        self.slices.iter().map(|slice| {
            let rows = slice.rows.len();
            (slice.rows.start, Matrix { buffer: &slice.buffer, element: self.element, rows, columns: self.columns })
        })
    }

    /// A vector's buffer.
    pub fn vector(&self) -> &Buffer {
        &self.slices[0].buffer
    }
}

/// The weights of one stage, or of a part of it.
#[derive(Clone, Debug, Default)]
pub struct StageWeights(HashMap<ParameterId, Loaded>);

impl StageWeights {
    /// The weights of `id`.
    ///
    /// # Errors
    /// When the stage was loaded without it.
    pub fn get(&self, id: ParameterId) -> Result<&Loaded> {
        self.0.get(&id).ok_or_else(|| Error::Device(format!("parameter {id} was not brought to the device")))
    }

    /// Takes over all of `other`.
    pub fn extend(&mut self, other: StageWeights) {
        self.0.extend(other.0);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Loaded)> {
        self.0.iter().map(|(id, loaded)| (*id, loaded))
    }

    /// Adds the rows `rows` of a parameter, as the device takes them: matrices in place on the CPU, from `next_piece` on a
    /// GPU, which yields their staged bytes in the order of [`slices`].
    ///
    /// # Errors
    /// When the device has no room for them or failed.
    pub fn load(
        &mut self,
        device: &Device,
        (id, parameter): (ParameterId, &Parameter),
        rows: Range<usize>,
        (element, bytes): &(Element, HostBytes),
        next_piece: &mut dyn FnMut() -> Result<Staged>,
    ) -> Result<()> {
        let columns = parameter.columns();
        if parameter.role == Role::Vector {
            let mut values = vec![0.0; columns];
            element.decode(bytes, &mut values)?;
            let buffer = device.allocate(columns as u64 * 4)?;
            device.upload(&buffer, 0, bytemuck::cast_slice(&values))?;
            self.0.insert(id, Loaded { element: Element::F32, columns, slices: vec![Slice { rows, buffer }] });
            return Ok(());
        }
        let mut loaded = Vec::new();
        for (rows, range) in slices(parameter, *element, rows, device.binding_limit()) {
            let buffer = if device.is_cpu() {
                device.lend(Arc::new(Part { whole: bytes.clone(), range }))?
            } else {
                let buffer = device.allocate(range.len() as u64)?;
                let mut filled = 0;
                while filled < range.len() as u64 {
                    let piece = next_piece()?;
                    let length = piece.bytes();
                    device.upload_staged(&buffer, filled, piece)?;
                    filled += length;
                }
                buffer
            };
            loaded.push(Slice { rows, buffer });
        }
        self.0.insert(id, Loaded { element: *element, columns, slices: loaded });
        Ok(())
    }
}

/// A range of a tensor's bytes.
struct Part {
    whole: HostBytes,
    range: Range<usize>,
}

impl Deref for Part {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.whole[self.range.clone()]
    }
}

/// The slices of a matrix's `rows` and where each lies in the tensor's bytes.
pub fn slices(
    parameter: &Parameter,
    element: Element,
    rows: Range<usize>,
    binding_limit: u64,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let row_bytes = parameter.columns() * element.size();
    slice_rows(rows, parameter.columns(), binding_limit).into_iter().map(move |rows| {
        let range = rows.start * row_bytes..rows.end * row_bytes;
        (rows, range)
    })
}

/// Cuts rows into slices that fit one binding as `f32`, so that weights and importance are cut alike. A slice's length is a
/// multiple of 512 rows where it can be, because the loss works on blocks of that many columns of logits.
pub fn slice_rows(rows: Range<usize>, columns: usize, binding_limit: u64) -> Vec<Range<usize>> {
    let fitting = (binding_limit / (columns as u64 * 4)).max(1) as usize;
    let length = if fitting >= 512 { fitting / 512 * 512 } else { fitting };
    rows.clone().step_by(length).map(|first| first..(first + length).min(rows.end)).collect()
}
