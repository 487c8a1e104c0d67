//! What a run came to, as the report takes it.

use std::collections::BTreeMap;

use efface::Result;
use efface::data::{Dataset, InputFile};
use efface::kernels::update::lower_edge;
use efface::report::forget::{
    ChangedWeights, DataFile, DeviceUse, FormOverlap, HeadPoint, LogRatioHistogram, Method, Model, OutputFile,
    PhaseTime, Redirected, RedirectedLayer, SearchPoint, TrainingPoint, UtilityGuard, render_json, render_text,
};
use efface::report::format::percent;
use efface::report::scores::{LeakMatrix, Scores};
use efface::report::{ForgetReport, write_report};
use efface::unlearn::forget::{Outcome, nothing};
use efface::unlearn::heads::HeadTrial;
use efface::unlearn::methods::Trial;
use efface::unlearn::overlap::Overlap;
use efface::unlearn::redirect::{LayerReport, Summary};
use serde_json::{Map, Value, json};

use super::super::output;
use super::{Args, Story};

/// Bins of the report's histogram for each factor of ten.
const BINS_PER_DECADE: f64 = 8.0;
/// Ratios further from 1 than this power of ten share the outermost bins.
const DECADES: f64 = 8.0;

/// What a reader must know about the choice.
pub fn remarks(outcome: &Outcome, limit: f64) -> Vec<String> {
    let mut remarks = Vec::new();
    if !outcome.monotonic {
        remarks.push(
            "The loss on the held-out samples did not rise steadily with the share of weights, so that a larger share than \
             the one chosen may be within the limit, too."
                .into(),
        );
    }
    if outcome.histogram.invalid() > 0 {
        remarks.push(format!(
            "{} weights have an importance that is no finite number from 0; they were left alone.",
            outcome.histogram.invalid()
        ));
    }
    if let (Some(forget), Some(held_out), None) = (outcome.forget, outcome.held_out, &outcome.refused)
        && nothing(forget, held_out).is_some()
    {
        remarks.push(format!(
            "The edit does not make the model forget: the loss on the forget set changes by {}, that on held-out retain \
             samples by {}.",
            percent(forget.rise()),
            percent(held_out.rise())
        ));
    }
    if let Some(loss) = outcome.held_out.filter(|loss| loss.rise() > 0.02 && loss.rise() <= limit) {
        remarks.push(format!(
            "The loss on held-out retain samples rises by {}: look at what is to be kept, or set a lower --max-utility-loss.",
            percent(loss.rise())
        ));
    }
    remarks
}

/// Writes the report's files, where they were asked for.
///
/// # Errors
/// When they cannot be written.
pub fn write(args: &Args, report: &ForgetReport) -> Result<()> {
    args.outputs.report.as_ref().map_or(Ok(()), |directory| write_report(directory, report))
}

/// Prints what came of it.
///
/// # Errors
/// When stdout cannot be written to.
pub fn tell(args: &Args, report: &ForgetReport) -> Result<()> {
    match args.common.json {
        true => output::print(&format!("{}\n", render_json(report))),
        false => output::print(&render_text(report, output::columns())),
    }
}

/// What is known about a run, as the report takes it.
pub fn report(story: &Story<'_>) -> ForgetReport {
    let Story { args, input, device, data, probing, outcome, .. } = story;
    let (probes, examples) = probing.results();
    let forms = probing.scores();
    let mut files = files(&data.forget, "forget");
    files.extend(self::files(&data.retain, "retain"));
    files.extend(probing.files.iter().map(|file| {
        let (samples, tokens) = probing.counts(file);
        data_file(file, "probes", (samples, tokens))
    }));
    let mut report = ForgetReport {
        version: env!("CARGO_PKG_VERSION").into(),
        command_line: story.command_line.to_vec(),
        settings: settings(story),
        seed: args.common.seed,
        model: Model {
            path: args.model.display().to_string(),
            sha256_before: input.checkpoint.sha256().into(),
            sha256_after: story.sha256_after.clone(),
            family: input.model.config.family.name().into(),
            parameters: input.model.parameter_count() as u64,
        },
        data: files,
        method: method(story),
        guard: outcome.held_out.map(|loss| UtilityGuard {
            held_out_samples: data.held_out.iter().filter(|held_out| **held_out).count() as u64,
            loss_before: loss.before,
            loss_after: loss.after,
            limit: args.choosing.limit(),
            accepted: outcome.refused.is_none(),
        }),
        search: outcome.curve.iter().map(|p| SearchPoint { share: p.share, loss_rise: p.rise }).collect(),
        changed: changed(story),
        training: training(outcome),
        heads: outcome.heads.iter().map(head).collect(),
        redirected: outcome.redirection.as_ref().map(redirected),
        form_overlap: outcome.overlap.as_ref().map(|overlap| form_overlap(args, overlap)),
        log_ratio: (outcome.histogram.total() > 0).then(|| histogram(outcome)),
        probes,
        scores: Scores::of(&forms),
        forms,
        neighbours: probing.neighbours(),
        leak: LeakMatrix::default(),
        examples,
        phases: story.phases.0.iter().map(|(p, s)| PhaseTime { phase: (*p).into(), seconds: *s }).collect(),
        device: DeviceUse {
            name: device.name(),
            memory_budget: args.common.memory,
            memory_peak: Some(device.budget().peak()),
            host_memory_budget: args.common.host_memory,
            host_memory_peak: None,
        },
        outputs: outputs(story),
        warnings: story.warnings.clone(),
        redacted: false,
    };
    if args.outputs.redact {
        report.redact();
    }
    report
}

fn settings(story: &Story<'_>) -> Map<String, Value> {
    let args = story.args;
    let mut settings = args.choosing.settings(story.input.model.config.hidden);
    settings.insert("precision".into(), story.precision.name().into());
    settings.extend(args.measure.names().map(|(name, value)| (name.to_string(), value.into())));
    settings.extend(args.reading.settings());
    if args.retain.is_empty() {
        settings.extend(args.generation.settings().map(|(name, value)| (name.to_string(), value)));
    }
    settings.insert("forget_sha256".into(), story.data.forget.sha256.clone().into());
    settings.insert("retain_sha256".into(), story.data.retain.sha256.clone().into());
    settings.insert(
        "loss_on_forget_set".into(),
        match story.outcome.forget {
            Some(loss) => json!({ "before": loss.before, "after": loss.after }),
            None => Value::Null,
        },
    );
    settings.insert("memory".into(), json!(args.common.memory));
    settings.insert("host_memory".into(), json!(args.common.host_memory));
    settings
}

fn method(story: &Story<'_>) -> Method {
    let choice = story.outcome.choice;
    let written: u64 = story.changes.iter().map(|change| change.selected).sum();
    // Where nothing was written, the choice's own count, which is exact for thresholds at an edge.
    let selected = if story.sha256_after.is_some() { written } else { choice.map_or(0, |c| c.weights.round() as u64) };
    let model = &story.input.model;
    let allowed = model.parameters.iter().zip(story.allowed).filter(|(_, allowed)| **allowed);
    let total = match story.outcome.histogram.total() {
        0 => allowed.map(|(parameter, _)| parameter.count() as u64).sum(),
        total => total,
    };
    Method {
        name: story.args.choosing.name(),
        threshold: choice.filter(|_| story.outcome.histogram.total() > 0).map(|choice| f64::from(choice.threshold)),
        lambda: choice.filter(|_| story.outcome.trials.is_empty()).map(|choice| f64::from(choice.lambda)),
        selected,
        selected_share: selected as f64 / total.max(1) as f64,
    }
}

/// The points that a training and a repair were judged at.
fn training(outcome: &Outcome) -> Vec<TrainingPoint> {
    let points = |trials: &[Trial], chosen: Option<usize>, repair: bool| {
        let point = |(i, trial): (usize, &Trial)| TrainingPoint {
            repair,
            learning_rate: f64::from(trial.learning_rate),
            step: trial.step as u64,
            scale: trial.scale,
            ridge: trial.ridge,
            kept: trial.kept,
            loss_rise: trial.rise,
            taken: chosen == Some(i),
        };
        trials.iter().enumerate().map(point).collect::<Vec<_>>()
    };
    let mut all = points(&outcome.trials, outcome.chosen, false);
    all.extend(points(&outcome.repair, outcome.repaired, true));
    all
}

/// A head that was tried.
fn head(trial: &HeadTrial) -> HeadPoint {
    HeadPoint {
        round: trial.round as u64 + 1,
        layer: trial.head.layer as u32,
        head: trial.head.head as u32,
        forget_rise: trial.forget,
        retain_rise: trial.retain,
        score: trial.score,
        taken: trial.taken,
    }
}

/// What a redirection was made of.
fn redirected(summary: &Summary) -> Redirected {
    let layer = |layer: &LayerReport| RedirectedLayer {
        layer: layer.layer as u32,
        keys: layer.keys as u64,
        reached: layer.fit.reached,
        distance: layer.distance,
    };
    Redirected {
        names: summary.names as u64,
        beginnings: summary.beginnings as u64,
        objects: summary.objects as u64,
        contexts: summary.contexts as u64,
        held: summary.held as u64,
        layers: summary.layers.iter().map(layer).collect(),
    }
}

/// How far the forms' masks overlap.
fn form_overlap(args: &Args, overlap: &Overlap) -> FormOverlap {
    let forms = 0..overlap.forms.len();
    FormOverlap {
        combine: args.choosing.combine.map_or_else(String::new, |combine| combine.to_string()),
        forms: overlap.forms.clone(),
        selected: forms.clone().map(|i| overlap.common[i][i]).collect(),
        jaccard: forms.clone().map(|i| forms.clone().map(|j| overlap.jaccard(i, j)).collect()).collect(),
        mean: overlap.mean(),
    }
}

/// The weights that differ, by layer and kind.
fn changed(story: &Story<'_>) -> Vec<ChangedWeights> {
    let model = &story.input.model;
    let mut all: BTreeMap<(Option<usize>, &str), (u64, u64)> = BTreeMap::new();
    for (id, parameter) in model.parameters.iter().enumerate() {
        let change = story.changes.iter().find(|change| change.parameter == id);
        let (changed, total) = all.entry((parameter.layer, &parameter.kind)).or_default();
        *changed += change.map_or(0, |change| change.changed);
        *total += parameter.count() as u64;
    }
    let one = |((layer, kind), (changed, total)): ((Option<usize>, &str), (u64, u64))| ChangedWeights {
        layer: layer.map(|layer| layer as u32),
        kind: kind.into(),
        changed,
        total,
    };
    all.into_iter().map(one).collect()
}

/// The ratios in bins that a person can look at.
fn histogram(outcome: &Outcome) -> LogRatioHistogram {
    let bins = (2.0 * DECADES * BINS_PER_DECADE) as usize + 2;
    let edge = |bin: usize| (bin as f64 - 1.0) / BINS_PER_DECADE - DECADES;
    let lower_edges = (0..bins).map(|bin| if bin == 0 { f64::NEG_INFINITY } else { edge(bin) }).collect();
    let mut counts = vec![0; bins];
    for (bin, count) in outcome.histogram.counts().iter().enumerate() {
        let Some(low) = lower_edge(bin).filter(|_| *count > 0) else { continue };
        let place = (f64::from(low).log10() + DECADES) * BINS_PER_DECADE + 1.0;
        counts[place.clamp(0.0, bins as f64 - 1.0) as usize] += count;
    }
    LogRatioHistogram { lower_edges, counts }
}

fn files(dataset: &Dataset, used_for: &str) -> Vec<DataFile> {
    let made = |file: &InputFile| {
        let samples = dataset.samples.iter().filter(|sample| *sample.origin.path == *file.path);
        samples.fold((0, 0), |(n, tokens), sample| (n + 1, tokens + sample.ids.len() as u64))
    };
    dataset.files.iter().map(|file| data_file(file, used_for, made(file))).collect()
}

fn data_file(file: &InputFile, used_for: &str, (samples, tokens): (u64, u64)) -> DataFile {
    let (path, sha256, records) = (file.path.display().to_string(), file.sha256.clone(), file.records as u64);
    DataFile { path, used_for: used_for.into(), sha256, records, samples, tokens }
}

fn outputs(story: &Story<'_>) -> Vec<OutputFile> {
    let args = story.args;
    let file = |what: &str, path: std::path::Display<'_>| OutputFile { what: what.into(), path: path.to_string() };
    let mut outputs = Vec::new();
    if story.sha256_after.is_some() {
        outputs.push(file("edited checkpoint", args.out.display()));
        outputs.extend(args.outputs.patch.iter().map(|path| file("patch (reversible, secret)", path.display())));
        outputs.extend(args.outputs.patch_forward.iter().map(|path| file("patch (forward only)", path.display())));
    }
    outputs.extend(args.outputs.report.iter().map(|path| file("report", path.join("report.html").display())));
    outputs
}
