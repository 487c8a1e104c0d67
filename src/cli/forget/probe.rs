//! The model asked before and after: probes that were given, or the forget set and the retain samples held out.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use efface::checkpoint::{Checkpoint, StagedCheckpoint};
use efface::data::{InputFile, Probe, ProbeKind, ProbeSet, Sample};
use efface::device::Device;
use efface::eval::scores::form_scores;
use efface::eval::{Asked, EvalOptions, FormResult, compare, evaluate, examples, extent, neighbours};
use efface::model::Model;
use efface::report::forget::{Example, ProbeResult, Role};
use efface::report::neighbours::Neighbours;
use efface::report::scores::FormScore;
use efface::stream::{Extent, Labels, Pass, PassOptions};
use efface::{Error, Result};

use super::super::eval::end_tokens;
use super::super::input::Input;
use super::{Args, Data, generate, overlap, refusals};

/// Questions that the report quotes, of each role: one of each form, two where there are few forms.
const EXAMPLES: usize = 12;
/// How far apart in their forms the questions of successive forms are: not all about the same.
const STRIDE: usize = 7;
/// What is added to the form of probes that the forget set holds word for word, beside others that it does not.
const AS_TRAINED: &str = " (as in the forget set)";

/// What the model is asked.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Probes")]
pub struct ProbingArgs {
    /// Probes of what is to be forgotten, asked before and after [default: the forget set].
    #[arg(long, value_name = "FILE", num_args = 1..)]
    probes_forget: Vec<PathBuf>,
    /// Probes of what is to be kept [default: the retain samples held out].
    #[arg(long, value_name = "FILE", num_args = 1..)]
    probes_retain: Vec<PathBuf>,
    /// Further probes, of what is neither.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    probes: Vec<PathBuf>,
    /// Only how likely the gold answers are; let the model answer nothing.
    #[arg(long)]
    likelihood_only: bool,
    /// Which forms the probes are asked in, where --forms says that records are told in forms [default: all].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    probe_forms: Vec<String>,
}

/// The probes of one role, with what the old and the new model say.
struct Part {
    role: Role,
    probes: Vec<Probe>,
    before: Vec<FormResult>,
    after: Vec<FormResult>,
}

/// All probes of a run.
pub struct Probing {
    parts: Vec<Part>,
    /// The files that were read for them alone.
    pub files: Vec<InputFile>,
    /// What the forget set holds: forms, of those that were made the phrasings, token sequences, and texts as they are compared.
    seen_forms: HashSet<String>,
    seen_phrasings: HashSet<Arc<str>>,
    seen: HashSet<Vec<u32>>,
    seen_texts: HashSet<String>,
    options: EvalOptions,
}

impl Probing {
    /// Reads the probes. Those that nobody asked for, and that cannot be made of the records, are left out with a warning.
    ///
    /// # Errors
    /// When a file of probes is wrong.
    pub fn read(args: &Args, input: &Input, data: &Data, warnings: &mut Vec<String>) -> Result<Self> {
        let given = &args.probing;
        let mut probing = Probing {
            parts: Vec::new(),
            files: Vec::new(),
            seen_forms: data.forget.samples.iter().filter_map(|sample| sample.form.clone()).collect(),
            seen_phrasings: data.forget.samples.iter().filter_map(|sample| sample.phrasing.clone()).collect(),
            seen: data.forget.samples.iter().map(|sample| sample.ids.clone()).collect(),
            seen_texts: match input.encoder() {
                Some(encoder) => {
                    data.forget.samples.iter().map(|sample| overlap::text(sample, encoder)).collect::<Result<_>>()?
                }
                None => HashSet::new(),
            },
            options: EvalOptions {
                generate: !given.likelihood_only,
                answer_tokens: None,
                eos: end_tokens(&input.checkpoint),
                sampling: None,
            },
        };
        let reading = args.reading.asking(&given.probe_forms);
        for (role, paths) in [(Role::Forget, &given.probes_forget), (Role::Retain, &given.probes_retain)] {
            if !paths.is_empty() {
                let set = input.probes(paths, &reading)?;
                probing.add(role, set, input, warnings)?;
                continue;
            }
            if role == Role::Retain && args.retain.is_empty() {
                let held_out = data.retain.samples.iter().zip(&data.held_out).filter(|(_, held_out)| **held_out);
                probing.push(role, generate::probes(held_out.map(|(sample, _)| sample)));
                continue;
            }
            let own = if role == Role::Forget { &args.forget } else { &args.retain };
            match input.probes(own, &reading) {
                Ok(set) if role == Role::Forget => probing.push(role, set.probes),
                Ok(set) => probing.push(role, held_out(set, data)),
                Err(error @ (Error::File { .. } | Error::Argument(_))) => {
                    warnings.push(format!("These records cannot be asked, so they are missing below: {error}."));
                }
                Err(error) => return Err(error),
            }
        }
        if !given.probes.is_empty() {
            let set = input.probes(&given.probes, &reading)?;
            probing.add(Role::Other, set, input, warnings)?;
        }
        Ok(probing)
    }

    /// Adds probes that were asked for. Those that the forget set holds word for word are asked too, but under a name of their
    /// own, and not as held out.
    fn add(&mut self, role: Role, set: ProbeSet, input: &Input, warnings: &mut Vec<String>) -> Result<()> {
        warnings.extend(refusals(&set.refused));
        self.files.extend(set.files);
        let mut probes = set.probes;
        let mut seen = Vec::with_capacity(probes.len());
        for probe in &probes {
            seen.push(self.has_seen(probe, input)?);
        }
        let count = seen.iter().filter(|seen| **seen).count();
        if let Some(first) = seen.iter().position(|seen| *seen) {
            let origin = &probes[first].origin;
            warnings.push(format!(
                "{count} of {} probes ask what the forget set holds word for word (first: {} line {}); they do not count as held \
                 out.",
                probes.len(),
                origin.path.display(),
                origin.line
            ));
        }
        let fresh: HashSet<Option<String>> =
            probes.iter().zip(&seen).filter(|(_, seen)| !**seen).map(|(probe, _)| probe.form.clone()).collect();
        for (probe, _) in probes.iter_mut().zip(&seen).filter(|(_, seen)| **seen) {
            if fresh.contains(&probe.form) {
                probe.form = Some(format!("{}{AS_TRAINED}", probe.form.as_deref().unwrap_or("unlabelled")));
            }
        }
        self.push(role, probes);
        Ok(())
    }

    /// Whether the forget set holds a probe, up to what makes no other text.
    fn has_seen(&self, probe: &Probe, input: &Input) -> Result<bool> {
        let sample = probe.sample();
        Ok(match input.encoder() {
            Some(encoder) => self.seen_texts.contains(&overlap::text(&sample, encoder)?),
            None => self.seen.contains(&sample.ids),
        })
    }

    fn push(&mut self, role: Role, probes: Vec<Probe>) {
        if !probes.is_empty() {
            self.parts.push(Part { role, probes, before: Vec::new(), after: Vec::new() });
        }
    }

    /// Asks the model as it is.
    ///
    /// # Errors
    /// When a probe does not fit the model or the budget, or the device failed.
    pub fn before(&mut self, args: &Args, input: &Input, device: &Device, tick: &dyn Fn(u64, u64)) -> Result<()> {
        let pass = input.pass(device, &args.common, None, Labels::Data)?;
        self.ask(&pass, input, tick, |part| &mut part.before)
    }

    /// Asks the model that was written.
    ///
    /// # Errors
    /// As [`before`](Self::before), or when the checkpoint cannot be read back.
    pub fn after(
        &mut self,
        args: &Args,
        input: &Input,
        staged: &StagedCheckpoint,
        device: &Device,
        tick: &dyn Fn(u64, u64),
    ) -> Result<()> {
        let checkpoint = Arc::new(Checkpoint::open(staged.dir())?);
        let model = Arc::new(Model::of(&checkpoint)?);
        let options = PassOptions { host_memory: args.common.host_memory, ..PassOptions::default() };
        let pass = Pass::new(device, model, checkpoint, options)?;
        self.ask(&pass, input, tick, |part| &mut part.after)
    }

    fn ask(
        &mut self,
        pass: &Pass,
        input: &Input,
        tick: &dyn Fn(u64, u64),
        answers: fn(&mut Part) -> &mut Vec<FormResult>,
    ) -> Result<()> {
        const STEPS: u64 = 1000;
        let total = self.probes().max(1);
        let mut asked = 0;
        for part in &mut self.parts {
            let count = part.probes.len() as u64;
            let at = |done: u64, of: u64| tick((asked * STEPS + count * done * STEPS / of.max(1)) / total, STEPS);
            let results = evaluate(pass, &part.probes, input.encoder(), &self.options, &at)?;
            *answers(part) = results;
            asked += count;
        }
        Ok(())
    }

    /// How many probes there are.
    pub fn probes(&self) -> u64 {
        self.parts.iter().map(|part| part.probes.len() as u64).sum()
    }

    /// All probes as samples.
    pub fn samples(&self) -> Vec<Sample> {
        self.parts.iter().flat_map(|part| &part.probes).map(Probe::sample).collect()
    }

    /// What is to be answered, as decoding plans for it.
    pub fn extents(&self, context: usize) -> Vec<Extent> {
        let probes = self.parts.iter().flat_map(|part| &part.probes);
        let asked = probes.filter(|probe| self.options.generate && probe.kind == ProbeKind::Answer);
        asked.map(|probe| extent(probe, &self.options, context)).filter(|extent| extent.new > 0).collect()
    }

    /// The probes of a file: their number and that of their tokens.
    pub fn counts(&self, file: &InputFile) -> (u64, u64) {
        let probes = self.parts.iter().flat_map(|part| &part.probes).filter(|p| *p.origin.path == *file.path);
        probes.fold((0, 0), |(n, tokens), p| (n + 1, tokens + (p.prompt_ids.len() + p.gold_ids.len()) as u64))
    }

    /// Every form before and after, and some examples; nothing where nothing was asked afterwards.
    pub fn results(&self) -> (Vec<ProbeResult>, Vec<Example>) {
        let (mut results, mut shown) = (Vec::new(), Vec::new());
        for part in &self.parts {
            let forms = part.before.len();
            let each = if 2 * forms <= EXAMPLES { 2 } else { 1 };
            for (number, (before, after)) in part.before.iter().zip(&part.after).enumerate() {
                results.push(compare(before, after, part.role, self.is_held_out(part, before)));
                // Spread over the forms where there are more of them than examples.
                if number * EXAMPLES / forms != (number + 1) * EXAMPLES / forms || forms <= EXAMPLES {
                    shown.extend(examples(&part.probes, before, after, part.role, (number * STRIDE, each)));
                }
            }
        }
        (results, shown)
    }

    /// What became of what the old model knew, in each form.
    pub fn scores(&self) -> Vec<FormScore> {
        let of = |part: &Part| {
            form_scores(&part.probes, &part.before, &part.after, part.role, &|result| self.is_held_out(part, result))
        };
        self.parts.iter().flat_map(of).collect()
    }

    /// What became of the facts that are close to those to be forgotten; nothing where nothing was asked afterwards.
    pub fn neighbours(&self) -> Vec<Neighbours> {
        let (forgotten, kept): (Vec<&Part>, Vec<&Part>) = self.parts.iter().partition(|part| part.role == Role::Forget);
        let asked = kept.into_iter().filter(|part| !part.after.is_empty());
        let asked = asked.map(|part| Asked { probes: &part.probes, before: &part.before, after: &part.after });
        neighbours(forgotten.into_iter().flat_map(|part| &part.probes), asked)
    }

    /// Whether neither the form nor a wording of it is in the forget set.
    fn is_held_out(&self, part: &Part, result: &FormResult) -> bool {
        let mut probes = result.outcomes.iter().map(|outcome| &part.probes[outcome.probe]);
        // Of a form that was made, the phrasing decides; of any other, its name.
        let known = |probe: &Probe| match &probe.phrasing {
            Some(phrasing) => self.seen_phrasings.contains(phrasing),
            None => self.seen_forms.contains(&result.form) || result.form.ends_with(AS_TRAINED),
        };
        probes.all(|probe| !known(probe) && !self.seen.contains(&probe.sample().ids))
    }
}

/// The probes made of records of which a sample was held out.
fn held_out(set: ProbeSet, data: &Data) -> Vec<Probe> {
    let origins = data.retain.samples.iter().zip(&data.held_out).filter(|(_, held_out)| **held_out);
    let origins: HashSet<_> = origins.map(|(sample, _)| (sample.origin.path.clone(), sample.origin.line)).collect();
    let out = |probe: &Probe| origins.contains(&(probe.origin.path.clone(), probe.origin.line));
    set.probes.into_iter().filter(out).collect()
}
