//! Attacks on a model: what brings back knowledge that an edit has only hidden.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use efface::data::{Probe, ProbeKind, Special};
use efface::device::Device;
use efface::eval::attack::{Bits, Hints, QuantisedWeights};
use efface::eval::{EvalOptions, FormResult, Sampling};
use efface::model::batch::Tokens;
use efface::model::weights::WeightSource;
use efface::random::Random;
use efface::report::forget::Role;
use efface::report::format::counted;
use efface::stream::{CheckpointWeights, Pass, PassOptions};
use efface::unlearn::train::{TrainOptions, Trainable, train};
use efface::{Error, Result};
use serde_json::{Map, Value, json};

use super::super::input::{Input, Reading, tokens};
use super::super::progress::Progress;
use super::against::Sets;

/// How a model is attacked.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Attacks")]
pub struct AttackArgs {
    /// Attacks on the model, separated by commas: 8-bit, 4-bit (rounded weights), relearn (trained on a tenth of the facts to be
    /// forgotten, asked about the others), relearn-neutral (trained on --neutral), sampling (a fact is recovered if one of
    /// several drawn answers is right), hints (retained facts of the same relation in front of the question).
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = ATTACKS, requires = "baseline")]
    pub attack: Vec<String>,
    /// Records that relearn-neutral trains on: nothing that was to be forgotten.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    neutral: Vec<PathBuf>,
    /// Steps of relearning, each over at most 16 samples.
    #[arg(long, value_name = "N", default_value_t = 20)]
    relearn_steps: usize,
    /// Learning rate of relearning (AdamW).
    #[arg(long, value_name = "RATE", default_value_t = 1e-4)]
    relearn_rate: f32,
    /// Answers that sampling draws to each question, with --seed.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    samples: u32,
    /// The temperature that sampling draws at: 1 is the model's own distribution.
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = temperature)]
    temperature: f32,
    /// Facts that hints puts in front of a question, drawn with --seed.
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    hints: u32,
}

const ATTACKS: [&str; 6] = ["8-bit", "4-bit", "relearn", "relearn-neutral", "sampling", "hints"];
/// Relearning sees one in so many facts.
const RELEARNED: usize = 10;

fn temperature(text: &str) -> std::result::Result<f32, String> {
    let number = text.parse().ok().filter(|number: &f32| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "a number above 0 is needed".into())
}

impl AttackArgs {
    /// Every setting, as reports name them.
    pub fn settings(&self) -> Map<String, Value> {
        let settings = json!({
            "attack": self.attack, "neutral": self.neutral, "relearn_steps": self.relearn_steps,
            "relearn_rate": self.relearn_rate, "samples": self.samples, "temperature": self.temperature,
            "hints": self.hints,
        });
        settings.as_object().cloned().unwrap_or_default()
    }
}

/// What an attacked model says.
pub struct Attacked {
    /// What was done.
    pub name: String,
    /// What was asked.
    pub sets: Sets,
    /// What the baseline had said to the same.
    pub before: Vec<Vec<FormResult>>,
    /// What the attacked model says.
    pub after: Vec<Vec<FormResult>>,
    /// What a reader must know.
    pub warnings: Vec<String>,
}

/// A model under attack: all that attacks work with.
pub struct Target<'a> {
    /// The flags.
    pub args: &'a super::Args,
    /// The model.
    pub input: &'a Input,
    /// Where it computes.
    pub device: &'a Device,
    /// What it is asked.
    pub sets: &'a Sets,
    /// What the baseline said.
    pub before: &'a [Vec<FormResult>],
    /// How it is asked.
    pub options: &'a EvalOptions,
}

impl Target<'_> {
    /// Attacks the model, after [`check`].
    ///
    /// # Errors
    /// When the attack lacks what it needs, or the work failed.
    pub fn attack(&self, name: &str, phases: &mut Vec<(String, f64)>) -> Result<Attacked> {
        match name {
            "8-bit" => self.rounded(Bits::Eight, phases),
            "4-bit" => self.rounded(Bits::Four, phases),
            "sampling" => self.sampled(phases),
            "hints" => self.hinted(phases),
            "relearn" => self.relearned(phases),
            _ => self.trained_on_neutral(phases),
        }
    }

    fn base(&self) -> Arc<dyn WeightSource> {
        Arc::new(CheckpointWeights::new(self.input.checkpoint.clone()))
    }

    fn pass(&self, source: Arc<dyn WeightSource>) -> Result<Pass> {
        Pass::over(self.device, self.input.model.clone(), source, self.pass_options())
    }

    fn pass_options(&self) -> PassOptions {
        PassOptions { host_memory: self.args.common.host_memory, ..PassOptions::default() }
    }

    fn ask(
        &self,
        sets: &Sets,
        pass: &Pass,
        options: &EvalOptions,
        name: &str,
        phases: &mut Vec<(String, f64)>,
    ) -> Result<Vec<Vec<FormResult>>> {
        sets.ask(&self.args.common, pass, self.input, options, name, phases)
    }

    fn rounded(&self, bits: Bits, phases: &mut Vec<(String, f64)>) -> Result<Attacked> {
        let pass = self.pass(Arc::new(QuantisedWeights::new(self.base(), bits)))?;
        let name = format!("rounded to {} bits", bits.number());
        let after = self.ask(self.sets, &pass, self.options, &name, phases)?;
        let (sets, before) = (self.sets.clone(), self.before.to_vec());
        Ok(Attacked { name, sets, before, after, warnings: Vec::new() })
    }

    /// What was to be forgotten, with what the baseline said: all that sampling asks.
    fn to_be_forgotten(&self) -> (Sets, Vec<Vec<FormResult>>) {
        self.sets.only(self.before, &|role, _| role == Role::Forget)
    }

    fn sampled(&self, phases: &mut Vec<(String, f64)>) -> Result<Attacked> {
        let given = &self.args.attacks;
        let (sets, before) = self.to_be_forgotten();
        let (samples, temperature) = (given.samples as usize, given.temperature);
        let sampling = Some(Sampling { samples, temperature, seed: self.args.common.seed });
        let options = EvalOptions { sampling, ..self.options.clone() };
        let name = format!("sampled {} at temperature {temperature}", times(samples as u64));
        let after = self.ask(&sets, &self.pass(self.base())?, &options, &name, phases)?;
        Ok(Attacked { name, sets, before, after, warnings: Vec::new() })
    }

    fn hinted(&self, phases: &mut Vec<(String, f64)>) -> Result<Attacked> {
        let hinted = hinted(self.args, self.input, self.sets, self.options)?;
        let (mut sets, before) = self.sets.only(self.before, &|_, place| hinted[place].is_some());
        let all = to_forget(self.sets).count();
        let found = hinted.iter().flatten().count();
        sets.replace(hinted.into_iter().flatten());
        let mut warnings = Vec::new();
        if found < all {
            warnings.push(format!(
                "Hints were found for {found} of {} to be forgotten; the others are not in that line: no other retained fact \
                 of their relation is asked in their form, with another answer and room for it.",
                counted(all as u64, "probe")
            ));
        }
        let name = format!("after {} of the same relation", counted(self.args.attacks.hints.into(), "retained fact"));
        let after = self.ask(&sets, &self.pass(self.base())?, self.options, &name, phases)?;
        Ok(Attacked { name, sets, before, after, warnings })
    }

    /// Trains on the samples of a tenth of the facts, drawn by the seed, and asks about the others.
    fn relearned(&self, phases: &mut Vec<(String, f64)>) -> Result<Attacked> {
        let Relearning { count, numbers, drawn, samples } = Relearning::of(self.args, self.sets)?;
        // The probes to be forgotten come first.
        let wanted = |role: Role, place: usize| role != Role::Forget || !drawn[numbers[place]];
        let rest = self.sets.only(self.before, &wanted);
        self.trained(format!("relearned {count} of the facts, asked about the others"), &samples, rest, phases)
    }

    fn trained_on_neutral(&self, phases: &mut Vec<(String, f64)>) -> Result<Attacked> {
        let own = Reading { forms: Vec::new(), hold_out_forms: Vec::new(), ..self.args.reading.clone() };
        let samples = tokens(&self.input.dataset(&self.args.attacks.neutral, &own)?);
        let all = (self.sets.clone(), self.before.to_vec());
        self.trained("trained on neutral samples".into(), &samples, all, phases)
    }

    /// The model trained on samples, asked about `sets`.
    fn trained(
        &self,
        name: String,
        samples: &[Arc<Tokens>],
        (sets, before): (Sets, Vec<Vec<FormResult>>),
        phases: &mut Vec<(String, f64)>,
    ) -> Result<Attacked> {
        let progress = Progress::new(&self.args.common, "relearning");
        let steps = self.args.attacks.relearn_steps;
        let options = TrainOptions {
            steps,
            batch: 16,
            unit: 16,
            seed: self.args.common.seed,
            learning_rate: self.args.attacks.relearn_rate,
            pass: self.pass_options(),
            ..TrainOptions::default()
        };
        let model = &self.input.model;
        let mask = vec![Trainable::All; model.parameters.len()];
        let mut done = 0;
        let trained = train(self.device, model, self.base(), samples, &mask, &options, &mut |_| {
            done += 1;
            progress.tick(done, steps as u64);
            ControlFlow::Continue(())
        })?;
        phases.push((name.clone(), progress.seconds()));
        drop(progress);
        let after = self.ask(&sets, &self.pass(trained.weights)?, self.options, "asking again", phases)?;
        Ok(Attacked { name, sets, before, after, warnings: Vec::new() })
    }
}

/// Finds out before the work whether every attack has what it needs.
///
/// # Errors
/// When one has not.
pub fn check(args: &super::Args, input: &Input, sets: &Sets, options: &EvalOptions) -> Result<()> {
    let asks_again = |attack: &str| {
        let asked = to_forget(sets).any(|probe| probe.kind != ProbeKind::Text);
        let problem = || format!("--attack {attack} needs --probes-forget FILE with questions: it asks them again");
        if asked { Ok(()) } else { Err(Error::argument(problem())) }
    };
    for attack in &args.attacks.attack {
        match attack.as_str() {
            "sampling" if !options.generate => {
                let problem = "--attack sampling and --likelihood-only exclude each other: it draws answers";
                return Err(Error::argument(problem));
            }
            "sampling" => asks_again(attack)?,
            "hints" => {
                asks_again(attack)?;
                hinted(args, input, sets, options)?;
            }
            "relearn" => drop(Relearning::of(args, sets)?),
            "relearn-neutral" if args.attacks.neutral.is_empty() => {
                return Err(Error::argument("--attack relearn-neutral needs --neutral FILE"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn to_forget(sets: &Sets) -> impl Iterator<Item = &Probe> {
    sets.iter().filter(|(role, _)| *role == Role::Forget).flat_map(|(_, set)| &set.probes)
}

/// For every probe of every set the same one behind hints, where it is to be forgotten and finds some.
///
/// # Errors
/// When none does, or the checkpoint has no tokenizer.
fn hinted(args: &super::Args, input: &Input, sets: &Sets, options: &EvalOptions) -> Result<Vec<Option<Probe>>> {
    let encoder = input.required_encoder()?;
    let hints = Hints {
        count: args.attacks.hints as usize,
        seed: args.common.seed,
        context: input.model.config.context,
        leading: encoder.encode("", Special::Leading)?.ids,
        separator: encoder.encode("\n", Special::None)?.ids,
        eos: options.eos.iter().chain(encoder.eos_ids()).copied().collect(),
    };
    let retained = sets.iter().filter(|(role, _)| *role != Role::Forget);
    let others: Vec<&Probe> = retained.flat_map(|(_, set)| &set.probes).collect();
    let of_set = |(role, set): (Role, &efface::data::ProbeSet)| match role {
        Role::Forget => hints.before(&set.probes, &others),
        _ => vec![None; set.probes.len()],
    };
    let hinted: Vec<Option<Probe>> = sets.iter().flat_map(of_set).collect();
    if hinted.iter().all(Option::is_none) {
        return Err(Error::argument(
            "--attack hints finds no hint: it needs facts (subject, relation, object) in --probes-forget, and in \
             --probes-retain other facts of the same relations in the same forms",
        ));
    }
    Ok(hinted)
}

/// What relearning trains on.
struct Relearning {
    /// Facts that were drawn.
    count: usize,
    /// For each probe to be forgotten the number of its fact.
    numbers: Vec<usize>,
    /// For each fact whether it was drawn.
    drawn: Vec<bool>,
    /// The samples of these.
    samples: Vec<Arc<Tokens>>,
}

impl Relearning {
    fn of(args: &super::Args, sets: &Sets) -> Result<Self> {
        let forget = sets.iter().find(|(role, _)| *role == Role::Forget).map(|(_, set)| &set.probes);
        let Some(probes) = forget else {
            return Err(Error::argument("--attack relearn needs --probes-forget FILE: it trains on some of them"));
        };
        let numbers = fact_numbers(probes);
        let facts = numbers.iter().max().map_or(0, |last| last + 1);
        if facts < 2 {
            let problem = "--attack relearn needs at least two facts: it trains on some and asks about the others";
            return Err(Error::argument(problem));
        }
        let count = (facts / RELEARNED).max(1);
        let mut drawn = vec![false; facts];
        let order = Random::new(args.common.seed, "relearning").order(facts);
        order[..count].iter().for_each(|fact| drawn[*fact] = true);
        let chosen =
            probes.iter().zip(&numbers).filter(|(probe, fact)| drawn[**fact] && probe.kind == ProbeKind::Answer);
        let sample = |(number, (probe, _)): (usize, (&Probe, &usize))| {
            let sample = probe.sample();
            Arc::new(Tokens::new(&sample.ids, &sample.labels, number as u32))
        };
        let samples: Vec<_> = chosen.enumerate().map(sample).collect();
        if samples.is_empty() {
            return Err(Error::argument("--attack relearn: the facts that were drawn have no question"));
        }
        Ok(Relearning { count, numbers, drawn, samples })
    }
}

/// `once`, `8 times`.
fn times(count: u64) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
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
