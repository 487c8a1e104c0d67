//! The plan of a pass: what is on the device when, made before any work is done. It is what `inspect` prints, and where a
//! budget that is too small is refused with the smallest that would do.

use std::ops::Range;

use super::activations::Place;
use crate::device::Device;
use crate::kernels::loss::BLOCK;
use crate::model::batch::Chunk;
use crate::model::parameters::Role;
use crate::model::sink::Part;
use crate::model::weights::slice_rows;
use crate::model::{Model, Parameter, ParameterId, Stage, attention, mlp};
use crate::{Element, Error, Result};

/// Tokens in flight that keep a device busy; more only costs memory.
const FULL_FLIGHT: usize = 1024;
/// The same on the CPU, where what is in flight should stay in the caches.
const FULL_FLIGHT_IN_PLACE: usize = 512;
/// A group of at least this many tokens is worth keeping what backward would otherwise recompute.
const WORTH_KEEPING: usize = 2048;
/// On the CPU a group's tokens, where it keeps that: weights need not be brought there again for the next group, only the
/// importances, and more than these would take more memory than that is worth. Half as many again where samples are so long that few
/// make a group.
const GROUP_IN_PLACE: usize = 1024;

/// What a pass is asked to do, as far as memory goes.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Tokens of each unit, in order. A unit has one gradient and is never split.
    pub units: Vec<usize>,
    /// The units that must begin a launch, ascending.
    pub breaks: Vec<usize>,
    /// Whether gradients are wanted, or the loss only.
    pub backward: bool,
    /// Bytes that the sink holds on the device for each element of a stage that it visits.
    pub sink_bytes: u64,
    /// Bytes that it holds whatever is visited.
    pub sink_beside: u64,
    /// At most this many units in one launch; none: as many as are useful.
    pub units_per_launch: Option<usize>,
    /// Whether the old model's distribution is made beside the new one's.
    pub old: bool,
}

/// The memory and the device that a plan is made for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Device memory, in bytes.
    pub device: u64,
    /// Device memory that is used beside the pass, in bytes.
    pub reserved: u64,
    /// Host memory for waiting activations, in bytes.
    pub host: u64,
    /// The largest buffer of the device, in bytes.
    pub binding: u64,
    /// Whether weights are used in place, as on the CPU, and take no device memory.
    pub in_place: bool,
}

impl Limits {
    /// What `device` and the machine have. `host_memory`: bytes for waiting activations; none: half of what is free.
    pub fn of(device: &Device, host_memory: Option<u64>) -> Self {
        Limits {
            device: device.budget().limit().min(usable(device)),
            reserved: 0,
            host: host_memory.unwrap_or_else(|| super::machine_memory() / 2),
            binding: device.binding_limit(),
            in_place: device.is_cpu(),
        }
    }
}

/// What an unlimited budget means for a plan: half of the machine's memory on the CPU; on a GPU 4 GiB, since wgpu does not
/// tell how much there is.
fn usable(device: &Device) -> u64 {
    if device.budget().limit() != u64::MAX {
        u64::MAX
    } else if device.is_cpu() {
        super::machine_memory() / 2
    } else {
        4 << 30
    }
}

/// What is on the device when.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Plan {
    /// Tokens in flight at most: what scratch buffers are sized for.
    pub capacity: usize,
    /// Rows of the embedding and of the head in one visit.
    pub table_rows: usize,
    /// Units of each launch.
    pub chunks: Vec<Range<usize>>,
    /// Chunks of each group: every shard crosses the bus twice for a group.
    pub groups: Vec<Range<usize>>,
    /// Whether waiting activations stay on the device.
    pub activations_on_device: bool,
    /// Whether what backward needs of forward is kept instead of recomputed.
    pub keep_inner: bool,
    /// Whether all weights stay on the device.
    pub weights_resident: bool,
    /// The most device memory in use, in bytes.
    pub peak_device: u64,
    /// The most host memory that waiting activations take, in bytes.
    pub peak_host: u64,
    /// The smallest device memory budget that would do, in bytes.
    pub smallest_device: u64,
}

/// The free choices of a plan.
#[derive(Clone, Copy)]
struct Choice {
    capacity: usize,
    table_rows: usize,
    group_tokens: usize,
    place: Place,
    keep: bool,
    resident: bool,
}

impl Plan {
    /// Makes the plan. `elements` are the parameters' element types.
    ///
    /// # Errors
    /// [`Error::Budget`] naming the smallest budget when a budget is too small.
    pub fn new(model: &Model, elements: &[Element], demand: &Demand, limits: &Limits) -> Result<Plan> {
        let sizes = Sizes { model, elements, demand, limits };
        let longest = demand.units.iter().copied().max().unwrap_or(1);
        let total = demand.units.iter().sum::<usize>().max(1);
        let vocabulary = model.config.vocabulary;
        let binding_rows = slice_rows(0..vocabulary, model.config.hidden, limits.binding)[0].len();
        let mut choice = Choice {
            capacity: longest,
            table_rows: BLOCK.min(vocabulary).min(binding_rows),
            group_tokens: longest,
            place: Place::Host,
            keep: false,
            resident: false,
        };
        let smallest_device = sizes.peak(&choice);
        if smallest_device > limits.device {
            return Err(Error::Budget { what: "device memory", given: limits.device, needed: smallest_device });
        }
        let smallest_host = longest as u64 * sizes.waiting_bytes();
        let fits = |choice: &Choice| sizes.peak(choice) <= limits.device && sizes.fits_bindings(choice);
        let first_fitting = |choice: Choice, mut options: Box<dyn Iterator<Item = Choice> + '_>| {
            options.find(|option| fits(option)).unwrap_or(choice)
        };
        let start = choice;
        let full = if limits.in_place { FULL_FLIGHT_IN_PLACE } else { FULL_FLIGHT };
        let flights = [full, 512, 256, 128, 64].into_iter().filter(|c| *c > longest);
        let flights = flights.map(|capacity| Choice { capacity: capacity.min(total), ..start });
        choice = first_fitting(choice, Box::new(flights));
        let start = choice;
        let rows = (0..).map(|halvings| vocabulary >> halvings).take_while(|rows| *rows > start.table_rows);
        let rows = rows.map(|rows| if rows == vocabulary { rows } else { rows / BLOCK * BLOCK });
        let rows = rows.filter(|rows| *rows >= start.table_rows);
        choice = first_fitting(choice, Box::new(rows.map(|table_rows| Choice { table_rows, ..start })));
        let start = choice;
        choice = first_fitting(choice, Box::new(std::iter::once(Choice { resident: true, ..start })));
        choice = sizes.place_activations(choice, total, longest, &fits);
        if choice.place == Place::Host {
            if smallest_host > limits.host {
                return Err(Error::Budget { what: "host memory", given: limits.host, needed: smallest_host });
            }
            choice.group_tokens = ((limits.host / sizes.waiting_bytes()) as usize).min(total);
        }
        let chunks =
            pack(&demand.units, choice.capacity, demand.units_per_launch.unwrap_or(usize::MAX), &demand.breaks);
        let chunk_tokens: Vec<usize> = chunks.iter().map(|chunk| demand.units[chunk.clone()].iter().sum()).collect();
        let groups = pack(&chunk_tokens, choice.group_tokens, usize::MAX, &[]);
        let peak_host = match choice.place {
            Place::Device => 0,
            Place::Host => choice.group_tokens as u64 * sizes.waiting_bytes(),
        };
        Ok(Plan {
            capacity: choice.capacity,
            table_rows: choice.table_rows,
            chunks,
            groups,
            activations_on_device: choice.place == Place::Device,
            keep_inner: choice.keep,
            weights_resident: choice.resident,
            peak_device: sizes.peak(&choice),
            peak_host,
            smallest_device,
        })
    }

    /// Where waiting activations are kept.
    pub(super) fn place(&self) -> Place {
        if self.activations_on_device { Place::Device } else { Place::Host }
    }

    /// Bytes of weights that cross the bus for the whole pass.
    pub fn streamed_bytes(&self, model: &Model, elements: &[Element], backward: bool) -> u64 {
        let once: u64 = model.parameters.iter().zip(elements).map(|(p, e)| (p.count() * e.size()) as u64).sum();
        let crossings = if self.weights_resident { 1 } else { self.groups.len() as u64 * if backward { 2 } else { 1 } };
        once * crossings
    }
}

/// Cuts `sizes` into consecutive ranges of at most `limit` together and `count` each, and before each of `breaks`; a larger one
/// stands alone.
fn pack(sizes: &[usize], limit: usize, count: usize, breaks: &[usize]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut filled = 0;
    for (i, size) in sizes.iter().enumerate() {
        match ranges.last_mut() {
            Some(range) if filled + size <= limit && range.len() < count && breaks.binary_search(&i).is_err() => {
                range.end = i + 1;
                filled += size;
            }
            _ => {
                ranges.push(i..i + 1);
                filled = *size;
            }
        }
    }
    ranges
}

/// The parts of the embedding's or the head's table, a visit each.
pub(super) fn table_parts(
    table: ParameterId,
    model: &Model,
    rows: usize,
    generation: u32,
    correction: bool,
) -> Vec<Part> {
    let columns = model.parameters[table].columns();
    let all = model.parameters[table].rows();
    (0..all)
        .step_by(rows.max(1))
        .map(|first| Part { parameter: table, rows: first..(first + rows).min(all), columns, generation, correction })
        .collect()
}

/// Device bytes of `rows` rows of a parameter. `in_place`: matrices are used where they lie on the host.
pub(super) fn weight_bytes(parameter: &Parameter, element: Element, rows: usize, in_place: bool) -> u64 {
    let count = (rows * parameter.columns()) as u64;
    match parameter.role {
        Role::Vector => count * 4,
        _ if in_place => 0,
        _ => (count * element.size() as u64).next_multiple_of(4),
    }
}

/// All of a parameter.
pub(super) fn whole(model: &Model, id: ParameterId, generation: u32) -> Part {
    let parameter = &model.parameters[id];
    Part { parameter: id, rows: 0..parameter.rows(), columns: parameter.columns(), generation, correction: false }
}

/// Upper bounds on what lies on the device at the same time.
struct Sizes<'a> {
    model: &'a Model,
    elements: &'a [Element],
    demand: &'a Demand,
    limits: &'a Limits,
}

impl Sizes<'_> {
    fn width(&self) -> u64 {
        self.model.config.hidden as u64
    }

    /// Device bytes of the weights of a part.
    fn weight_bytes(&self, id: ParameterId, rows: usize) -> u64 {
        weight_bytes(&self.model.parameters[id], self.elements[id], rows, self.limits.in_place)
    }

    fn sink_bytes(&self, count: usize) -> u64 {
        if self.demand.backward { count as u64 * self.demand.sink_bytes } else { 0 }
    }

    /// Bytes per token that wait between visits: the input of every stage but the first, the delta, and the head's rows.
    fn waiting_bytes(&self) -> u64 {
        let inputs = if self.demand.backward { self.model.stages.len() as u64 - 1 + 1 } else { 2 };
        let rows = u64::from(self.demand.backward && self.model.config.tied);
        4 * self.width() * (inputs + rows)
    }

    /// Floats per token kept for backward, all stages together.
    fn kept_floats(&self) -> u64 {
        let of = |stage: &Stage| match stage {
            Stage::Attention(stage) => attention::kept_width(stage),
            Stage::Mlp(stage) => mlp::kept_width(stage),
            _ => 0,
        };
        self.model.stages.iter().map(|stage| of(stage) as u64).sum()
    }

    /// The most that one visit needs beside what waits.
    fn visit(&self, stage: &Stage, choice: &Choice) -> u64 {
        let width = self.width();
        let table = |id: ParameterId| self.model.parameters[id].rows().min(choice.table_rows);
        let (floats, weights, sink) = match stage {
            Stage::Embedding(stage) => {
                let rows = table(stage.tokens);
                let positions = stage.positions.map_or((0, 0), |id| {
                    let parameter = &self.model.parameters[id];
                    (self.weight_bytes(id, parameter.rows()), self.sink_bytes(parameter.count()))
                });
                // Delta and the head's rows; the index of rows is five words a token for each of two tables.
                let floats = 2 * width + 2 * 6;
                let sink = self.sink_bytes(rows * self.model.parameters[stage.tokens].columns()) + positions.1;
                (floats, self.weight_bytes(stage.tokens, rows) + positions.0, sink)
            }
            Stage::Head(head) => {
                let rows = table(head.weight);
                let slice = slice_rows(0..rows, width as usize, self.limits.binding)[0].len() as u64;
                let backward = if self.demand.backward { width * 3 + 6 } else { 0 };
                let norm = [Some(head.norm.gain), head.norm.bias];
                let vectors: u64 = norm.into_iter().flatten().map(|id| self.weight_bytes(id, 1)).sum();
                let sink = self.sink_bytes(rows * width as usize + 2 * width as usize);
                // The old model's states, their norm, their logits and folds, weights and targets.
                let old = if self.demand.old { 2 * width + slice + 3 + 3 } else { 0 };
                // Folds, draws and their targets, weights times slopes.
                (
                    2 * width + backward + old + slice + 3 + 2 + 1 + 1,
                    vectors + self.weight_bytes(head.weight, rows),
                    sink,
                )
            }
            Stage::Attention(block) => {
                let backward = if self.demand.backward { attention::backward_width(block) } else { 0 };
                let floats = attention::inner_width(block) + backward;
                let [weights, sink] = self.all_of(stage);
                (floats as u64 + 2 * width, weights, sink)
            }
            Stage::Mlp(block) => {
                let backward = if self.demand.backward { mlp::backward_width(block) } else { 0 };
                let floats = mlp::inner_width(block) + backward;
                let [weights, sink] = self.all_of(stage);
                (floats as u64 + 2 * width, weights, sink)
            }
        };
        let weights = if choice.resident { 0 } else { weights };
        // Every buffer is rounded up to whole words and no visit has more than 64 of them.
        4 * floats * choice.capacity as u64 + weights + sink + Chunk::device_bytes(choice.capacity) + 64 * 4
    }

    fn all_of(&self, stage: &Stage) -> [u64; 2] {
        let parameters = stage.parameters();
        let weights = parameters.iter().map(|id| self.weight_bytes(*id, self.model.parameters[*id].rows())).sum();
        let sink = parameters.iter().map(|id| self.sink_bytes(self.model.parameters[*id].count())).sum();
        [weights, sink]
    }

    fn peak(&self, choice: &Choice) -> u64 {
        let rotary = self.model.config.rope.map_or(0, |rope| (rope.head_dim * 4) as u64)
            * self.demand.units.iter().copied().max().unwrap_or(1) as u64;
        let visits = self.model.stages.iter().map(|stage| self.visit(stage, choice)).max().unwrap_or(0);
        let all = || self.model.parameters.iter().enumerate().map(|(id, p)| self.weight_bytes(id, p.rows())).sum();
        let weights: u64 = if choice.resident { all() } else { 0 };
        let group = choice.group_tokens as u64;
        let waiting = match choice.place {
            Place::Host => 0,
            Place::Device => group * self.waiting_bytes() + Chunk::device_bytes(choice.group_tokens),
        };
        // Kept buffers are sized for a full chunk each; chunks are at least half full, or hold one unit.
        let kept = if choice.keep { 2 * (group + choice.capacity as u64) * self.kept_floats() * 4 } else { 0 };
        self.limits.reserved + self.demand.sink_beside + rotary + visits + weights + waiting + kept
    }

    /// Whether the largest activation buffers fit one binding each.
    fn fits_bindings(&self, choice: &Choice) -> bool {
        let config = &self.model.config;
        let joint = config.head_dim * (config.heads + 2 * config.kv_heads);
        let slice = slice_rows(0..choice.table_rows, config.hidden, self.limits.binding)[0].len();
        let widest = [config.hidden, 2 * config.intermediate, joint, slice].into_iter().max().unwrap_or(1);
        (choice.capacity * widest * 4) as u64 <= self.limits.binding
    }

    /// Keeps as much as fits on the device: inner results of a group that is worth it, else activations, else nothing.
    fn place_activations(&self, start: Choice, total: usize, longest: usize, fits: &dyn Fn(&Choice) -> bool) -> Choice {
        let largest_group = |keep: bool, most: usize| {
            let at = |group_tokens| Choice { group_tokens, place: Place::Device, keep, ..start };
            let sizes = (0..40).map(|halvings| most >> halvings).take_while(|size| *size >= longest.max(1));
            sizes.map(at).find(|choice| fits(choice))
        };
        let worth = match self.limits.in_place {
            true => (4 * longest).clamp(GROUP_IN_PLACE, GROUP_IN_PLACE * 3 / 2),
            false => WORTH_KEEPING,
        };
        let worth = total.min(worth.max(longest));
        let most = if self.limits.in_place { worth } else { total };
        let kept = if self.demand.backward { largest_group(true, most) } else { None };
        if let Some(kept) = kept.filter(|kept| kept.group_tokens >= worth) {
            return kept;
        }
        // Without keeping, smaller groups only cost traffic: all on the device or all on the host.
        largest_group(false, total).filter(|choice| choice.group_tokens == total).unwrap_or(start)
    }
}
