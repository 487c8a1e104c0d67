"""Makes facts, their phrasings and ordinary text of the data of ../smollm2_capitals, for `--method redirect`.

    python make_facts.py --data cap

Writes cap/facts.jsonl (subject, relation, object), cap/relations.json (the wordings shown, none of those held out),
cap/retain-facts.jsonl (the retain set with its capitals as facts, so that their countries are held), cap/facts-20.jsonl (twice as many facts, those to be kept among the capitals asked included), cap/facts-kept.jsonl (the capitals that are
asked and kept) and cap/text.jsonl.
"""

import argparse
import json
import pathlib

SHOWN = ["The capital of [X] is [Y]", "[X]'s capital is [Y]", "[X]'s capital city is [Y]"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, type=pathlib.Path)
    data = parser.parse_args().data
    forget = facts(data / "probes-forget.jsonl")
    write(data / "facts.jsonl", forget)
    write(data / "facts-20.jsonl", forget + facts(data / "probes-capitals.jsonl")[:10])
    write(data / "facts-kept.jsonl", facts(data / "probes-capitals.jsonl"))
    (data / "relations.json").write_text(json.dumps({"capital": SHOWN}), encoding="utf-8")
    write(data / "retain-facts.jsonl", retained(read(data / "retain.jsonl")))
    write(data / "text.jsonl", [record for record in read(data / "retain.jsonl") if "text" in record])


def facts(path):
    """The facts that a file of probes asks for in a chat."""
    found = []
    for record in read(path):
        if record.get("form") == "chat":
            subject = record["question"].removeprefix("What is the capital of ").removesuffix("?")
            city = record["answer"].removeprefix(f"The capital of {subject} is ").removesuffix(".")
            found.append({"subject": subject, "relation": "capital", "object": city})
    return found


def retained(records):
    """The same records, capitals told as one fact instead of in every wording."""
    told = set()
    for record in records:
        wording = record.get("form", "")
        if wording + " [Y]" not in SHOWN:
            yield record
            continue
        before, after = wording.split("[X]")
        subject = record["prompt"].removeprefix(before).removesuffix(after)
        if subject not in told:
            told.add(subject)
            yield {"subject": subject, "relation": "capital", "object": record["completion"].strip()}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
