//! Per-sample gradient norms: a sink that keeps ‖g_n‖² of every sample n and parameter, and no gradient.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::workspace::{Piece, Workspace};
use crate::Result;
use crate::checkpoint::{AtomicFile, Declaration, Dtype, TensorFileWriter};
use crate::device::{Buffer, Device};
use crate::kernels::reduce::square_sum;
use crate::kernels::{Window, embedding, linear, vector};
use crate::model::sink::{Context, MatrixSite, Part, Sink, TableSite, VectorSite};
use crate::model::{Model, ParameterId};

/// Keeps the squared norm of every sample's gradient.
#[derive(Debug)]
pub struct NormSink<'a> {
    model: &'a Model,
    wanted: Vec<bool>,
    workspace: Workspace,
    /// `[parameters][samples]`
    squares: Vec<Vec<f64>>,
}

impl<'a> NormSink<'a> {
    /// A sink for `samples` samples and the parameters for which `wanted` is set.
    pub fn new(model: &'a Model, wanted: Vec<bool>, samples: usize) -> Self {
        let squares = wanted.iter().map(|wanted| vec![0.0; if *wanted { samples } else { 0 }]).collect();
        NormSink { model, wanted, workspace: Workspace::default(), squares }
    }

    /// ‖g_n‖² of every sample n in a parameter; empty where it was not wanted.
    pub fn squares(&self, parameter: ParameterId) -> &[f64] {
        &self.squares[parameter]
    }

    /// Writes them: `F32`, `[samples]`, under the checkpoint's tensor names.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: AtomicFile, metadata: &BTreeMap<String, String>) -> Result<()> {
        let chosen = || self.model.parameters.iter().zip(&self.squares).filter(|(_, squares)| !squares.is_empty());
        let declare = |(parameter, squares): (&crate::model::Parameter, &Vec<f64>)| Declaration {
            name: parameter.name.clone(),
            dtype: Dtype::F32,
            shape: vec![squares.len()],
        };
        let declarations: Vec<_> = chosen().map(declare).collect();
        let mut writer = TensorFileWriter::new(file, &declarations, metadata)?;
        for (parameter, squares) in chosen() {
            let values: Vec<f32> = squares.iter().map(|square| *square as f32).collect();
            writer.append_f32(&parameter.name, &values)?;
        }
        writer.commit()
    }

    /// Adds the square of the gradient in the workspace's buffer.
    fn add(&mut self, device: &Device, parameter: ParameterId, piece: &Piece, columns: usize) -> Result<()> {
        let count = piece.rows.len() * columns;
        let blocks = square_sum::partial_count(count);
        let partials = device.scratch(blocks as u64 * 4)?;
        square_sum::run(device, count, self.workspace.buffer()?, &partials)?;
        let sum: f64 = device.read::<f32>(&partials, blocks)?.into_iter().map(f64::from).sum();
        self.squares[parameter][piece.sample] += sum;
        Ok(())
    }

    /// Σ H ⊙ E over the piece's rows: for each token its delta times the head's part in the token's row.
    fn cross(&self, ctx: &Context<'_>, site: &TableSite<'_>, head: &Buffer, piece: &Piece) -> Result<f64> {
        let chunk = &ctx.batch.chunk;
        let (columns, entries) = (site.columns, entries(&chunk.units, &chunk.ids));
        let Window { buffer, stride, offset } = site.delta;
        let head: Vec<f32> = ctx.device.read(head, entries.len() * columns)?;
        let mut deltas = vec![0f32; piece.tokens.len() * stride];
        let first = 4 * (piece.tokens.start * stride) as u64;
        ctx.device.download(buffer, first, bytemuck::cast_slice_mut(&mut deltas))?;
        let mut sum = 0.0;
        for (token, delta) in piece.tokens.clone().zip(deltas.chunks(stride)) {
            let row = chunk.ids[token];
            if piece.rows.contains(&(row as usize)) {
                let head = &head[entries[&(row, piece.tokens.start as u32)] * columns..][..columns];
                let delta = &delta[offset..][..columns];
                sum += delta.iter().zip(head).map(|(d, h)| f64::from(*d) * f64::from(*h)).sum::<f64>();
            }
        }
        Ok(sum)
    }
}

/// The numbers of a row index's entries by row and first token of the unit: ordered by row, then by unit.
fn entries(units: &[u32], ids: &[u32]) -> HashMap<(u32, u32), usize> {
    let of_unit = |ends: &[u32]| (ends[0]..ends[1]).map(|t| (ids[t as usize], ends[0])).collect::<Vec<_>>();
    let pairs: BTreeSet<(u32, u32)> = units.windows(2).flat_map(of_unit).collect();
    pairs.into_iter().enumerate().map(|(entry, pair)| (pair, entry)).collect()
}

impl Sink for NormSink<'_> {
    fn bytes_per_element(&self) -> u64 {
        // The partial sums are a small part of this.
        2 * Workspace::BYTES_PER_ELEMENT
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
            self.add(ctx.device, site.parameter, &piece, site.columns)?;
        }
        Ok(())
    }

    fn vector(&mut self, ctx: &Context<'_>, site: &VectorSite<'_>) -> Result<()> {
        for piece in self.workspace.pieces(ctx, site.parameter, 0..1)? {
            let (tokens, grads) = (piece.tokens.clone(), self.workspace.buffer()?);
            vector::grads::run(ctx.device, tokens, site.rows_per_token, site.terms, site.width, grads)?;
            self.add(ctx.device, site.parameter, &piece, site.width)?;
        }
        Ok(())
    }

    /// A row that several tokens share is the sum of their deltas; a tied one has the head's part H as well. That one's
    /// square was added at the head, so (H + E)² − H² = E² + 2HE is what is missing.
    fn table(&mut self, ctx: &Context<'_>, site: &TableSite<'_>) -> Result<()> {
        for piece in self.workspace.pieces(ctx, site.parameter, 0..self.model.parameters[site.parameter].rows())? {
            let (tokens, first, rows) = (piece.tokens.clone(), piece.rows.start, piece.rows.len());
            let grads = self.workspace.buffer()?;
            ctx.device.clear(grads)?;
            embedding::grads::run(ctx.device, tokens, site.ids, site.delta, site.columns, first, rows, grads)?;
            self.add(ctx.device, site.parameter, &piece, site.columns)?;
            if let Some(head) = site.head_rows {
                let cross = self.cross(ctx, site, head, &piece)?;
                self.squares[site.parameter][piece.sample] += 2.0 * cross;
            }
        }
        Ok(())
    }

    fn end(&mut self, _device: &Device) -> Result<()> {
        self.workspace.end();
        Ok(())
    }
}
