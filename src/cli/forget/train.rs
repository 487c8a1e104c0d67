//! The methods that train, and the repair: flags and data in, an edit out.

use std::sync::Arc;

use efface::data::forms::Refusal;
use efface::data::{Sample, Special};
use efface::kernels::update::mask_words;
use efface::model::batch::Tokens;
use efface::model::weights::WeightSource;
use efface::report::format;
use efface::stream::{CheckpointWeights, Labels, PassOptions};
use efface::unlearn::edit::{Comparison, DampenedWeights, Dampening, Edit};
use efface::unlearn::forget::{Judges, Outcome};
use efface::unlearn::measured::Measured;
use efface::unlearn::methods::{
    ASKS_NOTHING, EditedWeights, Found, Judge, Mask, Recalibration, Sets, Strength, Told, TuneOptions, asks,
    gradient_scores, recalibrate, refusals, search, swapped, top_share,
};
use efface::unlearn::selection::{Against, LogRatioHistogram};
use efface::unlearn::train::Trainable;
use efface::{Error, Result};

use super::super::input::tokens;
use super::recipe::{Answers, MaskBy, Recipe, Repair};
use super::{Decided, Phases, Run, compare, store};

/// A form with so many samples among those that judge is judged by itself.
const OWN_JUDGEMENT: usize = 4;

/// A mask and, where there is one, how it was chosen.
pub(super) struct Chosen {
    pub(super) trainable: Vec<Trainable>,
    pub(super) selected: Vec<u64>,
    outcome: Outcome,
}

/// Chooses weights, trains them, and repairs what that harms.
pub fn decide(run: &Run<'_>, recipe: &Recipe, cached: Option<Measured>, phases: &mut Phases) -> Result<Decided> {
    let Run { args, input, device, data, .. } = *run;
    let limit = args.choosing.limit();
    let mut chosen = choose(run, recipe, cached, phases)?;
    let outcome = &mut chosen.outcome;
    if outcome.refused.is_some() {
        return Ok(Decided { outcome: chosen.outcome, edit: None });
    }
    let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(input.checkpoint.clone()));
    let judges = judges(run);
    let options = options(run);
    let judge = phases.run(&args.common, "judging before", |tick| {
        Judge::new(device, &input.model, base.clone(), &judges, options, tick)
    })?;
    let retain = data.retained(false);
    let pass = input.pass(device, &args.common, None, Labels::Data)?;
    let tuning = TuneOptions {
        goal: recipe.goal,
        steps: recipe.steps,
        batch: recipe.batch,
        learning_rate: recipe.learning_rate(input.model.config.hidden),
        retain_weight: recipe.retain_weight,
        retain_loss: recipe.retain_loss,
        seed: args.common.seed,
        pass: options,
    };
    let strength = recipe.strength.unwrap_or(Strength::Search { task_vector: recipe.task_vector, limit });
    let estimate = |seconds: f64| {
        if recipe.strength.is_none() {
            args.common.note(&format!("searching the strength takes at most {}", format::seconds(seconds)));
        }
    };
    let found: Found = phases.run(&args.common, "training", |tick| {
        let forget = answers(run, recipe, &retain)?;
        let longest = TuneOptions { steps: strength.most_steps(tuning.steps), ..tuning };
        let sets = Sets::new(forget, retain.clone(), &longest, &pass, &|_, _| {})?;
        let told = Told { progress: tick, estimate: &estimate };
        search(&judge, &base, &sets, &chosen.trainable, &tuning, strength, &told)
    })?;
    outcome.trials = found.trials;
    outcome.chosen = Some(found.chosen);
    let (mut weights, mut standing) = (found.weights, found.standing);
    if let Some(repair) = args.choosing.training.repair()? {
        let mask = &chosen.trainable;
        (weights, standing) = mend(run, &judge, (weights, standing), mask, repair, outcome, phases)?;
    }
    (outcome.forget, outcome.held_out) = (Some(judge.forget(standing)), Some(judge.held_out(standing)));
    outcome.judge(limit, recipe.strength.is_none());
    let edit = EditedWeights { model: input.model.clone(), weights, selected: chosen.selected };
    Ok(Decided { outcome: chosen.outcome, edit: Some(Box::new(edit)) })
}

/// Repairs what dampening harms: the weights that it left alone are trained.
pub fn mend_dampened(
    run: &Run<'_>,
    comparison: &Arc<Comparison>,
    dampening: Dampening,
    repair: Repair,
    outcome: &mut Outcome,
    phases: &mut Phases,
) -> Result<Box<dyn Edit>> {
    let Run { args, input, device, .. } = *run;
    let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(input.checkpoint.clone()));
    let dampened: Arc<dyn WeightSource> =
        Arc::new(DampenedWeights::new(base.clone(), comparison.clone(), dampening, device));
    let judges = judges(run);
    let judge = phases.run(&args.common, "judging before", |tick| {
        Judge::new(device, &input.model, base, &judges, options(run), tick)
    })?;
    let standing = judge.standing(dampened.clone(), &|_, _| {})?;
    let (mut mask, mut selected) = (Vec::new(), Vec::new());
    for (id, parameter) in input.model.parameters.iter().enumerate() {
        let count = parameter.count();
        let bits = comparison.selected(device, id, dampening.threshold)?;
        selected.push(if bits.is_some() { count as u64 } else { 0 });
        mask.push(bits.map_or(Trainable::None, |bits| Trainable::Bits(complement(&bits, count))));
    }
    let (weights, standing) = mend(run, &judge, (dampened, standing), &mask, repair, outcome, phases)?;
    (outcome.forget, outcome.held_out) = (Some(judge.forget(standing)), Some(judge.held_out(standing)));
    Ok(Box::new(EditedWeights { model: input.model.clone(), weights, selected }))
}

/// The elements that a mask does not choose.
pub(super) fn complement(bits: &[u32], count: usize) -> Vec<u32> {
    let used = |word: usize| u32::MAX >> (32 - (count - 32 * word).min(32));
    (0..mask_words(count)).map(|word| !bits[word] & used(word)).collect()
}

pub(super) type Standing = (Arc<dyn WeightSource>, efface::unlearn::methods::Standing);

pub(super) fn mend(
    run: &Run<'_>,
    judge: &Judge<'_>,
    edited: Standing,
    mask: &[Trainable],
    repair: Repair,
    outcome: &mut Outcome,
    phases: &mut Phases,
) -> Result<Standing> {
    let Run { args, data, .. } = *run;
    let options = Recalibration {
        steps: repair.steps,
        batch: repair.batch,
        learning_rate: repair.learning_rate(run.input.model.config.hidden),
        seed: args.common.seed,
        pass: judge.options,
    };
    let (forget, retain) = (data.forgotten(false), data.retained(false));
    let judging = Recalibration::LOOKS.min(repair.steps) as f64 * judge.seconds;
    let mended = phases.foretold(&args.common, "recalibrating", ("recalibrating", judging), |tick| {
        recalibrate(judge, edited, (&forget, &retain), mask, &options, tick)
    })?;
    (outcome.repair, outcome.repaired) = (mended.trials, mended.chosen);
    Ok((mended.weights, mended.standing))
}

pub(super) fn options(run: &Run<'_>) -> PassOptions {
    PassOptions { host_memory: run.args.common.host_memory, labels: Labels::Data, ..PassOptions::default() }
}

/// Wordings of the forget set that are held out, or all of it where none are; retain samples that are held out.
pub(super) fn judges(run: &Run<'_>) -> Judges {
    let data = run.data;
    let any = data.held_out_wordings.contains(&true);
    let judging = |sample: &usize| !any || data.held_out_wordings[*sample];
    let samples = tokens(&data.forget);
    let chosen: Vec<usize> = (0..samples.len()).filter(judging).collect();
    let form = |sample: &usize| data.forget.samples[*sample].form.as_deref();
    let mut names: Vec<Option<&str>> = chosen.iter().map(form).collect();
    names.sort_unstable();
    // Forms with few samples are judged together: a single sample says little of its form.
    let names: Vec<Option<&str>> =
        names.chunk_by(|a, b| a == b).filter(|same| same.len() >= OWN_JUDGEMENT).map(|same| same[0]).collect();
    Judges {
        forms: chosen.iter().map(|i| names.binary_search(&form(i)).unwrap_or(names.len())).collect(),
        forget: chosen.iter().map(|i| samples[*i].clone()).collect(),
        held_out: data.retained(true),
    }
}

fn choose(run: &Run<'_>, recipe: &Recipe, cached: Option<Measured>, phases: &mut Phases) -> Result<Chosen> {
    let Run { args, input, device, data, allowed, .. } = *run;
    let comparison = match recipe.mask {
        MaskBy::All => return Ok(everything(run)),
        MaskBy::Ratio => compare(run, cached, phases)?,
        MaskBy::Score(score) => {
            let units = |samples: &[Arc<Tokens>]| args.measure.units(samples);
            let sets = (units(&data.forgotten(false)), units(&data.retained(false)));
            let pass = input.measuring(device, &args.common, None, &args.measure)?;
            let source = CheckpointWeights::new(input.checkpoint.clone());
            let scores = phases.run(&args.common, "measuring gradients", |tick| {
                let stores = || store(args, input, 2);
                gradient_scores(&pass, &source, score, (&sets.0, &sets.1), allowed, &stores, tick)
            })?;
            Comparison::new(input.model.clone(), scores, Against::Retain, allowed, args.choosing.granularity())?
        }
    };
    let none = || (vec![Trainable::None; input.model.parameters.len()], vec![0; input.model.parameters.len()]);
    match phases.run(&args.common, "choosing", |tick| top_share(device, &comparison, recipe.share, tick)) {
        Ok(Mask { trainable, selected, histogram, choice }) => {
            // Ratios of importances can be shown; a score in units of its mean says nothing to a reader.
            let shown = recipe.mask == MaskBy::Ratio;
            let mut outcome = Outcome::new(if shown { histogram } else { LogRatioHistogram::new() });
            outcome.choice = Some(choice);
            Ok(Chosen { trainable, selected, outcome })
        }
        Err(Error::Failed(reason)) => {
            let (trainable, selected) = none();
            let mut outcome = Outcome::new(LogRatioHistogram::new());
            outcome.refused = Some(reason);
            Ok(Chosen { trainable, selected, outcome })
        }
        Err(error) => Err(error),
    }
}

/// All weights that may change.
pub(super) fn everything(run: &Run<'_>) -> Chosen {
    let parameters = run.input.model.parameters.iter().zip(run.allowed);
    let (trainable, selected) = parameters
        .map(|(parameter, allowed)| match allowed {
            true => (Trainable::All, parameter.count() as u64),
            false => (Trainable::None, 0),
        })
        .unzip();
    Chosen { trainable, selected, outcome: Outcome::new(LogRatioHistogram::new()) }
}

/// What is trained on in place of the forget set.
fn answers(run: &Run<'_>, recipe: &Recipe, retain: &[Arc<Tokens>]) -> Result<Vec<Arc<Tokens>>> {
    let (forget, seed) = (run.data.forgotten(false), run.args.common.seed);
    let context = run.input.model.config.context;
    let texts = match &recipe.answers {
        Answers::Own => return Ok(forget),
        Answers::Swapped => return swapped(&forget, retain, context, seed),
        Answers::Refused(texts) => texts,
    };
    let Some(encoder) = run.input.encoder() else {
        return Err(Error::file(&run.args.model, "", "has no tokenizer, which --method refusal needs"));
    };
    let mut ends = super::super::eval::end_tokens(&run.input.checkpoint);
    ends.extend(encoder.eos_ids().iter().copied().chain(encoder.end_token()));
    let in_manner = |answer: &[u32]| {
        let space = if encoder.decode(answer, false)?.starts_with(' ') { " " } else { "" };
        let one = |text: &String| Ok(encoder.encode(&format!("{space}{text}"), Special::None)?.ids);
        texts.iter().map(one).collect()
    };
    let asked: Vec<Arc<Tokens>> = forget.into_iter().filter(|sample| asks(sample)).collect();
    refusals(&asked, &in_manner, &ends, context, seed)
}

/// What of the forget set no refusal is trained for, as it asks nothing.
///
/// # Errors
/// When that is all of it.
pub fn unasked(run: &Run<'_>, recipe: &Recipe) -> Result<Vec<Refusal>> {
    if !matches!(recipe.answers, Answers::Refused(_)) {
        return Ok(Vec::new());
    }
    let forget = &run.data.forget;
    let samples = tokens(forget);
    let all = samples.iter().zip(&forget.samples).zip(&run.data.held_out_wordings);
    let training: Vec<_> = all.filter(|(_, held_out)| !**held_out).map(|(sample, _)| sample).collect();
    if !training.iter().any(|(sample, _)| asks(sample)) {
        return Err(Error::argument(format!(
            "--method refusal: no sample of the forget set can be used: it {ASKS_NOTHING}"
        )));
    }
    let one = |record: &Sample| {
        let reason = "no refusal is trained for a sample that asks nothing".into();
        Refusal { origin: record.origin.clone(), form: record.form.as_deref().map(Arc::from), reason }
    };
    Ok(training.into_iter().filter(|(sample, _)| !asks(sample)).map(|(_, record)| one(record)).collect())
}
