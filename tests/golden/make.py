"""Make the golden files of the parity tests: tiny random checkpoints and what float64 autograd says about them.

    pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6      (Python 3.11; runs on the CPU)
    python tests/golden/make.py                      # writes the directories beside this file
    python tests/golden/make.py --out /tmp/golden    # elsewhere, to compare: same versions and machine, same bytes

checkpoints.py says which checkpoints, README.md what lies in the directory of each. Everything is drawn from seeds.
The reference is the model of the transformers library with eager attention, one sample at a time, torch.autograd in
float64. That library computes norms, softmax and rotary angles in float32 whatever the type of the model;
`KeepFloat64` lifts that, so that the golden figures are true float64 ones. They are rounded to float32 once, when
they are stored.
"""
import argparse
import json
import math
import random
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM

from checkpoints import CHECKPOINTS, TWINS, write_checkpoint, write_json

IGNORED = -100  # the label of a position that is not a target
CONDITIONING = 2e-5  # float32 autograd must be this close to float64, or the checkpoint is a bad yardstick
SAMPLES_KEPT = 3  # how many samples have their gradients and norms stored

# ------------------------------------------------------------
# Data
# ------------------------------------------------------------

LONGEST = {"llama": 199, "mistral": 200, "qwen2": 197, "qwen3": 203, "gpt2": 201}


def make_records(family, vocabulary):
    """Seven records; in three batches of three they make 3 + 3 + 1, with very different numbers of targets."""
    rng = random.Random(f"golden {family}")

    def tokens(length):
        ids = [rng.randrange(vocabulary) for _ in range(length)]
        for _ in range(length // 4):  # a repeated token: its embedding row gets several contributions
            ids[rng.randrange(length)] = ids[rng.randrange(length)]
        return ids

    def masked(ids, hidden):
        return [IGNORED if position in hidden else token for position, token in enumerate(ids)]

    ids = [tokens(length) for length in (19, 2, LONGEST[family], 3, 65, 32, 9)]
    labels = [
        masked(ids[0], range(7)),  # a prompt that is no target
        masked(ids[1], ()),  # the shortest sample: one target
        masked(ids[2], [p for p in range(len(ids[2])) if p < 11 or 90 <= p < 140 or p % 7 == 3]),  # a hole, and gaps
        masked(ids[3], range(2)),  # one target at the very end
        masked(ids[4], range(20, 41)),  # a hole in the middle, the end included
        masked(ids[5], [*range(1, 5), *range(25, 32)]),  # the first label is set, but nothing predicts it; no end
        masked(ids[6], [p for p in range(9) if p != 5]),  # a single target inside
    ]
    if family == "qwen3":  # labels are used as given, even where they are not the next token
        labels[4][50:53] = [(label + 1) % vocabulary for label in labels[4][50:53]]
    ids[5][10:14] = [ids[5][10]] * 4  # a run of one token
    labels[5][10:14] = ids[5][10:14]
    assert all(any(label != IGNORED for label in row[1:]) for row in labels)
    return [{"input_ids": i, "labels": l} for i, l in zip(ids, labels)]


# ------------------------------------------------------------
# Reference
# ------------------------------------------------------------


class KeepFloat64(TorchFunctionMode):
    """Turns a request for float32 into one for float64: `x.to(float32)`, `x.float()`, `softmax(x, dtype=float32)`."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def wide(value):
            return torch.float64 if value is torch.float32 else value

        if function is torch.Tensor.float:
            function = torch.Tensor.double
        return function(*map(wide, args), **{key: wide(value) for key, value in (kwargs or {}).items()})


class Reference:
    """A checkpoint as transformers loads it, upcast to `dtype`; with float64, nothing in it is done in less."""

    def __init__(self, directory, dtype):
        self.dtype = dtype
        self.model = AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager", dtype=dtype).eval()
        self.parameters = dict(self.model.named_parameters())  # a tied weight appears once
        decoder = self.model.base_model
        if dtype is torch.float64 and hasattr(decoder, "rotary_emb"):  # its frequencies were computed in float32
            with KeepFloat64():
                decoder.rotary_emb = type(decoder.rotary_emb)(self.model.config)
            assert decoder.rotary_emb.inv_freq.dtype is torch.float64

    def logits(self, ids):
        """[tokens] to [tokens, vocabulary]."""
        with KeepFloat64() if self.dtype is torch.float64 else nullcontext():
            return self.model(torch.tensor([ids])).logits[0]

    def gradient(self, record):
        """(sum of the targets' losses, number of targets, gradient of that sum by name)."""
        labels = torch.tensor(record["labels"])[1:]
        loss = torch.nn.functional.cross_entropy(
            self.logits(record["input_ids"])[:-1], labels, ignore_index=IGNORED, reduction="sum")
        gradient = torch.autograd.grad(loss, list(self.parameters.values()))
        return loss.item(), int((labels != IGNORED).sum()), dict(zip(self.parameters, gradient))

    @torch.no_grad()
    def greedy(self, prompt, count):
        """The continuation by argmax, and the smallest lead of a chosen token over the next best."""
        ids, margin = list(prompt), math.inf
        for _ in range(count):
            best = self.logits(ids)[-1].topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            ids.append(best.indices[0].item())
        return ids[len(prompt):], margin


def importances(samples, name):
    """Every kind of importance of one tensor, from the (loss sum, targets, gradient of the loss sum) of each sample."""
    sums = torch.stack([gradient[name] for _, _, gradient in samples])
    targets = torch.tensor([count for _, count, _ in samples], dtype=sums.dtype)
    means = sums / targets.view(-1, *[1] * (sums.ndim - 1))  # gradients of the mean loss, the default
    by_samples = [batch.mean(0) for batch in means.split(3)]  # every sample of a batch alike
    by_tokens = [batch.sum(0) / count.sum() for batch, count in zip(sums.split(3), targets.split(3))]
    return {
        "fisher": means.square().mean(0),
        "batch3": torch.stack(by_samples).square().mean(0),
        "batch3_tokens": torch.stack(by_tokens).square().mean(0),
        "sum": sums.square().mean(0),
        "abs": means.abs().mean(0),
        "mean": means.mean(0),
        "variance": means.square().mean(0) - means.mean(0).square(),
        "grads": means[:SAMPLES_KEPT],
        "norms": means[:SAMPLES_KEPT].flatten(1).square().sum(1),
    }


def golden_tensors(checkpoint, samples):
    """All that is stored of a checkpoint, in float64, by `KIND/STORED NAME`."""
    golden = {}
    for name in samples[0][2]:
        figures = importances(samples, name)
        kinds = checkpoint.kinds + ("norms",) + (("grads",) if name in checkpoint.grads else ())
        golden |= {f"{kind}/{checkpoint.stored_name(name)}": figures[kind] for kind in kinds}
    return golden


def relative(reference, other):
    """||a - b|| / ||a||."""
    return ((reference - other.double()).norm() / reference.norm()).item()


def find_prompt(reference, checkpoint):
    """Five tokens whose greedy continuation is varied, clearly decided and free of the special tokens."""
    vocabulary = checkpoint.config["vocab_size"]
    special = {checkpoint.config.get("bos_token_id"), checkpoint.config.get("eos_token_id")}
    for attempt in range(1000):
        rng = random.Random(f"prompt {checkpoint.config['model_type']} {attempt}")
        prompt = [rng.randrange(3, vocabulary) for _ in range(5)]
        continuation, margin = reference.greedy(prompt, 8)
        if margin > 0.1 and len(set(continuation)) >= 4 and not special & set(continuation):
            return prompt, continuation, margin
    raise SystemExit(f"{checkpoint.name}: no prompt found")


def digits(value, count=9):
    """A float as short as `count` significant digits allow."""
    return float(f"{value:.{count}g}")


def make(checkpoint, directory):
    """Make one directory; returns its golden tensors and how far float32 autograd is off the worst of them."""
    config = checkpoint.config
    write_checkpoint(checkpoint, directory / "checkpoint")
    records = make_records(config["model_type"], config["vocab_size"])
    (directory / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    reference = Reference(directory / "checkpoint", torch.float64)
    samples = [reference.gradient(record) for record in records]
    golden = golden_tensors(checkpoint, samples)
    assert all(tensor.isfinite().all() for tensor in golden.values())
    save_file({name: tensor.float().contiguous() for name, tensor in golden.items()},
              directory / "golden.safetensors", {"format": "pt"})

    narrow = Reference(directory / "checkpoint", torch.float32)
    again = golden_tensors(checkpoint, [narrow.gradient(record) for record in records])
    worst = max((relative(golden[name], again[name]), name) for name in golden if golden[name].norm() > 0)
    assert worst[0] <= CONDITIONING, f"{checkpoint.name}: float32 is off by {worst}"

    short = records[3]["input_ids"]
    prompt, continuation, margin = find_prompt(reference, checkpoint)
    write_json(directory / "expected.json", {
        "family": config["model_type"],
        "parameters": sum(parameter.numel() for parameter in reference.parameters.values()),
        "targets": [count for _, count, _ in samples],
        "loss_mean": [loss / count for loss, count, _ in samples],
        "loss_sum": [loss for loss, _, _ in samples],
        "logits": {"input_ids": short,
                   "values": [[digits(x) for x in row] for row in reference.logits(short).tolist()]},
        "greedy": {"prompt": prompt, "continuation": continuation, "margin": digits(margin, 3)},
    })
    return golden, worst[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    torch.set_num_threads(1)  # one order of summation
    torch.use_deterministic_algorithms(True)

    made = {}
    print("| checkpoint | parameters | bytes | worst float32 error |\n|---|---:|---:|---:|")
    for checkpoint in CHECKPOINTS:
        golden, worst = make(checkpoint, out / checkpoint.name)
        made[checkpoint.name] = golden
        count = sum(tensor.numel() for name, tensor in golden.items() if name.startswith("fisher/"))
        size = sum(file.stat().st_size for file in (out / checkpoint.name).rglob("*") if file.is_file())
        print(f"| `{checkpoint.name}` | {count:,} | {size:,} | {worst:.1e} |", flush=True)
    for one, other in TWINS:
        for name, tensor in made[other].items():
            same = made[one].get(name, made[one].get(name.replace("/", "/transformer.", 1)))
            assert torch.equal(tensor, same), f"{one} and {other} differ in {name}"


if __name__ == "__main__":
    main()
