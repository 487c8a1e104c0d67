"""The capitals asked in all of efface's forms, in wordings held out: what is left of the probability, after lines of methods.py.

    python ../smollm2_redirect/make_facts.py --data cap
    python forms.py --efface ../../../target/release/efface --model SmolLM2-135M-Instruct --data cap --work runs

A form counts if the model gave the right answers --known of probability before, on average; the others are named below the table.
The last column is the baseline of what was never seen: the same cities asked of countries that do not exist, in the model as it was.
Several --data and --work (one for each) are pooled.
"""
import argparse
import json
import subprocess
from pathlib import Path


# Countries that nobody has heard of: what a model says of them is what the question alone suggests.
INVENTED = ["Zorvania", "Quellmark", "Vastoria", "Ilmenreich", "Torvalia", "Brenwick", "Osmeria", "Karvelland", "Dunhaven", "Pelisse",
            "Morvenia", "Tassaly", "Ostrevald", "Lirendor", "Ganthia", "Velmark", "Sorrowdale", "Wexmere", "Halvania", "Corinth Vale"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--efface", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, nargs="+", required=True)
    parser.add_argument("--known", type=float, default=0.05)
    parser.add_argument("--only", nargs="+", default=["dampen", "redirect", "redirect, chats kept, repaired"])
    given = parser.parse_args()
    places = list(zip(given.data, given.work))
    before = pooled([asked(given, data, work, "before", given.model) for data, work in places])
    after = {name: pooled([asked(given, data, work, name, work / "edited" / name) for data, work in places]) for name in given.only}
    nowhere = pooled([of_nowhere(given, data, work) for data, work in places])
    forms = sorted({form for _, form in before})
    known = [form for form in forms if mean(before[("facts", form)]) >= given.known]
    print("| form | probes | before | " + " | ".join(f"{name}: left (others)" for name in given.only) + " | of no country |")
    print("|---|---|---|" + "---|" * (len(given.only) + 1))
    for form in known:
        own, cells = before[("facts", form)], []
        for found in after.values():
            left, others = (100 * mean(found[(file, form)]) / mean(before[(file, form)]) for file in ("facts", "facts-kept"))
            cells.append(f"{left:.1f} % ({others:.0f} %)")
        cells.append(f"{100 * mean(nowhere[('invented', form)]) / mean(own):.1f} %")
        print(f"| {form} | {own[1]} | {mean(own):.2f} | " + " | ".join(cells) + " |")
    print("\nNot known before:", ", ".join(f"{form} ({mean(before[('facts', form)]):.3f})" for form in forms if form not in known))


def asked(given, data, work, name, model):
    """What a model makes of the facts to be forgotten and to be kept."""
    return sums(given, data, work / "forms" / f"{name}.json", model, [data / "facts.jsonl", data / "facts-kept.jsonl"])


def of_nowhere(given, data, work):
    """The same of the cities to be forgotten, asked of countries that do not exist."""
    facts = work / "forms" / "invented.jsonl"
    records = [json.loads(line) for line in (data / "facts.jsonl").read_text(encoding="utf-8").splitlines()]
    if len(records) > len(INVENTED):
        raise SystemExit(f"{len(records)} facts and {len(INVENTED)} invented countries: add some to INVENTED")
    renamed = [{**record, "subject": name} for record, name in zip(records, INVENTED)]
    facts.write_text("".join(json.dumps(record) + "\n" for record in renamed), encoding="utf-8")
    return sums(given, data, work / "forms" / "invented.json", given.model, [facts])


def sums(given, data, kept, model, probes):
    """(file, form) -> the sum of the probabilities and how many probes there are; asked once, and kept."""
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        command = [given.efface, "eval", "--model", model, "--device", "cpu", "-q", "--json", "--likelihood-only", "--forms", "all",
                   "--relations", data / "relations.json", "--probes", *probes]
        kept.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    sums = {}
    for row in json.loads(kept.read_text())["results"]:
        key = (Path(row["file"]).stem, row["form"].split(",")[0])
        total, count = sums.get(key, (0.0, 0))
        sums[key] = (total + row["probability"] * row["probes"], count + row["probes"])
    return sums


def pooled(parts):
    keys = {key for part in parts for key in part}
    return {key: tuple(map(sum, zip(*(part.get(key, (0.0, 0)) for part in parts)))) for key in keys}


def mean(pair):
    return pair[0] / pair[1]


if __name__ == "__main__":
    main()
