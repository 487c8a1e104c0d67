"""The Fisher diagonal as published unlearning code computes it, one sample at a time, and how far ours is from it.

    python torch_loop.py --model DIR --data QUESTIONS.jsonl --ours F.safetensors [--threads 2]

Float32 on the CPU, whatever the checkpoint stores. Reading, writing and tokenizing are not part of the times.
"""

import argparse
import json
import statistics
import time

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    # Transformers makes the input's gradient at the padding token zero, also where that token is the end of a turn and no
    # padding, as here. The loss does depend on it.
    model.get_input_embeddings().padding_idx = None
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    samples = [encode(tokenizer, json.loads(line)) for line in open(args.data, encoding="utf-8")]
    parameters = dict(model.named_parameters())
    fisher = {name: torch.zeros_like(p) for name, p in parameters.items()}
    seconds = []
    for ids, labels in samples:
        start = time.perf_counter()
        model.zero_grad(set_to_none=True)
        model(input_ids=ids, labels=labels).loss.backward()
        for name, parameter in parameters.items():
            fisher[name] += parameter.grad.square()
        seconds.append(time.perf_counter() - start)
    ours = load_file(args.ours)
    errors = {name: relative(ours[name], f / len(samples)) for name, f in fisher.items()}
    worst = max(errors, key=errors.get)
    tokens = sum(ids.shape[1] for ids, _ in samples)
    print(f"{len(samples)} samples, {tokens} tokens; PyTorch {torch.__version__}, {args.threads} threads")
    print(f"seconds a sample: mean {statistics.mean(seconds):.3f}, median {statistics.median(seconds):.3f}")
    print(f"{len(errors)} tensors; relative error: median {statistics.median(errors.values()):.1e}, "
          f"worst {errors[worst]:.1e} ({worst})")


def encode(tokenizer, record):
    asked = [{"role": "user", "content": record["question"]}]
    answered = asked + [{"role": "assistant", "content": record["answer"]}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    ids = tokenizer.apply_chat_template(answered, return_dict=False)
    assert ids[: len(prompt)] == prompt
    labels = [-100] * len(prompt) + ids[len(prompt) :]
    # The template ends the answer's turn with a line break, which nobody has to predict.
    end = len(ids) - 1 - ids[::-1].index(tokenizer.eos_token_id)
    labels[end + 1 :] = [-100] * (len(ids) - end - 1)
    return torch.tensor([ids]), torch.tensor([labels])


def relative(ours, theirs):
    return ((ours.double() - theirs.double()).norm() / theirs.double().norm()).item()


if __name__ == "__main__":
    main()
