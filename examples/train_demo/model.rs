//! The demo's model: a small Llama, its start from chance, and its file.

use std::path::Path;

use efface::checkpoint::{AtomicFile, Declaration, Dtype, TensorFileWriter};
use efface::model::Model;
use efface::unlearn::train::TrainedWeights;
use efface::{Element, Error, Result};
use serde_json::{Value, json};

use crate::random::Random;
use crate::tokenizer::{BEGIN, END};

/// The most tokens of a sample.
pub const CONTEXT: usize = 64;
const HIDDEN: usize = 128;
const INTERMEDIATE: usize = 384;
const LAYERS: usize = 4;
const HEADS: usize = 4;
/// Standard deviation of the weights at the start.
const DEVIATION: f64 = 0.05;

/// The content of config.json. `dtype` is how the weights are stored.
pub fn config(vocabulary: usize, dtype: &str) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": CONTEXT,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": true,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "torch_dtype": dtype
    })
}

/// The tensors' names and shapes.
fn tensors(vocabulary: usize) -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![("model.embed_tokens.weight".to_string(), vec![vocabulary, HIDDEN])];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        };
        add("input_layernorm", &[HIDDEN]);
        for projection in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&format!("self_attn.{projection}"), &[HIDDEN, HIDDEN]);
        }
        add("post_attention_layernorm", &[HIDDEN]);
        add("mlp.gate_proj", &[INTERMEDIATE, HIDDEN]);
        add("mlp.up_proj", &[INTERMEDIATE, HIDDEN]);
        add("mlp.down_proj", &[HIDDEN, INTERMEDIATE]);
    }
    tensors.push(("model.norm.weight".into(), vec![HIDDEN]));
    tensors
}

/// Writes a checkpoint of random weights, F32, to the directory.
pub fn write_start(directory: &Path, vocabulary: usize, seed: u64) -> Result<()> {
    write_text(&directory.join("config.json"), &format!("{:#}\n", config(vocabulary, "float32")))?;
    let tensors = tensors(vocabulary);
    let mut writer = writer(directory, &tensors, Dtype::F32)?;
    let mut random = Random::new(seed, "weights");
    for (name, shape) in &tensors {
        // What is added to the residual stream adds up over the layers (Radford et al. 2019).
        let adds = name.contains("o_proj") || name.contains("down_proj");
        let deviation = if adds { DEVIATION / (2.0 * LAYERS as f64).sqrt() } else { DEVIATION };
        let mut draw = || if shape.len() == 1 { 1.0 } else { (random.normal() * deviation) as f32 };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
        writer.append_f32(name, &values)?;
    }
    writer.commit()
}

/// Writes trained weights, rounded to BF16, to the directory.
pub fn write_trained(directory: &Path, model: &Model, weights: &TrainedWeights) -> Result<()> {
    let mut writer = writer(directory, &tensors(model.config.vocabulary), Dtype::BF16)?;
    for parameter in &model.parameters {
        let Some((element, bytes)) = weights.trained(&parameter.name) else {
            return Err(Error::Failed(format!("{} was not trained", parameter.name)));
        };
        let mut values = vec![0.0; parameter.count()];
        element.decode(&bytes, &mut values)?;
        writer.append(&parameter.name, &Element::Bf16.encode(&values))?;
    }
    writer.commit()
}

fn writer(directory: &Path, tensors: &[(String, Vec<usize>)], dtype: Dtype) -> Result<TensorFileWriter> {
    let declare =
        |(name, shape): &(String, Vec<usize>)| Declaration { name: name.clone(), dtype, shape: shape.clone() };
    let declared: Vec<Declaration> = tensors.iter().map(declare).collect();
    let file = AtomicFile::replace(&directory.join("model.safetensors"))?;
    TensorFileWriter::new(file, &declared, &[("format".to_string(), "pt".to_string())].into())
}

/// Writes a text file.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Error::writing(path, error))
}
