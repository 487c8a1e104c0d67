//! Membership inference: members of the training data against others.

use std::path::PathBuf;
use std::sync::Arc;

use efface::Result;
use efface::data::{Dataset, Sample};
use efface::eval::membership::{loss_score, min_k_plus_score, min_k_score, zlib_score};
use efface::model::batch::Tokens;
use efface::report::eval::MembershipResult;
use efface::stats::auc;
use efface::stream::{Pass, SampleMoments};
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

/// A sample's score from its tokens' figures.
type Score = fn(&SampleMoments) -> f64;

/// The area under the curve of each score; nothing unless asked for.
///
/// # Errors
/// When a file is wrong, or the work failed.
pub fn membership(args: &super::Args, input: &Input, pass: &Pass) -> Result<Vec<MembershipResult>> {
    let given = &args.membership;
    if given.members.is_empty() {
        return Ok(Vec::new());
    }
    let sets = [&given.members, &given.non_members].map(|paths| input.dataset(paths, &args.reading));
    let [ours, theirs] = sets;
    let (ours, theirs) = (ours?, theirs?);
    let (members, others) = (tokens(&ours), tokens(&theirs));
    let progress = Progress::new(&args.common, "comparing members with others");
    let moments = |samples: &[Arc<Tokens>]| pass.moments(samples, &|done, total| progress.tick(done, total));
    let both = [moments(&members)?, moments(&others)?];
    let mut results = Vec::new();
    let mut add = |score: &str, [ours, theirs]: [Vec<f64>; 2]| {
        results.push(MembershipResult { score: score.into(), auc: auc(&ours, &theirs) });
    };
    let scores: [(&str, Score); 4] = [
        ("loss", |moments| loss_score(&moments.loss.tokens)),
        ("Min-20%", |moments| min_k_score(&moments.loss.tokens, 0.2)),
        ("Min-40%", |moments| min_k_score(&moments.loss.tokens, 0.4)),
        ("Min-20%++", |moments| min_k_plus_score(moments, 0.2)),
    ];
    for (name, score) in scores {
        add(name, both.each_ref().map(|moments| moments.iter().map(score).collect()));
    }
    // Records of token ids, without a tokenizer, have no text whose size could be measured.
    if input.encoder().is_some() {
        let [ours, theirs] = [(&ours, &both[0]), (&theirs, &both[1])].map(|(data, of)| by_size(input, data, of));
        add("zlib", [ours?, theirs?]);
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
        add("gradient norm", [norms(&members)?, norms(&others)?]);
    }
    Ok(results)
}

/// The zlib score of each sample: of its targets and their text.
fn by_size(input: &Input, data: &Dataset, moments: &[SampleMoments]) -> Result<Vec<f64>> {
    let encoder = input.required_encoder()?;
    let one = |(sample, moments): (&Sample, &SampleMoments)| {
        let targets: Vec<u32> = sample.labels.iter().filter_map(|label| u32::try_from(*label).ok()).collect();
        Ok(zlib_score(&moments.loss.tokens, &encoder.decode(&targets, true)?))
    };
    data.samples.iter().zip(moments).map(one).collect()
}
