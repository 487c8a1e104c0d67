//! What a group tells of its visits: to a journal, that they are complete, and to the caller, its samples' losses. Both come
//! from the device, and are taken when the next visit has been recorded, so that the device never waits for the host.

use super::activations::{Later, Shelf};
use super::group::Group;
use super::head::{self, Folded};
use super::terms::{Journal, ResumePoint, SampleLoss};
use crate::Result;

/// The notes of one group.
pub(super) struct Notebook<'j, 'a> {
    journal: Option<&'j mut dyn Journal>,
    losses: &'a mut Vec<SampleLoss>,
    /// The losses of this group's samples, on their way.
    folded: Vec<Folded>,
    /// The last visit, whose importance is on its way too.
    last: Option<Visited>,
}

/// A visit that is recorded, and what resuming after it needs.
struct Visited {
    stage: usize,
    deltas: Vec<Later>,
    head_rows: Vec<Later>,
}

impl<'j, 'a> Notebook<'j, 'a> {
    /// An empty one.
    pub(super) fn new(journal: Option<&'j mut dyn Journal>, losses: &'a mut Vec<SampleLoss>) -> Self {
        Notebook { journal, losses, folded: Vec::new(), last: None }
    }

    /// The head was visited, and this is where its folds are.
    pub(super) fn folded(&mut self, folded: Vec<Folded>) {
        self.folded = folded;
    }

    /// A stage's visit is recorded, and that of the stage before it is complete.
    pub(super) fn visited(&mut self, group: &Group<'_>, stage: usize, deltas: &Shelf, head_rows: &Shelf) -> Result<()> {
        // What this visit leaves must be on its way before anything is recorded that changes it.
        let all = |shelf: &Shelf| (0..group.chunks.len()).map(|i| shelf.later(group.device, i)).collect::<Result<_>>();
        let next = match &self.journal {
            Some(journal) if stage == 0 || journal.is_due() => {
                Some(Visited { stage, deltas: all(deltas)?, head_rows: all(head_rows)? })
            }
            _ => None,
        };
        self.tell(group)?;
        self.last = next;
        Ok(())
    }

    /// Every visit is complete, and stored.
    pub(super) fn close(mut self, group: &Group<'_>) -> Result<()> {
        self.tell(group)
    }

    fn tell(&mut self, group: &Group<'_>) -> Result<()> {
        head::collect(group, std::mem::take(&mut self.folded), self.losses)?;
        let (Some(journal), Some(Visited { stage, deltas, head_rows })) = (&mut self.journal, self.last.take()) else {
            return Ok(());
        };
        let _span = group.device.span(|| format!("noting that {} was visited", group.stage_name(stage)));
        let finish = |all: Vec<Later>| all.into_iter().map(Later::finish).collect::<Result<Vec<_>>>();
        let (deltas, head_rows) = (finish(deltas)?, finish(head_rows)?);
        let mut point =
            Some(ResumePoint { group: group.number, stage, deltas, head_rows, losses: self.losses.clone() });
        journal.visited(&mut || Ok(point.take().unwrap_or_default()))
    }
}
