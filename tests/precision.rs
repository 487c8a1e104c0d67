//! Mixed precision through whole passes, emulated where there are no matrix units: it agrees with full precision, its bytes do
//! not depend on how samples are grouped, and where it does not agree, full precision is used.

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use common::{cpu, gpu, relative};
use efface::Element;
use efface::checkpoint::{Checkpoint, TensorFile};
use efface::device::Device;
use efface::kernels::Accumulate;
use efface::kernels::precision::{Precision, Unit, probe};
use efface::model::batch::Tokens;
use efface::model::weights::{HostBytes, WeightSource};
use efface::model::{Model, Parameter};
use efface::random::Random;
use efface::stream::{CheckpointWeights, Pass, PassOptions};
use efface::unlearn::accuracy::{BOUND, compare, settle};
use efface::unlearn::estimator::{BatchWeight, Estimator, Loss};
use efface::unlearn::importance::ImportanceSink;
use efface::unlearn::store::{MemoryStore, Store};
use tempfile::TempDir;

const EMULATED: Precision = Precision::Mixed(Unit::Emulated);

/// A small model with matrices that are large enough for mixed precision, and samples for it.
struct Case {
    _directory: TempDir,
    checkpoint: Arc<Checkpoint>,
    model: Arc<Model>,
    samples: Vec<Arc<Tokens>>,
}

impl Case {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        common::random_llama(directory.path(), [64, 96, 2, 1100], 7);
        let checkpoint = Arc::new(Checkpoint::open(directory.path()).unwrap());
        let model = Arc::new(Model::of(&checkpoint).unwrap());
        let mut random = Random::new(3, "samples");
        let sample = |number: u32| {
            let ids: Vec<u32> = (0..5 + 6 * number).map(|_| random.below(1100) as u32).collect();
            let labels: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
            Arc::new(Tokens::new(&ids, &labels, number))
        };
        Case { samples: (0..4).map(sample).collect(), _directory: directory, checkpoint, model }
    }

    fn pass(&self, device: &Device, units_per_launch: Option<usize>) -> Pass {
        let options = PassOptions { units_per_launch, ..PassOptions::default() };
        Pass::new(device, self.model.clone(), self.checkpoint.clone(), options).unwrap()
    }

    fn fisher(&self, pass: &Pass) -> Vec<f32> {
        let units = Estimator::Sample.units(&self.samples, Loss::Mean, BatchWeight::Samples);
        let mut store = MemoryStore::new(&self.model);
        let mut sink = ImportanceSink::new(&self.model, vec![Accumulate::Square], &mut store);
        pass.gradients(&units, &mut sink, &|_, _| {}).unwrap();
        (0..self.model.parameters.len()).flat_map(|id| store.all(id, Accumulate::Square).unwrap()).collect()
    }
}

#[test]
fn agrees_with_full_precision_and_is_not_the_same() {
    let case = Case::new();
    let units = Estimator::Sample.units(&case.samples, Loss::Mean, BatchWeight::Samples);
    let full = case.fisher(&case.pass(&cpu(), None));
    for device in [cpu(), gpu()] {
        let pass = case.pass(&device.with_precision(EMULATED), None);
        let error = relative(&case.fisher(&pass), &full);
        assert!((1e-5..BOUND).contains(&error), "{}: {error:.2e}", device.name());
        let agreement = compare(&pass, &units[1]).unwrap();
        assert!(agreement.holds() && agreement.deviation > 1e-5, "{}: {agreement:?}", device.name());
        let (settled, refusal) = settle(pass, &units).unwrap();
        assert_eq!((settled.device.precision(), refusal), (EMULATED, None));
    }
}

#[test]
fn bytes_do_not_depend_on_how_samples_are_grouped() {
    let case = Case::new();
    for device in [cpu(), gpu()] {
        let device = device.with_precision(EMULATED);
        let together = case.fisher(&case.pass(&device, None));
        let alone = case.fisher(&case.pass(&device, Some(1)));
        match device.is_cpu() {
            true => assert!(relative(&alone, &together) < 1e-5),
            false => assert_eq!(alone, together),
        }
    }
}

/// Under the smallest budget, the head is visited in parts, and weights come and go.
#[test]
fn bytes_do_not_depend_on_the_memory_budget() {
    let case = Case::new();
    let units = Estimator::Sample.units(&case.samples, Loss::Mean, BatchWeight::Samples);
    let device = gpu().with_precision(EMULATED);
    let pass = case.pass(&device, None);
    let mut store = MemoryStore::new(&case.model);
    let sink = ImportanceSink::new(&case.model, vec![Accumulate::Square], &mut store);
    let demand = pass.demand(&units, Some(&sink));
    let smallest = pass.plan(&demand).unwrap().smallest_device;
    let all = case.fisher(&pass);
    device.set_memory(smallest);
    device.free_scratch();
    let narrow = case.pass(&device, None);
    assert!(narrow.plan(&demand).unwrap().table_rows < pass.model.config.vocabulary);
    assert_eq!(case.fisher(&narrow), all);
}

/// A checkpoint with a layer's weights beyond what half precision can hold, and the next one's as much smaller.
struct OutOfRange(CheckpointWeights);

impl WeightSource for OutOfRange {
    fn tensor(&self, parameter: &Parameter) -> efface::Result<(Element, HostBytes)> {
        let (element, bytes) = self.0.tensor(parameter)?;
        let factor = match &parameter.name {
            name if name.ends_with("layers.0.mlp.up_proj.weight") => 1e5,
            name if name.ends_with("layers.0.mlp.down_proj.weight") => 1e-5,
            _ => return Ok((element, bytes)),
        };
        let mut values = vec![0.0; parameter.count()];
        element.decode(&bytes, &mut values)?;
        values.iter_mut().for_each(|v| *v *= factor);
        Ok((element, Arc::new(element.encode(&values))))
    }

    fn element(&self, parameter: &Parameter) -> efface::Result<Element> {
        self.0.element(parameter)
    }
}

#[test]
fn falls_back_where_it_does_not_agree() {
    let case = Case::new();
    let units = Estimator::Sample.units(&case.samples, Loss::Mean, BatchWeight::Samples);
    for device in [cpu(), gpu()] {
        let source = Arc::new(OutOfRange(CheckpointWeights::new(case.checkpoint.clone())));
        let mixed = device.with_precision(EMULATED);
        let pass = Pass::over(&mixed, case.model.clone(), source, PassOptions::default()).unwrap();
        assert!(!compare(&pass, &units[0]).unwrap().holds(), "{}", device.name());
        let (settled, refusal) = settle(pass, &units).unwrap();
        assert_eq!(settled.device.precision(), Precision::Full);
        assert!(refusal.unwrap().contains("% is allowed"));
        assert!(case.fisher(&settled).iter().all(|f| f.is_finite()));
    }
}

#[test]
fn adapters_pass_the_probe_of_what_they_offer() {
    let device = gpu();
    for unit in Unit::ALL.into_iter().filter(|unit| unit.is_offered(device.features())) {
        probe(&device, unit).unwrap();
    }
}

fn fisher(root: &Path, out: &str, precision: &[&str]) -> (Output, TensorFile) {
    let output = Command::new(env!("CARGO_BIN_EXE_efface"))
        .args(["fisher", "--device", "cpu", "--model"])
        .arg(root)
        .arg("--data")
        .arg(root.join("data.jsonl"))
        .arg("--out")
        .arg(root.join(out))
        .args(precision)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (output, TensorFile::open(&root.join(out)).unwrap())
}

#[test]
fn the_command_says_when_full_precision_is_used_and_files_say_when_it_is_not() {
    let case = Case::new();
    let root = case._directory.path();
    let ids: Vec<u32> = (0..12).collect();
    let line = serde_json::json!({ "input_ids": ids, "labels": ids });
    std::fs::write(root.join("data.jsonl"), line.to_string()).unwrap();
    let (_, full) = fisher(root, "full.safetensors", &[]);
    let (said, mixed) = fisher(root, "mixed.safetensors", &["--precision", "mixed"]);
    let (_, emulated) = fisher(root, "emulated.safetensors", &["--precision", "emulated"]);
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("full precision is used") && said.contains("matrix units"), "{said}");
    assert!(!full.metadata().contains_key("precision") && !mixed.metadata().contains_key("precision"));
    assert_eq!(emulated.metadata()["precision"], "emulated");
    let numbers = |file: &TensorFile| common::numbers(file, "model.layers.1.mlp.up_proj.weight");
    assert_eq!(numbers(&full), numbers(&mixed));
    let error = relative(&numbers(&emulated), &numbers(&full));
    assert!((1e-5..BOUND).contains(&error), "{error:.2e}");
}
