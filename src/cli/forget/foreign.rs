//! Flags that say how importance is measured and compared, given to a method that measures none: refused, for they would do
//! nothing. Flags of a method's own are refused where they are read.

use efface::Result;

use super::Args;
use super::recipe::MaskBy;
use super::settings::{MethodName, Task, belongs};

/// What a task does with importances.
struct Uses {
    /// It compares the Fisher diagonals of both sets.
    importances: bool,
    /// It makes its score of gradients.
    gradients: bool,
    /// It compares with a set that can be chosen, and what it chooses can have a granularity.
    against: bool,
    granularity: bool,
}

/// Finds a flag that the task would not look at.
///
/// # Errors
/// When there is one.
pub fn check(args: &Args, task: &Task) -> Result<()> {
    args.measure.check()?;
    let (importances, gradients, heads) = match task {
        Task::Dampen(_) => (true, false, false),
        Task::Train(recipe) => (recipe.mask == MaskBy::Ratio, matches!(recipe.mask, MaskBy::Score(_)), false),
        Task::Heads(_) => (true, false, true),
        Task::Redirect => (false, false, false),
    };
    let uses = Uses {
        importances,
        gradients,
        against: importances && !heads,
        granularity: (importances || gradients) && !heads,
    };
    let choosing = &args.choosing;
    const RATIO: &str = "dampen, ssd, ssd-auto, heads, or one that trains with --mask ratio";
    const CHOSEN: &str = "dampen, ssd, ssd-auto, or one that trains with --mask ratio";
    const MASKED: &str = "dampen, ssd, ssd-auto, or one that trains with a mask";
    const MEASURES: &str = "one that measures importance: dampen, ssd, ssd-auto, heads, or one that trains with a mask";
    let mut flags = vec![
        ("against", choosing.against.is_some(), uses.against, CHOSEN),
        ("granularity", choosing.granularity.is_some(), uses.granularity, MASKED),
        ("combine", choosing.combine.is_some(), uses.importances, RATIO),
        ("kind", choosing.kind.is_some(), uses.importances, RATIO),
        ("retain-fisher", choosing.retain_fisher.is_some(), uses.importances, RATIO),
        ("precision", args.precision.is_given(), uses.importances, RATIO),
    ];
    let measured = uses.importances || uses.gradients;
    flags.extend(args.measure.given().map(|(flag, given)| (flag, given, measured, MEASURES)));
    match flags.into_iter().find(|(_, given, used, _)| *given && !used) {
        Some((flag, _, _, of)) => Err(belongs(flag, of, choosing.method)),
        None => Ok(()),
    }
}

impl MethodName {
    /// Whether it trains.
    pub fn trains(self) -> bool {
        use MethodName::{Dampen, Heads, Redirect, Ssd, SsdAuto};
        !matches!(self, Dampen | Ssd | SsdAuto | Redirect | Heads)
    }
}
