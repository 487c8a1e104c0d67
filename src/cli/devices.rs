//! `efface devices`

use efface::Result;
use efface::device::{AdapterReport, adapters};
use efface::report::format;
use efface::report::table::Table;
use serde_json::json;

use super::common::Common;
use super::output;

/// List the adapters with their limits and features, which one `--device auto` takes, and why.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  efface devices\n  efface devices --json\n  efface fisher --device gpu:1 ...")]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
///
/// # Errors
/// When stdout cannot be written to.
pub fn run(args: &Args) -> Result<()> {
    let found = adapters();
    let first = found.iter().find(|adapter| adapter.hardware);
    let takes = first.map_or("cpu".to_string(), |adapter| format!("gpu:{}", adapter.number));
    let why = why(&found);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if args.common.json {
        let cpu = json!({ "threads": threads, "free_memory": efface::stream::machine_memory() });
        return output::print_json(&json!({ "adapters": found, "cpu": cpu, "auto": takes, "why": why }));
    }
    let mut table = Table::new(&["device", "name", "backend", "kind", ">binding", ">buffer", "subgroup", "features"]);
    for adapter in &found {
        table.row(cells(adapter));
    }
    let memory = format!("{} free", format::bytes(efface::stream::machine_memory()));
    let name = format!("{threads} threads, {memory}");
    table.row(["cpu", &name, "native", "cpu", "", "", "", ""]);
    output::print(&format!("{}\n--device auto takes {takes}: {why}\n", table.to_text(output::columns())))
}

fn cells(adapter: &AdapterReport) -> [String; 8] {
    let features = [
        (adapter.shader_f16, "f16"),
        (adapter.timestamps, "timestamps"),
        (adapter.cooperative_matrices, "cooperative matrices"),
    ];
    let features: Vec<&str> = features.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
    let [smallest, largest] = adapter.subgroup_size;
    [
        format!("gpu:{}", adapter.number),
        adapter.name.clone(),
        adapter.backend.clone(),
        if adapter.hardware { "hardware" } else { "software" }.into(),
        format::bytes(adapter.max_binding),
        format::bytes(adapter.max_buffer),
        if smallest == largest { smallest.to_string() } else { format!("{smallest}-{largest}") },
        features.join(", "),
    ]
}

fn why(found: &[AdapterReport]) -> &'static str {
    let hardware = found.iter().filter(|adapter| adapter.hardware).count();
    match (found.len(), hardware) {
        (0, _) => "there is no adapter",
        (_, 0) => "every adapter computes in software, which the CPU itself does faster",
        (_, 1) => "it is the GPU",
        _ => "it is the first GPU",
    }
}
