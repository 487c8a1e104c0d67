//! What leaks from form to form: the demo's people forgotten in one form alone, asked in other words of all of them. Everything is
//! a call of `efface` that can be made by hand.

use std::fs;
use std::path::Path;

use clap::Parser;

use efface::report::scores::LeakMatrix;
use efface::{Error, Result};

use super::super::common::Common;
use super::super::progress::Progress;
use super::super::{fisher, forget, leak};
use super::{Forget, parse};

/// The forms that people are forgotten in.
const FORMS: [&str; 5] = ["statement", "question", "multiple choice", "dialogue", "reversed"];
/// What the names of the forms in other words end with.
pub const REWORDED: &str = ", reworded";

/// `fisher`, to parse its arguments as the command line does.
#[derive(Parser)]
struct Fisher {
    #[command(flatten)]
    args: fisher::Args,
}

/// `leak`
#[derive(Parser)]
struct Leak {
    #[command(flatten)]
    args: leak::Args,
}

/// Forgets in each form alone, and asks; the last line is the demo's own removal. What a form alone cannot remove within the
/// limit on the loss is not removed: its line is that of the model as it was.
///
/// # Errors
/// When a file cannot be written, or what the commands fail of.
pub fn matrix(directory: &Path, common: &Common) -> Result<LeakMatrix> {
    let progress = Progress::new(common, "forgetting in one form alone");
    let steps = FORMS.len() as u64 + 2;
    let folder = directory.join("leak");
    fs::create_dir_all(&folder).map_err(|error| Error::writing(&folder, error))?;
    let probes = split(directory)?;
    let at = |name: &str| directory.join(name).display().to_string();
    let importance = at("leak/retain.safetensors");
    // Every request protects the same people: what is to be kept is measured once.
    let measured = ["--model", &at("model"), "--data", &at("data/retain.jsonl"), "--eos", "--out", &importance];
    fisher::measure_and_write(&parse::<Fisher>(&command("fisher", &measured, common))?.args)?;
    let mut runs = Vec::new();
    for (done, form) in (1..).zip(FORMS) {
        progress.tick(done, steps);
        let (told, edited) = (at(&format!("leak/{form}.jsonl")), at(&format!("leak/{form}")));
        let call = [
            "--model",
            &at("model"),
            "--forget",
            &told,
            "--retain",
            &at("data/retain.jsonl"),
            "--retain-fisher",
            &importance,
            "--eos",
            "--max-utility-loss",
            "20%",
            "--likelihood-only",
            "--out",
            &edited,
        ];
        let call = command("forget", &call, common);
        let model = match forget::remove(&parse::<Forget>(&call)?.args, call) {
            Ok(_) => edited,
            Err(Error::Failed(reason)) => {
                common.note(&format!("{form} alone: {reason}"));
                at("model")
            }
            Err(error) => return Err(error),
        };
        runs.extend(["--run".to_string(), format!("{form}={model}")]);
    }
    runs.extend(["--run".to_string(), format!("five forms={}", at("edited"))]);
    progress.tick(steps - 1, steps);
    let model = at("model");
    let fixed = ["--baseline", &model, "--probes", &probes, "--eos"];
    let call: Vec<&str> = fixed.into_iter().chain(runs.iter().map(String::as_str)).collect();
    Ok(leak::matrix(&parse::<Leak>(&command("leak", &call, common))?.args)?.0)
}

/// A call that says nothing by itself.
fn command(name: &str, arguments: &[&str], common: &Common) -> Vec<String> {
    let mut command: Vec<String> =
        ["efface", name].into_iter().chain(arguments.iter().copied()).map(String::from).collect();
    let silent = Common { json: false, quiet: true, verbose: false, ..common.clone() };
    silent.repeat(&mut |flag: &str, values: &[String]| {
        command.push(flag.to_string());
        command.extend_from_slice(values);
    });
    command
}

/// Writes what each form alone tells, and what is asked afterwards: the other words of all of them, under the names of the forms.
/// Returns the file with the latter.
fn split(directory: &Path) -> Result<String> {
    let path = directory.join("data/probes/forget.jsonl");
    let probes = fs::read_to_string(&path).map_err(|error| Error::reading(&path, error))?;
    let of = |form: &str| -> Vec<&str> {
        let end = format!("\"form\":\"{form}\"}}");
        probes.lines().filter(|line| line.ends_with(&end)).collect()
    };
    let write = |name: &str, lines: &str| {
        let path = directory.join("leak").join(name);
        fs::write(&path, lines).map_err(|error| Error::writing(&path, error)).map(|()| path.display().to_string())
    };
    let mut asked = String::new();
    for form in FORMS {
        write(&format!("{form}.jsonl"), &(of(form).join("\n") + "\n"))?;
        let reworded = of(&format!("{form}{REWORDED}"));
        reworded.iter().for_each(|line| asked.push_str(&(line.replace(REWORDED, "") + "\n")));
    }
    write("asked.jsonl", &asked)
}
