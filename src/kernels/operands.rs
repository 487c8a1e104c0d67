//! How kernels are handed their operands: windows into rows of activations, and stored matrices.

use std::borrow::Cow;

use crate::Element;
use crate::device::Buffer;

/// Columns `offset .. offset + width` of a row-major `[tokens, stride]` buffer of `f32`: for instance the queries within
/// a joint query, key and value buffer.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// The whole buffer.
    pub buffer: &'a Buffer,
    /// Elements from one token's row to the next.
    pub stride: usize,
    /// The first column.
    pub offset: usize,
}

impl<'a> Window<'a> {
    /// All of a `[tokens, width]` buffer.
    pub fn all(buffer: &'a Buffer, width: usize) -> Self {
        Window { buffer, stride: width, offset: 0 }
    }

    /// The same rows from column `offset` on.
    #[must_use]
    pub fn at(buffer: &'a Buffer, stride: usize, offset: usize) -> Self {
        Window { buffer, stride, offset }
    }
}

/// A stored matrix (or a slice of whole rows of one): `[rows, columns]`, row-major, packed as in the checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The packed elements.
    pub buffer: &'a Buffer,
    /// How they are stored.
    pub element: Element,
    /// Rows as stored.
    pub rows: usize,
    /// Columns as stored.
    pub columns: usize,
}

/// How a batch's tokens are grouped into the units that have a gradient: samples, or batches of them. Unit `n` is the rows
/// `offsets[n] .. offsets[n + 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    /// `count + 1` ascending `u32` row numbers.
    pub offsets: &'a Buffer,
    /// Number of units.
    pub count: usize,
    /// Tokens of all units together, which is what a launch costs by.
    pub tokens: usize,
    /// One past the last unit's last row.
    pub end: usize,
}

impl<'a> Segments<'a> {
    /// The units between the `ascending` row numbers that `offsets` holds a copy of.
    pub fn new(offsets: &'a Buffer, ascending: &[u32]) -> Self {
        let (first, end) = match ascending {
            [first, .., last] => (*first as usize, *last as usize),
            _ => (0, 0),
        };
        Segments { offsets, count: ascending.len().saturating_sub(1), tokens: end - first, end }
    }
}

/// What becomes of a unit's gradient G when it is added to an importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accumulate {
    /// `F += G ⊙ G`: the Fisher diagonal.
    Square,
    /// `F += |G|`.
    Magnitude,
    /// `F += G`.
    Sum,
}

impl Accumulate {
    /// All of them.
    pub const ALL: [Accumulate; 3] = [Accumulate::Square, Accumulate::Magnitude, Accumulate::Sum];

    /// An importance after one more gradient.
    pub fn fold<R: crate::kernels::Real>(self, importance: R, gradient: R) -> R {
        match self {
            Accumulate::Square => importance + gradient * gradient,
            Accumulate::Magnitude => importance + gradient.abs(),
            Accumulate::Sum => importance + gradient,
        }
    }

    /// What a gradient's part `known` makes of the fold when `more` is added to it.
    pub fn correction<R: crate::kernels::Real>(self, known: R, more: R) -> R {
        match self {
            Accumulate::Square => more * (known + known + more),
            Accumulate::Magnitude => (known + more).abs() - known.abs(),
            Accumulate::Sum => more,
        }
    }

    /// The name in shader permutations.
    pub const fn name(self) -> &'static str {
        match self {
            Accumulate::Square => "square",
            Accumulate::Magnitude => "magnitude",
            Accumulate::Sum => "sum",
        }
    }
}

/// `bytes` of stored elements as `f32`: in place when they are already (and aligned), decoded otherwise.
pub(crate) fn decoded(element: Element, bytes: &[u8], count: usize) -> Cow<'_, [f32]> {
    let bytes = &bytes[..count * element.size()];
    if element == Element::F32
        && let Ok(values) = bytemuck::try_cast_slice(bytes)
    {
        return Cow::Borrowed(values);
    }
    let mut values = vec![0.0; count];
    decode_parallel(element, bytes, &mut values);
    Cow::Owned(values)
}

fn decode_parallel(element: Element, bytes: &[u8], values: &mut [f32]) {
    use rayon::prelude::*;
    const PIECE: usize = 1 << 16;
    values.par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE * element.size())).for_each(|(values, bytes)| {
        // The lengths match by construction, which is all that decoding can object to.
        let _ = element.decode(bytes, values);
    });
}
