//! `efface demo`: the main job on a small model and data that come with the program, and what leaks from form to form
//! (`leak.rs`); `text.rs` says what came of it.

mod leak;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

use efface::report::forget::render_json;
use efface::report::write_report;
use efface::{Error, Result};

use super::common::Common;
use super::{forget, output};

/// What comes with the program: names below the demo's directory, and contents.
const FILES: [(&str, &[u8]); 9] = [
    ("model/config.json", include_bytes!("../../../demo/model/config.json")),
    ("model/model.safetensors", include_bytes!("../../../demo/model/model.safetensors")),
    ("model/tokenizer.json", include_bytes!("../../../demo/model/tokenizer.json")),
    ("model/tokenizer_config.json", include_bytes!("../../../demo/model/tokenizer_config.json")),
    ("data/forget.jsonl", include_bytes!("../../../demo/data/forget.jsonl")),
    ("data/retain.jsonl", include_bytes!("../../../demo/data/retain.jsonl")),
    ("data/probes/forget.jsonl", include_bytes!("../../../demo/data/probes/forget.jsonl")),
    ("data/probes/neighbours.jsonl", include_bytes!("../../../demo/data/probes/neighbours.jsonl")),
    ("data/probes/retain.jsonl", include_bytes!("../../../demo/data/probes/retain.jsonl")),
];

/// Make a small model forget some of the invented people it knows, and look at what is left.
///
/// The model knows a hundred people, and tells of them in twenty wordings. It is shown eight of them in five wordings, forgets
/// them, and is asked about everybody in all twenty. Then it forgets them in one form alone, five times, and each time is asked
/// in the other words of all five. Model and data come with the program; nothing is computed beforehand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  efface demo --out /tmp/efface-demo")]
pub struct Args {
    /// Where model, data, result and report go; must not exist [default: efface-demo, or the next free efface-demo-N].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// `forget`, to parse its arguments as the command line does.
#[derive(Parser)]
struct Forget {
    #[command(flatten)]
    args: forget::Args,
}

/// Runs the command.
///
/// # Errors
/// When the output exists or cannot be written, or what `forget` fails of.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    let directory = match &args.out {
        Some(directory) => directory.clone(),
        None => free_name(),
    };
    unpack(&directory)?;
    let command = command(&directory, common);
    if !common.json {
        output::print(&format!(
            "A model of 900,000 weights that knows 100 invented people is to forget 8 of them.\n\n  {}\n\n",
            for_a_shell(&command)
        ))?;
    }
    let mut report = forget::remove(&parse::<Forget>(&command)?.args, command)?;
    report.leak = leak::matrix(&directory, common)?;
    write_report(&directory.join("report"), &report)?;
    match common.json {
        true => output::print(&format!("{}\n", render_json(&report))),
        false => output::print(&text::summary(&report, &directory, output::columns())),
    }
}

/// The arguments of a command that the demo calls, read as the command line reads them.
fn parse<C: Parser>(command: &[String]) -> Result<C> {
    let wrong = |error: clap::Error| Error::Failed(format!("the demo's own call is wrong: {error}"));
    C::try_parse_from(command.iter().skip(1)).map_err(wrong)
}

/// `efface-demo`, or the first of `efface-demo-2`, ... that does not exist.
fn free_name() -> PathBuf {
    let names = std::iter::once("efface-demo".to_string()).chain((2u32..).map(|n| format!("efface-demo-{n}")));
    names.map(PathBuf::from).find(|path| !path.exists()).unwrap_or_default()
}

fn unpack(directory: &Path) -> Result<()> {
    fs::create_dir(directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::argument(format!("{} exists already: choose another name or remove it", directory.display()))
        }
        _ => Error::writing(directory, error),
    })?;
    for (name, content) in FILES {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(|error| Error::writing(parent, error))?;
        fs::write(&path, content).map_err(|error| Error::writing(&path, error))?;
    }
    Ok(())
}

/// The call of `forget` that the demo makes.
fn command(directory: &Path, common: &Common) -> Vec<String> {
    let at = |name: &str| directory.join(name).display().to_string();
    let mut command: Vec<String> = vec!["efface".into(), "forget".into()];
    let mut add = |flag: &str, values: &[String]| {
        command.push(flag.to_string());
        command.extend_from_slice(values);
    };
    add("--model", &[at("model")]);
    add("--forget", &[at("data/forget.jsonl")]);
    add("--retain", &[at("data/retain.jsonl")]);
    add("--eos", &[]);
    // The model is so sure of what it knows that every answer it loses costs it many nats.
    add("--max-utility-loss", &["20%".into()]);
    add("--probes-forget", &[at("data/probes/forget.jsonl")]);
    add("--probes-retain", &[at("data/probes/neighbours.jsonl"), at("data/probes/retain.jsonl")]);
    add("--out", &[at("edited")]);
    add("--report", &[at("report")]);
    add("--patch", &[at("removal.patch")]);
    common.repeat(&mut add);
    command
}

/// A command that a shell understands, one flag a line.
fn for_a_shell(command: &[String]) -> String {
    let mut text = String::new();
    for word in command {
        if word.starts_with("--") {
            text.push_str(" \\\n      ");
        } else if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&quoted(word));
    }
    text.replace("  \\\n", " \\\n")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("efface-demo/model"), "efface-demo/model");
        assert_eq!(quoted("my demo's"), r"'my demo'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
