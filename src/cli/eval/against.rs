//! A model against the one before an edit: probes by what they stand for, and the scores.

use std::collections::BTreeMap;
use std::path::PathBuf;

use efface::data::{Probe, ProbeSet};
use efface::device::Device;
use efface::eval::scores::form_scores;
use efface::eval::{Asked, EvalOptions, FormResult, evaluate, neighbours, subset};
use efface::report::eval::AttackResult;
use efface::report::forget::{DataFile, Role};
use efface::report::neighbours::Neighbours;
use efface::report::scores::{FormScore, Scores};
use efface::stream::{Labels, Pass};
use efface::{Error, Result};
use serde_json::{Map, Value, json};

use super::super::common::Common;
use super::super::input::{Input, refusals};
use super::super::progress::Progress;
use super::attack::Target;

/// What a model is held against.
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
}

impl AgainstArgs {
    /// Every setting, as reports name them.
    pub fn settings(&self) -> Map<String, Value> {
        let settings = json!({ "baseline": self.baseline });
        settings.as_object().cloned().unwrap_or_default()
    }
}

/// The probes, by what they stand for. Those to be forgotten come first.
#[derive(Clone, Debug)]
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

    /// The probes that are `wanted` by their role and their place among all, with what was said to them. Sets without any are
    /// left out.
    pub fn only(
        &self,
        results: &[Vec<FormResult>],
        wanted: &dyn Fn(Role, usize) -> bool,
    ) -> (Sets, Vec<Vec<FormResult>>) {
        let (mut sets, mut said, mut first) = (Vec::new(), Vec::new(), 0);
        for ((role, set), results) in self.0.iter().zip(results) {
            let kept: Vec<bool> = (first..first + set.probes.len()).map(|place| wanted(*role, place)).collect();
            first += set.probes.len();
            if !kept.contains(&true) {
                continue;
            }
            said.push(subset(results, &set.probes, &kept));
            let probes = set.probes.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(probe, _)| probe.clone());
            sets.push((*role, ProbeSet { probes: probes.collect(), ..set.clone() }));
        }
        (Sets(sets), said)
    }

    /// Puts other probes in the places of all, in order.
    pub fn replace(&mut self, probes: impl Iterator<Item = Probe>) {
        let places = self.0.iter_mut().flat_map(|(_, set)| &mut set.probes);
        places.zip(probes).for_each(|(place, probe)| *place = probe);
    }

    /// What became of the facts that are close to those to be forgotten.
    fn neighbours(&self, before: &[Vec<FormResult>], after: &[Vec<FormResult>]) -> Vec<Neighbours> {
        let forgotten = self.0.iter().filter(|(role, _)| *role == Role::Forget).flat_map(|(_, set)| &set.probes);
        let sets = self.0.iter().zip(before).zip(after).filter(|(((role, _), _), _)| *role != Role::Forget);
        let asked = sets.map(|(((_, set), before), after)| Asked { probes: &set.probes, before, after });
        neighbours(forgotten, asked)
    }
}

/// What the comparison comes to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The headline.
    pub scores: Scores,
    /// Every form.
    pub forms: Vec<FormScore>,
    /// What became of the facts that are close to those to be forgotten.
    pub neighbours: Vec<Neighbours>,
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
    let neighbours = sets.neighbours(&before, after);
    let mut verdict = Verdict { scores: Scores::of(&forms), forms, neighbours, ..Verdict::default() };
    if args.reading.forms.is_empty() && sets.0.iter().any(|(role, _)| *role == Role::Forget) {
        verdict.warnings.push(
            "Which wordings the removal saw is not known here: every form is counted as held out. --forms asks in phrasings that \
             are held out of training."
                .into(),
        );
    }
    // The baseline is done with: an attacked model may need its room.
    drop(pass);
    let target = Target { args, input, device, sets, before: &before, options };
    for name in &args.attacks.attack {
        let attacked = target.attack(name, phases)?;
        let forms = attacked.sets.scores(&attacked.before, &attacked.after);
        verdict.attacks.push(AttackResult { name: attacked.name, scores: Scores::of(&forms), forms });
        verdict.warnings.extend(attacked.warnings);
    }
    Ok(verdict)
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
