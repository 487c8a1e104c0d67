//! A checkpoint with random weights of a named shape: time and memory do not depend on what the weights are.

use std::collections::BTreeMap;
use std::path::Path;

use super::Shape;
use super::case::Data;
use crate::checkpoint::{AtomicFile, Declaration, Dtype, TensorFileWriter};
use crate::random::Random;
use crate::{Error, Result};

/// Writes a Llama of this shape with `layers` layers and tied embeddings into the directory `dir`, which is made.
///
/// # Errors
/// When it cannot be written.
pub fn write_random(shape: &Shape, layers: usize, seed: u64, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| Error::writing(dir, e))?;
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": shape.hidden, "intermediate_size": shape.feed_forward, "num_hidden_layers": layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_theta": 100_000.0, "tie_word_embeddings": true, "torch_dtype": "float32",
    });
    let path = dir.join("config.json");
    std::fs::write(&path, format!("{config:#}\n")).map_err(|e| Error::writing(&path, e))?;
    let (hidden, width, kv) = (shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let mut tensors = vec![("model.embed_tokens.weight".to_string(), vec![shape.vocabulary, hidden])];
    for layer in 0..layers {
        let mut add =
            |name: &str, dims: Vec<usize>| tensors.push((format!("model.layers.{layer}.{name}.weight"), dims));
        add("input_layernorm", vec![hidden]);
        add("self_attn.q_proj", vec![width, hidden]);
        add("self_attn.k_proj", vec![kv, hidden]);
        add("self_attn.v_proj", vec![kv, hidden]);
        add("self_attn.o_proj", vec![hidden, width]);
        add("post_attention_layernorm", vec![hidden]);
        add("mlp.gate_proj", vec![shape.feed_forward, hidden]);
        add("mlp.up_proj", vec![shape.feed_forward, hidden]);
        add("mlp.down_proj", vec![hidden, shape.feed_forward]);
    }
    tensors.push(("model.norm.weight".to_string(), vec![hidden]));
    let declare = |(name, dims): &(String, Vec<usize>)| Declaration {
        name: name.clone(),
        dtype: Dtype::F32,
        shape: dims.clone(),
    };
    let declarations: Vec<Declaration> = tensors.iter().map(declare).collect();
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let file = AtomicFile::create(&dir.join("model.safetensors"))?;
    let mut writer = TensorFileWriter::new(file, &declarations, &metadata)?;
    let mut data = Data(Random::new(seed, "random checkpoint"));
    for (name, dims) in &tensors {
        let count = dims.iter().product();
        // A vector is a norm's gain; a matrix keeps its input's size.
        let values = match dims.len() {
            1 => vec![1.0; count],
            _ => {
                let scale = (3.0 / *dims.last().unwrap_or(&1) as f32).sqrt();
                data.values(count).iter().map(|v| v * scale).collect()
            }
        };
        writer.append_f32(name, &values)?;
    }
    writer.commit()
}
