"""Which method forgets in every form, on several worlds of invented people, beside models that never knew them.

    cargo build --release --bin efface --example train_demo
    python3 docs/experiments/demo_forms/run.py --efface target/release/efface --train target/release/examples/train_demo \\
        --worlds worlds --seeds 1 2 3 --json results.json > table.md

For every seed `train_demo` makes a world of a hundred people, a model that knows all of them, and one that was never taught the
eight who are to be forgotten (both are kept in --worlds, and used again). Then each line of METHODS is one call of the program. A
form is its two wordings together: 80 known probes of what is to be forgotten a seed. What is left is a share of what was known.
"""
import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FORMS = ["statement", "question", "cloze", "multiple choice", "dialogue", "instruction", "JSON", "key and value", "table", "reversed"]
SHOWN = ["statement", "question", "instruction", "key and value", "reversed"]
TRAINED = ["--batch", "32", "--steps", "80"]
METHODS = {
    "dampen": ["--method", "dampen"],
    "dampen, combined": ["--method", "dampen", "--combine", "geomean"],
    "dampen, repaired": ["--method", "dampen", "--recalibrate"],
    "simnpo": ["--method", "simnpo", "--learning-rate", "5e-3", *TRAINED],
    "simnpo, agreed mask": ["--method", "simnpo", "--learning-rate", "5e-3", "--combine", "geomean", *TRAINED],
    "simnpo, searched": ["--method", "simnpo", "--auto", "--batch", "32"],
    "npo": ["--method", "npo", "--learning-rate", "2e-3", *TRAINED],
    "graddiff": ["--method", "graddiff", "--learning-rate", "5e-4", *TRAINED],
    "refusal": ["--method", "refusal", "--learning-rate", "2e-3", *TRAINED],
    "salun": ["--method", "salun", "--learning-rate", "2e-3", *TRAINED],
    "wagle": ["--method", "wagle", "--learning-rate", "2e-3", *TRAINED],
    "task-vector": ["--method", "task-vector"],
    "dampen, statement alone": ["--method", "dampen"],
    "simnpo, statement alone": ["--method", "simnpo", "--learning-rate", "5e-3", *TRAINED],
    "simnpo, question alone": ["--method", "simnpo", "--learning-rate", "5e-3", *TRAINED],
}
# Methods whose mask compares importances take that of the retain set from a file.
RATIO = ("dampen", "graddiff", "npo", "simnpo", "refusal", "task-vector")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--efface", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True, help="the example train_demo")
    parser.add_argument("--worlds", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="*", help="names of the table's lines")
    parser.add_argument("--json", type=Path, help="all figures; lines that it has already are not run again")
    given = parser.parse_args()
    results = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    for seed in given.seeds:
        world, never = prepare(given, seed)
        run = results.setdefault(str(seed), {})
        if "never taught" not in run:
            run["never taught"] = asked(given, world, never)
        for name, arguments in METHODS.items():
            if (given.only and name not in given.only) or name in run:
                continue
            run[name] = removed(given, world, never, name, arguments)
            print(f"seed {seed}: {name}: {json.dumps(run[name]['scores'])}", file=sys.stderr, flush=True)
            if given.json:
                given.json.write_text(json.dumps(results, indent=1))
    table(results)


def prepare(given, seed):
    """The world's directory, and that of the model that was never taught the eight people."""
    world, never = given.worlds / f"{seed}", given.worlds / f"{seed}-never"
    for directory, more in ((world, []), (never, ["--without-forgotten"])):
        if not (directory / "model/model.safetensors").exists():
            print(f"seed {seed}: training {directory}", file=sys.stderr, flush=True)
            command = [given.train, "--out", directory, "--seed", str(seed), "--device", "cpu", *more]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    importance = world / "retain.safetensors"
    if not importance.exists():
        command = [given.efface, "fisher", *common(world), "--data", world / "data/retain.jsonl", "--out", importance]
        subprocess.run(command, check=True)
    return world, never


def common(world):
    return ["--model", world / "model", "--eos", "--device", "cpu", "-q"]


def probes(world):
    folder = world / "data/probes"
    return ["--probes-forget", folder / "forget.jsonl", "--probes-retain", folder / "retain.jsonl",
            "--probes", folder / "neighbours.jsonl"]


def asked(given, world, never):
    """What a model that never knew the eight people answers, against the one that knows them."""
    command = [given.efface, "eval", "--model", never / "model", "--baseline", world / "model", "--eos", "--device", "cpu", "-q",
               "--json", *probes(world)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures(report)


def figures(report):
    """What is left in every form, and what came of those who stay."""
    return {"scores": report["scores"], "left": by_form(report, "forget"), "retained": by_form(report, "retain"),
            "neighbours": by_form(report, "other")}


def removed(given, world, never, name, arguments):
    """One removal, judged in all wordings."""
    work = Path(tempfile.mkdtemp())
    shown = [name.split(", ")[1].split()[0]] if name.endswith("alone") else SHOWN
    lines = [line for line in (world / "data/forget.jsonl").read_text().splitlines() if json.loads(line)["form"] in shown]
    (work / "forget.jsonl").write_text("\n".join(lines) + "\n")
    command = [given.efface, "forget", *common(world), "--forget", work / "forget.jsonl",
               "--retain", world / "data/retain.jsonl", *probes(world), "--out", work / "edited", "--report", work / "report",
               *arguments]
    if "searched" not in name:
        # A search goes as far as its limit allows: that stays the program's own.
        command += ["--max-utility-loss", "20%"]
    if arguments[1] in RATIO:
        command += ["--retain-fisher", world / "retain.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True)
    if not (work / "report/report.json").exists():
        sys.exit(f"{name}: {done.stderr}")
    report = json.loads((work / "report/report.json").read_text())
    talking = ("asking before", "asking after", "reading")
    result = {
        **figures(report),
        "guard": report["guard"],
        "seconds": sum(phase["seconds"] for phase in report["phases"] if phase["phase"] not in talking),
        "note": "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1],
    }
    shutil.rmtree(work)
    return result


def by_form(report, role):
    """Of each form, how many probes were known and how many are still answered."""
    forms = {}
    for form in report["forms"]:
        if form["role"] == role:
            known, left = forms.get(form["form"].split(",")[0], (0, 0))
            forms[form["form"].split(",")[0]] = (known + form["known"], left + form["still"])
    return forms


def table(results):
    """The mean over the seeds, and from the least to the most."""
    print("| method | worst form: left | mean: left | spread of forms | retained | neighbours | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name in ["never taught", *METHODS]:
        runs = [run[name] for run in results.values() if name in run]
        if not runs:
            continue
        refused = [run["note"] for run in runs if not run["left"]]
        runs = [run for run in runs if run["left"]]
        if not runs:
            print(f"| {name} | refused: {refused[0]} | | | | | |")
            continue
        pooled = {form: [sum(run["left"][form][i] for run in runs) for i in (0, 1)] for form in runs[0]["left"]}
        left = {form: 100 * still / known for form, (known, still) in pooled.items()}
        worst = max(left, key=left.get)
        kept = {what: [100 * sum(v[1] for v in run[what].values()) / sum(v[0] for v in run[what].values()) for run in runs]
                for what in ("retained", "neighbours")}
        spans = [f"{statistics.mean(kept[what]):.1f} % ({min(kept[what]):.1f} to {max(kept[what]):.1f})" for what in kept]
        seconds = statistics.mean(run.get("seconds", 0) for run in runs)
        print(f"| {name} | {left[worst]:.1f} % of {pooled[worst][0]} ({worst}) | {statistics.mean(left.values()):.1f} % "
              f"| {max(left.values()) - min(left.values()):.1f} points | {spans[0]} | {spans[1]} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
