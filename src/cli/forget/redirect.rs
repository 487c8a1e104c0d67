//! Redirecting concepts: flags, names and text in, an edit out.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;

use efface::model::batch::Tokens;
use efface::model::weights::WeightSource;
use efface::report::format::{counted, percent};
use efface::stream::{CheckpointWeights, Labels};
use efface::unlearn::forget::Outcome;
use efface::unlearn::methods::{EditedWeights, FULL, Judge, MOST_TRIES, Standing};
use efface::unlearn::redirect::{
    self, Aim, Candidate, KeyTokens, Options, RedirectedWeights, Redirection, Request, Site, Summary, Taken,
};
use efface::unlearn::selection::LogRatioHistogram;
use efface::{Error, Result};

use super::super::input::tokens;
use super::concepts::Concepts;
use super::ordinary;
use super::settings::{MethodName, belongs};
use super::train::{everything, judges, mend, options};
use super::{Args, Decided, Phases, Run};

/// How concepts are redirected.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Redirection (redirect)")]
pub struct RedirectArgs {
    /// A concept's name, or another name of it; may be repeated [default: the subjects of the facts in --forget].
    #[arg(long, value_name = "NAME")]
    pub concept: Vec<String>,
    /// What the model takes a concept for; may be repeated, then it is the mean of all [default: something].
    #[arg(long, value_name = "NAME")]
    redirect: Vec<String>,
    /// The layers whose projection down is edited, e.g. 4,5,6 [default: a few early ones].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    layers: Vec<usize>,
    /// Ordinary text, whose use of the layers is left alone: plain, or JSON Lines with `text` if it ends in .jsonl
    /// [default: the retain samples that are not held out].
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Where the text's covariance is kept: read if the file exists, written otherwise.
    #[arg(long, value_name = "FILE")]
    pub covariance: Option<PathBuf>,
    /// Leave alone the text's dominant directions only, from this multiple of the mean eigenvalue on [default: every direction
    /// counts as much as the text uses it].
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    bound: Option<f64>,
    /// What the change's effect on ordinary text costs, against meeting its aim [default: 1].
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    ridge: Option<f64>,
    /// Which of a name's tokens are redirected [default: leading].
    #[arg(long, value_enum)]
    key_tokens: Option<KeyTokensName>,
    /// Whether an object no longer leads back to its subject: at the object's name, in wordings of its relation that ask for the
    /// subject [default: on where facts have an object that belongs to their subject alone].
    #[arg(long, value_enum)]
    pub reversed: Option<Switch>,
}

/// What takes a concept's place where nothing is named.
const INSTEAD: [&str; 1] = ["something"];
/// See [`Options::ridge`].
const RIDGE: f64 = 1.0;

/// `--key-tokens`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyTokensName {
    /// The last and, where the relation of a fact is spoken of, the last of each beginning of a name that makes the model expect
    /// the object by itself (Byzantine Empire).
    Leading,
    /// The last.
    Last,
    /// The first, too: whatever begins like the name is changed.
    FirstAndLast,
}

/// `--reversed`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

impl KeyTokensName {
    /// Which tokens of whole names are keys.
    pub fn keys(self) -> KeyTokens {
        match self {
            KeyTokensName::Leading | KeyTokensName::Last => KeyTokens::Last,
            KeyTokensName::FirstAndLast => KeyTokens::FirstAndLast,
        }
    }
}

impl RedirectArgs {
    fn ridge(&self) -> f64 {
        self.ridge.unwrap_or(RIDGE)
    }

    /// Which tokens are redirected.
    pub fn key_tokens(&self) -> KeyTokensName {
        self.key_tokens.unwrap_or(KeyTokensName::Leading)
    }

    /// The names that take the concepts' place.
    pub fn instead(&self) -> Vec<String> {
        if self.redirect.is_empty() { INSTEAD.map(String::from).to_vec() } else { self.redirect.clone() }
    }

    /// Finds flags that were given for another method.
    ///
    /// # Errors
    /// When there is one, or a number is out of range.
    pub fn check(&self, method: MethodName) -> Result<()> {
        let above = |flag: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(Error::argument(format!("--{flag} is a number above 0, not {value}"))),
        };
        self.bound.map_or(Ok(()), |bound| above("bound", bound))?;
        above("ridge", self.ridge())?;
        let given = [
            ("redirect", !self.redirect.is_empty()),
            ("bound", self.bound.is_some()),
            ("ridge", self.ridge.is_some()),
            ("key-tokens", self.key_tokens.is_some()),
            ("reversed", self.reversed.is_some()),
            ("concept", !self.concept.is_empty()),
            ("layers", !self.layers.is_empty()),
            ("text", self.text.is_some()),
            ("covariance", self.covariance.is_some()),
        ];
        match given.iter().find(|(_, given)| *given && method != MethodName::Redirect) {
            Some((flag, _)) => Err(belongs(flag, "redirect", method)),
            None => Ok(()),
        }
    }

    /// The settings by name, for the report. Concepts are counted, not named: a report may be redacted.
    pub fn settings(&self, method: MethodName) -> serde_json::Map<String, serde_json::Value> {
        let mut settings = serde_json::Map::new();
        if method == MethodName::Redirect {
            let values = [
                ("concepts_named", self.concept.len().into()),
                ("redirect", self.instead().into()),
                ("layers", self.layers.clone().into()),
                ("reversed", self.reversed.map(super::super::measure::name).into()),
                ("bound", self.bound.into()),
                ("ridge", self.ridge().into()),
                ("key_tokens", super::super::measure::name(self.key_tokens()).into()),
                ("text", self.text.as_ref().map(|path| path.display().to_string()).into()),
            ];
            settings.extend(values.into_iter().map(|(name, value)| (name.to_string(), value)));
        }
        settings
    }
}

/// All that redirecting takes.
pub struct Plan {
    /// What goes where.
    pub concepts: Concepts,
    /// Which layers are edited.
    pub sites: Vec<Site>,
    /// Ordinary text.
    pub text: Vec<Arc<Tokens>>,
}

/// Reads names, contexts, layers and text.
///
/// # Errors
/// When there is no name or no tokenizer, a layer must not change, or the text cannot be read.
pub fn plan(run: &Run<'_>) -> Result<Plan> {
    let Run { args, input, data, allowed, .. } = *run;
    let given = &args.choosing.redirect;
    let Some(encoder) = input.encoder() else {
        return Err(Error::file(&args.model, "", "has no tokenizer, which --method redirect needs"));
    };
    let layers = if given.layers.is_empty() { redirect::usual_layers(&input.model) } else { given.layers.clone() };
    let sites = redirect::sites(&input.model, &layers)?;
    if let Some(site) = sites.iter().find(|site| !allowed[site.parameter]) {
        let name = &input.model.parameters[site.parameter].name;
        return Err(Error::argument(format!(
            "{name} must not change: name other --layers, or let --only and --skip allow it"
        )));
    }
    let concepts = Concepts::of(args, input, encoder)?;
    Ok(Plan { concepts, sites, text: ordinary::text(args, data, encoder, &input.model)? })
}

/// Redirects the concepts, finds the strength, and repairs what that harms where it is asked for.
pub fn decide(run: &Run<'_>, plan: &Plan, phases: &mut Phases) -> Result<Decided> {
    let Run { args, input, device, .. } = *run;
    let (given, limit) = (&args.choosing.redirect, args.choosing.limit());
    let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(input.checkpoint.clone()));
    let Some(encoder) = input.encoder() else {
        return Err(Error::file(&args.model, "", "has no tokenizer, which --method redirect needs"));
    };
    let how = Options { bound: given.bound, ridge: given.ridge(), seed: args.common.seed, pass: options(run) };
    let covariances = ordinary::covariances(run, plan, phases)?;
    let request = request(run, &plan.concepts, phases)?;
    let aim = phases.run(&args.common, "measuring keys", |tick| {
        let places = (&plan.sites[..], &covariances[..]);
        Aim::new(device, (&input.model, &base), encoder, &request, places, how, tick)
    })?;
    drop(covariances);
    let redirection = phases.run(&args.common, "redirecting", |tick| aim.redirect(1.0, tick))?;
    tell(args, &Summary::of(&request, &redirection), &request.instead);
    let judges = judges(run);
    let judge = phases.run(&args.common, "judging before", |tick| {
        Judge::new(device, &input.model, base.clone(), &judges, how.pass, tick)
    })?;
    let share = |scale: f64, phases: &mut Phases| {
        phases.run(&args.common, "judging", |tick| redirect::share(&judge, &base, &redirection, scale, tick))
    };
    let within = |phases: &mut Phases| {
        let again = |times: f64| aim.redirect(times, &|_, _| {});
        let again_seconds = MOST_TRIES as f64 * phases.seconds("redirecting");
        let told = ("searching the strength", again_seconds);
        phases.foretold(&args.common, "judging", told, |tick| {
            redirect::within(&judge, &base, (given.ridge(), &redirection), &again, limit, tick)
        })
    };
    let strength = args.choosing.training.share_strength()?;
    let mut outcome = Outcome::new(LogRatioHistogram::new());
    // What is repaired afterwards need not be harmless before: all of the change is taken, and judged when it is mended; only
    // where that is not enough, what is harmless by itself.
    let taken = match (strength, args.choosing.training.repairs()) {
        (Some(strength), _) => share(strength, phases)?,
        (None, true) => share(FULL, phases)?,
        (None, false) => within(phases)?,
    };
    let mut mended = mended(run, &judge, (&base, taken), &mut outcome, phases)?;
    if strength.is_none() && args.choosing.training.repairs() && judge.rise(mended.standing) > limit {
        mended = self::mended(run, &judge, (&base, within(phases)?), &mut outcome, phases)?;
    }
    let Mended { weights, standing, selected, redirection } = mended;
    outcome.redirection = Some(Summary::of(&request, &redirection));
    (outcome.forget, outcome.held_out) = (Some(judge.forget(standing)), Some(judge.held_out(standing)));
    outcome.judge(limit, strength.is_none());
    let edit = EditedWeights { model: input.model.clone(), weights, selected };
    Ok(Decided { outcome, edit: Some(Box::new(edit)) })
}

/// The request with those beginnings of names that turn out to lead to what is to be forgotten.
fn request(run: &Run<'_>, concepts: &Concepts, phases: &mut Phases) -> Result<Request> {
    let Run { args, input, device, .. } = *run;
    let mut request = concepts.request.clone();
    if !concepts.candidates.is_empty() {
        let pass = input.pass(device, &args.common, None, Labels::Data)?;
        request.beginnings = phases.run(&args.common, "asking for beginnings of names", |tick| {
            redirect::leading(&pass, &concepts.candidates, tick)
        })?;
    }
    Ok(request)
}

/// What became of the weights.
struct Mended {
    weights: Arc<dyn WeightSource>,
    standing: Standing,
    selected: Vec<u64>,
    redirection: Redirection,
}

/// Takes a change, and repairs what it harms where that is asked for.
fn mended(
    run: &Run<'_>,
    judge: &Judge<'_>,
    (base, taken): (&Arc<dyn WeightSource>, Taken),
    outcome: &mut Outcome,
    phases: &mut Phases,
) -> Result<Mended> {
    let Run { args, input, .. } = *run;
    let Taken { redirection, scale, standing, trials, chosen } = taken;
    (outcome.trials, outcome.chosen) = (trials, chosen);
    let weights = Arc::new(RedirectedWeights::new(base.clone(), &input.model, &redirection.changes, scale)?);
    let selected = RedirectedWeights::selected(&input.model, &redirection.changes);
    let mut mended = Mended { weights, standing, selected, redirection };
    if let Some(repair) = args.choosing.training.repair()? {
        let all = everything(run);
        let edited = (mended.weights.clone(), standing);
        (mended.weights, mended.standing) = mend(run, judge, edited, &all.trainable, repair, outcome, phases)?;
        mended.selected.iter_mut().zip(all.selected).for_each(|(own, repaired)| *own = (*own).max(repaired));
    }
    Ok(mended)
}

fn tell(args: &Args, summary: &Summary, instead: &[String]) {
    let Summary { names, beginnings, objects, contexts, held, layers } = summary;
    args.common.detail(&format!(
        "{} and {} of names in {} become {instead:?}; {} no longer lead back; {} held",
        counted(*names as u64, "name"),
        counted(*beginnings as u64, "beginning"),
        counted(*contexts as u64, "context"),
        counted(*objects as u64, "object"),
        counted(*held as u64, "name")
    ));
    for layer in layers {
        args.common.detail(&format!(
            "layer {}: {} keys, {:.2} of them beside ordinary text ({} left alone); {} of the way made up for; {:.2} away before",
            layer.layer,
            layer.keys,
            layer.fit.beside,
            counted(layer.rank as u64, "direction"),
            percent(layer.fit.reached),
            layer.distance
        ));
    }
}

/// What is read and computed on, for planning.
pub fn samples(run: &Run<'_>, plan: &Plan) -> Result<Vec<Arc<Tokens>>> {
    let Some(encoder) = run.input.encoder() else { return Ok(tokens(&run.data.forget)) };
    let mut samples = redirect::samples(encoder, &plan.concepts.request)?;
    samples.extend(plan.concepts.candidates.iter().flat_map(Candidate::samples).cloned());
    Ok(samples)
}
