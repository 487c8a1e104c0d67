//! Per-sample gradients: a sink that writes each of them out. Every unit of the pass must be one sample.
//!
//! Backward meets the last layer first and may come in groups, while a tied table's gradient is complete only at the
//! embedding. So the gradients wait in a scratch file, `[samples, ...shape]` for each tensor, that has no name or loses it
//! with the process, and are copied to the output at the end.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::workspace::{Piece, Workspace};
use crate::checkpoint::{AtomicFile, Declaration, Dtype, TensorFileWriter, create_beside};
use crate::device::Device;
use crate::kernels::{Window, embedding, linear, vector};
use crate::model::sink::{Context, MatrixSite, Part, Sink, TableSite, VectorSite};
use crate::model::{Model, ParameterId};
use crate::{Error, Result};

/// Bytes that are copied at a time.
const COPY: usize = 1 << 22;

/// Keeps the gradient of every sample.
#[derive(Debug)]
pub struct GradSink<'a> {
    model: &'a Model,
    wanted: Vec<bool>,
    samples: usize,
    workspace: Workspace,
    scratch: Scratch,
}

impl<'a> GradSink<'a> {
    /// A sink for the gradients of `samples` samples in the parameters for which `wanted` is set. They wait beside `out`.
    ///
    /// # Errors
    /// When the scratch file cannot be made.
    pub fn new(model: &'a Model, wanted: Vec<bool>, samples: usize, out: &Path) -> Result<Self> {
        let mut starts = vec![0u64; wanted.len()];
        let mut end = 0u64;
        for (id, start) in starts.iter_mut().enumerate().filter(|(id, _)| wanted[*id]) {
            *start = end;
            end += samples as u64 * model.parameters[id].count() as u64 * 4;
        }
        let scratch = Scratch::new(out, starts, end)?;
        Ok(GradSink { model, wanted, samples, workspace: Workspace::default(), scratch })
    }

    /// Writes the gradients: `F32`, `[samples, ...shape]`, under the checkpoint's tensor names.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write(mut self, file: AtomicFile, metadata: &BTreeMap<String, String>) -> Result<()> {
        let chosen: Vec<ParameterId> = (0..self.wanted.len()).filter(|id| self.wanted[*id]).collect();
        let declare = |id: &ParameterId| {
            let parameter = &self.model.parameters[*id];
            let shape = std::iter::once(self.samples).chain(parameter.shape.iter().copied()).collect();
            Declaration { name: parameter.name.clone(), dtype: Dtype::F32, shape }
        };
        let declarations: Vec<_> = chosen.iter().map(declare).collect();
        let mut writer = TensorFileWriter::new(file, &declarations, metadata)?;
        let mut bytes = vec![0; COPY];
        for id in chosen {
            let parameter = &self.model.parameters[id];
            let mut left = self.samples * parameter.count() * 4;
            self.scratch.seek(self.scratch.starts[id])?;
            while left > 0 {
                let step = left.min(COPY);
                self.scratch.fill(&mut bytes[..step])?;
                writer.append(&parameter.name, &bytes[..step])?;
                left -= step;
            }
        }
        writer.commit()
    }

    /// Where the gradient of `sample` in `rows` of a parameter waits.
    fn position(&self, sample: usize, parameter: ParameterId, rows: &Range<usize>) -> u64 {
        let shape = &self.model.parameters[parameter];
        self.scratch.starts[parameter] + 4 * (sample * shape.count() + rows.start * shape.columns()) as u64
    }

    /// Takes a gradient from the workspace's buffer.
    fn keep(&mut self, device: &Device, parameter: ParameterId, piece: &Piece, columns: usize) -> Result<()> {
        let mut values = vec![0f32; piece.rows.len() * columns];
        device.download(self.workspace.buffer()?, 0, bytemuck::cast_slice_mut(&mut values))?;
        let position = self.position(piece.sample, parameter, &piece.rows);
        self.scratch.write(position, bytemuck::cast_slice(&values))
    }
}

impl Sink for GradSink<'_> {
    fn bytes_per_element(&self) -> u64 {
        Workspace::BYTES_PER_ELEMENT
    }

    fn wants(&self, parameter: ParameterId) -> bool {
        self.wanted[parameter]
    }

    fn begin(&mut self, device: &Device, parts: &[Part]) -> Result<()> {
        self.workspace.begin(device, parts)
    }

    fn matrix(&mut self, ctx: &Context<'_>, site: &MatrixSite<'_>) -> Result<()> {
        for piece in self.workspace.pieces(ctx, site.parameter, site.first_row..site.first_row + site.rows)? {
            let first = site.left.offset + piece.rows.start - site.first_row;
            let left = Window::at(site.left.buffer, site.left.stride, first);
            let (tokens, rows, grads) = (piece.tokens.clone(), piece.rows.len(), self.workspace.buffer()?);
            linear::weight_grads::run(ctx.device, tokens, left, site.right, rows, site.columns, grads)?;
            self.keep(ctx.device, site.parameter, &piece, site.columns)?;
        }
        Ok(())
    }

    fn vector(&mut self, ctx: &Context<'_>, site: &VectorSite<'_>) -> Result<()> {
        for piece in self.workspace.pieces(ctx, site.parameter, 0..1)? {
            let (tokens, grads) = (piece.tokens.clone(), self.workspace.buffer()?);
            vector::grads::run(ctx.device, tokens, site.rows_per_token, site.terms, site.width, grads)?;
            self.keep(ctx.device, site.parameter, &piece, site.width)?;
        }
        Ok(())
    }

    fn table(&mut self, ctx: &Context<'_>, site: &TableSite<'_>) -> Result<()> {
        for piece in self.workspace.pieces(ctx, site.parameter, 0..self.model.parameters[site.parameter].rows())? {
            let count = piece.rows.len() * site.columns;
            // The head's part of a tied table is there already; of any other table nothing is.
            let mut values = vec![0u8; count * 4];
            if site.head_rows.is_some() {
                self.scratch.read(self.position(piece.sample, site.parameter, &piece.rows), &mut values)?;
            }
            let grads = self.workspace.buffer()?;
            ctx.device.upload(grads, 0, &values)?;
            let (tokens, first, rows) = (piece.tokens.clone(), piece.rows.start, piece.rows.len());
            embedding::grads::run(ctx.device, tokens, site.ids, site.delta, site.columns, first, rows, grads)?;
            self.keep(ctx.device, site.parameter, &piece, site.columns)?;
        }
        Ok(())
    }

    fn end(&mut self, _device: &Device) -> Result<()> {
        self.workspace.end();
        Ok(())
    }
}

/// A file beside the output that goes with the process.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    file: File,
    /// Where each parameter's gradients begin.
    starts: Vec<u64>,
}

impl Scratch {
    fn new(out: &Path, starts: Vec<u64>, bytes: u64) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let (path, file) = create_beside(out, |path| options.open(path))?;
        let scratch = Scratch { path, file, starts };
        // Where an open file can lose its name, not even a killed process leaves it behind.
        #[cfg(unix)]
        std::fs::remove_file(&scratch.path).map_err(|e| Error::writing(&scratch.path, e))?;
        scratch.file.set_len(bytes).map_err(|e| Error::writing(&scratch.path, e))?;
        Ok(scratch)
    }

    fn seek(&mut self, position: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(position)).map_err(|e| Error::writing(&self.path, e))?;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact(bytes).map_err(|e| Error::writing(&self.path, e))
    }

    fn read(&mut self, position: u64, bytes: &mut [u8]) -> Result<()> {
        self.seek(position)?;
        self.fill(bytes)
    }

    fn write(&mut self, position: u64, bytes: &[u8]) -> Result<()> {
        self.seek(position)?;
        self.file.write_all(bytes).map_err(|e| Error::writing(&self.path, e))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Without its name already, where that is possible; elsewhere nothing more can be done about a failure.
        let _ = std::fs::remove_file(&self.path);
    }
}
