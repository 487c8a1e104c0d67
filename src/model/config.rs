//! Reads a checkpoint's `config.json`, as Hugging Face writes it now and as it wrote it before, into the few numbers
//! that the engine computes with. Whatever it does not know how to compute is refused by name.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::rope::{Rope, RopeScaling};
use crate::kernels::activation::Activation;
use crate::{Error, Result};

/// A model family: a set of names, norms and options that the engine can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 2 and 3, SmolLM2.
    Llama,
    /// Mistral 7B and its kin.
    Mistral,
    /// Qwen 2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: norms on queries and keys, explicit `head_dim`.
    Qwen3,
    /// GPT-2: LayerNorm, learned positions, matrices stored `[in, out]`.
    Gpt2,
}

impl Family {
    /// All families and their `model_type`.
    pub const ALL: [(Family, &'static str); 5] = [
        (Family::Llama, "llama"),
        (Family::Mistral, "mistral"),
        (Family::Qwen2, "qwen2"),
        (Family::Qwen3, "qwen3"),
        (Family::Gpt2, "gpt2"),
    ];

    /// The `model_type` in config.json.
    pub fn name(self) -> &'static str {
        Family::ALL.iter().find(|(family, _)| *family == self).map_or("", |(_, name)| name)
    }
}

/// The numbers that define a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which family's names and options apply.
    pub family: Family,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the feed-forward block.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The most positions a sample may have.
    pub context: usize,
    /// Added to the variance in norms.
    pub epsilon: f32,
    /// The feed-forward block's activation function.
    pub activation: Activation,
    /// Whether embedding and head are one parameter.
    pub tied: bool,
    /// Biases on the attention's input projections.
    pub qkv_bias: bool,
    /// A bias on the attention's output projection.
    pub output_bias: bool,
    /// Biases in the feed-forward block.
    pub mlp_bias: bool,
    /// Rotary embedding; none where positions are learned.
    pub rope: Option<Rope>,
}

impl Config {
    /// Reads `config` (the content of `path`).
    ///
    /// # Errors
    /// When a key is missing or has a wrong value, or the model is of a kind that efface cannot compute.
    pub fn read(path: &Path, config: &Value) -> Result<Config> {
        let Value::Object(keys) = config else { return Err(Error::file(path, "", "is no JSON object")) };
        let keys = Keys { path: path.to_path_buf(), keys };
        let kind = keys.text("model_type")?.ok_or_else(|| keys.wrong("model_type", "is missing"))?;
        let known = Family::ALL.map(|(_, name)| name).join(", ");
        let Some((family, _)) = Family::ALL.into_iter().find(|(_, name)| *name == kind) else {
            return Err(
                keys.wrong("model_type", format!("the family {kind:?} is not supported; supported are {known}"))
            );
        };
        keys.refuse_unsupported()?;
        let config = if family == Family::Gpt2 { keys.gpt2()? } else { keys.llama_like(family)? };
        keys.check(&config)?;
        Ok(config)
    }
}

/// The keys of a config.json, with errors that name them.
struct Keys<'a> {
    path: PathBuf,
    keys: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn wrong(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::file(&self.path, key, problem)
    }

    /// The value of `key`; `null` counts as absent.
    fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.wrong(key, format!("is {value}, not a text"))),
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, format!("is {value}, not true or false"))),
        }
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(number) if (1..=1 << 31).contains(&number) => Ok(Some(number as usize)),
            _ => Err(self.wrong(key, format!("is {value}; right is a whole number from 1 to 2^31"))),
        }
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn positive(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 && number.is_finite() => Ok(number),
                _ => Err(self.wrong(key, format!("is {value}; right is a number above 0"))),
            },
        }
    }

    /// Options that change the computation in ways that the engine does not know.
    fn refuse_unsupported(&self) -> Result<()> {
        for key in ["quantization_config", "num_local_experts", "num_experts", "n_routed_experts", "auto_map"] {
            if self.get(key).is_some_and(|value| value.as_u64() != Some(0)) {
                return Err(
                    self.wrong(key, "this option is not supported (no quantised, mixture-of-experts or custom models)")
                );
            }
        }
        for (key, wanted) in [
            ("scale_attn_weights", true),
            ("scale_attn_by_inverse_layer_idx", false),
            ("add_cross_attention", false),
            ("is_encoder_decoder", false),
        ] {
            if self.flag(key, wanted)? != wanted {
                return Err(self.wrong(key, format!("is {}; only {wanted} is supported", !wanted)));
            }
        }
        if self.positive("partial_rotary_factor", 1.0)? != 1.0 {
            return Err(self.wrong("partial_rotary_factor", "only 1 is supported"));
        }
        if let Some(Value::Array(names)) = self.get("architectures") {
            let causal =
                |name: &Value| name.as_str().is_some_and(|n| n.ends_with("ForCausalLM") || n.ends_with("LMHeadModel"));
            if !names.is_empty() && !names.iter().any(causal) {
                return Err(self.wrong("architectures", format!("{} is no causal language model", names[0])));
            }
        }
        Ok(())
    }

    fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        match self.text(key)?.unwrap_or(default) {
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::Gelu),
            "silu" | "swish" => Ok(Activation::Silu),
            "relu" => Ok(Activation::Relu),
            other => Err(self.wrong(key, format!("the activation {other:?} is not supported"))),
        }
    }

    fn gpt2(&self) -> Result<Config> {
        let hidden = self.required("n_embd")?;
        let heads = self.required("n_head")?;
        Ok(Config {
            family: Family::Gpt2,
            vocabulary: self.required("vocab_size")?,
            hidden,
            intermediate: self.size("n_inner")?.unwrap_or(4 * hidden),
            layers: self.required("n_layer")?,
            heads,
            kv_heads: heads,
            head_dim: hidden / heads,
            context: self.size("n_positions")?.or(self.size("n_ctx")?).unwrap_or(1024),
            epsilon: self.positive("layer_norm_epsilon", 1e-5)? as f32,
            activation: self.activation("activation_function", "gelu_new")?,
            tied: self.flag("tie_word_embeddings", true)?,
            qkv_bias: true,
            output_bias: true,
            mlp_bias: true,
            rope: None,
        })
    }

    fn llama_like(&self, family: Family) -> Result<Config> {
        let hidden = self.required("hidden_size")?;
        let heads = self.required("num_attention_heads")?;
        let default_head_dim = if family == Family::Qwen3 { 128 } else { hidden / heads };
        let head_dim = self.size("head_dim")?.unwrap_or(default_head_dim);
        let attention_bias = match family {
            Family::Llama | Family::Qwen3 => self.flag("attention_bias", false)?,
            _ => false,
        };
        let context = self.required("max_position_embeddings")?;
        Ok(Config {
            family,
            vocabulary: self.required("vocab_size")?,
            hidden,
            intermediate: self.required("intermediate_size")?,
            layers: self.required("num_hidden_layers")?,
            heads,
            kv_heads: self.size("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            context: self.sliding_window(family)?.map_or(context, |window| window.min(context)),
            epsilon: self.positive("rms_norm_eps", 1e-6)? as f32,
            activation: self.activation("hidden_act", "silu")?,
            tied: self.flag("tie_word_embeddings", false)?,
            qkv_bias: attention_bias || family == Family::Qwen2,
            output_bias: attention_bias,
            mlp_bias: family == Family::Llama && self.flag("mlp_bias", false)?,
            rope: Some(self.rope(head_dim)?),
        })
    }

    /// The window, where one is on. Attention over a window equals full attention for samples that are no longer, so a
    /// window shortens the context and changes nothing else.
    fn sliding_window(&self, family: Family) -> Result<Option<usize>> {
        match family {
            // A Mistral config without the key means 4096; null means none.
            Family::Mistral if !self.keys.contains_key("sliding_window") => Ok(Some(4096)),
            Family::Mistral => self.size("sliding_window"),
            Family::Qwen2 | Family::Qwen3 if self.flag("use_sliding_window", false)? => {
                Ok(self.size("sliding_window")?.or(Some(4096)))
            }
            _ => Ok(None),
        }
    }

    /// Old style: `rope_theta` and `rope_scaling` beside it. New style: all in `rope_parameters`.
    fn rope(&self, head_dim: usize) -> Result<Rope> {
        let (key, group) = match (self.get("rope_parameters"), self.get("rope_scaling")) {
            (Some(group), _) => ("rope_parameters", Some(group)),
            (None, group) => ("rope_scaling", group),
        };
        let empty = Map::new();
        let inner = match group {
            None => &empty,
            Some(Value::Object(inner)) => inner,
            Some(other) => return Err(self.wrong(key, format!("is {other}, not an object"))),
        };
        let inner = Keys { path: self.path.clone(), keys: inner };
        let theta = inner.positive("rope_theta", self.positive("rope_theta", 10_000.0)?)?;
        if inner.positive("partial_rotary_factor", 1.0)? != 1.0 {
            return Err(self.wrong(key, "partial_rotary_factor: only 1 is supported"));
        }
        let kind = inner.text("rope_type")?.or(inner.text("type")?).unwrap_or("default");
        let need = |name: &str| match inner.positive(name, 0.0)? {
            0.0 => Err(self.wrong(key, format!("{name} is missing"))),
            number => Ok(number),
        };
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: need("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: need("factor")?,
                low_frequency_factor: need("low_freq_factor")?,
                high_frequency_factor: need("high_freq_factor")?,
                original_context: need("original_max_position_embeddings")?,
            },
            other => {
                let problem =
                    format!("the rotary scaling {other:?} is not supported; supported are default, linear, llama3");
                return Err(self.wrong(key, problem));
            }
        };
        Ok(Rope { theta, head_dim, scaling })
    }

    fn check(&self, config: &Config) -> Result<()> {
        let heads_key = if config.family == Family::Gpt2 { "n_head" } else { "num_attention_heads" };
        if !config.heads.is_multiple_of(config.kv_heads) {
            let problem = format!("{} query heads cannot share {} key heads evenly", config.heads, config.kv_heads);
            return Err(self.wrong("num_key_value_heads", problem));
        }
        let explicit = self.get("head_dim").is_some() || config.family == Family::Qwen3;
        if config.head_dim == 0 || (!explicit && config.head_dim * config.heads != config.hidden) {
            let problem = format!("a width of {} cannot be divided into {} heads", config.hidden, config.heads);
            return Err(self.wrong(heads_key, problem));
        }
        if config.rope.is_some() && !config.head_dim.is_multiple_of(2) {
            return Err(self.wrong("head_dim", format!("is {}; rotary embedding needs an even width", config.head_dim)));
        }
        if config.head_dim > 256 {
            return Err(self.wrong("head_dim", format!("is {}; at most 256 is supported", config.head_dim)));
        }
        let largest = [config.vocabulary * config.hidden, config.hidden * config.intermediate]
            .into_iter()
            .chain([config.hidden * config.head_dim * (config.heads + 2 * config.kv_heads)])
            .max();
        if largest.is_some_and(|elements| elements >= 1 << 32) || config.layers > 10_000 {
            return Err(self.wrong("", "the sizes describe a matrix of 2^32 elements or more, or over 10,000 layers"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(config: &Value) -> Result<Config> {
        Config::read(Path::new("config.json"), config)
    }

    fn llama() -> Value {
        json!({"model_type": "llama", "hidden_size": 30, "intermediate_size": 44, "num_hidden_layers": 2,
               "num_attention_heads": 5, "vocab_size": 151, "max_position_embeddings": 256})
    }

    fn with(mut config: Value, key: &str, value: Value) -> Value {
        config[key] = value;
        config
    }

    #[test]
    fn old_and_new_style_are_one() {
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 64});
        let old = with(with(llama(), "rope_theta", json!(5e5)), "rope_scaling", scaling.clone());
        let new = with(llama(), "rope_parameters", with(scaling, "rope_theta", json!(5e5)));
        assert_eq!(read(&old).unwrap(), read(&new).unwrap());
        assert_ne!(read(&old).unwrap().rope, read(&llama()).unwrap().rope);
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        for (key, value, named) in [
            ("model_type", json!("mamba"), "mamba"),
            ("num_local_experts", json!(8), "num_local_experts"),
            ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), "yarn"),
            ("hidden_act", json!("tanhshrink"), "tanhshrink"),
            ("quantization_config", json!({"bits": 4}), "quantization_config"),
            ("hidden_size", json!(-3), "hidden_size"),
            ("num_key_value_heads", json!(3), "num_key_value_heads"),
            ("architectures", json!(["LlamaForSequenceClassification"]), "architectures"),
            ("vocab_size", Value::Null, "vocab_size"),
            ("head_dim", json!(7), "head_dim"),
        ] {
            let error = read(&with(llama(), key, value)).unwrap_err();
            assert!(error.is_input() && error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn a_window_shortens_the_context_where_it_is_on() {
        let mistral = with(with(llama(), "model_type", json!("mistral")), "max_position_embeddings", json!(9000));
        assert_eq!(read(&mistral).unwrap().context, 4096);
        assert_eq!(read(&with(mistral.clone(), "sliding_window", Value::Null)).unwrap().context, 9000);
        let qwen = with(with(mistral, "model_type", json!("qwen2")), "sliding_window", json!(64));
        assert_eq!(read(&qwen).unwrap().context, 9000);
        assert_eq!(read(&with(qwen, "use_sliding_window", json!(true))).unwrap().context, 64);
    }
}
