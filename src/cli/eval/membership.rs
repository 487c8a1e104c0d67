//! Membership inference: members of the training data against others.

use std::path::PathBuf;
use std::sync::Arc;

use efface::Result;
use efface::eval::membership::{loss_score, min_k_score};
use efface::eval::stats::auc;
use efface::model::batch::Tokens;
use efface::report::eval::MembershipResult;
use efface::stream::Pass;
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::norms::NormSink;

use super::super::input::{Input, tokens};
use super::super::progress::Progress;

/// What is compared.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Membership inference")]
pub struct MembershipArgs {
    /// Records that the model was trained on (and should have forgotten).
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "non_members")]
    members: Vec<PathBuf>,
    /// Records of the same kind that it never saw.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "members")]
    non_members: Vec<PathBuf>,
    /// Also by the norm of each record's gradient, which takes a backward pass.
    #[arg(long, requires = "members")]
    gradient_norm: bool,
}

/// A sample's score from its tokens' losses.
type Score = fn(&[f32]) -> f64;

/// The area under the curve of each score; nothing unless asked for.
///
/// # Errors
/// When a file is wrong, or the work failed.
pub fn membership(args: &super::Args, input: &Input, pass: &Pass) -> Result<Vec<MembershipResult>> {
    let given = &args.membership;
    if given.members.is_empty() {
        return Ok(Vec::new());
    }
    let members = tokens(&input.dataset(&given.members, &args.reading)?);
    let others = tokens(&input.dataset(&given.non_members, &args.reading)?);
    let progress = Progress::new(&args.common, "comparing members with others");
    let losses = |samples: &[Arc<Tokens>]| pass.losses(samples, &|done, total| progress.tick(done, total));
    let (ours, theirs) = (losses(&members)?, losses(&others)?);
    let mut results = Vec::new();
    let mut add = |score: &str, ours: Vec<f64>, theirs: Vec<f64>| {
        results.push(MembershipResult { score: score.into(), auc: auc(&ours, &theirs) });
    };
    let scores: [(&str, Score); 3] = [
        ("loss", loss_score),
        ("Min-20%", |losses| min_k_score(losses, 0.2)),
        ("Min-40%", |losses| min_k_score(losses, 0.4)),
    ];
    for (name, score) in scores {
        let of = |losses: &[efface::stream::SampleLoss]| losses.iter().map(|loss| score(&loss.tokens)).collect();
        add(name, of(&ours), of(&theirs));
    }
    if given.gradient_norm {
        let norms = |samples: &[Arc<Tokens>]| -> Result<Vec<f64>> {
            let model = &*input.model;
            let units = Estimator::Sample.units(samples, Loss::Mean, BatchWeight::Samples);
            let mut sink = NormSink::new(model, vec![true; model.parameters.len()], samples.len());
            pass.gradients(&units, &mut sink, &|done, total| progress.tick(done, total))?;
            let square = |n: usize| (0..model.parameters.len()).map(|id| sink.squares(id)[n]).sum::<f64>();
            Ok((0..samples.len()).map(|n| -square(n).sqrt()).collect())
        };
        add("gradient norm", norms(&members)?, norms(&others)?);
    }
    Ok(results)
}
