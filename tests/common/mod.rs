//! What the integration tests share: the golden checkpoints, the devices, and a comparison per tensor.
#![allow(dead_code)]

pub mod bytes;
pub mod redirection;

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

/// Progress that nobody watches.
pub fn nothing(_: u64, _: u64) {}

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
        Golden::at(directory(name))
    }

    /// Opens the checkpoint and the data in a directory.
    pub fn at(directory: PathBuf) -> Self {
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

/// A llama checkpoint of random weights, F32, of any size.
pub fn random_llama(directory: &Path, [hidden, intermediate, layers, vocabulary]: [usize; 4], seed: u64) {
    use efface::checkpoint::{AtomicFile, Declaration, Dtype, TensorFileWriter};
    let config = serde_json::json!({
        "model_type": "llama", "vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": intermediate,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false,
    });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![vocabulary, hidden])];
    for layer in 0..layers {
        let mut add =
            |name: &str, shape: &[usize]| shapes.push((format!("model.layers.{layer}.{name}.weight"), shape.into()));
        add("input_layernorm", &[hidden]);
        add("self_attn.q_proj", &[hidden, hidden]);
        add("self_attn.k_proj", &[hidden / 2, hidden]);
        add("self_attn.v_proj", &[hidden / 2, hidden]);
        add("self_attn.o_proj", &[hidden, hidden]);
        add("post_attention_layernorm", &[hidden]);
        add("mlp.gate_proj", &[intermediate, hidden]);
        add("mlp.up_proj", &[intermediate, hidden]);
        add("mlp.down_proj", &[hidden, intermediate]);
    }
    shapes.extend([("model.norm.weight".into(), vec![hidden]), ("lm_head.weight".into(), vec![vocabulary, hidden])]);
    let declare = |(name, shape): &(String, Vec<usize>)| Declaration {
        name: name.clone(),
        dtype: Dtype::F32,
        shape: shape.clone(),
    };
    let declared: Vec<Declaration> = shapes.iter().map(declare).collect();
    let file = AtomicFile::create(&directory.join("model.safetensors")).unwrap();
    let mut writer = TensorFileWriter::new(file, &declared, &Default::default()).unwrap();
    let mut random = efface::random::Random::new(seed, "weights");
    for (name, shape) in &shapes {
        let count: usize = shape.iter().product();
        let mut draw = || if shape.len() == 1 { 1.0 } else { (random.below(2001) as f32 - 1000.0) * 5e-5 };
        writer.append_f32(name, &(0..count).map(|_| draw()).collect::<Vec<_>>()).unwrap();
    }
    writer.commit().unwrap();
}
