//! What `efface eval` has to say: how well a model answers, for each file and form.

mod page;

pub use page::render_html;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::forget::{DataFile, DeviceUse, PhaseTime, Role};
use super::format::{count, fixed, percent};
use super::neighbours::{self, Neighbours};
use super::number;
use super::scores::{FormScore, Scores, table as forms_table};
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
    /// With a baseline: the headline.
    #[serde(default)]
    pub scores: Scores,
    /// With a baseline: what became of what it knew, in each form.
    #[serde(default)]
    pub forms: Vec<FormScore>,
    /// With a baseline: what became of the facts that are close to those to be forgotten.
    #[serde(default)]
    pub neighbours: Vec<Neighbours>,
    /// Attacks on the model, each with its own forms.
    #[serde(default)]
    pub attacks: Vec<AttackResult>,
    /// Gold answers against wrong ones, for each file and form.
    #[serde(default)]
    pub choices: Vec<ChoiceResult>,
    /// TOFU's model utility: the harmonic mean of the figures of what is to be kept.
    #[serde(default, with = "number::option")]
    pub model_utility: Option<f64>,
    /// TOFU's forget quality: a test of the truth ratios against a model that never saw the forget set.
    #[serde(default)]
    pub forget_quality: Option<ForgetQuality>,
    /// Whether members of the training data can be told from others.
    #[serde(default)]
    pub membership: Vec<MembershipResult>,
    /// How long the phases took, in order.
    pub phases: Vec<PhaseTime>,
    /// What the run computed on, and the memory it took.
    pub device: DeviceUse,
    /// What a reader must know beyond the figures.
    pub warnings: Vec<String>,
}

/// Gold answers against wrong ones, of one form in one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceResult {
    /// The file with the probes.
    pub file: String,
    /// The form.
    pub form: String,
    /// How many probes have wrong answers.
    pub probes: u64,
    /// The share whose gold answer is likelier than every wrong one.
    #[serde(with = "number")]
    pub accuracy: f64,
    /// The 95 % interval of that share (Wilson).
    pub interval: [f64; 2],
    /// The mean of max(0, 1 − truth ratio).
    #[serde(with = "number")]
    pub truth: f64,
    /// The mean probability of the gold answer among the options.
    #[serde(with = "number")]
    pub option_probability: f64,
}

/// A Kolmogorov-Smirnov test of truth ratios.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ForgetQuality {
    /// The largest distance of the two distributions.
    #[serde(with = "number")]
    pub statistic: f64,
    /// Forget quality: the chance of such a distance if the two models are alike.
    #[serde(with = "number")]
    pub p_value: f64,
    /// How many probes of each model.
    pub probes: u64,
}

/// A score by which members of the training data might be told from others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MembershipResult {
    /// The score's name.
    pub score: String,
    /// The area under its ROC curve: 0.5 where it tells nothing.
    #[serde(with = "number::option")]
    pub auc: Option<f64>,
}

/// What an attack brings back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackResult {
    /// What was done: `rounded to 4 bits`.
    pub name: String,
    /// The headline afterwards.
    pub scores: Scores,
    /// What became of what the baseline knew, in each form.
    pub forms: Vec<FormScore>,
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

/// The report as text tables, one heading a file, each line ended by a line break.
pub fn render_text(report: &EvalReport, max_width: Option<usize>) -> String {
    let mut out: String = report.scores.lines().into_iter().map(|line| super::escape::terminal(&line) + "\n").collect();
    let mut tables = Vec::new();
    if !report.forms.is_empty() {
        tables.push(forms_table(&report.forms));
    }
    if !report.neighbours.is_empty() {
        tables.push(neighbours::table(&report.neighbours));
    }
    if !report.attacks.is_empty() {
        tables.push(attack_table(report));
    }
    tables.push(result_table(report));
    if !report.choices.is_empty() {
        tables.push(choice_table(report));
    }
    if !report.membership.is_empty() {
        tables.push(membership_table(report));
    }
    for table in tables {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&table.to_text(max_width));
    }
    for (name, figure) in tofu_figures(report) {
        out.push_str(&format!("{name:<16}{figure}\n"));
    }
    for warning in &report.warnings {
        out.push_str(&format!("warning: {}\n", super::escape::terminal(warning)));
    }
    out
}

/// Every file and form by itself.
fn result_table(report: &EvalReport) -> Table {
    let mut table = Table::new(&["form", ">probes", ">probability", ">exact", ">ROUGE-L", ">loss"]);
    let mut file = None;
    let share = |value: Option<f64>| value.map_or(String::new(), percent);
    for result in &report.results {
        if file != Some(&result.file) {
            table.heading(result.file.clone());
            file = Some(&result.file);
        }
        table.row([
            result.form.clone(),
            count(result.probes),
            percent(result.probability),
            share(result.exact_match),
            share(result.rouge_l),
            result.loss.map_or(String::new(), |l| fixed(l, 3)),
        ]);
    }
    table
}

/// Gold answers against wrong ones.
fn choice_table(report: &EvalReport) -> Table {
    let titles = ["form", ">with wrong answers", ">choice", ">95 % interval", ">truth", ">among options"];
    let mut table = Table::new(&titles);
    let mut file = None;
    for choice in &report.choices {
        if file != Some(&choice.file) {
            table.heading(choice.file.clone());
            file = Some(&choice.file);
        }
        let [low, high] = choice.interval;
        table.row([
            choice.form.clone(),
            count(choice.probes),
            percent(choice.accuracy),
            format!("{} to {}", percent(low), percent(high)),
            fixed(choice.truth, 3),
            percent(choice.option_probability),
        ]);
    }
    table
}

/// The forgotten facts that come back, before any attack and after each.
fn attack_table(report: &EvalReport) -> Table {
    let mut table = Table::new(&["attack", ">worst form", ">mean form", ">accuracy", ">facts known", ">recovered"]);
    let share = |value: Option<f64>| value.map_or(String::new(), percent);
    let none = ("none", &report.scores, &report.forms);
    let rows = std::iter::once(none).chain(report.attacks.iter().map(|a| (a.name.as_str(), &a.scores, &a.forms)));
    for (name, scores, forms) in rows {
        let (known, still) = recovered(forms);
        let figures = [scores.worst_form, scores.mean_form, scores.accuracy].map(share);
        table.row([name.to_string()].into_iter().chain(figures).chain([count(known), count(still)]));
    }
    table
}

/// How many facts to be forgotten were known, every form counted, and how many of them are recovered.
fn recovered(forms: &[FormScore]) -> (u64, u64) {
    let forms = forms.iter().filter(|form| form.role == Role::Forget);
    forms.fold((0, 0), |(known, still), form| (known + form.known, still + form.still))
}

/// The areas under the curves of membership inference.
fn membership_table(report: &EvalReport) -> Table {
    let mut table = Table::new(&["membership by", ">area under the curve"]);
    for result in &report.membership {
        table.row([result.score.clone(), result.auc.map_or("unknown".into(), |auc| fixed(auc, 3))]);
    }
    table
}

/// TOFU's two figures, where they were measured.
fn tofu_figures(report: &EvalReport) -> Vec<(&'static str, String)> {
    let mut figures = Vec::new();
    if let Some(utility) = report.model_utility {
        figures.push(("model utility", fixed(utility, 4)));
    }
    if let Some(quality) = report.forget_quality {
        let (p, distance) = (super::format::number(quality.p_value), fixed(quality.statistic, 3));
        figures.push(("forget quality", format!("p = {p} (KS distance {distance}, {} probes)", quality.probes)));
    }
    figures
}

/// The report as JSON. It reads back as an [`EvalReport`].
pub fn render_json(report: &EvalReport) -> String {
    super::to_json(report)
}
