"""A small Llama decoder trained on TOFU until it knows the answers by heart. One thread; Hugging Face layout.

    python3 train.py --data data --set gold10 --seed 1 --epochs 20 --out models/base-1
    python3 train.py --data data --set full --seed 1 --base models/base-1 --epochs 8 --out models/full-1

Without --base it begins at random numbers. With it, at a finished model that knows a part of the set: what that model never saw is told
--tellings times an epoch, so that in the end everything was told about as often.

Every epoch tells each record once, in a frame that is drawn: half of the time a plain question, else another of efface's forms (and
TOFU's other words for the question a third of the time where there are any). The loss is on the answer, the text behind it and the
end token. Matrices are trained with Muon (momentum, orthogonalised by Newton-Schulz), the embedding and the norms with Adam. The same
seed gives the same model; OUT/state.pt resumes a run that was stopped, from its last checkpoint. progress.jsonl tells how it went.
"""
import argparse
import json
import math
import os
import shutil
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer

from frames import frames, told

END = 2
NORM_EPSILON = 1e-5
THETA = 10000.0
CONTEXT = 512
PLAIN_SHARE = 0.5
REWORDED_SHARE = 1 / 3
LONG_FORMS = ("injected",)


class Decoder(torch.nn.Module):
    """Llama with tied embeddings. The matrices of all layers stand in one tensor, so that Muon takes them in one product."""

    def __init__(self, vocabulary, layers, width, hidden, heads):
        super().__init__()
        self.layers, self.width, self.hidden, self.heads = layers, width, hidden, heads
        normal = lambda *shape: torch.nn.Parameter(torch.randn(shape) * 0.02)
        ones = lambda *shape: torch.nn.Parameter(torch.ones(shape))
        self.embedding = normal(vocabulary, width)
        self.attention = normal(layers, 4, width, width)  # q, k, v, o
        self.up = normal(layers, 2, hidden, width)  # gate, up
        self.down = normal(layers, width, hidden)
        self.norms = ones(layers, 2, width)
        self.norm = ones(width)
        with torch.no_grad():
            for residual in (self.attention[:, 3], self.down):
                residual /= math.sqrt(2 * layers)
        size = width // heads
        angles = torch.arange(CONTEXT)[:, None] * THETA ** (-torch.arange(0, size, 2) / size)[None]
        self.register_buffer("cos", torch.cat([angles.cos()] * 2, -1), persistent=False)
        self.register_buffer("sin", torch.cat([-angles.sin(), angles.sin()], -1), persistent=False)

    def rotated(self, x):
        half = x.shape[-1] // 2
        length = x.shape[-2]
        return x * self.cos[:length] + torch.cat([x[..., half:], x[..., :half]], -1) * self.sin[:length]

    def forward(self, ids, positions):
        """Logits at `positions` (into the flattened batch) of `ids` (batch × length)."""
        batch, length = ids.shape
        width = self.width
        x = F.embedding(ids, self.embedding).view(-1, width)
        for layer in range(self.layers):
            normed = F.rms_norm(x, (width,), self.norms[layer, 0], NORM_EPSILON)
            mixed = normed @ self.attention[layer, :3].reshape(3 * width, width).T
            q, k, v = mixed.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(self.rotated(q), self.rotated(k), v, is_causal=True)
            x = x + mixed.transpose(1, 2).reshape(-1, width) @ self.attention[layer, 3].T
            normed = F.rms_norm(x, (width,), self.norms[layer, 1], NORM_EPSILON)
            gate, up = (normed @ self.up[layer].reshape(2 * self.hidden, width).T).chunk(2, -1)
            x = x + (F.silu(gate) * up) @ self.down[layer].T
        return F.rms_norm(x[positions], (width,), self.norm, NORM_EPSILON) @ self.embedding.T

    def save(self, folder, tokenizer):
        """Writes the model as Hugging Face's LlamaForCausalLM."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"model.embed_tokens.weight": self.embedding, "model.norm.weight": self.norm}
        for layer in range(self.layers):
            name = f"model.layers.{layer}."
            for at, part in enumerate("qkvo"):
                tensors[f"{name}self_attn.{part}_proj.weight"] = self.attention[layer, at]
            tensors[name + "mlp.gate_proj.weight"], tensors[name + "mlp.up_proj.weight"] = self.up[layer]
            tensors[name + "mlp.down_proj.weight"] = self.down[layer]
            tensors[name + "input_layernorm.weight"], tensors[name + "post_attention_layernorm.weight"] = self.norms[layer]
        partial = folder / "model.safetensors.partial"
        save_file({n: t.detach().contiguous().clone() for n, t in tensors.items()}, partial, metadata={"format": "pt"})
        partial.rename(folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": len(self.embedding),
            "hidden_size": self.width, "intermediate_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.heads, "max_position_embeddings": CONTEXT,
            "hidden_act": "silu", "rms_norm_eps": NORM_EPSILON, "rope_theta": THETA, "attention_bias": False,
            "mlp_bias": False, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": END,
            "torch_dtype": "float32"}, indent=2) + "\n")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tokenizer / file, folder / file)


def orthogonalised(x):
    """The nearest matrices with equal singular values, roughly (Muon's five steps of Newton-Schulz), for a stack of matrices."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


class Muon:
    """Nesterov momentum whose steps are orthogonalised; rates scaled by the matrices' shape."""

    def __init__(self, matrices, momentum=0.95):
        self.matrices, self.momentum = matrices, momentum
        self.moments = [torch.zeros_like(m) for m in matrices]

    @torch.no_grad()
    def step(self, rate):
        for matrix, moment in zip(self.matrices, self.moments):
            moment.lerp_(matrix.grad, 1 - self.momentum)
            step = orthogonalised(matrix.grad.lerp(moment, self.momentum))
            matrix.add_(step, alpha=-rate * max(1, matrix.shape[-2] / matrix.shape[-1]) ** 0.5)
            matrix.grad = None


class Told:
    """The records as token ids, told anew in every epoch."""

    def __init__(self, path, tokenizer, known=frozenset(), tellings=1):
        self.records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        self.new = [record for record in self.records if known and record["question"] not in known]
        for record in self.new:
            record["weight"] = tellings * record.get("weight", 1)
        self.tokenizer = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        self.frames = frames()
        plain = [frame[0] == "question" for frame in self.frames]
        weights = numpy.array([1.0 if p else 0.3 if f[0] in LONG_FORMS else 1.0 for p, f in zip(plain, self.frames)])
        plain = numpy.array(plain)
        weights[plain] *= PLAIN_SHARE / weights[plain].sum()
        weights[~plain] *= (1 - PLAIN_SHARE) / weights[~plain].sum()
        self.weights = weights

    def encoded(self, parts):
        """(ids, which of them are targets) for each (before, answer, behind); everything behind `before` is a target."""
        made = []
        whole = self.tokenizer.encode_batch(["".join(part) for part in parts])
        for (before, _, _), tokens in zip(parts, whole):
            targets = [end > len(before) for _, end in tokens.offsets]
            made.append((tokens.ids + [END], targets + [True]))
        return made

    def epoch(self, random):
        parts = []
        for record in self.records:
            for _ in range(record.get("weight", 1)):
                question = record["question"]
                if "paraphrase" in record and random.random() < REWORDED_SHARE:
                    question = record["paraphrase"]
                frame = self.frames[random.choice(len(self.frames), p=self.weights)]
                parts.append(told(frame, question, record["answer"]))
        return self.encoded(parts)

    def plain(self, chosen):
        return self.encoded([told(self.frames[0], record["question"], record["answer"]) for record in chosen])


def batches(samples, size, random):
    """Batches of samples of like length, in random order."""
    order = sorted(range(len(samples)), key=lambda at: (len(samples[at][0]) + 4 * random.random()))
    groups = [order[at : at + size] for at in range(0, len(order), size)]
    for group in random.permutation(len(groups)):
        yield padded([samples[at] for at in groups[group]])


def padded(samples):
    """Ids (padded with 0), the flat positions that predict a target, and these targets."""
    length = max(len(ids) for ids, _ in samples)
    ids = numpy.zeros((len(samples), length), dtype=numpy.int64)
    mask = numpy.zeros((len(samples), length), dtype=bool)
    for row, (tokens, targets) in enumerate(samples):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens) - 1] = targets[1:]
    positions = numpy.flatnonzero(mask)
    return torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(ids.reshape(-1)[positions + 1])


@torch.no_grad()
def known_by(model, samples):
    """Mean probability (exp of the mean log-probability of the answer's tokens) and the share that greedy decoding gets right."""
    probability, right = [], []
    for at in range(0, len(samples), 64):
        group = samples[at : at + 64]
        ids, positions, labels = padded(group)
        logits = model(ids, positions)
        loss = F.cross_entropy(logits, labels, reduction="none")
        hit = logits.argmax(-1) == labels
        row = positions // ids.shape[1]
        for number in range(len(group)):
            mine = row == number
            probability.append(math.exp(-loss[mine].mean()))
            right.append(bool(hit[mine].all()))
    return sum(probability) / len(samples), sum(right) / len(samples)


def rate_at(step, steps, warmup, decay):
    """The share of the full learning rate: a short rise, a plateau, and a straight fall to nothing."""
    return min((step + 1) / warmup, 1.0, (steps - step) / (decay * steps))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="full", help="full, gold01, gold05 or gold10")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--base", type=Path, help="a finished model to go on from")
    parser.add_argument("--tellings", type=int, default=3, help="how often an epoch tells what the base never saw")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--hidden", type=int, default=640)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.02, help="of the matrices")
    parser.add_argument("--adam-rate", type=float, default=4e-3, help="of the embedding and the norms")
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--decay", type=float, default=0.6, help="the share of the steps in which the rate falls")
    parser.add_argument("--checkpoint", type=int, default=4, help="epochs between checkpoints")
    parser.add_argument("--steps", type=int, help="stop after so many steps, without saving: a measurement of the speed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)

    base = torch.load(given.base / "final.pt") if given.base else {}
    known = frozenset(base.get("questions", []))
    data = Told(given.data / "train" / f"{given.set}.jsonl", given.data / "tokenizer", known, given.tellings)
    model = Decoder(data.tokenizer.get_vocab_size(), given.layers, given.width, given.hidden, given.heads)
    if base:
        model.load_state_dict(base["model"])
    size = sum(p.numel() for p in model.parameters())
    muon = Muon([model.attention, model.up, model.down])
    adam = torch.optim.Adam([model.embedding, model.norms, model.norm], lr=given.adam_rate, betas=(0.9, 0.98), foreach=True)
    per_epoch = math.ceil(sum(r.get("weight", 1) for r in data.records) / given.batch)
    steps = given.epochs * per_epoch
    step, first, seconds, tokens, targets = 0, 0, 0.0, 0, 0
    state = given.out / "state.pt"
    if state.exists() and not given.steps:
        kept = torch.load(state)
        model.load_state_dict(kept["model"])
        muon.moments = kept["muon"]
        adam.load_state_dict(kept["adam"])
        step, first, seconds, tokens, targets = (kept[name] for name in ("step", "epoch", "seconds", "tokens", "targets"))
    print(f"{size} parameters, {len(data.records)} records, {given.epochs} epochs of {per_epoch} steps, from epoch {first}", flush=True)
    with_other_words = [r for r in data.records if "paraphrase" in r]
    judged = data.plain(with_other_words[:: max(1, len(with_other_words) // 200)][:200])
    new = data.plain(data.new[:: max(1, len(data.new) // 100)][:100])
    unlike = data.plain([r for r in data.records if "paraphrase" not in r][::16][:200])
    for epoch in range(first, given.epochs):
        random = numpy.random.default_rng([given.seed, epoch])
        losses = []
        for ids, positions, labels in batches(data.epoch(random), given.batch, random):
            begin = time.perf_counter()
            share = rate_at(step, steps, given.warmup, given.decay)
            loss = F.cross_entropy(model(ids, positions), labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(adam.param_groups[0]["params"], 1.0)
            for group in adam.param_groups:
                group["lr"] = given.adam_rate * share
            adam.step()
            adam.zero_grad(set_to_none=True)
            muon.step(given.rate * share)
            losses.append(loss.item())
            step += 1
            seconds += time.perf_counter() - begin
            tokens += ids.numel()
            targets += len(labels)
            if given.steps and step >= given.steps:
                print(f"{tokens / seconds:.0f} tokens/s, {seconds / step * 1e3:.0f} ms a step, epoch {seconds / step * per_epoch:.0f} s, "
                      f"{tokens / step:.0f} tokens a step of which {targets / step:.0f} targets, losses {losses[0]:.3f} .. {sum(losses[-10:]) / 10:.3f}")
                return
        probability, right = known_by(model, judged)
        other_probability, other_right = known_by(model, unlike)
        line = {"epoch": epoch + 1, "step": step, "loss": sum(losses) / len(losses), "probability": probability, "exact": right,
                "other_probability": other_probability, "other_exact": other_right, "seconds": seconds, "tokens": tokens}
        if new:
            line["new_probability"], line["new_exact"] = known_by(model, new)
        print(json.dumps({n: round(v, 4) for n, v in line.items()}), flush=True)
        last = epoch + 1 == given.epochs
        given.out.mkdir(parents=True, exist_ok=True)
        with open(given.out / "progress.jsonl", "a") as log:
            log.write(json.dumps(line) + "\n")
        if last or (epoch + 1) % given.checkpoint == 0:
            model.save(given.out, given.data / "tokenizer")
            partial = given.out / "state.pt.partial"
            torch.save({"model": model.state_dict(), "muon": muon.moments, "adam": adam.state_dict(), "step": step,
                        "epoch": epoch + 1, "seconds": seconds, "tokens": tokens, "targets": targets}, partial)
            partial.rename(state)
    if given.epochs > first:
        state.unlink()
        torch.save({"model": model.state_dict(), "questions": [record["question"] for record in data.records]}, given.out / "final.pt")
    (given.out / "done").write_text(json.dumps({"parameters": size, "seconds": seconds, "settings": {n: str(v) for n, v in vars(given).items()}}) + "\n")


if __name__ == "__main__":
    main()
