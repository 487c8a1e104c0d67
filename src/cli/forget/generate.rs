//! A retain set where none is given: texts that the model writes of its own accord, before it is edited.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use efface::data::forms::{Checked, Templates};
use efface::data::{Dataset, NOT_A_TARGET, Origin, Probe, ProbeKind, Sample, read_records};
use efface::device::Device;
use efface::eval::{Prompt, drawn};
use efface::model::batch::Tokens;
use efface::report::format::counted;
use efface::stream::{Draws, Labels};
use efface::unlearn::own_texts::{Forgotten, starts};
use efface::unlearn::redirect::covariance::digest;
use efface::{Error, Result};

use super::super::eval::end_tokens;
use super::super::input::Input;
use super::Args;

/// Texts that are enough to measure and to judge by.
const FEWEST: usize = 10;
/// Tokens that a text must have beside its first ones.
const SHORTEST: usize = 4;
/// What such a text is called among the forms.
const FORM: &str = "own text";

/// What the model writes in place of a retain set.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Without a retain set")]
pub struct GenerateArgs {
    /// How many texts the model writes, where there is no --retain; those that speak of what is to be forgotten are thrown away
    /// [default: 128].
    #[arg(long, value_name = "N", conflicts_with = "retain", value_parser = clap::value_parser!(u32).range(10..))]
    generate: Option<u32>,
    /// The most tokens that such a text has [default: 48].
    #[arg(long, value_name = "N", conflicts_with = "retain", value_parser = clap::value_parser!(u32).range(8..))]
    generate_tokens: Option<u32>,
}

impl GenerateArgs {
    fn texts(&self) -> usize {
        self.generate.map_or(128, |n| n as usize)
    }

    fn tokens(&self) -> usize {
        self.generate_tokens.map_or(48, |n| n as usize)
    }

    /// The settings by name, for the report.
    pub fn settings(&self) -> [(&'static str, serde_json::Value); 2] {
        [("generate", self.texts().into()), ("generate_tokens", self.tokens().into())]
    }
}

/// Lets the model write, with tokens drawn by the seed, and keeps what does not speak of what is to be forgotten.
///
/// # Errors
/// When there is no tokenizer, the budget is too small, the device failed, or next to nothing is left.
pub fn retain(
    args: &Args,
    input: &Input,
    device: &Device,
    warnings: &mut Vec<String>,
    tick: &dyn Fn(u64, u64),
) -> Result<Dataset> {
    let encoder = input.encoder().ok_or_else(|| {
        Error::file(
            &args.model,
            "",
            "has no tokenizer, so that the model cannot write a retain set: give --retain FILE",
        )
    })?;
    let records = args.forget.iter().map(read_records).collect::<Result<Vec<_>>>()?;
    let records: Vec<_> = records.into_iter().flatten().collect();
    let forgotten = Forgotten::of(&records, encoder)?;
    let (texts, tokens) = (args.generation.texts(), args.generation.tokens());
    let mut ends = end_tokens(&input.checkpoint);
    ends.extend(encoder.eos_ids().iter().copied().chain(encoder.end_token()));
    let vocabulary = input.model.config.vocabulary;
    let starts = starts(encoder, (texts, vocabulary), &ends, args.common.seed)?;
    let prompt = |ids| Prompt { ids, max_new: tokens.saturating_sub(<[u32]>::len(ids)) };
    let prompts: Vec<Prompt<'_>> = starts.iter().map(|ids| prompt(ids)).collect();
    let pass = input.pass(device, &args.common, None, Labels::Data)?;
    let draws = Draws { seed: args.common.seed, temperature: 1.0 };
    let written = drawn(&pass, &prompts, &ends, draws, tick)?;

    let path: Arc<Path> = Arc::from(Path::new("the model's own texts"));
    let (mut samples, mut seen) = (Vec::new(), HashSet::new());
    let (mut short, mut speaking) = (0, 0);
    for (i, text) in written.into_iter().enumerate() {
        let ids = [&starts[i][..], &text.ids].concat();
        if text.ids.len() < SHORTEST || !seen.insert(ids.clone()) {
            short += 1;
        } else if forgotten.is_in(&encoder.decode(&ids, true)?) {
            speaking += 1;
        } else {
            // The first token is given: nothing predicts it.
            let labels = ids.iter().enumerate().map(|(t, id)| if t == 0 { NOT_A_TARGET } else { *id as i32 });
            let origin = Origin { path: path.clone(), line: i + 1 };
            samples.push(Sample { labels: labels.collect(), ids, origin, form: Some(FORM.into()), phrasing: None });
        }
    }
    let thrown_away = format!(
        "{} that the model wrote ({speaking} spoke of what is to be forgotten, {short} were too short or the same as another; they \
         were thrown away)",
        counted(texts as u64, "text")
    );
    if samples.len() < FEWEST {
        let problem = format!("only {} of {thrown_away} can be kept: give --retain FILE", samples.len());
        return Err(Error::Failed(problem));
    }
    warnings.push(format!(
        "No retain set was given: {} of {thrown_away} take its place. They protect what the model says of its own accord, and \
         nothing that is like what is to be forgotten: a retain set protects better.",
        samples.len()
    ));
    let all: Vec<Arc<Tokens>> = samples.iter().map(|s| Arc::new(Tokens::new(&s.ids, &s.labels, 0))).collect();
    let kinds = BTreeMap::from([(FORM, samples.len())]);
    let facts = Checked::new(Templates::builtin());
    Ok(Dataset { sha256: digest(&all), samples, files: Vec::new(), kinds, facts, refused: Vec::new() })
}

/// Asks for the texts that are held out: how likely each is after its first token.
pub fn probes<'s>(samples: impl Iterator<Item = &'s Sample>) -> Vec<Probe> {
    let probe = |sample: &Sample| Probe {
        kind: ProbeKind::Text,
        prompt_ids: sample.ids[..1].to_vec(),
        gold_ids: sample.ids[1..].to_vec(),
        gold_text: None,
        question: None,
        alternatives: Vec::new(),
        wrong: Vec::new(),
        reworded: None,
        aliases: Vec::new(),
        form: sample.form.clone(),
        phrasing: None,
        fact: None,
        origin: sample.origin.clone(),
    };
    samples.map(probe).collect()
}
