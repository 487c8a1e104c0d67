"""Make the golden file of tests/heads.rs: what float64 says of models in which some heads' attention maps are pulled.

    python tests/golden/heads.py                      # versions as in make.py; writes heads.json

A pulled head puts out A' V with A' = (1 - u) A + u I. The map itself is changed, inside of the attention function of
transformers: the product with the values is theirs. Stored are the sums of the targets' losses of every sample.
"""
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers.models.gpt2 import modeling_gpt2
from transformers.models.llama import modeling_llama
from transformers.models.qwen3 import modeling_qwen3

from make import IGNORED, Reference

DIRECTORY = Path(__file__).parent
# Of each model two variants: the heads, as layer and head, that are pulled, and how far.
VARIANTS = {
    "llama": [([[0, 1], [0, 4], [1, 0]], 0.5), ([[1, 3]], 1.0)],
    "qwen3": [([[0, 0], [2, 3], [1, 2]], 0.5), ([[1, 1], [1, 3]], 0.25)],
    "gpt2": [([[0, 2], [1, 4]], 0.5), ([[0, 0], [0, 1], [0, 2], [0, 3], [0, 4]], 0.75)],
}
MODULES = {"llama": modeling_llama, "qwen3": modeling_qwen3, "gpt2": modeling_gpt2}


def pulled(pull, knob):
    """transformers' eager attention with pulled maps."""

    def attention(module, query, key, value, attention_mask, scaling=None, **_):
        groups = query.shape[1] // value.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scaling = scaling or query.shape[-1] ** -0.5
        scores = query @ key.transpose(2, 3) * scaling
        tokens = query.shape[2]
        scores = scores.masked_fill(torch.ones(tokens, tokens, dtype=torch.bool).triu(1), -torch.inf)
        maps = scores.softmax(-1)
        for layer, head in pull:
            if layer == module.layer_idx:
                maps[:, head] = (1 - knob) * maps[:, head] + knob * torch.eye(tokens, dtype=maps.dtype)
        return (maps @ value).transpose(1, 2).contiguous(), maps

    return attention


@torch.no_grad()
def losses(name, pull, knob):
    records = [json.loads(line) for line in (DIRECTORY / name / "data.jsonl").read_text().splitlines()]
    reference = Reference(DIRECTORY / name / "checkpoint", torch.float64)
    module = MODULES[name]
    theirs = module.eager_attention_forward
    module.eager_attention_forward = pulled(pull, knob)
    try:
        found = []
        for record in records:
            labels = torch.tensor(record["labels"])[1:]
            logits = reference.logits(record["input_ids"])[:-1]
            found.append(F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum").item())
        return found
    finally:
        module.eager_attention_forward = theirs


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    golden = {}
    for name, variants in VARIANTS.items():
        own = losses(name, [], 0.0)
        expected = json.loads((DIRECTORY / name / "expected.json").read_text())
        print(name, own, [key for key in expected])
        golden[name] = {
            "own": own,
            "variants": [{"heads": heads, "knob": knob, "losses": losses(name, heads, knob)} for heads, knob in variants],
        }
    (DIRECTORY / "heads.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
