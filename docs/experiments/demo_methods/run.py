"""Every method of `efface forget` on the demo's model and data, as a table.

    cargo build --release
    python3 docs/experiments/demo_methods/run.py --efface target/release/efface > table.md

Each line is one call of the program with the default settings of the method and the demo's limit (--max-utility-loss 20%), the
importance of the retain set cached for methods that use it. Exact: share of the probes that the model answered exactly before and
still does; worst and mean over the forms (40 probes each to be forgotten, 15 to be kept). Seen forms are those of the forget set.
"""
import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "demo"
RATIO = {"dampen", "graddiff", "npo", "simnpo", "refusal", "task-vector"}
METHODS = [
    ("dampen", []),
    ("dampen, recalibrated", ["--recalibrate"]),
    ("graddiff", []),
    ("npo", []),
    ("npo, recalibrated", ["--recalibrate"]),
    ("simnpo", []),
    ("refusal", ["--refusal", "know"]),
    ("salun", []),
    ("wagle", []),
    ("task-vector", []),
]


def shares(report, role, held_out=None):
    """After / before, form by form."""
    forms = [p for p in report["probes"] if p["role"] == role and (held_out is None or p["held_out"] == held_out)]
    return [p["exact_match"]["after"] / p["exact_match"]["before"] for p in forms if p["exact_match"]["before"] > 0]


def percent(values, of):
    return f"{100 * of(values):.0f} %" if values else "–"


def mean(values):
    return sum(values) / len(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--efface", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of the table's lines")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--limit", default="20%")
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    common = ["--model", DEMO / "model", "--eos", "--device", "cpu", "-q"]
    fisher = work / "retain.safetensors"
    data = DEMO / "data"
    subprocess.run([given.efface, "fisher", *common, "--data", data / "retain.jsonl", "--out", fisher], check=True)
    print("| method | seen, worst | held out, worst | held out, mean | retained, mean | neighbours, mean | seconds | note |")
    print("|---|---|---|---|---|---|---|---|")
    for name, more in METHODS:
        if given.only and name not in given.only:
            continue
        method = name.split(",")[0]
        out = work / name.replace(",", "").replace(" ", "-")
        call = [given.efface, "forget", *common, "--method", method, *more, "--seed", given.seed,
                "--forget", data / "forget.jsonl", "--retain", data / "retain.jsonl", "--max-utility-loss", given.limit,
                "--probes-forget", data / "probes/forget.jsonl", "--probes-retain", data / "probes/retain.jsonl",
                "--probes", data / "probes/neighbours.jsonl", "--out", out / "edited", "--report", out / "report"]
        if method in RATIO:
            call += ["--retain-fisher", fisher]
        out.mkdir()
        done = subprocess.run(call, capture_output=True, text=True)
        report = json.loads((out / "report/report.json").read_text())
        asked = ("asking before", "asking after", "reading")
        seconds = sum(p["seconds"] for p in report["phases"] if p["phase"] not in asked)
        note = "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1].replace("|", "/")[:110]
        forgotten, retained = shares(report, "forget", True), shares(report, "retain")
        print(f"| {name} | {percent(shares(report, 'forget', False), max)} | {percent(forgotten, max)} "
              f"| {percent(forgotten, mean)} | {percent(retained, mean)} | {percent(shares(report, 'other'), mean)} "
              f"| {seconds:.0f} | {note} |", flush=True)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
