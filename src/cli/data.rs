//! `efface data`

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use efface::data::forms::{Refusal, Side};
use efface::data::{ReadOptions, Shown, Survey, survey};
use efface::report::escape;
use efface::report::format::counted;
use efface::report::table::Table;
use efface::{Error, Result};
use serde_json::{Value, json};

use super::common::Common;
use super::input::{Input, Reading, refusals};
use super::output;

/// Show what is understood of files: kinds, samples as the model will see them with targets marked, and what is refused and why.
///
/// Targets stand in ⟦ ⟧, on a terminal in colour. Exit status 2 if a line is wrong, after everything has been shown.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  efface data facts.jsonl\n  efface data facts.jsonl --forms all --side held-out\n  \
    efface data facts.jsonl --model models/m --forms statement,cloze --templates mine.json --json"
)]
pub struct Args {
    /// Records in JSON Lines, one or more files.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The checkpoint whose tokenizer and chat template are used [default: texts only].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Which phrasings: those for training, or those held out.
    #[arg(long, value_name = "SIDE", default_value = "train", value_parser = ["train", "held-out"])]
    side: String,
    /// The most samples that are shown; 0 shows all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    show: usize,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, an option is wrong, or a line is refused.
pub fn run(args: &Args) -> Result<()> {
    let input = args.model.as_ref().map(|path| Input::open(path)).transpose()?;
    let limits = input
        .as_ref()
        .map_or((usize::MAX, usize::MAX), |input| (input.model.config.vocabulary, input.model.config.context));
    let options = args.reading.options(limits.0, limits.1)?;
    let side = Side::of(&args.side).unwrap_or(Side::Train);
    let forms = options.forms.as_ref().map(|forms| efface::data::forms::Forms { side, ..forms.clone() });
    let options = ReadOptions { forms, ..options };
    let encoder = input.as_ref().map(Input::required_encoder).transpose()?;
    let survey = survey(&args.files, encoder, &options)?;
    match args.common.json {
        true => output::print_json(&as_json(&survey))?,
        false => output::print(&as_text(args, &survey))?,
    }
    match &survey.wrong[..] {
        [] => Ok(()),
        [first, ..] => Err(Error::file(
            &*first.origin.path,
            format!("line {}", first.origin.line),
            format!("{} ({} refused in all)", first.reason, counted(survey.wrong.len() as u64, "line")),
        )),
    }
}

/// How many samples there are of each kind and form.
fn counts(survey: &Survey) -> BTreeMap<(&'static str, &str), usize> {
    let mut counts = BTreeMap::new();
    for sample in &survey.samples {
        *counts.entry((sample.kind, sample.form.as_deref().unwrap_or(""))).or_default() += 1;
    }
    counts
}

fn as_json(survey: &Survey) -> Value {
    let refusal = |refusal: &Refusal| {
        json!({ "file": &*refusal.origin.path, "line": refusal.origin.line, "form": refusal.form.as_deref(),
            "reason": refusal.reason })
    };
    let sample = |sample: &Shown| {
        let parts: Vec<Value> =
            sample.parts.iter().map(|part| json!({ "text": part.text, "target": part.target })).collect();
        json!({ "file": &*sample.origin.path, "line": sample.origin.line, "kind": sample.kind, "form": sample.form,
            "phrasing": sample.phrasing.as_deref(), "parts": parts, "tokens": sample.tokens.map(|(all, _)| all),
            "targets": sample.tokens.map(|(_, targets)| targets) })
    };
    let files = survey.files.iter().map(|file| {
        let records: usize = file.kinds.values().sum();
        json!({ "path": file.path, "records": records, "kinds": file.kinds })
    });
    let counts = counts(survey).into_iter();
    json!({
        "command": "data",
        "files": files.collect::<Vec<_>>(),
        "counts": counts.map(|((kind, form), n)| json!({ "kind": kind, "form": form, "samples": n })).collect::<Vec<_>>(),
        "samples": survey.samples.iter().map(sample).collect::<Vec<_>>(),
        "wrong": survey.wrong.iter().map(refusal).collect::<Vec<_>>(),
        "refused": survey.refused.iter().map(refusal).collect::<Vec<_>>(),
    })
}

fn as_text(args: &Args, survey: &Survey) -> String {
    let mut out = String::new();
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let shown = if args.show == 0 { survey.samples.len() } else { args.show.min(survey.samples.len()) };
    // Spread over all of them, so that every form has a chance to be seen.
    for i in 0..shown {
        out.push_str(&one(&survey.samples[i * survey.samples.len() / shown], colour));
    }
    if shown < survey.samples.len() {
        out.push_str(&format!("… {shown} of {} samples; --show 0 shows all\n", survey.samples.len()));
    }
    if !survey.samples.is_empty() {
        out.push('\n');
    }
    for file in &survey.files {
        let kinds: Vec<String> = file.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        let records: usize = file.kinds.values().sum();
        let path = escape::terminal(&file.path.display().to_string());
        out.push_str(&format!("{path}: {} ({})\n", counted(records as u64, "record"), kinds.join(", ")));
    }
    let mut table = Table::new(&["kind", "form", ">samples"]);
    for ((kind, form), n) in counts(survey) {
        table.row([kind.to_string(), form.to_string(), n.to_string()]);
    }
    out.push_str(&table.to_text(output::columns()));
    for refusal in &survey.wrong {
        let (path, line) = (refusal.origin.path.display(), refusal.origin.line);
        out.push_str(&escape::terminal(&format!("refused: {path}: line {line}: {}", refusal.reason)));
        out.push('\n');
    }
    let sentences = match args.common.verbose {
        true => survey.refused.iter().flat_map(|refusal| refusals(std::slice::from_ref(refusal))).collect(),
        false => refusals(&survey.refused),
    };
    for sentence in sentences {
        out.push_str(&escape::terminal(&sentence));
        out.push('\n');
    }
    out
}

/// A sample: where it comes from, then its text.
fn one(sample: &Shown, colour: bool) -> String {
    let (begin, end) = if colour { ("\x1b[1;32m", "\x1b[0m") } else { ("⟦", "⟧") };
    let (path, line) = (sample.origin.path.display(), sample.origin.line);
    let mut head = format!("{path}:{line} {}", sample.form.as_deref().unwrap_or(sample.kind));
    if let Some((tokens, targets)) = sample.tokens {
        head.push_str(&format!(", {}, {targets} of them targets", counted(tokens as u64, "token")));
    }
    let mut text = String::new();
    for part in &sample.parts {
        let safe: Vec<String> = part.text.split('\n').map(escape::terminal).collect();
        let safe = safe.join("\n    ");
        text.push_str(&if part.target { format!("{begin}{safe}{end}") } else { safe });
    }
    format!("{}\n    {text}\n", escape::terminal(&head))
}
