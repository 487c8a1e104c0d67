"""The capitals asked in all of efface's forms: what is left of the forgotten ones, and of others, after each line of methods.py.

    python ../smollm2_redirect/make_facts.py --data cap
    python forms.py --efface ../../../target/release/efface --model SmolLM2-135M-Instruct --data cap --work runs

Only what the model answered exactly before counts; a form with fewer than --known such facts is summed up in the last line.
"""
import argparse
import json
import subprocess
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--efface", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, nargs="+", required=True, help="one for each --data")
    parser.add_argument("--known", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["dampen", "redirect", "simnpo", "dampen, chats kept, repaired"])
    given = parser.parse_args()
    tables = {name: merged(report(given, *place, name) for place in zip(given.data, given.work)) for name in given.only}
    forms = {key: known for table in tables.values() for key, (known, _) in table.items()}
    print("| form | " + " | ".join(f"{name}: forgotten, others" for name in given.only) + " |")
    print("|---|" + "---|" * len(given.only))
    names = sorted({form for _, form in forms})
    many = [name for name in names if forms.get(("forget", name), 0) >= given.known]
    for title, rows in [*((name, [name]) for name in many), ("all others", [n for n in names if n not in many]), ("all", names)]:
        print(f"| {title} | " + " | ".join(cell(table, rows) for table in tables.values()) + " |")


def report(given, data, work, name):
    """The evaluation of an edited model, made once."""
    kept = work / "forms" / f"{name}.json"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        command = [given.efface, "eval", "--model", work / "edited" / name, "--baseline", given.model, "--device", "cpu", "-q", "--json",
                   "--forms", "all", "--relations", data / "relations.json", "--probes-forget", data / "facts.jsonl",
                   "--probes-retain", data / "facts-kept.jsonl"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        kept.write_text(done.stdout)
    return json.loads(kept.read_text())


def merged(reports):
    """(role, form) -> how many facts were known in it, and how many are still."""
    counts = {}
    for found in reports:
        for form in found["forms"]:
            key = (form["role"], form["form"])
            known, still = counts.get(key, (0, 0))
            counts[key] = (known + form["known"], still + form["still"])
    return counts


def cell(table, rows):
    def share(role):
        known, still = (sum(table.get((role, row), (0, 0))[i] for row in rows) for i in (0, 1))
        return f"{still} of {known}"

    return f"{share('forget')}, {share('retain')}"


if __name__ == "__main__":
    main()
