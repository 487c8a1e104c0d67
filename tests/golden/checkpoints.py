"""The checkpoints of the golden files: their configs as Hugging Face writes them, their random weights, their files."""
import json
import math
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

# Sizes are odd on purpose, and apart from `LLAMA` the norms' epsilon is large, so that ignoring it shows.
NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 30, "intermediate_size": 37,
    "num_hidden_layers": 2, "num_attention_heads": 5, "num_key_value_heads": 1, "vocab_size": 151,
    "max_position_embeddings": 256, "hidden_act": "silu", "rms_norm_eps": 1e-05, "attention_bias": False,
    "mlp_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "pretraining_tp": 1, "use_cache": True,
    "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
}
PLAIN_ROPE = {"rope_theta": 10000.0, "rope_scaling": None}
LLAMA3_FACTORS = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}
# Ten features a head and theta 1000: wavelengths 6.3 (kept), 25 (blended), 100, 396 and 1577 (divided by the factor).
LLAMA3 = LLAMA | {"num_attention_heads": 3, "rms_norm_eps": 0.002}
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 33, "intermediate_size": 23,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10, "vocab_size": 157,
    "max_position_embeddings": 8192, "hidden_act": "silu", "rms_norm_eps": 0.003, "rope_theta": 1000000.0,
    "sliding_window": 4096, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
    "tie_word_embeddings": False, "torch_dtype": "float32",
} | NO_SPECIAL_TOKENS
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 36, "intermediate_size": 31,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 163,
    "max_position_embeddings": 512, "hidden_act": "silu", "rms_norm_eps": 0.005, "rope_theta": 1000000.0,
    "use_sliding_window": False, "sliding_window": 64, "max_window_layers": 1, "attention_dropout": 0.0,
    "initializer_range": 0.02, "use_cache": True, "tie_word_embeddings": True,
} | NO_SPECIAL_TOKENS
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 26, "intermediate_size": 35,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10, "vocab_size": 167,
    "max_position_embeddings": 320, "hidden_act": "silu", "rms_norm_eps": 0.004, "attention_bias": False,
    "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}, "use_sliding_window": False,
    "sliding_window": None, "max_window_layers": 3, "layer_types": ["full_attention"] * 3, "attention_dropout": 0.0,
    "initializer_range": 0.02, "use_cache": True, "tie_word_embeddings": True, "dtype": "float32",
} | NO_SPECIAL_TOKENS
GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 35, "n_inner": 39, "n_layer": 2, "n_head": 5,
    "n_positions": 256, "n_ctx": 256, "vocab_size": 149, "activation_function": "gelu_new",
    "layer_norm_epsilon": 0.002, "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "initializer_range": 0.02,
    "summary_type": "cls_index", "summary_use_proj": True, "bos_token_id": None, "eos_token_id": None,
}

ALL_KINDS = ("fisher", "batch3", "batch3_tokens", "sum", "abs", "mean", "variance")
FEW_KINDS = ("fisher", "batch3")
LLAMA_GRADS = ("model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj.weight",
               "model.layers.1.mlp.down_proj.weight", "model.layers.1.input_layernorm.weight")
QWEN2_GRADS = ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
               "model.layers.1.self_attn.k_proj.bias", "model.layers.1.self_attn.v_proj.bias",
               "model.layers.1.mlp.down_proj.weight", "model.norm.weight")
QWEN3_GRADS = ("model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight",
               "model.layers.1.self_attn.q_norm.weight", "model.layers.2.self_attn.k_norm.weight",
               "model.layers.2.mlp.down_proj.weight", "model.layers.0.post_attention_layernorm.weight")
GPT2_GRADS = ("transformer.wte.weight", "transformer.h.0.attn.c_attn.weight",
              "transformer.h.0.attn.c_attn.bias", "transformer.h.1.mlp.c_proj.weight",
              "transformer.h.1.mlp.c_proj.bias", "transformer.h.1.ln_1.weight", "transformer.ln_f.bias")


def llama_inverse_frequencies(config):
    """The buffers that Llama 1 and 2 checkpoints carry, one a layer."""
    size = config["hidden_size"] // config["num_attention_heads"]
    frequencies = config["rope_theta"] ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    return {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": frequencies.float()
            for layer in range(config["num_hidden_layers"])}


def gpt2_causal_masks(config):
    """The buffers that old GPT-2 checkpoints carry: F32 in the first files, U8 in those of a few years later."""
    size = config["n_positions"]
    mask = torch.ones(size, size).tril()[None, None]
    buffers = {f"h.{layer}.attn.bias": mask.to(torch.float32 if layer == 0 else torch.uint8)
               for layer in range(config["n_layer"])}
    return buffers | {f"h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(config["n_layer"])}


@dataclass
class Checkpoint:
    """What to make, and what to store of it."""

    name: str
    config: dict
    seed: int  # two checkpoints of one family and seed have the same weights
    kinds: tuple  # of importance
    grads: tuple = ()  # the tensors whose per-sample gradients are kept, by the model's names
    dtype: torch.dtype = torch.float32  # of the weights in the file
    shards: int = 1
    strip: str = ""  # a prefix left out of the stored names
    buffers: Callable | None = None  # from the config, further tensors of the file
    head_stored: bool = False  # whether a tied output head is in the file a second time

    def stored_name(self, name):
        return name.removeprefix(self.strip)


CHECKPOINTS = [
    Checkpoint("llama", LLAMA | PLAIN_ROPE | {"torch_dtype": "float32"}, 11, ALL_KINDS, LLAMA_GRADS),
    Checkpoint("llama-bf16", LLAMA | PLAIN_ROPE | {"torch_dtype": "bfloat16"}, 12, ("fisher",), dtype=torch.bfloat16,
               buffers=llama_inverse_frequencies),
    Checkpoint("llama-tied-twice", LLAMA | PLAIN_ROPE | {"torch_dtype": "float32", "tie_word_embeddings": True}, 13,
               ("fisher", "abs"), head_stored=True),
    Checkpoint("llama3-rope-old",
               LLAMA3 | {"rope_theta": 1000.0, "rope_scaling": LLAMA3_FACTORS, "torch_dtype": "float32"}, 14,
               FEW_KINDS, LLAMA_GRADS[2:3]),
    Checkpoint("llama3-rope-new",
               LLAMA3 | {"rope_parameters": {"rope_theta": 1000.0} | LLAMA3_FACTORS, "dtype": "float32"}, 14,
               ("fisher",)),
    Checkpoint("mistral", MISTRAL, 21, ALL_KINDS, LLAMA_GRADS[1:]),
    Checkpoint("mistral-sharded", MISTRAL, 21, ("fisher",), shards=3),
    Checkpoint("qwen2", QWEN2 | {"torch_dtype": "float32"}, 31, ALL_KINDS, QWEN2_GRADS),
    Checkpoint("qwen2-f16", QWEN2 | {"torch_dtype": "float16"}, 32, FEW_KINDS, dtype=torch.float16),
    Checkpoint("qwen3", QWEN3, 41, ALL_KINDS, QWEN3_GRADS),
    Checkpoint("gpt2", GPT2 | {"dtype": "float32"}, 51, ALL_KINDS, GPT2_GRADS),
    Checkpoint("gpt2-old", GPT2, 51, ("fisher",), strip="transformer.", buffers=gpt2_causal_masks),
    Checkpoint("gpt2-bf16", GPT2 | {"torch_dtype": "bfloat16"}, 52, ("fisher",), dtype=torch.bfloat16),
]
# Same weights, another file or config: float64 must say the same of both.
TWINS = [("llama3-rope-old", "llama3-rope-new"), ("mistral", "mistral-sharded"), ("gpt2", "gpt2-old")]


def draw(name, shape, tied, generator):
    """A random tensor for the parameter `name`, of a size that keeps softmaxes and gradients lively.

    Gains lie around 1 and biases around 0. A matrix has deviation spread / sqrt(inputs): queries and keys such that
    attention scores deviate by about 1.5, the output head such that logits deviate by about 2.
    """
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if len(shape) == 1:
        return 0.2 * noise if name.endswith("bias") else 1 + 0.2 * noise
    if "wpe" in name:
        return 0.3 * noise
    if "embed_tokens" in name or "wte" in name:
        return noise * (2.0 / math.sqrt(shape[1]) if tied else 0.7)
    inputs = shape[0] if ".c_" in name else shape[1]  # GPT-2 stores [inputs, outputs]
    spread = {"q_proj": 1.2, "k_proj": 1.2, "c_attn": 1.2, "lm_head": 2.0}
    return noise * next((s for part, s in spread.items() if part in name), 1.1) / math.sqrt(inputs)


def write_checkpoint(checkpoint, directory):
    """Write config.json and the safetensors file, or shards and their index, as Hugging Face lays them out."""
    config = checkpoint.config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**deepcopy(config)))  # which edits nested values
    generator = torch.Generator().manual_seed(checkpoint.seed)
    tied = config.get("tie_word_embeddings", True)
    weights = {name: draw(name, parameter.shape, tied, generator).to(checkpoint.dtype)
               for name, parameter in model.named_parameters()}  # a tied weight appears once
    if checkpoint.head_stored:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    tensors = {checkpoint.stored_name(name): tensor.contiguous() for name, tensor in weights.items()}
    if checkpoint.buffers:
        tensors |= checkpoint.buffers(config)

    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", config)
    if checkpoint.shards == 1:
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})
        return
    names, index = list(tensors), {}
    for shard in range(checkpoint.shards):
        part = names[shard * len(names) // checkpoint.shards:(shard + 1) * len(names) // checkpoint.shards]
        file = f"model-{shard + 1:05}-of-{checkpoint.shards:05}.safetensors"
        save_file({name: tensors[name] for name in part}, directory / file, {"format": "pt"})
        index |= {name: file for name in part}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    write_json(directory / "model.safetensors.index.json",
               {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))})


def write_json(path, value):
    """Indented, but a list of numbers on one line."""
    def joined(numbers):
        return re.sub(r"\s+", " ", numbers[0]).replace("[ ", "[").replace(" ]", "]")

    path.write_text(re.sub(r"\[[^][{}]*\]", joined, json.dumps(value, indent=2)) + "\n")
