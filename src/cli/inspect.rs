//! `efface inspect`

use std::collections::BTreeMap;
use std::path::PathBuf;

use efface::model::parameters::Role;
use efface::model::{Model, Stage};
use efface::report::format;
use efface::report::table::Table;
use efface::stream::{Demand, Limits, Plan};
use efface::{Element, Error, Result};
use serde_json::{Value, json};

use super::common::Common;
use super::input::{Input, Reading, tokens};
use super::output;

/// Describe a checkpoint: family, tensors, tied weights, what a pass costs, and the plan under `--memory`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  efface inspect models/SmolLM2-135M\n  \
    efface inspect models/Llama-3.1-8B --memory 4GiB --data facts.jsonl\n  \
    efface inspect models/SmolLM2-135M --samples 200 --tokens 128 --json")]
pub struct Args {
    /// The checkpoint: a directory with config.json and *.safetensors.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Records to plan for, instead of assumed samples.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// How many samples to assume.
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with = "data", value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// How many tokens each has.
    #[arg(long, value_name = "N", default_value_t = 64, conflicts_with = "data", value_parser = clap::value_parser!(u32).range(2..))]
    tokens: u32,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
///
/// # Errors
/// When the checkpoint or the data are wrong, or the budget is too small.
pub fn run(args: &Args) -> Result<()> {
    let device = args.common.open_device()?;
    let input = Input::open(&args.model)?;
    let lengths = if args.data.is_empty() {
        let context = input.model.config.context;
        if args.tokens as usize > context {
            return Err(Error::argument(format!("--tokens {}: the model's context is {context}", args.tokens)));
        }
        vec![args.tokens as usize; args.samples as usize]
    } else {
        tokens(&input.dataset(&args.data, &args.reading)?).iter().map(|sample| sample.ids.len()).collect()
    };
    let model = &*input.model;
    let elements = elements(&input)?;
    let demand = Demand {
        units: lengths.clone(),
        breaks: Vec::new(),
        backward: true,
        sink_bytes: 4,
        sink_beside: 0,
        units_per_launch: None,
        old: false,
    };
    let plan = Plan::new(model, &elements, &demand, &Limits::of(&device, args.common.host_memory))?;
    let cost = Cost::of(model, &elements, &lengths, &plan);
    if args.common.json {
        return output::print_json(&describe(&input, &elements, &lengths, &plan, &cost, &device.name()));
    }
    output::print(&page(&input, &elements, &lengths, &plan, &cost, &device.name()))
}

/// What a pass forward and backward costs.
struct Cost {
    /// Floating-point operations of forward, backward, what backward computes again, and squaring.
    operations: [u64; 4],
    /// Bytes of weights that cross to the device.
    streamed: u64,
}

impl Cost {
    fn of(model: &Model, elements: &[Element], lengths: &[usize], plan: &Plan) -> Cost {
        let config = &model.config;
        let matrices: usize = model.parameters.iter().filter(|p| p.role == Role::Matrix).map(|p| p.count()).sum();
        let head = match model.stages.last() {
            Some(Stage::Head(head)) => model.parameters[head.weight].count(),
            _ => 0,
        };
        // A head of its own is a matrix by role or a table; it is counted once, as what it is used for.
        let head_is_matrix =
            matches!(model.stages.last(), Some(Stage::Head(h)) if model.parameters[h.weight].role == Role::Matrix);
        let layers = (matrices - if head_is_matrix { head } else { 0 }) as u64;
        let tokens: u64 = lengths.iter().map(|length| *length as u64).sum();
        // Causal attention meets half of all pairs; scores and values are a multiplication and an addition each.
        let pairs: u64 = lengths.iter().map(|length| (*length as u64).pow(2) / 2).sum();
        let attention = 4 * pairs * (config.heads * config.head_dim * config.layers) as u64;
        let all = layers + head as u64;
        let forward = 2 * all * tokens + attention;
        let backward = 4 * all * tokens + attention * 5 / 2;
        let again = if plan.keep_inner { 0 } else { 2 * layers * tokens + attention };
        let squares = 2 * model.parameter_count() as u64 * lengths.len() as u64;
        Cost { operations: [forward, backward, again, squares], streamed: plan.streamed_bytes(model, elements, true) }
    }

    fn total(&self) -> u64 {
        self.operations.iter().sum()
    }
}

fn elements(input: &Input) -> Result<Vec<Element>> {
    let of = |parameter: &efface::model::Parameter| {
        let element = input.checkpoint.tensor(&parameter.name).and_then(|tensor| tensor.element);
        element.ok_or_else(|| Error::file(input.checkpoint.dir(), &parameter.name, "the tensor is missing"))
    };
    input.model.parameters.iter().map(of).collect()
}

fn tied(model: &Model) -> Option<String> {
    let parameter = &model.parameters[model.tied()?];
    let copies = if parameter.copies.is_empty() { "stored once".into() } else { parameter.copies.join(", ") };
    Some(format!("{} is embedding and head ({copies})", parameter.name))
}

fn element_names(elements: &[Element]) -> String {
    let mut names: Vec<String> = elements.iter().map(|e| format!("{e:?}").to_uppercase()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

fn page(input: &Input, elements: &[Element], lengths: &[usize], plan: &Plan, cost: &Cost, device: &str) -> String {
    let (model, config) = (&*input.model, &input.model.config);
    let bytes: u64 = input.checkpoint.files().iter().map(|file| file.byte_len() as u64).sum();
    let tensors = format!(
        "{} in {}, {} ({})",
        format::count(input.checkpoint.tensors().len() as u64),
        format::counted(input.checkpoint.files().len() as u64, "file"),
        format::bytes(bytes),
        element_names(elements)
    );
    let heads = format!("{} of width {}, {} for keys and values", config.heads, config.head_dim, config.kv_heads);
    let mut text = lines(&[
        ("family", config.family.name().into()),
        ("parameters", format::count(model.parameter_count() as u64)),
        ("tensors", tensors),
        ("tied", tied(model).unwrap_or_else(|| "nothing".into())),
        ("layers", format!("{} of width {} ({} inside)", config.layers, config.hidden, config.intermediate)),
        ("heads", heads),
        ("vocabulary", format::count(config.vocabulary as u64)),
        ("context", format::counted(config.context as u64, "token")),
    ]);
    text.push('\n');
    text.push_str(&kinds(model).to_text(output::columns()));
    let (samples, tokens) = (lengths.len() as u64, lengths.iter().sum::<usize>() as u64);
    let [forward, backward, again, squares] = cost.operations.map(|n| format::short_count(n as f64));
    text.push_str(&format!(
        "\nA pass forward and backward over {} ({}), on {device}:\n",
        format::counted(samples, "sample"),
        format::counted(tokens, "token")
    ));
    let place = if plan.activations_on_device { "on the device" } else { "in host memory" };
    let kept = if plan.keep_inner { "kept from forward" } else { "computed again" };
    let weights = if plan.weights_resident { "stay on the device" } else { "are streamed" };
    let launches = plan.chunks.len() as u64;
    let operations = format!(
        "{}: forward {forward}, backward {backward}, again {again}, squares {squares}",
        format::short_count(cost.total() as f64)
    );
    text.push_str(&lines(&[
        ("operations", operations),
        ("per token", format::short_count(cost.total() as f64 / tokens as f64)),
        ("weights", format!("{weights}; {} cross to it", format::bytes(cost.streamed))),
        (
            "groups",
            format!("{} of {}", plan.groups.len(), format::counted(launches, "launch").replace("launchs", "launches")),
        ),
        ("activations", format!("{place}; what backward needs of a layer's inside is {kept}")),
        ("head", format!("{} rows at a time", format::count(plan.table_rows as u64))),
        ("device memory", format!("{} at most", format::bytes(plan.peak_device))),
        ("host memory", format!("{} of waiting activations at most", format::bytes(plan.peak_host))),
        ("smallest", format!("--memory {} would do ({})", plan.smallest_device, format::bytes(plan.smallest_device))),
    ]));
    text
}

fn lines(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:width$}  {}\n", efface::report::escape::terminal(value))).collect()
}

/// The kinds of parameter: how often there is one, of what shape.
fn kinds(model: &Model) -> Table {
    let mut found: BTreeMap<usize, (String, Vec<usize>, u64)> = BTreeMap::new();
    let mut first: BTreeMap<(&str, &[usize]), usize> = BTreeMap::new();
    for (id, parameter) in model.parameters.iter().enumerate() {
        let place = *first.entry((&parameter.kind, &parameter.shape)).or_insert(id);
        let entry = found.entry(place).or_insert_with(|| (parameter.kind.clone(), parameter.shape.clone(), 0));
        entry.2 += 1;
    }
    let mut table = Table::new(&["tensor", "shape", ">count", ">parameters"]);
    for (kind, shape, count) in found.into_values() {
        let elements = shape.iter().product::<usize>() as u64 * count;
        table.row([kind, format!("{shape:?}"), format::count(count), format::count(elements)]);
    }
    table
}

fn describe(input: &Input, elements: &[Element], lengths: &[usize], plan: &Plan, cost: &Cost, device: &str) -> Value {
    let (model, config) = (&*input.model, &input.model.config);
    let tensor = |parameter: &efface::model::Parameter| {
        let dtype = input.checkpoint.tensor(&parameter.name).map(|tensor| tensor.dtype.to_string());
        json!({ "name": parameter.name, "shape": parameter.shape, "dtype": dtype, "copies": parameter.copies,
                "layer": parameter.layer, "kind": parameter.kind })
    };
    let [forward, backward, again, squares] = cost.operations;
    json!({
        "model": input.checkpoint.dir(),
        "model_sha256": input.checkpoint.sha256(),
        "family": config.family.name(),
        "parameters": model.parameter_count(),
        "elements": element_names(elements),
        "layers": config.layers, "hidden": config.hidden, "intermediate": config.intermediate,
        "heads": config.heads, "kv_heads": config.kv_heads, "head_dim": config.head_dim,
        "vocabulary": config.vocabulary, "context": config.context,
        "tied": model.tied().map(|id| &model.parameters[id].name),
        "tensors": model.parameters.iter().map(tensor).collect::<Vec<_>>(),
        "device": device,
        "pass": {
            "samples": lengths.len(),
            "tokens": lengths.iter().sum::<usize>(),
            "operations": { "forward": forward, "backward": backward, "again": again, "squares": squares },
            "streamed_bytes": cost.streamed,
        },
        "plan": plan,
    })
}
