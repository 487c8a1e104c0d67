//! What the integration tests share: the golden checkpoints, the devices, and a comparison per tensor.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use efface::checkpoint::{Checkpoint, TensorFile};
use efface::data::{ReadOptions, read_dataset};
use efface::device::{Choice, Device, open};
use efface::model::Model;
use efface::model::batch::Tokens;
use efface::stream::{Pass, PassOptions};

/// All golden checkpoints.
pub const GOLDEN: [&str; 13] = [
    "gpt2",
    "gpt2-bf16",
    "gpt2-old",
    "llama",
    "llama-bf16",
    "llama-tied-twice",
    "llama3-rope-new",
    "llama3-rope-old",
    "mistral",
    "mistral-sharded",
    "qwen2",
    "qwen2-f16",
    "qwen3",
];

/// One of each family, with every kind of figure.
pub const FAMILIES: [&str; 5] = ["llama", "mistral", "qwen2", "qwen3", "gpt2"];

/// A golden checkpoint's directory.
pub fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The CPU device.
pub fn cpu() -> Device {
    Device::cpu(u64::MAX)
}

/// The first adapter, hardware before software. Without one the test must fail: the WGSL would not be executed.
pub fn gpu() -> Device {
    open(Choice::Gpu, None).expect("an adapter (scripts/test installs a software driver)")
}

/// A golden checkpoint with its model and its samples.
pub struct Golden {
    /// The directory.
    pub directory: PathBuf,
    /// The checkpoint.
    pub checkpoint: Arc<Checkpoint>,
    /// Its model.
    pub model: Arc<Model>,
    /// Its samples.
    pub samples: Vec<Arc<Tokens>>,
}

impl Golden {
    /// Opens the golden checkpoint `name`.
    pub fn open(name: &str) -> Self {
        let directory = directory(name);
        let checkpoint = Arc::new(Checkpoint::open(&directory.join("checkpoint")).unwrap());
        let model = Arc::new(Model::of(&checkpoint).unwrap());
        let options = ReadOptions::new(model.config.vocabulary, model.config.context);
        let data = read_dataset(&[directory.join("data.jsonl")], None, &options).unwrap();
        let tokens = |(i, s): (usize, &efface::data::Sample)| Arc::new(Tokens::new(&s.ids, &s.labels, i as u32));
        let samples = data.samples.iter().enumerate().map(tokens).collect();
        Golden { directory, checkpoint, model, samples }
    }

    /// The reference made by PyTorch.
    pub fn reference(&self) -> TensorFile {
        TensorFile::open(&self.directory.join("golden.safetensors")).unwrap()
    }

    /// Passes over it on `device`.
    pub fn pass(&self, device: &Device, options: PassOptions) -> Pass {
        Pass::new(device, self.model.clone(), self.checkpoint.clone(), options).unwrap()
    }
}

/// A tensor of a file, as numbers.
pub fn numbers(file: &TensorFile, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap_or_else(|| panic!("{name} is not in {}", file.path().display()));
    bytemuck::pod_collect_to_vec(file.bytes(tensor))
}

/// ‖got − want‖ / ‖want‖; where nothing is wanted, the norm of what was got.
pub fn relative(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(want).map(|(g, w)| f64::from(*g) - f64::from(*w)));
    let size = norm(&mut want.iter().map(|w| f64::from(*w)));
    if size == 0.0 { difference } else { difference / size }
}
