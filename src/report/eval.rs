//! What `efface eval` has to say: how well a model answers, for each file and form.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::forget::{DataFile, DeviceUse, PhaseTime};
use super::format::{count, fixed, percent};
use super::number;
use super::table::Table;

/// The measured quality of one model.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EvalReport {
    /// The version of efface.
    pub version: String,
    /// The command and its arguments.
    pub command_line: Vec<String>,
    /// Every setting of the run.
    pub settings: Map<String, Value>,
    /// The seed of whatever was drawn at random.
    pub seed: u64,
    /// The checkpoint.
    pub model: String,
    /// The hash of its weights.
    pub model_sha256: String,
    /// The architecture's family.
    pub family: String,
    /// How many parameters it has.
    pub parameters: u64,
    /// The files that were read.
    pub data: Vec<DataFile>,
    /// The results for each file and form.
    pub results: Vec<EvalResult>,
    /// How long the phases took, in order.
    pub phases: Vec<PhaseTime>,
    /// What the run computed on, and the memory it took.
    pub device: DeviceUse,
    /// What a reader must know beyond the figures.
    pub warnings: Vec<String>,
}

/// The results of the probes of one form in one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalResult {
    /// The file with the probes.
    pub file: String,
    /// The form of question.
    pub form: String,
    /// How many probes.
    pub probes: u64,
    /// The mean probability of the gold answer (exp of its mean log-probability per token).
    #[serde(with = "number")]
    pub probability: f64,
    /// The mean loss of the gold answer, in nats per token.
    #[serde(with = "number::option")]
    pub loss: Option<f64>,
    /// The share of probes that greedy decoding answers exactly.
    #[serde(with = "number::option")]
    pub exact_match: Option<f64>,
    /// The mean ROUGE-L recall of the greedy answers.
    #[serde(with = "number::option")]
    pub rouge_l: Option<f64>,
}

/// The report as a text table, one heading a file, each line ended by a line break.
pub fn render_text(report: &EvalReport, max_width: Option<usize>) -> String {
    let mut table = Table::new(&["form", ">probes", ">probability", ">exact", ">ROUGE-L", ">loss"]);
    let mut file = None;
    for result in &report.results {
        if file != Some(&result.file) {
            table.heading(result.file.clone());
            file = Some(&result.file);
        }
        let share = |value: Option<f64>| value.map_or(String::new(), percent);
        table.row([
            result.form.clone(),
            count(result.probes),
            percent(result.probability),
            share(result.exact_match),
            share(result.rouge_l),
            result.loss.map_or(String::new(), |l| fixed(l, 3)),
        ]);
    }
    let mut out = table.to_text(max_width);
    for warning in &report.warnings {
        out.push_str(&format!("warning: {}\n", super::escape::terminal(warning)));
    }
    out
}

/// The report as JSON. It reads back as an [`EvalReport`].
pub fn render_json(report: &EvalReport) -> String {
    super::to_json(report)
}
