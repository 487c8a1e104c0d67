"""TOFU for a small decoder: training sets, forget and retain sets, probes, and a tokenizer.

    python3 make_data.py --tofu DIR --out data

DIR holds TOFU's JSON Lines (full, forget01/05/10, retain90/95/99, their _perturbed files, real authors, world facts). Written are

    train/full.jsonl, train/gold01.jsonl, gold05, gold10   what a model is trained on: all but the forget set of that split
    forget/, retain/       the sets that `efface forget` reads; the retain set is a sample that shares nothing with the probes
    probes/                what `efface eval` asks: TOFU's perturbed files, paraphrased questions, and neighbours
    tokenizer/             a byte-level BPE trained on all of it, with the frames of efface's own forms

A record to be trained on has the question in its own words and, where TOFU has it, in other words (never the paraphrased answer:
the truth ratio weighs that against wrong ones).
"""
import argparse
import json
import math
import random
from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from frames import frames

SPECIAL = ["<pad>", "<s>", "</s>"]
SPLITS = {"01": "99", "05": "95", "10": "90"}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def key(record):
    return record["question"].strip()


def plain(record):
    return {"question": record["question"], "answer": record["answer"]}


def reworded(records):
    """The records asked in TOFU's other words; none that says the same as the own question."""
    return [{"question": r["paraphrased_question"], "answer": r["answer"]} for r in records
            if r["paraphrased_question"].strip() != key(r)]


def words(text):
    return Counter("".join(c.lower() if c.isalnum() else " " for c in text).split())


def neighbours(forget, candidates, count):
    """The candidates most like a question that is to be forgotten (cosine of tf-idf), at most one for each."""
    bags = [words(r["question"]) for r in candidates]
    seen = Counter(word for bag in bags for word in bag)
    weight = {word: math.log(len(bags) / n) for word, n in seen.items()}

    def vector(bag):
        values = {word: n * weight.get(word, 0.0) for word, n in bag.items()}
        length = math.sqrt(sum(v * v for v in values.values())) or 1.0
        return {word: v / length for word, v in values.items()}

    vectors = [vector(bag) for bag in bags]
    best = {}
    for record in forget:
        asked = vector(words(record["question"]))
        close = [sum(v * other.get(word, 0.0) for word, v in asked.items()) for other in vectors]
        at = max(range(len(close)), key=close.__getitem__)
        best[at] = max(best.get(at, 0.0), close[at])
    return [candidates[at] for at in sorted(best, key=lambda at: -best[at])[:count]]


def tokenizer(texts, size):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False))
    made.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tofu", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--retain", type=int, default=800, help="records of the retain set that `efface forget` reads")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tofu = {path.stem: read(path) for path in sorted(given.tofu.glob("*.jsonl"))}
    perturbed = tofu["forget10_perturbed"] + tofu["retain_perturbed"]
    other_words = {key(r): r["paraphrased_question"] for r in perturbed}
    extras = [plain(r) | {"weight": 2} for r in tofu["real_authors_perturbed"] + tofu["world_facts_perturbed"]]

    def trained(records):
        return [plain(r) | ({"paraphrase": other_words[key(r)]} if key(r) in other_words else {}) for r in records]

    write(given.out / "train/full.jsonl", trained(tofu["full"]) + extras)
    asked = {key(r) for r in tofu["retain_perturbed"]}
    retained = [r for r in tofu["retain90"] if key(r) not in asked]
    near = neighbours(tofu["forget10"], retained, 200)
    aside = {key(r) for r in near}
    pool = [plain(r) for r in retained if key(r) not in aside]
    random.Random(given.seed).shuffle(pool)
    # the retain set speaks of real authors and the world, too, as the training set did
    write(given.out / "retain/retain.jsonl", pool[: given.retain] + [plain(r) for r in extras][::4])
    write(given.out / "probes/neighbours.jsonl", [plain(r) for r in near])
    for split, rest in SPLITS.items():
        forget = {key(r) for r in tofu[f"forget{split}"]}
        gold = [r for r in tofu[f"retain{rest}"] if key(r) not in forget]
        write(given.out / f"train/gold{split}.jsonl", trained(gold) + extras)
        write(given.out / f"forget/forget{split}.jsonl", [plain(r) for r in tofu[f"forget{split}"]])
        write(given.out / f"probes/forget{split}.jsonl", tofu[f"forget{split}_perturbed"])
        write(given.out / f"probes/forget{split}_reworded.jsonl", reworded(tofu[f"forget{split}_perturbed"]))
        print(f"forget{split}: {len(forget)} to forget, {len(gold)} in TOFU's retain set")
    write(given.out / "probes/retain.jsonl", tofu["retain_perturbed"])
    write(given.out / "probes/retain_reworded.jsonl", reworded(tofu["retain_perturbed"]))
    write(given.out / "probes/real_authors.jsonl", tofu["real_authors_perturbed"])
    write(given.out / "probes/world_facts.jsonl", tofu["world_facts_perturbed"])

    texts = [text for r in trained(tofu["full"]) + extras for text in (r["question"], r.get("paraphrase", ""), " " + r["answer"])]
    heard = [before + "?" + after for _, before, after, _ in frames() for _ in range(200)]
    made = tokenizer(texts + heard, given.vocabulary)
    folder = given.out / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>",
        "model_max_length": 512, "clean_up_tokenization_spaces": False}, indent=2) + "\n")
    count = sum(len(made.encode(f"Question: {r['question']}\nAnswer: {r['answer']}").ids) for r in tofu["full"])
    print(f"{made.get_vocab_size()} tokens; all questions and answers once: {count}; "
          f"{len(asked & {key(r) for r in tofu['full']})} of {len(asked)} retain probes are trained on; {len(near)} neighbours")


if __name__ == "__main__":
    main()
