//! The plan of decoding: how many sequences go together and what is on the device meanwhile. As for a pass, a budget that
//! is too small is refused before any work, with the smallest that would do.

use super::plan::{Limits, weight_bytes};
use crate::kernels::loss::BLOCK;
use crate::model::attention::Cache;
use crate::model::batch::Chunk;
use crate::model::weights::slice_rows;
use crate::model::{Model, ParameterId, Stage, attention, mlp};
use crate::{Element, Error, Result};

/// Sequences that keep a device busy when each adds one token a step.
const FULL_BATCH: usize = 64;
/// Prompt tokens in flight that keep a device busy.
const FULL_FLIGHT: usize = 512;

/// Tokens of a sequence that is to be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Tokens given, at least 1.
    pub prompt: usize,
    /// Tokens to be found, at most.
    pub new: usize,
}

/// What is on the device while sequences are continued.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DecodePlan {
    /// Sequences that are continued together, at most.
    pub sequences: usize,
    /// Tokens that the cache has room for in each.
    pub capacity: usize,
    /// Prompt tokens in flight at most. A prompt is never split.
    pub flight: usize,
    /// Rows of the embedding and of the head in one visit.
    pub table_rows: usize,
    /// Whether all weights stay on the device; otherwise they are streamed for every token.
    pub weights_resident: bool,
    /// The most device memory in use, in bytes.
    pub peak_device: u64,
    /// The smallest device memory budget that would do, in bytes.
    pub smallest_device: u64,
}

/// The free choices of a plan.
#[derive(Clone, Copy)]
struct Choice {
    sequences: usize,
    flight: usize,
    table_rows: usize,
    resident: bool,
}

impl DecodePlan {
    /// Makes the plan for any order of these sequences. `elements` are the parameters' element types.
    ///
    /// # Errors
    /// [`Error::Budget`] naming the smallest budget when the budget is too small for one sequence.
    pub fn new(model: &Model, elements: &[Element], extents: &[Extent], limits: &Limits) -> Result<DecodePlan> {
        let sizes = Sizes::new(model, elements, extents, limits);
        let smallest =
            Choice { sequences: 1, flight: sizes.longest(), table_rows: sizes.fewest_rows(), resident: false };
        let smallest_device = sizes.peak(&smallest);
        if smallest_device > limits.device {
            return Err(Error::Budget { what: "device memory", given: limits.device, needed: smallest_device });
        }
        let fits = |choice: &Choice| sizes.peak(choice) <= limits.device && sizes.fits_bindings(choice);
        let choice = sizes.choices().find(fits).unwrap_or(smallest);
        Ok(DecodePlan {
            sequences: choice.sequences,
            capacity: sizes.capacity,
            flight: choice.flight,
            table_rows: choice.table_rows,
            weights_resident: choice.resident,
            peak_device: sizes.peak(&choice),
            smallest_device,
        })
    }
}

/// Upper bounds on what lies on the device at the same time.
struct Sizes<'a> {
    model: &'a Model,
    elements: &'a [Element],
    limits: &'a Limits,
    /// Lengths of the prompts, longest first.
    prompts: Vec<usize>,
    /// Tokens of the longest sequence.
    capacity: usize,
}

impl<'a> Sizes<'a> {
    fn new(model: &'a Model, elements: &'a [Element], extents: &[Extent], limits: &'a Limits) -> Self {
        let mut prompts: Vec<usize> = extents.iter().map(|extent| extent.prompt).collect();
        prompts.sort_unstable_by(|a, b| b.cmp(a));
        let capacity = extents.iter().map(|extent| extent.prompt + extent.new).max().unwrap_or(1);
        Sizes { model, elements, limits, prompts, capacity }
    }

    fn longest(&self) -> usize {
        self.prompts.first().copied().unwrap_or(1)
    }

    /// The least rows of a table that a visit is worth.
    fn fewest_rows(&self) -> usize {
        let (vocabulary, width) = (self.model.config.vocabulary, self.model.config.hidden);
        BLOCK.min(slice_rows(0..vocabulary, width, self.limits.binding)[0].len())
    }

    /// All choices, the fastest first: weights that stay matter most, then many sequences in one step.
    fn choices(&self) -> impl Iterator<Item = Choice> {
        let most = FULL_BATCH.min(self.prompts.len()).max(1);
        let (vocabulary, longest, fewest) = (self.model.config.vocabulary, self.longest(), self.fewest_rows());
        let halves =
            move |from: usize, to: usize| (0..usize::BITS).map(move |n| from >> n).take_while(move |n| *n > to);
        let batches = move || halves(most, 0);
        let total = |sequences: usize| self.prompts.iter().take(sequences).sum::<usize>();
        let flights = move |sequences| halves(FULL_FLIGHT.min(total(sequences)).max(longest), longest).chain([longest]);
        let rows = move || {
            let whole_blocks = move |rows| if rows == vocabulary { rows } else { rows / BLOCK * BLOCK };
            halves(vocabulary, fewest).map(whole_blocks).filter(move |rows| *rows > fewest).chain([fewest])
        };
        [true, false].into_iter().flat_map(move |resident| {
            batches().flat_map(move |sequences| {
                flights(sequences).flat_map(move |flight| {
                    rows().map(move |table_rows| Choice { sequences, flight, table_rows, resident })
                })
            })
        })
    }

    fn weight_bytes(&self, id: ParameterId, rows: usize) -> u64 {
        let parameter = &self.model.parameters[id];
        weight_bytes(parameter, self.elements[id], rows.min(parameter.rows()), self.limits.in_place)
    }

    /// Columns of logits that exist at a time.
    fn slice(&self, choice: &Choice) -> usize {
        slice_rows(0..choice.table_rows, self.model.config.hidden, self.limits.binding)[0].len()
    }

    /// The most that one visit needs beside what waits.
    fn visit(&self, stage: &Stage, choice: &Choice) -> u64 {
        let tokens = choice.flight.max(choice.sequences) as u64;
        let all = |ids: Vec<ParameterId>| ids.into_iter().map(|id| self.weight_bytes(id, usize::MAX)).sum();
        let (floats, weights): (u64, u64) = match stage {
            Stage::Embedding(stage) => {
                let positions = stage.positions.map_or(0, |id| self.weight_bytes(id, usize::MAX));
                (0, self.weight_bytes(stage.tokens, choice.table_rows) + positions)
            }
            Stage::Attention(block) => (attention::inner_width(block) as u64 * tokens, all(stage.parameters())),
            Stage::Mlp(block) => (mlp::inner_width(block) as u64 * tokens, all(stage.parameters())),
            Stage::Head(head) => {
                let norm = [Some(head.norm.gain), head.norm.bias].into_iter().flatten();
                let norm: u64 = norm.map(|id| self.weight_bytes(id, 1)).sum();
                // The last hidden state and its norm, the logits, the running best.
                let floats = 2 * self.model.config.hidden + self.slice(choice) + 2;
                let batch = Chunk::device_bytes(choice.sequences) / 4;
                ((floats * choice.sequences) as u64 + batch, norm + self.weight_bytes(head.weight, choice.table_rows))
            }
        };
        // Every buffer is rounded up to whole words and no visit has more than 64 of them.
        4 * floats + if choice.resident { 0 } else { weights } + 64 * 4
    }

    fn peak(&self, choice: &Choice) -> u64 {
        let (model, sequences) = (self.model, choice.sequences);
        let rotary = model.config.rope.map_or(0, |rope| (rope.head_dim * 4) as u64) * self.capacity as u64;
        let caches: u64 = model.stages.iter().map(|stage| cache_bytes(stage, sequences, self.capacity)).sum();
        let resident = || (0..model.parameters.len()).map(|id| self.weight_bytes(id, usize::MAX)).sum();
        let weights: u64 = if choice.resident { resident() } else { 0 };
        // Every token in the stages: what the launches are told, its row of the cache, its hidden state before and after.
        let tokens: usize = self.prompts.iter().take(sequences).sum::<usize>().max(sequences);
        let launches = tokens.div_ceil(choice.flight.div_ceil(2)).min(sequences);
        let waiting = Chunk::device_bytes(tokens)
            + launches as u64 * Chunk::device_bytes(0)
            + (4 * (tokens + sequences) + 8 * tokens * model.config.hidden) as u64;
        let visits = model.stages.iter().map(|stage| self.visit(stage, choice)).max().unwrap_or(0);
        self.limits.reserved + rotary + caches + weights + waiting + visits
    }

    /// Whether the largest buffers fit one binding each.
    fn fits_bindings(&self, choice: &Choice) -> bool {
        let config = &self.model.config;
        let joint = config.head_dim * (config.heads + 2 * config.kv_heads);
        let widest = config.hidden.max(2 * config.intermediate).max(joint);
        let activations = choice.flight.max(choice.sequences) * widest;
        let cache = choice.sequences * self.capacity * config.kv_heads * config.head_dim;
        let largest = activations.max(cache).max(choice.sequences * self.slice(choice));
        largest as u64 * 4 <= self.limits.binding
    }
}

fn cache_bytes(stage: &Stage, sequences: usize, capacity: usize) -> u64 {
    match stage {
        Stage::Attention(block) => Cache::device_bytes(block, sequences, capacity),
        _ => 0,
    }
}
