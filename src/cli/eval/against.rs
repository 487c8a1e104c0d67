//! A model against the one before an edit: probes by what they stand for, the scores, and attacks.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use efface::data::{Probe, ProbeKind, ProbeSet};
use efface::device::Device;
use efface::eval::attack::{Bits, QuantisedWeights};
use efface::eval::scores::form_scores;
use efface::eval::{EvalOptions, FormResult, evaluate};
use efface::model::batch::Tokens;
use efface::model::weights::WeightSource;
use efface::random::Random;
use efface::report::eval::AttackResult;
use efface::report::forget::{DataFile, Role};
use efface::report::scores::{FormScore, Scores};
use efface::stream::{CheckpointWeights, Labels, Pass, PassOptions};
use efface::unlearn::train::{TrainOptions, Trainable, train};
use efface::{Error, Result};
use serde_json::{Map, Value, json};

use super::super::common::Common;
use super::super::input::{Input, Reading, refusals, tokens};
use super::super::progress::Progress;

/// What a model is held against, and how it is attacked.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Against the model before")]
pub struct AgainstArgs {
    /// The checkpoint before the edit: only what it knew counts.
    #[arg(long, value_name = "DIR")]
    baseline: Option<PathBuf>,
    /// Probes of what was to be forgotten.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    probes_forget: Vec<PathBuf>,
    /// Probes of what was to be kept.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    probes_retain: Vec<PathBuf>,
    /// Attacks on the model, separated by commas: 8-bit, 4-bit (rounded weights), relearn (trained on a tenth of the facts to be
    /// forgotten, asked about the others), relearn-neutral (trained on --neutral).
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = ATTACKS, requires = "baseline")]
    attack: Vec<String>,
    /// Records that relearn-neutral trains on: nothing that was to be forgotten.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    neutral: Vec<PathBuf>,
    /// Steps of relearning, each over at most 16 samples.
    #[arg(long, value_name = "N", default_value_t = 20)]
    relearn_steps: usize,
    /// Learning rate of relearning (AdamW).
    #[arg(long, value_name = "RATE", default_value_t = 1e-4)]
    relearn_rate: f32,
}

const ATTACKS: [&str; 4] = ["8-bit", "4-bit", "relearn", "relearn-neutral"];
/// Relearning sees one in so many facts.
const RELEARNED: usize = 10;

impl AgainstArgs {
    /// Every setting, as reports name them.
    pub fn settings(&self) -> Map<String, Value> {
        let settings = json!({
            "baseline": self.baseline, "attack": self.attack, "neutral": self.neutral,
            "relearn_steps": self.relearn_steps, "relearn_rate": self.relearn_rate,
        });
        settings.as_object().cloned().unwrap_or_default()
    }
}

/// The probes, by what they stand for.
pub struct Sets(Vec<(Role, ProbeSet)>);

impl Sets {
    /// Reads them.
    ///
    /// # Errors
    /// When a file is wrong.
    pub fn read(args: &super::Args, input: &Input) -> Result<Self> {
        let against = &args.against;
        let files = [
            (Role::Forget, &against.probes_forget),
            (Role::Retain, &against.probes_retain),
            (Role::Other, &args.probes),
        ];
        let given = files.into_iter().filter(|(_, paths)| !paths.is_empty());
        given.map(|(role, paths)| Ok((role, input.probes(paths, &args.reading)?))).collect::<Result<_>>().map(Sets)
    }

    /// Asks a model: for each set its results.
    ///
    /// # Errors
    /// When a probe does not fit the model or the budget, or the device failed.
    pub fn ask(
        &self,
        common: &Common,
        pass: &Pass,
        input: &Input,
        options: &EvalOptions,
        name: &str,
        phases: &mut Vec<(String, f64)>,
    ) -> Result<Vec<Vec<FormResult>>> {
        const STEPS: u64 = 1000;
        let progress = Progress::new(common, "evaluating");
        let total = self.0.iter().map(|(_, set)| set.probes.len() as u64).sum::<u64>().max(1);
        let (mut asked, mut results) = (0, Vec::new());
        for (_, set) in &self.0 {
            let count = set.probes.len() as u64;
            let at = |done: u64, of: u64| progress.tick((asked + count * done / of.max(1)) * STEPS / total, STEPS);
            results.push(evaluate(pass, &set.probes, input.encoder(), options, &at)?);
            asked += count;
        }
        phases.push((name.to_string(), progress.seconds()));
        Ok(results)
    }

    /// Each set with what it stands for.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &ProbeSet)> {
        self.0.iter().map(|(role, set)| (*role, set))
    }

    /// The hashes of what was read.
    pub fn hashes(&self) -> Vec<&str> {
        self.0.iter().map(|(_, set)| set.sha256.as_str()).collect()
    }

    /// What was left out, and why.
    pub fn warnings(&self) -> Vec<String> {
        self.0.iter().flat_map(|(_, set)| refusals(&set.refused)).collect()
    }

    /// The files with what was made of them.
    pub fn files(&self) -> Vec<DataFile> {
        self.0.iter().flat_map(|(_, set)| files(set)).collect()
    }

    /// Scores against what the baseline said.
    fn scores(&self, before: &[Vec<FormResult>], after: &[Vec<FormResult>]) -> Vec<FormScore> {
        let sets = self.0.iter().zip(before).zip(after);
        // Which phrasings the removal saw is not known here: --forms asks in those held out, files are taken to be so.
        sets.flat_map(|(((role, set), before), after)| form_scores(&set.probes, before, after, *role, &|_| true))
            .collect()
    }

    /// The sets without the facts whose number among those to be forgotten is not wanted.
    fn with_facts(&self, wanted: &dyn Fn(usize) -> bool) -> Sets {
        let pick = |(role, set): &(Role, ProbeSet)| {
            let mut set = set.clone();
            if *role == Role::Forget {
                let numbers = fact_numbers(&set.probes);
                let mut numbers = numbers.into_iter();
                set.probes.retain(|_| numbers.next().is_some_and(wanted));
            }
            (*role, set)
        };
        Sets(self.0.iter().map(pick).filter(|(_, set)| !set.probes.is_empty()).collect())
    }
}

/// For each probe the number of its fact, in the order in which facts come.
fn fact_numbers(probes: &[Probe]) -> Vec<usize> {
    let mut known = BTreeMap::new();
    let number = |probe: &Probe| {
        let next = known.len();
        *known.entry((probe.origin.path.clone(), probe.origin.line)).or_insert(next)
    };
    probes.iter().map(number).collect()
}

/// What the comparison comes to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The headline.
    pub scores: Scores,
    /// Every form.
    pub forms: Vec<FormScore>,
    /// What attacks bring back.
    pub attacks: Vec<AttackResult>,
    /// What a reader must know.
    pub warnings: Vec<String>,
}

/// Holds the results against the baseline's, and attacks the model; nothing without a baseline.
///
/// # Errors
/// When the baseline is another kind of model, or the work failed.
pub fn judge(
    args: &super::Args,
    input: &Input,
    device: &Device,
    sets: &Sets,
    after: &[Vec<FormResult>],
    options: &EvalOptions,
    phases: &mut Vec<(String, f64)>,
) -> Result<Verdict> {
    let Some(path) = &args.against.baseline else { return Ok(Verdict::default()) };
    let baseline = Input::open(path)?;
    if baseline.model.config.vocabulary != input.model.config.vocabulary {
        let (ours, theirs) = (input.model.config.vocabulary, baseline.model.config.vocabulary);
        let problem =
            format!("the baseline has a vocabulary of {theirs} tokens, the model {ours}: they must be the same model");
        return Err(Error::file(path, "", problem));
    }
    let pass = baseline.pass(device, &args.common, None, Labels::Data)?;
    let before = sets.ask(&args.common, &pass, input, options, "evaluating the baseline", phases)?;
    let forms = sets.scores(&before, after);
    let mut verdict = Verdict { scores: Scores::of(&forms), forms, ..Verdict::default() };
    if args.reading.forms.is_empty() && sets.0.iter().any(|(role, _)| *role == Role::Forget) {
        verdict.warnings.push(
            "Which wordings the removal saw is not known here: every form is counted as held out. --forms asks in phrasings that \
             are held out of training."
                .into(),
        );
    }
    for name in &args.against.attack {
        let attack = attack(args, input, device, sets, name, options, phases)?;
        let forms = match attack.rest {
            // Asked about the facts that relearning did not see only.
            Some(rest) => {
                let before = rest.ask(&args.common, &pass, input, options, &format!("baseline for {name}"), phases)?;
                rest.scores(&before, &attack.after)
            }
            None => sets.scores(&before, &attack.after),
        };
        verdict.attacks.push(AttackResult { name: attack.name, scores: Scores::of(&forms), forms });
    }
    Ok(verdict)
}

/// What an attacked model says.
struct Attacked {
    name: String,
    after: Vec<Vec<FormResult>>,
    /// What it was asked, if not everything.
    rest: Option<Sets>,
}

fn attack(
    args: &super::Args,
    input: &Input,
    device: &Device,
    sets: &Sets,
    name: &str,
    options: &EvalOptions,
    phases: &mut Vec<(String, f64)>,
) -> Result<Attacked> {
    let base: Arc<dyn WeightSource> = Arc::new(CheckpointWeights::new(input.checkpoint.clone()));
    let pass_options = PassOptions { host_memory: args.common.host_memory, ..PassOptions::default() };
    let over = |source: Arc<dyn WeightSource>| Pass::over(device, input.model.clone(), source, pass_options);
    let bits = match name {
        "8-bit" => Some(Bits::Eight),
        "4-bit" => Some(Bits::Four),
        _ => None,
    };
    if let Some(bits) = bits {
        let pass = over(Arc::new(QuantisedWeights::new(base, bits)))?;
        let after = sets.ask(&args.common, &pass, input, options, name, phases)?;
        return Ok(Attacked { name: format!("rounded to {} bits", bits.number()), after, rest: None });
    }
    let (samples, rest, name) = match name {
        "relearn" => {
            let (samples, rest, count) = relearned(args, sets)?;
            (samples, Some(rest), format!("relearned {count} of the facts, asked about the others"))
        }
        _ => {
            if args.against.neutral.is_empty() {
                return Err(Error::argument("--attack relearn-neutral needs --neutral FILE"));
            }
            let own = Reading { forms: Vec::new(), hold_out_forms: Vec::new(), ..args.reading.clone() };
            let data = input.dataset(&args.against.neutral, &own)?;
            (tokens(&data), None, "trained on neutral samples".to_string())
        }
    };
    let progress = Progress::new(&args.common, "relearning");
    let steps = args.against.relearn_steps;
    let train_options = TrainOptions {
        steps,
        batch: 16,
        unit: 16,
        seed: args.common.seed,
        learning_rate: args.against.relearn_rate,
        pass: pass_options,
        ..TrainOptions::default()
    };
    let mask = vec![Trainable::All; input.model.parameters.len()];
    let mut done = 0;
    let trained = train(device, &input.model, base, &samples, &mask, &train_options, &mut |_| {
        done += 1;
        progress.tick(done, steps as u64);
        ControlFlow::Continue(())
    })?;
    phases.push((name.clone(), progress.seconds()));
    drop(progress);
    let pass = over(trained.weights)?;
    let asked = rest.as_ref().unwrap_or(sets);
    let after = asked.ask(&args.common, &pass, input, options, "asking again", phases)?;
    Ok(Attacked { name, after, rest })
}

/// The samples of a tenth of the facts, drawn by the seed, the probes of the others, and how many facts were drawn.
fn relearned(args: &super::Args, sets: &Sets) -> Result<(Vec<Arc<Tokens>>, Sets, usize)> {
    let Some((_, forget)) = sets.0.iter().find(|(role, _)| *role == Role::Forget) else {
        return Err(Error::argument("--attack relearn needs --probes-forget FILE: it trains on some of them"));
    };
    let numbers = fact_numbers(&forget.probes);
    let facts = numbers.iter().max().map_or(0, |last| last + 1);
    if facts < 2 {
        let problem = "--attack relearn needs at least two facts: it trains on some and asks about the others";
        return Err(Error::argument(problem));
    }
    let count = (facts / RELEARNED).max(1);
    let mut drawn = vec![false; facts];
    Random::new(args.common.seed, "relearning").order(facts)[..count].iter().for_each(|fact| drawn[*fact] = true);
    let chosen =
        forget.probes.iter().zip(&numbers).filter(|(probe, fact)| drawn[**fact] && probe.kind == ProbeKind::Answer);
    let sample = |(number, (probe, _)): (usize, (&Probe, &usize))| {
        let sample = probe.sample();
        Arc::new(Tokens::new(&sample.ids, &sample.labels, number as u32))
    };
    let samples: Vec<_> = chosen.enumerate().map(sample).collect();
    if samples.is_empty() {
        return Err(Error::argument("--attack relearn: the facts that were drawn have no question"));
    }
    Ok((samples, sets.with_facts(&|fact| !drawn[fact]), count))
}

fn files(set: &ProbeSet) -> Vec<DataFile> {
    let mut made: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for probe in &set.probes {
        let (samples, tokens) = made.entry(probe.origin.path.display().to_string()).or_default();
        *samples += 1;
        *tokens += (probe.prompt_ids.len() + probe.gold_ids.len()) as u64;
    }
    let file = |file: &efface::data::InputFile| {
        let path = file.path.display().to_string();
        let (samples, tokens) = made.get(&path).copied().unwrap_or_default();
        let (sha256, records) = (file.sha256.clone(), file.records as u64);
        DataFile { path, used_for: "probes".into(), sha256, records, samples, tokens }
    };
    set.files.iter().map(file).collect()
}
