//! Where what a sink accumulates waits while its part is not on the device: in memory, or in a directory that survives the
//! process, so that an interrupted run can go on.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::writer::{Ticket, Writer};
use crate::checkpoint::create_beside;
use crate::kernels::Accumulate;
use crate::model::sink::Part;
use crate::model::{Model, Parameter, ParameterId};
use crate::{Error, Result};

/// Keeps accumulated sums, by parameter and kind of accumulation.
pub trait Store {
    /// What a range of the part's elements held after its `part.generation` visits so far; zeros before the first.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self, part: &Part, accumulate: Accumulate, range: Range<usize>, values: &mut [f32]) -> Result<()>;

    /// Keeps what the part holds after one more visit.
    ///
    /// # Errors
    /// When it cannot be written.
    fn save(&mut self, part: &Part, accumulate: Accumulate, values: Vec<f32>) -> Result<()>;

    /// As [`Store::save`], of values that `bring` brings when they are written.
    ///
    /// # Errors
    /// When they cannot be written.
    fn save_later(&mut self, part: &Part, accumulate: Accumulate, bring: Bring) -> Result<()> {
        let mut values = Vec::with_capacity(part.count());
        bring(&mut |piece| {
            values.extend_from_slice(piece);
            Ok(())
        })?;
        self.save(part, accumulate, values)
    }

    /// All of a parameter's sums; zeros where it was never visited.
    ///
    /// # Errors
    /// When it cannot be read.
    fn all(&self, parameter: ParameterId, accumulate: Accumulate) -> Result<Vec<f32>>;
}

/// Shows a part's elements, a piece at a time and in order, perhaps on another thread.
pub type Bring = Box<dyn FnOnce(&mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> + Send>;

/// Sums of one kind where squares are asked for.
struct AsSquares {
    sums: Box<dyn Store + Send + Sync>,
    kind: Accumulate,
}

impl AsSquares {
    fn meant(&self, accumulate: Accumulate) -> Accumulate {
        if accumulate == Accumulate::Square { self.kind } else { accumulate }
    }
}

impl Store for AsSquares {
    fn load(&self, part: &Part, accumulate: Accumulate, range: Range<usize>, values: &mut [f32]) -> Result<()> {
        self.sums.load(part, self.meant(accumulate), range, values)
    }

    fn save(&mut self, part: &Part, accumulate: Accumulate, values: Vec<f32>) -> Result<()> {
        let kind = self.meant(accumulate);
        self.sums.save(part, kind, values)
    }

    fn save_later(&mut self, part: &Part, accumulate: Accumulate, bring: Bring) -> Result<()> {
        let kind = self.meant(accumulate);
        self.sums.save_later(part, kind, bring)
    }

    fn all(&self, parameter: ParameterId, accumulate: Accumulate) -> Result<Vec<f32>> {
        self.sums.all(parameter, self.meant(accumulate))
    }
}

/// A store whose sums of `kind` are given where sums of squares are asked for: whoever compares importances asks for these,
/// whatever the importance is.
pub fn as_squares(sums: Box<dyn Store + Send + Sync>, kind: Accumulate) -> Box<dyn Store + Send + Sync> {
    if kind == Accumulate::Square { sums } else { Box::new(AsSquares { sums, kind }) }
}

/// A store that keeps nothing: for runs of which only the time or the device's state is wanted.
#[derive(Debug)]
pub struct Discard;

impl Store for Discard {
    fn load(&self, _part: &Part, _accumulate: Accumulate, _range: Range<usize>, values: &mut [f32]) -> Result<()> {
        values.fill(0.0);
        Ok(())
    }

    fn save(&mut self, _part: &Part, _accumulate: Accumulate, _values: Vec<f32>) -> Result<()> {
        Ok(())
    }

    fn all(&self, _parameter: ParameterId, _accumulate: Accumulate) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    counts: Vec<usize>,
    sums: HashMap<(ParameterId, Accumulate, bool), Vec<f32>>,
}

impl MemoryStore {
    /// An empty store for a model's parameters.
    pub fn new(model: &Model) -> Self {
        MemoryStore { counts: model.parameters.iter().map(Parameter::count).collect(), sums: HashMap::new() }
    }

    /// Forgets all sums.
    pub fn clear(&mut self) {
        self.sums.clear();
    }
}

impl Store for MemoryStore {
    fn load(&self, part: &Part, accumulate: Accumulate, range: Range<usize>, values: &mut [f32]) -> Result<()> {
        match self.sums.get(&(part.parameter, accumulate, part.correction)).filter(|_| part.generation > 0) {
            Some(all) => values.copy_from_slice(&all[part.rows.start * part.columns..][range]),
            None => values.fill(0.0),
        }
        Ok(())
    }

    fn save(&mut self, part: &Part, accumulate: Accumulate, values: Vec<f32>) -> Result<()> {
        let count = self.counts[part.parameter];
        if values.len() == count {
            self.sums.insert((part.parameter, accumulate, part.correction), values);
            return Ok(());
        }
        let all = self.sums.entry((part.parameter, accumulate, part.correction)).or_insert_with(|| vec![0.0; count]);
        all[part.rows.start * part.columns..part.rows.end * part.columns].copy_from_slice(&values);
        Ok(())
    }

    fn all(&self, parameter: ParameterId, accumulate: Accumulate) -> Result<Vec<f32>> {
        let part = |correction| self.sums.get(&(parameter, accumulate, correction));
        let mut all = part(false).cloned().unwrap_or_else(|| vec![0.0; self.counts[parameter]]);
        if let Some(correction) = part(true) {
            correct(&mut all, correction, accumulate);
        }
        Ok(all)
    }
}

/// A store of one file for every part, kind and visit, written while computing goes on. A visit's file appears whole or not at
/// all, and the one before it stays until the next, so that visits of a group that was interrupted can be done again.
#[derive(Debug)]
pub struct DirectoryStore {
    directory: PathBuf,
    counts: Vec<usize>,
    rows: Vec<usize>,
    writer: Arc<Writer>,
    /// Files that may not be written yet.
    leaving: HashMap<PathBuf, Ticket>,
}

impl DirectoryStore {
    /// A store in `directory`, which is made if need be.
    ///
    /// # Errors
    /// When the directory cannot be made, or the system has no thread left.
    pub fn new(directory: &Path, model: &Model) -> Result<Self> {
        fs::create_dir_all(directory).map_err(|e| Error::writing(directory, e))?;
        let counts = model.parameters.iter().map(Parameter::count).collect();
        let rows = model.parameters.iter().map(Parameter::rows).collect();
        let writer = Arc::new(Writer::new()?);
        Ok(DirectoryStore { directory: directory.to_path_buf(), counts, rows, writer, leaving: HashMap::new() })
    }

    /// What writes its files, in order: for those that must not be written before them.
    pub(super) fn writer(&self) -> Arc<Writer> {
        self.writer.clone()
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn settle(&self) -> Result<()> {
        self.writer.settle()
    }

    fn path(&self, part: &Part, accumulate: Accumulate, generation: u32) -> PathBuf {
        let Part { parameter, rows, correction, .. } = part;
        let name = chain(*parameter, accumulate, *correction);
        self.directory.join(format!("{name}{}.{}.{generation}", rows.start, rows.end))
    }

    /// A range of the numbers in a file of `count`.
    fn read(path: &Path, count: usize, range: Range<usize>, values: &mut [f32]) -> Result<()> {
        let failed = |e| Error::reading(path, e);
        let mut file = fs::File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes != count as u64 * 4 {
            return Err(Error::file(path, "", format!("has {bytes} bytes instead of {}", count * 4)));
        }
        file.seek(SeekFrom::Start(4 * range.start as u64)).map_err(failed)?;
        file.read_exact(bytemuck::cast_slice_mut(values)).map_err(failed)
    }
}

impl Store for DirectoryStore {
    fn load(&self, part: &Part, accumulate: Accumulate, range: Range<usize>, values: &mut [f32]) -> Result<()> {
        if part.generation == 0 {
            values.fill(0.0);
            return Ok(());
        }
        let path = self.path(part, accumulate, part.generation);
        if let Some(ticket) = self.leaving.get(&path) {
            self.writer.wait_for(*ticket)?;
        }
        Self::read(&path, part.count(), range, values)
    }

    fn save(&mut self, part: &Part, accumulate: Accumulate, values: Vec<f32>) -> Result<()> {
        self.save_later(part, accumulate, Box::new(move |write| write(&values)))
    }

    fn save_later(&mut self, part: &Part, accumulate: Accumulate, bring: Bring) -> Result<()> {
        let (path, count) = (self.path(part, accumulate, part.generation + 1), part.count());
        let temporary = path.with_extension("new");
        let replaced = (part.generation > 0).then(|| self.path(part, accumulate, part.generation - 1));
        if let Some(replaced) = &replaced {
            self.leaving.remove(replaced);
        }
        let target = path.clone();
        let ticket = self.writer.hand_over(4 * count as u64, move || {
            if let Some(replaced) = replaced {
                // Its pages are written again: fresh ones cost more. Gone already where an interrupted run is repeated.
                let _ = fs::rename(replaced, &temporary);
            }
            let failed = |e| Error::writing(&temporary, e);
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(false).open(&temporary).map_err(failed)?;
            bring(&mut |values| file.write_all(bytemuck::cast_slice(values)).map_err(failed))?;
            file.set_len(4 * count as u64).map_err(failed)?;
            fs::rename(&temporary, &target).map_err(|e| Error::writing(&target, e))
        })?;
        self.leaving.insert(path, ticket);
        Ok(())
    }

    fn all(&self, parameter: ParameterId, accumulate: Accumulate) -> Result<Vec<f32>> {
        self.writer.settle()?;
        let mut all = vec![0.0; self.counts[parameter]];
        for correction in [false, true] {
            for (rows, generation) in self.latest(&chain(parameter, accumulate, correction))? {
                let columns = self.counts[parameter] / self.rows[parameter];
                let part = Part { parameter, rows: rows.clone(), columns, generation, correction };
                let path = self.path(&part, accumulate, generation);
                let target = &mut all[rows.start * columns..rows.end * columns];
                if correction {
                    let mut values = bytemuck::allocation::zeroed_vec(part.count());
                    Self::read(&path, part.count(), 0..part.count(), &mut values)?;
                    correct(target, &values, accumulate);
                } else {
                    Self::read(&path, part.count(), 0..part.count(), target)?;
                }
            }
        }
        Ok(all)
    }
}

/// A [`DirectoryStore`] for one run: its directory goes when it is dropped.
#[derive(Debug)]
pub struct ScratchStore {
    store: DirectoryStore,
}

impl ScratchStore {
    /// A store in a hidden directory beside `target`. What a killed run left there is removed.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn beside(target: &Path, model: &Model) -> Result<Self> {
        let (directory, ()) = create_beside(target, |path| fs::create_dir(path))?;
        Ok(ScratchStore { store: DirectoryStore::new(&directory, model)? })
    }
}

impl Store for ScratchStore {
    fn load(&self, part: &Part, accumulate: Accumulate, range: Range<usize>, values: &mut [f32]) -> Result<()> {
        self.store.load(part, accumulate, range, values)
    }

    fn save(&mut self, part: &Part, accumulate: Accumulate, values: Vec<f32>) -> Result<()> {
        self.store.save(part, accumulate, values)
    }

    fn save_later(&mut self, part: &Part, accumulate: Accumulate, bring: Bring) -> Result<()> {
        self.store.save_later(part, accumulate, bring)
    }

    fn all(&self, parameter: ParameterId, accumulate: Accumulate) -> Result<Vec<f32>> {
        self.store.all(parameter, accumulate)
    }
}

impl Drop for ScratchStore {
    fn drop(&mut self) {
        // Else files would appear while the directory is being removed.
        let _ = self.store.settle();
        // Nothing more can be done about a directory that cannot be removed; the next run beside the target tries again.
        let _ = fs::remove_dir_all(&self.store.directory);
    }
}

/// Adds what a tied table's second visit adds to its sums. A sum of squares or magnitudes that rounding took below zero
/// is zero.
fn correct(sums: &mut [f32], corrections: &[f32], accumulate: Accumulate) {
    let least = if accumulate == Accumulate::Sum { f32::NEG_INFINITY } else { 0.0 };
    for (sum, correction) in sums.iter_mut().zip(corrections) {
        let corrected = *sum + correction;
        // Unlike `max`, this keeps what is not a number, which must be seen.
        *sum = if corrected < least { least } else { corrected };
    }
}

/// What the names of one chain of sums begin with.
fn chain(parameter: ParameterId, accumulate: Accumulate, correction: bool) -> String {
    format!("{parameter}.{}{}.", accumulate.name(), if correction { ".correction" } else { "" })
}

impl DirectoryStore {
    /// The last complete visit of each range of rows of a chain.
    fn latest(&self, chain: &str) -> Result<HashMap<Range<usize>, u32>> {
        let mut latest: HashMap<Range<usize>, u32> = HashMap::new();
        for entry in fs::read_dir(&self.directory).map_err(|e| Error::reading(&self.directory, e))? {
            let name =
                entry.map_err(|e| Error::reading(&self.directory, e))?.file_name().to_string_lossy().into_owned();
            let Some(rest) = name.strip_prefix(chain) else { continue };
            let numbers: Vec<Option<u32>> = rest.split('.').map(|n| n.parse().ok()).collect();
            if let [Some(start), Some(end), Some(generation)] = numbers[..] {
                let latest = latest.entry(start as usize..end as usize).or_default();
                *latest = generation.max(*latest);
            }
        }
        Ok(latest)
    }
}
