"""Make the golden files of tests/objective.rs: what float64 autograd says of other losses than cross-entropy.

    python tests/golden/objectives.py                 # versions as in make.py; writes llama/objectives.safetensors

Every scenario gives each of the seven samples a loss and a weight; stored are the sum of the weighted losses and its gradient
in a few tensors. NPO's reference losses are those of the old model moved by a few nats, as if the model had moved.
"""
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from make import IGNORED, Reference

DIRECTORY = Path(__file__).parent / "llama"
TENSORS = ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.norm.weight"]
WEIGHTS = [0.25, 0.5, 1.0, 0.125, 2.0, 0.5, 1.0]
MOVED = [-3.0, 0.5, 20.0, -8.0, 0.0, 4.0, 1.5]


def losses(kind, total, count, i):
    """A sample's loss: `total` is the sum of its targets' cross-entropies."""
    mean = total / count
    reference = total.item() - MOVED[i]
    return {
        "npo": lambda: -2 / 0.1 * F.logsigmoid(0.1 * (total - reference)),
        "simnpo": lambda: -2 / 2.5 * F.logsigmoid(2.5 * (mean - 4.5)),
        "ascent": lambda: -mean,
        "mean": lambda: mean,
    }[kind]()


SCENARIOS = {
    "npo": [("npo", 1 / 7)] * 7,
    "simnpo": [("simnpo", 1 / 7)] * 7,
    "mixed": [("npo", 0.25), ("mean", 0.5), ("simnpo", 1.0), ("ascent", 0.125), ("mean", 2.0), ("npo", 0.5), ("ascent", 1.0)],
}


def diverged(records, reference):
    """Samples 0, 2 and 4 stay close to an old model, whose first layer has another down_proj; the others are predicted."""
    old = Reference(DIRECTORY / "checkpoint", torch.float64)
    with torch.no_grad():
        old.parameters["model.layers.0.mlp.down_proj.weight"] *= 1.5
    total = 0
    for i, (record, weight) in enumerate(zip(records, WEIGHTS)):
        labels = torch.tensor(record["labels"])[1:]
        here = labels != IGNORED
        logits = reference.logits(record["input_ids"])[:-1][here]
        if i in (0, 2, 4):
            with torch.no_grad():
                target = F.log_softmax(old.logits(record["input_ids"])[:-1][here], -1)
            loss = F.kl_div(F.log_softmax(logits, -1), target, reduction="batchmean", log_target=True)
        else:
            loss = F.cross_entropy(logits, labels[here])
        total = total + weight * loss
    return total


def squared(records, reference):
    """LFSSD's loss: the weighted mean over each sample's target positions of the squared norm of the logits."""
    total = 0
    for record, weight in zip(records, WEIGHTS):
        here = torch.tensor(record["labels"])[1:] != IGNORED
        total = total + weight * reference.logits(record["input_ids"])[:-1][here].pow(2).sum(-1).mean()
    return total


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    records = [json.loads(line) for line in (DIRECTORY / "data.jsonl").read_text().splitlines()]
    reference = Reference(DIRECTORY / "checkpoint", torch.float64)
    parameters = [reference.parameters[name] for name in TENSORS]
    stored, values = {}, {}
    for scenario, terms in SCENARIOS.items():
        total = 0
        for i, (record, (kind, weight)) in enumerate(zip(records, terms)):
            labels = torch.tensor(record["labels"])[1:]
            nll = F.cross_entropy(reference.logits(record["input_ids"])[:-1], labels, ignore_index=IGNORED, reduction="sum")
            total = total + weight * losses(kind, nll, int((labels != IGNORED).sum()), i)
        gradients = torch.autograd.grad(total, parameters)
        stored |= {f"{scenario}/{name}": g.float().contiguous() for name, g in zip(TENSORS, gradients)}
        values[scenario] = repr(total.item())
    gradients = torch.autograd.grad(diverged(records, reference), parameters)
    stored |= {f"kl/{name}": g.float().contiguous() for name, g in zip(TENSORS, gradients)}
    gradients = torch.autograd.grad(squared(records, reference), parameters)
    stored |= {f"squared/{name}": g.float().contiguous() for name, g in zip(TENSORS, gradients)}
    save_file(stored, DIRECTORY / "objectives.safetensors", {"format": "pt", **values})


if __name__ == "__main__":
    main()
