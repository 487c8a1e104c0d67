"""What transformers says of a checkpoint, to be held against `efface eval`: probability and greedy exact match per form.

    python ask_transformers.py --model DIR --probes PROBES.jsonl
"""

import argparse
import collections
import json
import math

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--probes", required=True)
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    forms = collections.defaultdict(list)
    for line in open(args.probes, encoding="utf-8"):
        record = json.loads(line)
        prompt, gold, text = encode(tokenizer, record)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + gold])).logits[0, len(prompt) - 1 : -1]
            picked = logits.double().log_softmax(-1)[torch.arange(len(gold)), torch.tensor(gold)]
            answer = model.generate(
                torch.tensor([prompt]), max_new_tokens=len(gold) + 16, do_sample=False, pad_token_id=tokenizer.eos_token_id
            )[0, len(prompt) :].tolist()
        said = tokenizer.decode(answer, skip_special_tokens=True)
        # An answer without an end token is right if it begins with the gold answer.
        exact = said.strip() == text if record.get("question") else said.strip().startswith(text)
        forms[record["form"]].append((math.exp(picked.mean()), exact, said.strip()[:40]))
    for form, results in forms.items():
        probability = sum(p for p, _, _ in results) / len(results)
        exact = sum(e for _, e, _ in results) / len(results)
        print(f"{form:28} {len(results):3}  probability {probability:.4f}  begins with or is the answer {exact:.3f}  "
              f"e.g. {results[0][2]!r}")


def encode(tokenizer, record):
    if "prompt" in record:
        ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids(record["prompt"]), ids(record["completion"]), record["completion"].strip()
    asked = [{"role": "user", "content": record["question"]}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    full = tokenizer.apply_chat_template(asked + [{"role": "assistant", "content": record["answer"]}], return_dict=False)
    end = len(full) - full[::-1].index(tokenizer.eos_token_id)
    return prompt, full[len(prompt) : end], record["answer"]


if __name__ == "__main__":
    main()
