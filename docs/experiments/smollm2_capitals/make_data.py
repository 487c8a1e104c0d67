"""Makes the data of this experiment: eight capitals to forget, and what is to be kept.

    python make_data.py --facts FACTS.jsonl --wikitext test.parquet --out DIR [--seed 0]

FACTS.jsonl: one object a line with `rel`, `subject`, `object` and `forms_hit`, the prompts that the model completes
rightly (ParaRel facts; P36: capitals, P30: continents, P103: native languages). wikitext: WikiText-2 raw.
"""

import argparse
import collections
import json
import pathlib
import random

SEEN = ["The capital of {x} is", "{x}'s capital is", "{x}'s capital city is"]
HELD_OUT = ["The capital city of {x} is", "{x}'s capital,", "{x}'s capital city,"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--facts", required=True)
    parser.add_argument("--wikitext", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    facts = [json.loads(line) for line in open(args.facts, encoding="utf-8")]

    # A name that gives its capital away is no knowledge; a city is forgotten as the capital of all that it is capital of.
    capitals = [f for f in facts if f["rel"] == "P36" and len(f["forms_hit"]) >= 4 and f["object"] not in f["subject"]]
    subjects = collections.Counter(f["object"] for f in capitals)
    cities = sorted(city for city, count in subjects.items() if count <= 2)
    chance.shuffle(cities)
    gone = set(cities[:8])
    forget = [f for f in capitals if f["object"] in gone]
    others = [f for f in capitals if f["object"] not in gone]
    chance.shuffle(others)
    kept, asked = others[: len(others) // 2], others[len(others) // 2 :]

    texts = paragraphs(args.wikitext)
    chance.shuffle(texts)
    facets = [f for f in facts if f["rel"] in ("P30", "P103") and f["forms_hit"]]
    chance.shuffle(facets)

    args.out.mkdir(parents=True)
    write(args.out / "forget.jsonl", phrased(forget, SEEN))
    write(args.out / "retain.jsonl", phrased(kept, SEEN) + [other(f) for f in facets[:100]] + texts[:120])
    # The capitals that are kept, in a chat: a form that the forget set does not show, nor the rest of the retain set.
    write(args.out / "retain-chat.jsonl", chat(kept))
    write(args.out / "probes-forget.jsonl", phrased(forget, SEEN) + phrased(forget, HELD_OUT) + chat(forget) + begun(forget))
    # Capitals that the retain set does not name, in wordings that it does not use.
    write(args.out / "probes-capitals.jsonl", phrased(asked, HELD_OUT) + chat(asked) + begun(asked))
    # What else the forgotten words are good for: the fact the other way round, and repeating a word that is there to read.
    write(args.out / "probes-words.jsonl", words(forget, "to be forgotten") + words(asked, "others"))
    write(args.out / "probes-facts.jsonl", [other(f) for f in facets[100:200]])
    write(args.out / "probes-text.jsonl", texts[200:260])
    print("to be forgotten:", ", ".join(f"{f['subject']} ({f['object']})" for f in forget))


def phrased(facts, wordings):
    return [
        {"prompt": wording.format(x=f["subject"]), "completion": " " + f["object"], "form": wording.format(x="[X]")}
        for wording in wordings
        for f in facts
    ]


def chat(facts):
    question, answer = "What is the capital of {x}?", "The capital of {x} is {y}."
    filled = lambda text, f: text.format(x=f["subject"], y=f["object"])
    return [{"question": filled(question, f), "answer": filled(answer, f), "form": "chat"} for f in facts]


# SmolLM2's own template, up to where the answer begins.
ASSISTANT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhat is the capital of {x}?<|im_end|>\n<|im_start|>assistant\n"
)


def begun(facts):
    """The chat with the answer begun: asks for the city alone, where the whole sentence's probability is mostly that of its other words."""
    return [
        {"prompt": (ASSISTANT + "The capital of {x} is").format(x=f["subject"]), "completion": " " + f["object"], "form": "chat, answer begun"}
        for f in facts
    ]


def words(facts, whose):
    return [
        {"prompt": prompt.format(x=f["subject"], y=f["object"]), "completion": " " + f[answer], "form": f"{form}, {whose}"}
        for form, prompt, answer in [
            ("reversed", "{y} is the capital of", "subject"),
            ("repeated", "I love {y}. I love {y}. I love", "object"),
        ]
        for f in facts
    ]


def other(fact):
    form = {"P30": "continent", "P103": "native language"}[fact["rel"]]
    return {"prompt": fact["forms_hit"][0], "completion": " " + fact["object"], "form": form}


def paragraphs(path):
    import pyarrow.parquet

    texts = pyarrow.parquet.read_table(path)["text"].to_pylist()
    return [{"text": " ".join(t.split()[:80])} for t in texts if len(t.split()) >= 80]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
