//! What becomes of gradients. Backward computes only what flows on; at every site it hands over the two factors of the
//! weight's gradient, and the sink picks the kernel.

use std::ops::Range;

use super::batch::Batch;
use super::parameters::ParameterId;
use crate::Result;
use crate::device::{Buffer, Device, Lease};
use crate::kernels::Window;
use crate::kernels::embedding::RowIndex;

/// What a stage's computation needs at hand.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The device.
    pub device: &'a Device,
    /// The samples in flight.
    pub batch: &'a Batch,
    /// Tokens that scratch buffers are sized for, so that chunks of different length use the same ones.
    pub capacity: usize,
    /// The rotary table, where the model has one.
    pub rotary: Option<&'a Buffer>,
}

impl Context<'_> {
    /// Number of tokens in flight.
    pub fn tokens(&self) -> usize {
        self.batch.tokens
    }

    /// A scratch buffer `[tokens, width]`.
    ///
    /// # Errors
    /// When the device has no room for it.
    pub fn rows(&self, width: usize) -> Result<Lease> {
        self.device.scratch(self.capacity.max(self.tokens()) as u64 * width as u64 * 4)
    }
}

/// The site of a matrix: the gradient of unit n is `G[r, c] = Σ_t left[t, r] · right[t, c]` over the unit's tokens.
#[derive(Clone, Copy, Debug)]
pub struct MatrixSite<'a> {
    /// The matrix.
    pub parameter: ParameterId,
    /// The first of its rows that this visit covers.
    pub first_row: usize,
    /// How many it covers.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// `[tokens, rows]`.
    pub left: Window<'a>,
    /// `[tokens, columns]`.
    pub right: Window<'a>,
}

/// The site of a vector: the gradient of unit n is the sum of `terms` over the unit's rows.
#[derive(Clone, Copy, Debug)]
pub struct VectorSite<'a> {
    /// The vector.
    pub parameter: ParameterId,
    /// Rows of `terms` for each token.
    pub rows_per_token: usize,
    /// Its length.
    pub width: usize,
    /// `[tokens · rows_per_token, width]`.
    pub terms: Window<'a>,
}

/// The site of a table: the gradient's row v is the sum of `delta` over the unit's tokens with the id v, plus, where the
/// table is also the head, the head's part.
#[derive(Clone, Copy, Debug)]
pub struct TableSite<'a> {
    /// The table.
    pub parameter: ParameterId,
    /// Its columns.
    pub columns: usize,
    /// The token's ids on the device.
    pub ids: &'a Buffer,
    /// Which tokens of which unit touch which row.
    pub index: &'a RowIndex,
    /// `[tokens, columns]`.
    pub delta: Window<'a>,
    /// The head's part in the rows of the index, where the table is tied: `[entries, columns]`.
    pub head_rows: Option<&'a Buffer>,
}

/// Rows of a parameter that a visit covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The parameter.
    pub parameter: ParameterId,
    /// Its rows; one row for a vector.
    pub rows: Range<usize>,
    /// Elements of a row.
    pub columns: usize,
    /// How often these rows have been visited before: what was accumulated then is where this visit starts.
    pub generation: u32,
    /// Whether this is a tied table's second visit, at the embedding: what it adds to the head's sums is kept apart from
    /// them, so that each is summed in the order of the samples, however these are grouped.
    pub correction: bool,
}

impl Part {
    /// Elements in it.
    pub fn count(&self) -> usize {
        self.rows.len() * self.columns
    }
}

/// Receives the gradients of one pass. Between [`begin`](Sink::begin) and [`end`](Sink::end) all chunks of a group visit the
/// parts named, in the order of their samples.
pub trait Sink {
    /// Bytes of device memory that the sink holds for each element while its part is visited.
    fn bytes_per_element(&self) -> u64;

    /// Bytes of device memory that the sink holds whatever is visited.
    fn bytes_beside(&self) -> u64 {
        0
    }

    /// Whether the gradient of this parameter is wanted.
    fn wants(&self, parameter: ParameterId) -> bool;

    /// The kind of the sample of this number. Samples of different kinds never share a launch.
    fn kind_of(&self, _sample: u32) -> usize {
        0
    }

    /// A visit begins.
    ///
    /// # Errors
    /// When the device has no room or failed.
    fn begin(&mut self, device: &Device, parts: &[Part]) -> Result<()>;

    /// A matrix was met.
    ///
    /// # Errors
    /// When the device failed.
    fn matrix(&mut self, context: &Context<'_>, site: &MatrixSite<'_>) -> Result<()>;

    /// A vector was met.
    ///
    /// # Errors
    /// When the device failed.
    fn vector(&mut self, context: &Context<'_>, site: &VectorSite<'_>) -> Result<()>;

    /// A table was met.
    ///
    /// # Errors
    /// When the device failed.
    fn table(&mut self, context: &Context<'_>, site: &TableSite<'_>) -> Result<()>;

    /// The visit is over: what was accumulated leaves the device. It need not have arrived when this returns, but what the
    /// visit before this one accumulated is stored then.
    ///
    /// # Errors
    /// When the device failed or a result cannot be stored.
    fn end(&mut self, device: &Device) -> Result<()>;

    /// No visit follows for now: stores what is on its way.
    ///
    /// # Errors
    /// As [`Sink::end`].
    fn settle(&mut self, _device: &Device) -> Result<()> {
        Ok(())
    }
}
