//! What sinks of per-sample gradients share: one buffer on the device that holds one sample's gradient in one slice of a
//! parameter at a time.

use std::ops::Range;

use crate::device::{Buffer, Device};
use crate::model::ParameterId;
use crate::model::sink::{Context, Part};
use crate::model::weights::slice_rows;
use crate::{Error, Result};

/// The buffer, and the slices of the parameters being visited.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    active: Vec<(ParameterId, Vec<Range<usize>>)>,
    buffer: Option<Buffer>,
}

/// One sample's gradient in some rows of a parameter.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The sample's number.
    pub(super) sample: usize,
    /// Its tokens in the batch.
    pub(super) tokens: Range<usize>,
    /// The parameter's rows.
    pub(super) rows: Range<usize>,
}

impl Workspace {
    /// Device memory for each element of a visited part, at most: the buffer is as large as the largest slice.
    pub(super) const BYTES_PER_ELEMENT: u64 = 4;

    pub(super) fn begin(&mut self, device: &Device, parts: &[Part]) -> Result<()> {
        let mut largest = 0;
        for part in parts {
            let slices = slice_rows(part.rows.clone(), part.columns, device.binding_limit());
            largest = slices.iter().map(|rows| rows.len() * part.columns).chain([largest]).max().unwrap_or(0);
            self.active.push((part.parameter, slices));
        }
        if largest > 0 {
            self.buffer = Some(device.allocate(largest as u64 * 4)?);
        }
        Ok(())
    }

    pub(super) fn end(&mut self) {
        self.active.clear();
        self.buffer = None;
    }

    /// Where the gradient is computed.
    pub(super) fn buffer(&self) -> Result<&Buffer> {
        self.buffer.as_ref().ok_or_else(|| Error::Device("no parameter is being visited".into()))
    }

    /// The pieces to compute, for every sample of the batch and every slice within `rows`.
    pub(super) fn pieces(&self, ctx: &Context<'_>, parameter: ParameterId, rows: Range<usize>) -> Result<Vec<Piece>> {
        let slices = self.active.iter().find(|(id, _)| *id == parameter).map(|(_, slices)| slices);
        let slices = slices.ok_or_else(|| Error::Device(format!("parameter {parameter} is not being visited")))?;
        let chunk = &ctx.batch.chunk;
        if chunk.units != chunk.samples {
            return Err(Error::Device("per-sample gradients need units of one sample".into()));
        }
        let mut pieces = Vec::new();
        for ends in chunk.units.windows(2) {
            let tokens = ends[0] as usize..ends[1] as usize;
            let sample = chunk.keys[2 * tokens.start] as usize;
            for slice in slices {
                let rows = slice.start.max(rows.start)..slice.end.min(rows.end);
                if !rows.is_empty() {
                    pieces.push(Piece { sample, tokens: tokens.clone(), rows });
                }
            }
        }
        Ok(pieces)
    }
}
