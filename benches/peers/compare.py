"""The Fisher diagonal by efface beside PyTorch, on the same checkpoint and samples, in the same run.

    python benches/peers/compare.py --model DIR --efface target/release/efface [--device cuda] [--json FILE]

Who runs (`--who`):

    efface    `efface fisher`: the whole pass, with what an interrupted run goes on from being written
    mean      `efface fisher --kind mean`: our own plain backward pass, the summed gradient
    quarter   efface with a quarter of the samples: the time per sample should not depend on how many there are
    loop      autograd, a sample at a time, squared and added up
    vmap      torch.func: vmap over chunks of samples
    opacus    Opacus' per-sample gradients, a chunk at a time
    batched   one backward pass for a chunk: no Fisher diagonal, the floor of an ordinary training step

Every run is a process of its own, so that its peak of memory is its own: resident memory on the CPU, the allocator's on a
GPU. Rounds are interleaved (A B A B), figures are medians over the rounds. The rate of matrix products is measured in every
round too, with PyTorch's product of square matrices, and the share of it counts 6 operations per parameter and token.
Reading the model is not timed for anyone. Needs PyTorch and transformers, and Opacus for `opacus`.
"""

import argparse
import glob
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

OURS = ("efface", "mean", "quarter")
PEERS = ("loop", "vmap", "opacus", "batched")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint that efface and transformers read")
    parser.add_argument("--efface", default="target/release/efface")
    parser.add_argument("--efface-args", default="", help="more arguments for efface, such as --memory 8GiB")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 64, 256], help="tokens of a sample")
    parser.add_argument("--total", type=int, default=4096, help="tokens of all samples together, for efface")
    parser.add_argument("--who", nargs="+", choices=OURS + PEERS, default=[*OURS, *PEERS])
    parser.add_argument("--precision", nargs="+", choices=["f32", "tf32", "bf16"], default=["f32"], help="of the peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a peer in a round, after one that is not")
    parser.add_argument("--chunk", type=int, default=4, help="samples of a chunk for vmap, opacus and batched")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        print(json.dumps(roof(args) if args.peer == "roof" else peer(args)))
        return
    figures = [compare(args, tokens) for tokens in args.tokens]
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"arguments": vars(args), "machine": machine(), "figures": figures}, file, indent=1)


def compare(args, tokens):
    """All contestants at one length of the samples: {who: {"seconds", "memory", ...}}, printed as a table."""
    vocabulary = json.load(open(os.path.join(args.model, "config.json")))["vocab_size"]
    samples = max(8, args.total // tokens)
    runs = {}
    with tempfile.TemporaryDirectory() as work:
        paths = {}
        for name, count in (("all", samples), ("quarter", samples // 4)):
            paths[name] = os.path.join(work, f"{name}.jsonl")
            write_data(paths[name], tokens, count, vocabulary, args.seed)
        for _ in range(args.rounds):
            keep(runs, "roof", child(args, "roof", "f32", paths["all"]))
            for name in args.who:
                if name in OURS:
                    quarter = name == "quarter"
                    data, count = (paths["quarter"], samples // 4) if quarter else (paths["all"], samples)
                    keep(runs, name, efface(args, data, work, count, ["--kind", "mean"] if name == "mean" else []))
                    continue
                for precision in args.precision:
                    label = name if precision == "f32" else f"{name} {precision}"
                    keep(runs, label, child(args, name, precision, paths["all"]))
    figures = {"tokens": tokens, "samples": samples, "rounds": runs}
    figures["medians"] = medians = {name: median(results) for name, results in runs.items()}
    show(figures, medians, parameters(args.model))
    return figures


def keep(runs, name, result):
    runs.setdefault(name, []).append(result)


def median(results):
    good = [result for result in results if "failed" not in result]
    if not good:
        return results[0]
    return {key: statistics.median(result[key] for result in good) for key in good[0]}


def show(figures, medians, count):
    tokens, rate, ours = figures["tokens"], medians["roof"].get("rate"), medians.get("efface")
    print(f"\n{tokens} tokens a sample, {figures['samples']} samples; matrix products run at {rate / 1e9:.0f} GFLOP/s")
    print(f"{'who':14} {'s/sample':>9}  {'memory':>10}  {'of the rate':>11}  {'time':>6}  {'memory':>6}   (efface = 1)")
    for name, result in medians.items():
        if name == "roof":
            continue
        if "failed" in result:
            print(f"{name:14} failed: {result['failed'][:90]}")
            continue
        result["share"] = 6 * count * tokens / result["seconds"] / rate
        line = f"{name:14} {result['seconds']:9.4f}  {result['memory'] / 2**30:6.2f} GiB  {result['share']:11.2f}"
        if ours and "failed" not in ours:
            result["times"] = result["seconds"] / ours["seconds"]
            result["times_memory"] = result["memory"] / ours["memory"]
            line += f"  {result['times']:6.2f}  {result['times_memory']:6.2f}"
        print(line, flush=True)


def parameters(model):
    """How many the checkpoint stores, a tied table counting once."""
    count = 0
    for path in glob.glob(os.path.join(model, "*.safetensors")):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for extent in tensor["shape"]:
                    size *= extent
                count += size
    return count


def machine():
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    flags = next(line for line in open("/proc/cpuinfo") if line.startswith("flags")).split()
    vectors = [name for name in ("avx2", "avx512f", "amx_tile") if name in flags]
    return {"processor": names[0], "cores": len(names), "vectors": vectors, "date": time.strftime("%Y-%m-%d")}


def write_data(path, tokens, samples, vocabulary, seed):
    chance = random.Random(seed * 1000 + tokens)
    with open(path, "w") as file:
        for _ in range(samples):
            ids = [chance.randrange(vocabulary) for _ in range(tokens)]
            file.write(json.dumps({"input_ids": ids, "labels": ids}) + "\n")


def finished(command, **more):
    """The JSON that ends a command's output, from the first line that opens an object, and its peak of resident memory."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, **more)
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            errors.seek(0)
            return {"failed": (errors.read().strip().splitlines() or ["?"])[-1]}, 0
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("{")), 0)
    return json.loads("\n".join(lines[start:])), usage.ru_maxrss * 1024


def efface(args, data, work, samples, more):
    out = os.path.join(work, "F.safetensors")
    command = [args.efface, "fisher", "--device", "cpu" if args.device == "cpu" else "gpu", "--model", args.model, "--data",
               data, "--out", out, "--json", "-q", *more, *args.efface_args.split()]
    result, memory = finished(command, env={**os.environ, "RAYON_NUM_THREADS": str(args.threads)})
    if "failed" in result:
        return result
    os.remove(out)
    if args.device == "cuda":
        memory = result["device"]["peak_memory"]
    return {"seconds": result["seconds"] / samples, "memory": memory}


def child(args, name, precision, data):
    command = [sys.executable, os.path.abspath(__file__), "--model", args.model, "--device", args.device, "--threads",
               str(args.threads), "--chunk", str(args.chunk), "--steps", str(args.steps), "--peer", name, "--data", data,
               "--precision", precision]
    result, memory = finished(command)
    if "failed" not in result:
        result.setdefault("memory", memory)
    return result


def roof(args):
    """The rate of PyTorch's product of square float32 matrices."""
    import torch

    torch.set_num_threads(args.threads)
    side = 2048 if args.device == "cpu" else 8192
    left, right = (torch.randn(side, side, device=args.device) for _ in range(2))
    seconds = timed(torch, args, lambda _: left @ right, range(8))
    return {"rate": 2 * side**3 / seconds}


def timed(torch, args, step, items):
    """Median seconds of a step; the first is not timed."""
    seconds = []
    for item in items:
        start = time.perf_counter()
        step(item)
        if args.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def peer(args):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    [precision] = args.precision
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    # Opacus and vmap need plain operations: no fused attention.
    attention = "eager" if args.peer in ("vmap", "opacus") else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, attn_implementation=attention)
    model.to(args.device).eval()
    samples = [json.loads(line)["input_ids"] for line in open(args.data)]
    chunk = 1 if args.peer == "loop" else args.chunk
    step = {"loop": loop, "vmap": vmap, "opacus": opacus, "batched": batched}[args.peer](torch, model)
    # Samples are used again where there are too few: what they say makes no difference to the time.
    batches = [[samples[(i * chunk + j) % len(samples)] for j in range(chunk)] for i in range(args.steps + 1)]
    batches = [torch.tensor(batch, device=args.device) for batch in batches]
    result = {"seconds": timed(torch, args, step, batches) / chunk}
    if args.device == "cuda":
        result["memory"] = torch.cuda.max_memory_allocated()
    return result


def zeros(torch, model):
    return {name: torch.zeros_like(p, dtype=torch.float32) for name, p in model.named_parameters()}


def loop(torch, model):
    fisher = zeros(torch, model)

    def step(batch):
        model.zero_grad(set_to_none=True)
        model(input_ids=batch, labels=batch).loss.backward()
        for name, parameter in model.named_parameters():
            fisher[name] += parameter.grad.float().square()

    return step


def batched(torch, model):
    def step(batch):
        model.zero_grad(set_to_none=True)
        model(input_ids=batch, labels=batch).loss.backward()

    return step


def vmap(torch, model):
    from torch.func import functional_call, grad, vmap as vectorized

    fisher = zeros(torch, model)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters, ids):
        logits = functional_call(model, parameters, (ids[None],), {"use_cache": False}).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits.float(), ids[1:])

    gradients = vectorized(grad(loss), in_dims=(None, 0), randomness="different")

    def step(batch):
        for name, gradient in gradients(parameters, batch).items():
            fisher[name] += gradient.float().square().sum(0)

    return step


def opacus(torch, model):
    from opacus import GradSampleModule

    fisher = zeros(torch, model)
    # Its hooks look only at a model in training; the models compared have no dropout.
    wrapped = GradSampleModule(model.train(), strict=False)

    def step(batch):
        wrapped.zero_grad(set_to_none=True)
        logits = wrapped(input_ids=batch, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="none")
        loss.view(len(batch), -1).mean(1).sum().backward()
        for name, parameter in model.named_parameters():
            gradient = parameter.grad_sample
            if isinstance(gradient, list):
                gradient = sum(gradient)
            fisher[name] += gradient.float().square().sum(0)

    return step


if __name__ == "__main__":
    main()
