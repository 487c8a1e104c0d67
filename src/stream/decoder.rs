//! Sequences that grow by a token at a time. As in a pass, all of a batch goes through a stage before the next one is
//! brought in; unlike in a pass only forward, and attention's keys and values stay on the device from step to step.

use super::decode_plan::{DecodePlan, Extent};
use super::loader::{Loader, Queue, Visit};
use super::pass::Pass;
use super::plan::{table_parts, whole};
use crate::device::{Buffer, Device, Lease};
use crate::kernels::attention::decode::Lengths;
use crate::kernels::embedding::lookup;
use crate::kernels::loss::{NO_TARGET, initial_best};
use crate::kernels::{Matrix, Window};
use crate::model::attention::Cache;
use crate::model::batch::{Batch, Chunk, Tokens};
use crate::model::head::{self, Fold};
use crate::model::parameters::{EmbeddingStage, HeadStage};
use crate::model::sink::Context;
use crate::model::weights::StageWeights;
use crate::model::{Model, Stage, attention, embedding, mlp};
use crate::{Element, Error, Result};

/// Which token follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// The likeliest.
    #[default]
    Likeliest,
    /// One drawn from the model's distribution. A draw depends on the seed, the sequence's number and the token's place in it, and
    /// not on what else is continued.
    Drawn {
        /// Seed of the draws.
        seed: u64,
    },
}

/// A model ready to continue sequences.
pub struct Decoder<'a> {
    device: &'a Device,
    model: &'a Model,
    embedding: &'a EmbeddingStage,
    head: &'a HeadStage,
    plan: DecodePlan,
    loader: Loader,
    rotary: Option<Buffer>,
    pick: Pick,
    /// What one way through the model needs, in order.
    visits: Vec<Visit>,
}

/// The sequences that are being continued, each with a place in every cache.
#[derive(Debug)]
pub struct Sequences {
    /// For each stage its cache, where it has one.
    caches: Vec<Option<Cache>>,
    /// Tokens that a cache has room for in each place.
    capacity: usize,
    /// Scratch buffers of a step have room for so many sequences.
    places: usize,
    /// Tokens cached, for each sequence by its place.
    lengths: Vec<usize>,
    /// Its number, by which tokens are drawn.
    numbers: Vec<u32>,
}

/// Tokens that go through the stages in one launch.
struct Flight {
    batch: Batch,
    /// Each token's row of the caches.
    slots: Buffer,
    /// Each sequence's tokens with the new one, and their sum; none where whole prompts go through.
    lengths: Option<(Buffer, u64)>,
    /// Tokens that scratch buffers are sized for.
    capacity: usize,
    /// The hidden state, `[tokens, hidden]`.
    hidden: Lease,
}

impl<'a> Decoder<'a> {
    /// Plans for sequences of these extents and prepares the device.
    ///
    /// # Errors
    /// [`Error::Budget`] with the smallest budget that would do; or when the device failed.
    pub fn new(pass: &'a Pass, extents: &[Extent]) -> Result<Self> {
        let model = &*pass.model;
        let (Some(Stage::Embedding(embedding)), Some(Stage::Head(head))) = (model.stages.first(), model.stages.last())
        else {
            return Err(Error::Device("the model has no embedding or no head".into()));
        };
        let plan = DecodePlan::new(model, pass.elements(), extents, &pass.limits())?;
        let rotary = model.config.rope.map(|rope| pass.device.upload_new(&rope.table(plan.capacity))).transpose()?;
        let visits = visits(model, embedding, head, plan.table_rows);
        let loader = pass.loader(plan.weights_resident);
        let pick = Pick::Likeliest;
        Ok(Decoder { device: &pass.device, model, embedding, head, plan, loader, rotary, pick, visits })
    }

    /// The same with another way to find the next token.
    #[must_use]
    pub fn with_pick(self, pick: Pick) -> Self {
        Decoder { pick, ..self }
    }

    /// The plan that is followed.
    pub fn plan(&self) -> &DecodePlan {
        &self.plan
    }

    /// Takes up prompts, each with the number of tokens to be found at most, and finds the next token of each: the vocabulary's
    /// size or more where the model gives no finite logit. `numbers` are the sequences' numbers.
    ///
    /// # Errors
    /// When there are more or longer sequences than the plan has room for, or the device failed.
    pub fn start(&self, prompts: &[(&[u32], usize)], numbers: &[u32]) -> Result<(Sequences, Vec<u32>)> {
        let capacity = prompts.iter().map(|(ids, new)| ids.len() + new).max().unwrap_or(0);
        if prompts.len() > self.plan.sequences
            || numbers.len() != prompts.len()
            || capacity > self.plan.capacity
            || prompts.iter().any(|(ids, _)| ids.len() > self.plan.flight)
        {
            return Err(Error::Device("the sequences are not those that were planned for".into()));
        }
        let cache = |stage: &Stage| match stage {
            Stage::Attention(block) => Cache::new(self.device, block, prompts.len(), capacity).map(Some),
            _ => Ok(None),
        };
        let caches = self.model.stages.iter().map(cache).collect::<Result<_>>()?;
        let lengths = prompts.iter().map(|(ids, _)| ids.len()).collect();
        let sequences = Sequences { caches, capacity, places: prompts.len(), lengths, numbers: numbers.to_vec() };
        let mut flights = Vec::new();
        let mut first = 0;
        while first < prompts.len() {
            let mut count = 1;
            let mut tokens = prompts[first].0.len();
            while let Some((ids, _)) =
                prompts.get(first + count).filter(|(ids, _)| tokens + ids.len() <= self.plan.flight)
            {
                tokens += ids.len();
                count += 1;
            }
            flights.push(self.prompts_flight(first, &prompts[first..first + count], capacity)?);
            first += count;
        }
        let next = self.sweep(&sequences, flights)?;
        Ok((sequences, next))
    }

    /// Adds a token to every sequence and finds the next one, as [`Decoder::start`].
    ///
    /// # Errors
    /// When there is not one token for each sequence, a cache is full, or the device failed.
    pub fn step(&self, sequences: &mut Sequences, tokens: &[u32]) -> Result<Vec<u32>> {
        if tokens.len() != sequences.lengths.len() || sequences.lengths.iter().any(|l| *l >= sequences.capacity) {
            return Err(Error::Device("a sequence has no next token or no room for it".into()));
        }
        let flight = self.step_flight(sequences, tokens)?;
        sequences.lengths.iter_mut().for_each(|length| *length += 1);
        self.sweep(sequences, vec![flight])
    }

    /// Lets sequence `place` go; the last one takes its place, as with [`Vec::swap_remove`].
    ///
    /// # Errors
    /// When there is no such place, or the device failed.
    pub fn remove(&self, sequences: &mut Sequences, place: usize) -> Result<()> {
        let Some(last) = sequences.lengths.len().checked_sub(1).filter(|last| place <= *last) else {
            return Err(Error::Device(format!("there is no sequence at place {place}")));
        };
        let length = sequences.lengths[last];
        sequences.lengths.swap_remove(place);
        sequences.numbers.swap_remove(place);
        if place == last {
            return Ok(());
        }
        sequences.caches.iter().flatten().try_for_each(|cache| cache.relocate(self.device, last, place, length))
    }

    fn hidden(&self, tokens: usize) -> Result<Lease> {
        self.device.scratch((tokens * self.model.config.hidden * 4) as u64)
    }

    /// Whole prompts, the first of them at `place`.
    fn prompts_flight(&self, place: usize, prompts: &[(&[u32], usize)], capacity: usize) -> Result<Flight> {
        let mut chunk = Chunk::new();
        let mut slots = Vec::new();
        for (i, (ids, _)) in prompts.iter().enumerate() {
            let tokens = Tokens { ids: ids.to_vec(), targets: vec![NO_TARGET; ids.len()], number: 0 };
            chunk.push_unit(&[(&tokens, 0.0)]);
            let first = (place + i) * capacity;
            slots.extend((first..first + ids.len()).map(|slot| slot as u32));
        }
        let hidden = self.hidden(chunk.tokens())?;
        let (batch, slots) = (Batch::new(self.device, chunk)?, self.device.upload_new(&slots)?);
        Ok(Flight { batch, slots, lengths: None, capacity: self.plan.flight, hidden })
    }

    /// The next token of every sequence.
    fn step_flight(&self, sequences: &Sequences, tokens: &[u32]) -> Result<Flight> {
        let lengths = &sequences.lengths;
        let chunk = single_tokens(tokens, lengths.iter().map(|length| *length as u32).collect());
        let slots: Vec<u32> = (0..).zip(lengths).map(|(i, l)| (i * sequences.capacity + l) as u32).collect();
        let longer: Vec<u32> = lengths.iter().map(|length| *length as u32 + 1).collect();
        Ok(Flight {
            batch: Batch::new(self.device, chunk)?,
            slots: self.device.upload_new(&slots)?,
            lengths: Some((self.device.upload_new(&longer)?, longer.iter().map(|l| u64::from(*l)).sum())),
            capacity: sequences.places,
            hidden: self.hidden(tokens.len())?,
        })
    }

    /// Once through the model: the token after each sequence.
    fn sweep(&self, sequences: &Sequences, mut flights: Vec<Flight>) -> Result<Vec<u32>> {
        self.loader.run(&self.visits, |queue| {
            self.embed(queue, &flights)?;
            let blocks = 1..self.model.stages.len() - 1;
            for stage in blocks {
                let weights = queue.next()?;
                for flight in &mut flights {
                    flight.hidden = self.block(stage, &weights, &sequences.caches[stage], flight)?;
                }
                self.settle()?;
            }
            self.next(queue, sequences, &flights)
        })
    }

    fn context<'c>(&'c self, batch: &'c Batch, capacity: usize) -> Context<'c> {
        Context { device: self.device, batch, capacity, rotary: self.rotary.as_ref() }
    }

    /// Where weights are streamed, what was recorded must be done before they make room for the next ones.
    fn settle(&self) -> Result<()> {
        if self.plan.weights_resident { Ok(()) } else { self.device.submit() }
    }

    fn embed(&self, queue: &mut Queue<'_>, flights: &[Flight]) -> Result<()> {
        let width = self.model.config.hidden;
        let parts = table_parts(self.embedding.tokens, self.model, self.plan.table_rows, 0, false).len();
        for part in 0..parts {
            let weights = queue.next()?;
            for flight in flights {
                let ctx = self.context(&flight.batch, flight.capacity);
                embedding::forward(&ctx, self.embedding, width, &weights, &flight.hidden, part + 1 == parts)?;
            }
            self.settle()?;
        }
        Ok(())
    }

    /// A block's output.
    fn block(&self, stage: usize, weights: &StageWeights, cache: &Option<Cache>, flight: &Flight) -> Result<Lease> {
        let ctx = self.context(&flight.batch, flight.capacity);
        let (x, y) = (&flight.hidden, self.hidden(ctx.tokens())?);
        match (&self.model.stages[stage], cache) {
            (Stage::Attention(block), Some(cache)) => match &flight.lengths {
                None => attention::prefill(&ctx, block, weights, x, cache, &flight.slots, &y)?,
                Some((buffer, tokens)) => {
                    let lengths = Lengths { buffer, tokens: *tokens };
                    attention::step(&ctx, block, weights, x, cache, &flight.slots, lengths, &y)?;
                }
            },
            (Stage::Mlp(block), _) => {
                let inner = mlp::inner(&ctx, block, self.model.config.activation, weights, x)?;
                mlp::output(&ctx, block, weights, x, &inner, &y)?;
            }
            _ => return Err(Error::Device(format!("stage {stage} is not a layer's"))),
        }
        Ok(y)
    }

    /// The head over each sequence's last token, a part of the vocabulary at a time.
    fn next(&self, queue: &mut Queue<'_>, sequences: &Sequences, flights: &[Flight]) -> Result<Vec<u32>> {
        let count = sequences.lengths.len();
        let mut chunk = single_tokens(&last_rows(flights), vec![0; count]);
        let keys = sequences.numbers.iter().zip(&sequences.lengths);
        chunk.keys = keys.flat_map(|(number, length)| [*number, *length as u32]).collect();
        let ends = Batch::new(self.device, chunk)?;
        let last = self.gather(flights, &ends.ids, count)?;
        let ctx = self.context(&ends, sequences.places);
        let best = self.device.upload_new(&initial_best(count))?;
        let mut normed = None;
        for _ in table_parts(self.head.weight, self.model, self.plan.table_rows, 0, false) {
            let weights = queue.next()?;
            let normed = match &mut normed {
                Some(normed) => normed,
                none => none.insert(head::normed(&ctx, self.head, &weights, &last)?),
            };
            for (first_row, slice) in weights.get(self.head.weight)?.matrices() {
                let logits = head::logits(&ctx, self.model.config.hidden, normed, slice)?;
                let fold = match self.pick {
                    Pick::Likeliest => Fold::Argmax { best: &best },
                    Pick::Drawn { seed } => Fold::Sample { seed, best: &best },
                };
                head::fold(&ctx, first_row, slice.rows, &logits, &fold)?;
            }
            self.settle()?;
        }
        let best: Vec<u32> = self.device.read(&best, 2 * count)?;
        Ok(best.chunks(2).map(|best| best[1]).collect())
    }

    /// The hidden states at `rows` of all flights' tokens: a look-up in a table that comes in parts.
    fn gather(&self, flights: &[Flight], rows: &Buffer, count: usize) -> Result<Lease> {
        let width = self.model.config.hidden;
        let gathered = self.hidden(count)?;
        let mut first = 0;
        for flight in flights {
            let tokens = flight.batch.tokens;
            let table = Matrix { buffer: &flight.hidden, element: Element::F32, rows: tokens, columns: width };
            lookup::run(self.device, count, rows, first, table, Window::all(&gathered, width), false)?;
            first += tokens;
        }
        Ok(gathered)
    }
}

impl std::fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("device", &self.device).field("plan", &self.plan).finish()
    }
}

/// A token of each sequence, by itself.
fn single_tokens(ids: &[u32], positions: Vec<u32>) -> Chunk {
    let count = ids.len();
    let ends: Vec<u32> = (0..=count as u32).collect();
    Chunk {
        ids: ids.to_vec(),
        positions,
        targets: vec![NO_TARGET; count],
        weights: vec![0.0; count],
        keys: vec![0; 2 * count],
        samples: ends.clone(),
        units: ends,
    }
}

/// The last token's row of each sequence, among all flights' rows.
fn last_rows(flights: &[Flight]) -> Vec<u32> {
    let mut first = 0;
    let mut rows = Vec::new();
    for flight in flights {
        rows.extend(flight.batch.chunk.samples[1..].iter().map(|end| first + end - 1));
        first += flight.batch.tokens as u32;
    }
    rows
}

fn visits(model: &Model, embedding: &EmbeddingStage, head: &HeadStage, table_rows: usize) -> Vec<Visit> {
    let parts = |table| table_parts(table, model, table_rows, 0, false);
    let mut visits: Vec<Visit> = parts(embedding.tokens).into_iter().map(|part| vec![part]).collect();
    if let (Some(positions), Some(last)) = (embedding.positions, visits.last_mut()) {
        last.push(whole(model, positions, 0));
    }
    for stage in &model.stages[1..model.stages.len() - 1] {
        visits.push(stage.parameters().into_iter().map(|id| whole(model, id, 0)).collect());
    }
    let norm = || [Some(head.norm.gain), head.norm.bias].into_iter().flatten().map(|id| whole(model, id, 0));
    visits.extend(parts(head.weight).into_iter().map(|part| norm().chain([part]).collect::<Visit>()));
    visits
}
