//! The families: which parameters a model has, under which names, and how its stages use them. A new family is a new
//! function here and its options in `config.rs`; the stages' computation stays as it is.

use super::config::{Config, Family};
use super::parameters::{AttentionStage, Builder, EmbeddingStage, HeadStage, Layout, MlpStage, Parameter, Stage};
use crate::kernels::attention::Heads;

/// The parameters and stages of a model with this config. `prefix` is what the checkpoint's tensor names begin with.
pub(super) fn describe(config: &Config, prefix: &str) -> (Vec<Parameter>, Vec<Stage>) {
    match config.family {
        Family::Gpt2 => gpt2(config, prefix),
        Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3 => llama_like(config, prefix),
    }
}

/// The prefixes under which checkpoints of a family are found: with the language model's head, or saved without it.
pub(super) fn prefixes(family: Family) -> [&'static str; 2] {
    if family == Family::Gpt2 { ["transformer.", ""] } else { ["model.", ""] }
}

/// Where the token embedding is found behind the prefix.
pub(super) fn embedding_name(family: Family) -> &'static str {
    if family == Family::Gpt2 { "wte.weight" } else { "embed_tokens.weight" }
}

/// Buffers that old checkpoints store beside the parameters: carried along, and not computed with.
pub(super) fn is_buffer(name: &str) -> bool {
    [".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq"].iter().any(|ending| name.ends_with(ending))
}

fn heads(config: &Config) -> Heads {
    Heads { heads: config.heads, kv_heads: config.kv_heads, head_dim: config.head_dim }
}

fn llama_like(config: &Config, prefix: &str) -> (Vec<Parameter>, Vec<Stage>) {
    let mut b = Builder::new(config);
    let tokens = b.table(prefix, "embed_tokens", config.vocabulary);
    let mut stages = vec![Stage::Embedding(EmbeddingStage { tokens, positions: None })];
    let (heads, hidden) = (heads(config), config.hidden);
    let [queries, keys] = [heads.width(), heads.kv_heads * heads.head_dim];
    for layer in 0..config.layers {
        b.layer(Some(layer));
        let at = format!("{prefix}layers.{layer}.");
        let project =
            |b: &mut Builder<'_>, name, outputs| b.linear(&at, name, [hidden, outputs], config.qkv_bias, Layout::OutIn);
        stages.push(Stage::Attention(AttentionStage {
            norm: b.norm(&at, "input_layernorm", hidden, false),
            inputs: vec![
                (project(&mut b, "self_attn.q_proj", queries), 0),
                (project(&mut b, "self_attn.k_proj", keys), queries),
                (project(&mut b, "self_attn.v_proj", keys), queries + keys),
            ],
            head_norms: (config.family == Family::Qwen3)
                .then(|| ["self_attn.q_norm", "self_attn.k_norm"].map(|name| b.norm(&at, name, heads.head_dim, false))),
            output: b.linear(&at, "self_attn.o_proj", [queries, hidden], config.output_bias, Layout::OutIn),
            heads,
            rotary: true,
        }));
        let widths = [hidden, config.intermediate];
        stages.push(Stage::Mlp(MlpStage {
            norm: b.norm(&at, "post_attention_layernorm", hidden, false),
            gate: Some(b.linear(&at, "mlp.gate_proj", widths, config.mlp_bias, Layout::OutIn)),
            up: b.linear(&at, "mlp.up_proj", widths, config.mlp_bias, Layout::OutIn),
            down: b.linear(&at, "mlp.down_proj", [config.intermediate, hidden], config.mlp_bias, Layout::OutIn),
        }));
    }
    b.layer(None);
    let norm = b.norm(prefix, "norm", hidden, false);
    finish(b, stages, norm, tokens)
}

fn gpt2(config: &Config, prefix: &str) -> (Vec<Parameter>, Vec<Stage>) {
    let mut b = Builder::new(config);
    let tokens = b.table(prefix, "wte", config.vocabulary);
    let positions = Some(b.table(prefix, "wpe", config.context));
    let mut stages = vec![Stage::Embedding(EmbeddingStage { tokens, positions })];
    let hidden = config.hidden;
    for layer in 0..config.layers {
        b.layer(Some(layer));
        let at = format!("{prefix}h.{layer}.");
        stages.push(Stage::Attention(AttentionStage {
            norm: b.norm(&at, "ln_1", hidden, true),
            inputs: vec![(b.linear(&at, "attn.c_attn", [hidden, 3 * hidden], true, Layout::InOut), 0)],
            head_norms: None,
            output: b.linear(&at, "attn.c_proj", [hidden, hidden], true, Layout::InOut),
            heads: heads(config),
            rotary: false,
        }));
        stages.push(Stage::Mlp(MlpStage {
            norm: b.norm(&at, "ln_2", hidden, true),
            gate: None,
            up: b.linear(&at, "mlp.c_fc", [hidden, config.intermediate], true, Layout::InOut),
            down: b.linear(&at, "mlp.c_proj", [config.intermediate, hidden], true, Layout::InOut),
        }));
    }
    b.layer(None);
    let norm = b.norm(prefix, "ln_f", hidden, true);
    finish(b, stages, norm, tokens)
}

/// Adds the head: the embedding itself where they are tied, a table of its own otherwise.
fn finish(
    mut b: Builder<'_>,
    mut stages: Vec<Stage>,
    norm: super::parameters::Norm,
    tokens: usize,
) -> (Vec<Parameter>, Vec<Stage>) {
    let weight = if b.config.tied {
        b.parameters[tokens].copies.push("lm_head.weight".into());
        tokens
    } else {
        b.table("", "lm_head", b.config.vocabulary)
    };
    stages.push(Stage::Head(HeadStage { norm, weight }));
    (b.parameters, stages)
}
