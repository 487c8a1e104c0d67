//! How much of a change is taken: tried out, and judged by samples held out.

use std::sync::Arc;

use super::weights::{Change, RedirectedWeights};
use crate::Result;
use crate::model::weights::WeightSource;
use crate::stream::Progress;
use crate::unlearn::methods::{Judge, Standing, Trial, search_scale};

/// Finds the strength in (0, 1]: see [`search_scale`].
///
/// # Errors
/// When a pass fails.
pub fn search(
    judge: &Judge<'_>,
    base: &Arc<dyn WeightSource>,
    changes: &[Arc<Change>],
    strength: (Option<f64>, f64),
    progress: Progress<'_>,
) -> Result<(f64, Standing, Vec<Trial>)> {
    let weights = |scale: f64| -> Result<Arc<dyn WeightSource>> {
        Ok(Arc::new(RedirectedWeights::new(base.clone(), judge.model, changes, scale)?))
    };
    search_scale(judge, &weights, strength, progress)
}
