"""The Fisher diagonal of one checkpoint by efface and by PyTorch, in one run: time a sample, peak memory, ratios.

    pip install torch transformers safetensors opacus
    cargo build --release
    python benches/peers/compare.py --model SmolLM2-135M-Instruct --efface target/release/efface

Every peer runs in a process of its own on the same random token sequences, all tokens targets, in float32:

    loop       backward of one sample, gradients squared and added: what published unlearning code does
    vmap       torch.func: per-sample gradients of a chunk of samples at once
    opacus     per-sample gradients by hooks, a chunk at once
    batched    one backward for a chunk: no per-sample gradient at all, so no Fisher diagonal; the floor
    efface     `efface fisher`, the pass alone

PyTorch's times are medians over samples or chunks after one to warm up; efface's is the whole pass divided by the samples, and
includes keeping what an interrupted run goes on from. Memory is the process's highest resident set (for a GPU the allocator's
peak beside it). On a GPU: `--device cuda`, where loop also runs with TF32 and in bf16.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time

PEERS = ["loop", "vmap", "opacus", "batched"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--efface", required=True)
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 64, 256])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--chunk", type=int, default=4, help="samples of a chunk for vmap, opacus and batched")
    parser.add_argument("--peers", nargs="+", default=PEERS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="f32", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(args)
    vocabulary = json.load(open(os.path.join(args.model, "config.json")))["vocab_size"]
    print(f"{'tokens':>6}  {'who':12} {'s/sample':>9}  {'memory':>9}  time of efface = 1")
    for tokens in args.tokens:
        with tempfile.TemporaryDirectory() as work:
            data = os.path.join(work, "data.jsonl")
            samples = max(16, 4096 // tokens)
            write_data(data, tokens, samples, vocabulary, args.seed)
            ours = efface(args, data, work, samples)
            show(tokens, "efface", ours, ours)
            runs = [(name, "f32") for name in args.peers]
            if args.device == "cuda":
                runs += [("loop", "tf32"), ("loop", "bf16")]
            for name, precision in runs:
                command = [sys.executable, __file__, "--model", args.model, "--efface", args.efface, "--device", args.device,
                           "--threads", str(args.threads), "--chunk", str(args.chunk), "--peer", name, "--data", data,
                           "--precision", precision]
                done = subprocess.run(command, capture_output=True, text=True)
                label = name if precision == "f32" else f"{name} {precision}"
                if done.returncode:
                    reason = (done.stderr.strip().splitlines() or ["?"])[-1]
                    print(f"{tokens:6}  {label:12} failed: {reason[:90]}")
                else:
                    show(tokens, label, json.loads(done.stdout.strip().splitlines()[-1]), ours)


def show(tokens, name, result, ours):
    ratio = result["seconds"] / ours["seconds"]
    memory = f"{result['memory'] / 2**30:.2f} GiB"
    print(f"{tokens:6}  {name:12} {result['seconds']:9.4f}  {memory:>9}  {ratio:.2f}", flush=True)


def write_data(path, tokens, samples, vocabulary, seed):
    chance = random.Random(seed * 1000 + tokens)
    with open(path, "w") as file:
        for _ in range(samples):
            ids = [chance.randrange(vocabulary) for _ in range(tokens)]
            file.write(json.dumps({"input_ids": ids, "labels": ids}) + "\n")


def efface(args, data, work, samples):
    command = [args.efface, "fisher", "--device", "cpu" if args.device == "cpu" else "gpu", "--model", args.model, "--data",
               data, "--out", os.path.join(work, "F.safetensors"), "--json", "-q"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "RAYON_NUM_THREADS": str(args.threads)})
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit("efface failed")
    return {"seconds": json.loads(text)["seconds"] / samples, "memory": usage.ru_maxrss * 1024}


def peer(args):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    # Opacus and vmap need plain operations: no fused attention.
    attention = "eager" if args.peer in ("vmap", "opacus") else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, attn_implementation=attention)
    model.to(args.device).eval()
    samples = [json.loads(line)["input_ids"] for line in open(args.data)]
    chunk = 1 if args.peer == "loop" else args.chunk
    few = 9 if len(samples[0]) < 128 else 5
    batches = [torch.tensor(samples[i : i + chunk]) for i in range(0, min(len(samples), few * chunk), chunk)]
    batches = [batch.to(args.device) for batch in batches if len(batch) == chunk]
    step = {"loop": loop, "vmap": vmap, "opacus": opacus, "batched": batched}[args.peer](torch, model)
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        step(batch)
        if args.device == "cuda":
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / chunk)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if args.device == "cuda":
        memory = torch.cuda.max_memory_allocated()
    print(json.dumps({"seconds": statistics.median(seconds[1:]), "memory": memory}))


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
            fisher[name] += gradient.square().sum(0)

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
            fisher[name] += gradient.square().sum(0)

    return step


if __name__ == "__main__":
    main()
