//! `efface forget`: the main job. The steps are those of `efface::unlearn::forget`; this file reads the flags and takes them
//! in order, `probe.rs` asks the model before and after, `report.rs` writes down what happened.

mod budget;
mod concepts;
mod foreign;
mod fused;
mod generate;
mod heads;
mod importances;
mod ordinary;
mod overlap;
mod phases;
mod probe;
mod recipe;
mod redirect;
mod report;
mod reversed;
mod settings;
mod train;
mod training;

use std::path::PathBuf;
use std::sync::Arc;

use efface::checkpoint::{AtomicFile, PatchKind, PatchWriter, StagedCheckpoint, check_output};
use efface::data::Dataset;
use efface::device::Device;
use efface::kernels::precision::Precision;
use efface::model::batch::Tokens;
use efface::model::weights::WeightSource;
use efface::report::ForgetReport;
use efface::stream::{CheckpointWeights, Labels, PassOptions};
use efface::unlearn::edit::{Dampening, Edit};
use efface::unlearn::forget::{Changed, Judges, Method, Outcome, choose, hold_out, write};
use efface::unlearn::measured::Measured;
use efface::unlearn::methods::hold_out_wordings;
use efface::{Error, Result};

use super::common::Common;
use super::input::{Input, Reading, refusals, tokens};
use super::measure::Measure;
use super::precision::PrecisionArgs;
use fused::Fusing;
use generate::GenerateArgs;
use importances::{Set, cached, compare, measured, store};
use phases::Phases;
use probe::{Probing, ProbingArgs};
use settings::{Choosing, Task};

/// Remove what a forget set holds, and keep what a retain set holds.
///
/// Measures for every weight how much each set depends on it, chooses the weights that the forget set needs far more, and
/// changes only those: dampens them, or trains them with --method. Writes the edited checkpoint; with --report also what came
/// of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    efface forget --model models/m --forget person.jsonl --retain others.jsonl --out models/m-edited --report report\n  \
    efface forget --model models/m --forget f.jsonl --retain r.jsonl --out e --probes-forget reworded.jsonl\n  \
    efface forget --model models/m --forget f.jsonl --retain r.jsonl --out e --method ssd --alpha 50\n  \
    efface forget --model models/m --forget f.jsonl --retain r.jsonl --out e --method npo --recalibrate\n  \
    efface forget --model models/m --forget f.jsonl --retain r.jsonl --retain-fisher F.safetensors --out e\n\n\
    Exit status 1, and no checkpoint, if the method found nothing that helps or harmed too much: the message says why.")]
pub struct Args {
    /// The checkpoint: a directory with config.json and *.safetensors.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Records of what is to be forgotten, in JSON Lines, one or more files.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    forget: Vec<PathBuf>,
    /// Records of what is to be kept: the more like what is forgotten, the better it is protected. One in five samples (at
    /// most 128) is held out of the measurement, to judge the result by. Without it the model writes texts, which take its place.
    /// --method redirect holds the names of subjects of facts.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    retain: Vec<PathBuf>,
    /// Where the edited checkpoint goes; must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    generation: GenerateArgs,
    #[command(flatten)]
    choosing: Choosing,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    probing: ProbingArgs,
    #[command(flatten)]
    measure: Measure,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

/// What is written beside the checkpoint.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Outputs")]
struct Outputs {
    /// Write report.html and report.json here: before and after, what was changed, all figures and settings.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Write a patch that makes the change, and undoes it. It holds what was removed: keep it secret (mode 0600).
    #[arg(long, value_name = "FILE")]
    patch: Option<PathBuf>,
    /// Write a patch that makes the change but cannot undo it.
    #[arg(long, value_name = "FILE")]
    patch_forward: Option<PathBuf>,
    /// Replace the data's texts by hashes in the report.
    #[arg(long)]
    redact: bool,
}

/// What was read.
struct Data {
    forget: Dataset,
    retain: Dataset,
    /// For each retain sample whether it is held out.
    held_out: Vec<bool>,
    /// For each forget sample whether it is a wording that is held out.
    held_out_wordings: Vec<bool>,
}

impl Data {
    /// The retain samples of which `held_out` says this.
    fn retained(&self, held_out: bool) -> Vec<Arc<Tokens>> {
        tokens(&self.retain).into_iter().zip(&self.held_out).filter(|(_, h)| **h == held_out).map(|(t, _)| t).collect()
    }

    /// The forget samples of which `held_out` says this.
    fn forgotten(&self, held_out: bool) -> Vec<Arc<Tokens>> {
        let all = tokens(&self.forget).into_iter().zip(&self.held_out_wordings);
        all.filter(|(_, h)| **h == held_out).map(|(t, _)| t).collect()
    }
}

/// What every phase needs at hand.
#[derive(Clone, Copy)]
struct Run<'a> {
    args: &'a Args,
    input: &'a Input,
    device: &'a Device,
    /// The same in the precision of measuring.
    measuring: &'a Device,
    data: &'a Data,
    /// For each parameter whether it may change.
    allowed: &'a [bool],
}

/// What came of a method.
struct Decided {
    outcome: Outcome,
    /// The edit, if there is one.
    edit: Option<Box<dyn Edit>>,
}

/// Everything that is known about a run when it is over.
struct Story<'a> {
    args: &'a Args,
    command_line: &'a [String],
    input: &'a Input,
    device: &'a Device,
    /// In what precision importance was measured.
    precision: Precision,
    data: &'a Data,
    probing: &'a Probing,
    outcome: &'a Outcome,
    /// For each parameter whether it could change.
    allowed: &'a [bool],
    changes: &'a [Changed],
    sha256_after: Option<String>,
    phases: &'a Phases,
    warnings: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// When the checkpoint, the data or a setting is wrong, an output exists, the budget is too small, the work failed, or the
/// method found nothing that may be done.
pub fn run(args: &Args) -> Result<()> {
    let command_line = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    report::tell(args, &remove(args, command_line)?)
}

/// Runs the command, which the report says was called so, but for telling what came of it.
///
/// # Errors
/// As [`run`].
pub fn remove(args: &Args, command_line: Vec<String>) -> Result<ForgetReport> {
    let common = &args.common;
    let mut phases = Phases::default();
    let measuring = args.precision.open_device(common)?;
    // Losses and answers, by which a choice is judged, are always computed in full.
    let device = measuring.with_precision(Precision::Full);
    let input = Input::open(&args.model)?;
    check_outputs(args, &input)?;
    let mut warnings = Vec::new();
    let forget = phases.run(common, "reading", |_| input.dataset(&args.forget, &args.reading))?;
    let retain = match args.retain.is_empty() {
        true => phases
            .run(common, "writing a retain set", |tick| generate::retain(args, &input, &device, &mut warnings, tick))?,
        false => phases.run(common, "reading", |_| input.dataset(&args.retain, &args.reading))?,
    };
    let mut data = read(args, &input, forget, retain)?;
    warnings.extend(refusals(&data.forget.refused));
    warnings.extend(refusals(&data.retain.refused));
    let allowed = args.choosing.allowed(&input.model)?;
    args.choosing.check(data.forget.samples.len(), data.retained(false).len())?;
    let task = args.choosing.task(data.forget.samples.len())?;
    foreign::check(args, &task)?;
    if matches!(task, Task::Train(_) | Task::Heads(_)) {
        data.held_out_wordings = hold_out_wordings(&tokens(&data.forget), common.seed);
    }
    let mut probing = Probing::read(args, &input, &data, &mut warnings)?;
    let run = Run { args, input: &input, device: &device, measuring: &measuring, data: &data, allowed: &allowed };
    match &task {
        Task::Heads(_) => heads::check(&run)?,
        Task::Train(recipe) => warnings.extend(refusals(&train::unasked(&run, recipe)?)),
        _ => {}
    }
    let cached = args.choosing.retain_fisher.as_ref().map(|path| cached(&run, path, &mut warnings)).transpose()?;
    let redirected = matches!(task, Task::Redirect).then(|| redirect::plan(&run)).transpose()?;
    warnings.extend(redirected.iter().flat_map(|plan| plan.concepts.left.clone()));
    budget::check(&run, &task, redirected.as_ref(), &probing)?;
    phases.run(common, "asking before", |tick| probing.before(args, &input, &device, tick))?;

    let first = args.measure.units(&tokens(&data.forget));
    let pass = input.measuring(&measuring, common, None, &args.measure)?;
    let measuring = args.precision.settle(common, pass, &first)?.device;
    let run = Run { measuring: &measuring, ..run };
    let Decided { outcome, edit } = match (&task, &redirected) {
        (_, Some(plan)) => redirect::decide(&run, plan, &mut phases)?,
        (Task::Dampen(method), _) => dampen(&run, *method, cached, &mut phases)?,
        (Task::Train(recipe), _) => train::decide(&run, recipe, cached, &mut phases)?,
        (Task::Heads(recipe), _) => heads::decide(&run, recipe, cached, &mut phases)?,
        (Task::Redirect, None) => return Err(Error::Failed("the redirection was not planned".into())),
    };
    warnings.extend(report::remarks(&outcome, args.choosing.limit()));

    let written = match (&edit, &outcome.refused) {
        (Some(edit), None) => {
            let staged = phases.run(common, "writing", |tick| stage(args, &input, &device, &**edit, tick))?;
            phases.run(common, "asking after", |tick| probing.after(args, &input, &staged.0, &device, tick))?;
            Some(staged)
        }
        _ => None,
    };
    let refused = outcome.refused.as_deref().unwrap_or("no weight was chosen");
    if written.is_none() {
        warnings.insert(0, format!("No checkpoint was written: {refused}."));
    }
    let report = report::report(&Story {
        args,
        command_line: &command_line,
        input: &input,
        device: &device,
        precision: measuring.precision(),
        data: &data,
        probing: &probing,
        outcome: &outcome,
        allowed: &allowed,
        changes: written.as_ref().map_or(&[], |(_, changes, _)| changes),
        sha256_after: written.as_ref().map(|(staged, ..)| staged.sha256().to_string()),
        phases: &phases,
        warnings,
    });
    let Some((staged, _, patches)) = written else {
        report::write(args, &report)?;
        return Err(Error::Failed(refused.into()));
    };
    // The checkpoint last: when it is there, so is all that belongs to it.
    patches.into_iter().try_for_each(AtomicFile::commit)?;
    report::write(args, &report)?;
    staged.commit()?;
    if let Some(path) = &args.outputs.patch {
        common.note(&format!("{} holds what was removed: keep it secret, or delete it", path.display()));
    }
    Ok(report)
}

/// Finds out before the work whether the outputs can be written.
fn check_outputs(args: &Args, input: &Input) -> Result<()> {
    check_output(&input.checkpoint, &args.out)?;
    let outputs = &args.outputs;
    let patches = [&outputs.patch, &outputs.patch_forward];
    patches.into_iter().flatten().try_for_each(|path| AtomicFile::check(path))?;
    let others = [Some(&args.out), outputs.report.as_ref(), outputs.patch.as_ref(), outputs.patch_forward.as_ref()];
    let paths: Vec<_> = others.into_iter().flatten().collect();
    let twice = (1..paths.len()).find(|i| paths[..*i].contains(&paths[*i]));
    twice.map_or(Ok(()), |i| {
        Err(Error::argument(format!("{} is named for two outputs; each needs a place of its own", paths[i].display())))
    })
}

/// Holds the two sets against each other, and holds some of the retain set out.
fn read(args: &Args, input: &Input, forget: Dataset, retain: Dataset) -> Result<Data> {
    let known: std::collections::HashMap<_, _> =
        forget.samples.iter().map(|s| ((&s.ids, &s.labels), &s.origin)).collect();
    for sample in &retain.samples {
        if let Some(same) = known.get(&(&sample.ids, &sample.labels)) {
            return Err(sample.origin.error(format!(
                "is to be kept, but {} line {} is the same and to be forgotten; remove one of them",
                same.path.display(),
                same.line
            )));
        }
    }
    overlap::check(input, &forget, &retain)?;
    let held_out = hold_out(retain.samples.len(), args.common.seed).map_err(|error| {
        args.retain.first().map_or(Error::argument(error.to_string()), |f| Error::file(f, "", error.to_string()))
    })?;
    let held_out_wordings = vec![false; forget.samples.len()];
    Ok(Data { forget, retain, held_out, held_out_wordings })
}

/// Chooses weights, dampens them, and, where that is asked for, repairs what it harms.
fn dampen(run: &Run<'_>, method: Method, cached: Option<Measured>, phases: &mut Phases) -> Result<Decided> {
    let Run { args, input, device, data, .. } = *run;
    let cached = match fused::decide(run, method, cached, phases)? {
        Fusing::Done(decided) => return Ok(*decided),
        Fusing::Impossible(cached) => cached,
    };
    let comparison = Arc::new(compare(run, cached, phases)?);
    let limit = args.choosing.limit();
    let mut outcome = phases.run(&args.common, "choosing", |tick| {
        let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(input.checkpoint.clone()));
        let judges = Judges { forget: tokens(&data.forget), forms: Vec::new(), held_out: data.retained(true) };
        let host_memory = args.common.host_memory;
        let options = PassOptions { host_memory, labels: Labels::Data, ..PassOptions::default() };
        choose(device, &input.model, &base, &comparison, &judges, (method, limit), options, tick)
    })?;
    let Some(choice) = outcome.choice else { return Ok(Decided { outcome, edit: None }) };
    outcome.overlap = comparison.overlap(device, choice.threshold)?;
    let dampening = Dampening { threshold: choice.threshold, lambda: choice.lambda };
    let edit: Box<dyn Edit> = match args.choosing.training.repair()? {
        Some(repair) => {
            let edit = train::mend_dampened(run, &comparison, dampening, repair, &mut outcome, phases)?;
            outcome.judge(limit, matches!(method, Method::Dampen { .. }));
            edit
        }
        None => Box::new((comparison, dampening)),
    };
    Ok(Decided { outcome, edit: Some(edit) })
}

type Staged = (StagedCheckpoint, Vec<Changed>, Vec<AtomicFile>);

/// Writes the checkpoint and the patches, all under temporary names.
fn stage(args: &Args, input: &Input, device: &Device, edit: &dyn Edit, tick: &dyn Fn(u64, u64)) -> Result<Staged> {
    let kinds = [(&args.outputs.patch, PatchKind::Reversible), (&args.outputs.patch_forward, PatchKind::Forward)];
    let mut patches = Vec::new();
    for (path, kind) in kinds {
        if let Some(path) = path {
            patches.push(PatchWriter::create(path, kind, &input.checkpoint, Default::default())?);
        }
    }
    let (staged, changes) = write(device, &input.model, &input.checkpoint, edit, &args.out, &mut patches, tick)?;
    let patches = patches.into_iter().map(|patch| patch.finish(staged.sha256())).collect::<Result<Vec<_>>>()?;
    Ok((staged, changes, patches))
}
