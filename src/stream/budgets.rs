//! One budget for several phases: what has to be planned one after the other is judged together.

use crate::{Error, Result};

/// The largest of the budgets that phases asked for beyond what they were given.
///
/// A run of several phases that is refused by its first one, with a budget that the second refuses again, or by its second one
/// after an hour, would be a bad joke.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budgets {
    missing: Option<(&'static str, u64, u64)>,
}

impl Budgets {
    /// Takes note of whether a phase fits. Device memory counts first, since host memory is planned with what it leaves.
    ///
    /// # Errors
    /// What is wrong with the plan for another reason.
    pub fn note<T>(&mut self, planned: Result<T>) -> Result<()> {
        let (what, given, needed) = match planned {
            Err(Error::Budget { what, given, needed }) => (what, given, needed),
            planned => return planned.map(drop),
        };
        let is_device = |what: &str| what == "device memory";
        let replaces = match self.missing {
            None => true,
            Some((known, _, most)) if is_device(known) == is_device(what) => needed > most,
            Some((known, ..)) => !is_device(known),
        };
        if replaces {
            self.missing = Some((what, given, needed));
        }
        Ok(())
    }

    /// Whether all phases fit.
    ///
    /// # Errors
    /// [`Error::Budget`] with the smallest budget that does for all of them.
    pub fn verdict(self) -> Result<()> {
        self.missing.map_or(Ok(()), |(what, given, needed)| Err(Error::Budget { what, given, needed }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_counts_and_device_memory_first() {
        let lacking = |what, needed| -> Result<()> { Err(Error::Budget { what, given: 1, needed }) };
        let mut budgets = Budgets::default();
        budgets.note(Ok(3)).unwrap();
        budgets.verdict().unwrap();
        for (what, needed) in [("host memory", 9), ("device memory", 4), ("device memory", 6), ("device memory", 5)] {
            budgets.note(lacking(what, needed)).unwrap();
        }
        budgets.note(lacking("host memory", 99)).unwrap();
        let verdict = budgets.verdict().unwrap_err();
        assert!(matches!(verdict, Error::Budget { what: "device memory", given: 1, needed: 6 }), "{verdict}");
        assert!(Budgets::default().note::<()>(Err(Error::argument("wrong"))).is_err());
    }
}
