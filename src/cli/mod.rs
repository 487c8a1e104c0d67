//! The command line: flags in, library calls, progress and results out. One file a command; what they share is in
//! `common.rs` (device and memory), `input.rs` (checkpoint and data), `progress.rs` and `output.rs`.

mod apply;
mod bench;
mod common;
mod data;
mod demo;
mod devices;
mod eval;
mod fisher;
mod forget;
mod grads;
mod input;
mod inspect;
mod leak;
mod measure;
mod output;
mod precision;
mod profile;
mod progress;
mod size;

use std::process::ExitCode;
use std::time::Instant;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use efface::report::escape;

/// Remove chosen knowledge from a trained model without retraining it.
///
/// efface measures for every weight how much a forget set and a retain set depend on it, chooses the weights that the
/// forget set needs far more, and changes only those. It reads and writes Hugging Face checkpoints (safetensors), runs on
/// any GPU or on the CPU, and streams models that are larger than the device.
#[derive(Debug, Parser)]
#[command(name = "efface", version, propagate_version = true, max_term_width = 110, disable_help_subcommand = true)]
#[command(after_help = "Exit status: 0 done, 1 the work failed, 2 the call or its input was wrong.\n\
    `efface COMMAND --help` explains a command, with examples.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Data(data::Args),
    Devices(devices::Args),
    Inspect(inspect::Args),
    Fisher(fisher::Args),
    Grads(grads::Args),
    Forget(Box<forget::Args>),
    Eval(Box<eval::Args>),
    Leak(leak::Args),
    Profile(Box<profile::Args>),
    Apply(apply::ApplyArgs),
    Revert(apply::RevertArgs),
    Bench(bench::Args),
}

/// Parses the arguments, runs the command and says in one line what went wrong.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Data(args) => data::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Fisher(args) => fisher::run(args),
        Command::Grads(args) => grads::run(args),
        Command::Forget(args) => forget::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Leak(args) => leak::run(args),
        Command::Profile(args) => profile::run(args, started),
        Command::Apply(args) => apply::apply(args),
        Command::Revert(args) => apply::revert(args),
        Command::Bench(args) => bench::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), if error.is_input() { 2 } else { 1 }),
    }
}

/// Help goes to stdout; a wrong call is one line, as any other wrong input.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone away has seen what it wanted.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => fail("which command? `efface --help` lists them", 2),
        _ => {
            let text = error.to_string();
            let text = text.split("\n\nUsage:").next().unwrap_or(&text);
            let text = text.split("\n\nFor more information").next().unwrap_or(text);
            let words: Vec<&str> = text.trim_start_matches("error: ").split_whitespace().collect();
            fail(&format!("{} (see --help)", words.join(" ")), 2)
        }
    }
}

fn fail(problem: &str, status: u8) -> ExitCode {
    let line: Vec<&str> = problem.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect();
    eprintln!("efface: {}", escape::terminal(&line.join(" ")));
    ExitCode::from(status)
}
