//! Samples that go through a stage together: their tokens one after the other, without padding.

use crate::Result;
use crate::device::{Buffer, Device};
use crate::kernels::Segments;
use crate::kernels::attention::{Tiles, tiles};
use crate::kernels::loss::NO_TARGET;

/// One sample as the engine takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each position the id to be predicted there, or [`NO_TARGET`]: labels after the shift.
    pub targets: Vec<u32>,
    /// The sample's number in the data set.
    pub number: u32,
}

impl Tokens {
    /// From ids and labels in Hugging Face's convention: -100 is no target, and position t predicts label t + 1.
    pub fn new(ids: &[u32], labels: &[i32], number: u32) -> Self {
        let shifted = labels.iter().skip(1).map(|label| u32::try_from(*label).unwrap_or(NO_TARGET));
        Tokens { ids: ids.to_vec(), targets: shifted.chain([NO_TARGET]).take(ids.len()).collect(), number }
    }

    /// Positions with a target.
    pub fn target_count(&self) -> usize {
        self.targets.iter().filter(|target| **target != NO_TARGET).count()
    }
}

/// The samples of one launch on the host: what a [`Batch`] is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// Token ids of all samples.
    pub ids: Vec<u32>,
    /// Position of each token in its sample.
    pub positions: Vec<u32>,
    /// Target of each token.
    pub targets: Vec<u32>,
    /// Weight of each token's loss; 0 without a target.
    pub weights: Vec<f32>,
    /// Sample number and position of each token, for seeded sampling.
    pub keys: Vec<u32>,
    /// `samples + 1` offsets.
    pub samples: Vec<u32>,
    /// `units + 1` offsets: a unit is what has one gradient, a sample or a batch of them.
    pub units: Vec<u32>,
}

impl Chunk {
    /// An empty chunk.
    pub fn new() -> Self {
        Chunk { samples: vec![0], units: vec![0], ..Chunk::default() }
    }

    /// Adds a unit of samples; every target of sample `i` gets the weight `weights[i]`.
    pub fn push_unit(&mut self, samples: &[(&Tokens, f32)]) {
        for (sample, weight) in samples {
            self.ids.extend(&sample.ids);
            self.positions.extend(0..sample.ids.len() as u32);
            self.targets.extend(&sample.targets);
            self.weights.extend(sample.targets.iter().map(|t| if *t == NO_TARGET { 0.0 } else { *weight }));
            self.keys.extend((0..sample.ids.len() as u32).flat_map(|position| [sample.number, position]));
            self.samples.push(self.ids.len() as u32);
        }
        self.units.push(self.ids.len() as u32);
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Bytes of a batch's own buffers on the device for `tokens` tokens, at most.
    pub fn device_bytes(tokens: usize) -> u64 {
        // Ids, positions, targets, weights, two words of key, a unit's offset; four words a tile of one token. In mixed
        // precision the exponents of two operands' rows, in buffers of a power of two.
        (tokens as u64 * (6 + 1 + 4) + 2 + 2 * tokens.next_power_of_two() as u64) * 4
    }
}

/// The samples of one launch on the device.
#[derive(Debug)]
pub struct Batch {
    /// What it was made of.
    pub chunk: Chunk,
    /// Number of tokens.
    pub tokens: usize,
    /// Token ids.
    pub ids: Buffer,
    /// Position of each token in its sample.
    pub positions: Buffer,
    /// Target of each token.
    pub targets: Buffer,
    /// Weight of each token's loss.
    pub weights: Buffer,
    /// Sample number and position of each token.
    pub keys: Buffer,
    units: Buffer,
    tiles: Buffer,
    tile_words: Vec<u32>,
}

impl Batch {
    /// Brings a chunk to the device.
    ///
    /// # Errors
    /// When the device has no room for it or failed.
    pub fn new(device: &Device, chunk: Chunk) -> Result<Self> {
        let tile_words = tiles(&chunk.samples);
        Ok(Batch {
            tokens: chunk.tokens(),
            ids: device.upload_new(&chunk.ids)?,
            positions: device.upload_new(&chunk.positions)?,
            targets: device.upload_new(&chunk.targets)?,
            weights: device.upload_new(&chunk.weights)?,
            keys: device.upload_new(&chunk.keys)?,
            units: device.upload_new(&chunk.units)?,
            tiles: device.upload_new(&tile_words)?,
            tile_words,
            chunk,
        })
    }

    /// The units that have a gradient.
    pub fn units(&self) -> Segments<'_> {
        Segments::new(&self.units, &self.chunk.units)
    }

    /// The attention's tiles of queries.
    pub fn tiles(&self) -> Tiles<'_> {
        Tiles::new(&self.tiles, &self.tile_words)
    }
}
