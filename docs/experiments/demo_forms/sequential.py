"""Ten requests one after the other, beside one request for all of it.

    python3 docs/experiments/demo_forms/sequential.py --efface target/release/efface --worlds worlds --seeds 1 2 --json sequential.json

In the worlds that run.py has made: the forty facts about the eight people are cut into ten requests of four facts, in five wordings
each. Every request edits what the one before it wrote; the importance of the retain set is measured anew for each.
"""
import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from run import SHOWN, by_form, common, probes

REQUESTS = 10
METHODS = {
    "dampen, limit 20 %": ["--method", "dampen", "--max-utility-loss", "20%"],
    "dampen, limit 2 %": ["--method", "dampen", "--max-utility-loss", "2%"],
    "simnpo, searched": ["--method", "simnpo", "--auto", "--batch", "32"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--efface", type=Path, required=True)
    parser.add_argument("--worlds", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="*", help="methods")
    parser.add_argument("--json", type=Path, help="all figures; what it has already is not run again")
    given = parser.parse_args()
    results = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    print("| method | seed | requests | worst form: left | mean: left | retained | neighbours | refused |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in given.seeds:
        for name, arguments in METHODS.items():
            if given.only and name not in given.only:
                continue
            for requests in (1, REQUESTS):
                key = f"{name}, seed {seed}, {requests}"
                if key not in results:
                    results[key] = forgotten(given, given.worlds / f"{seed}", requests, arguments)
                    if given.json:
                        given.json.write_text(json.dumps(results, indent=1))
                print(line(name, seed, requests, results[key]), flush=True)


def forgotten(given, world, requests, arguments):
    """The world's model after so many requests, asked in all wordings."""
    told = [json.loads(line) for line in (world / "data/forget.jsonl").read_text().splitlines()]
    forms = {form: [line for line in told if line["form"] == form] for form in SHOWN}
    facts = len(forms[SHOWN[0]])
    work = Path(tempfile.mkdtemp())
    model, refused = world / "model", []
    for request in range(requests):
        chosen = range(request * facts // requests, (request + 1) * facts // requests)
        lines = [json.dumps(forms[form][fact]) for form in SHOWN for fact in chosen]
        (work / "forget.jsonl").write_text("\n".join(lines) + "\n")
        out = work / f"{request}"
        command = [given.efface, "forget", "--model", model, *common(world)[2:], "--forget", work / "forget.jsonl", "--retain", world / "data/retain.jsonl",
                   "--out", out, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            model = out
        else:
            refused.append(done.stderr.strip().splitlines()[-1])
    command = [given.efface, "eval", "--model", model, "--baseline", world / "model", *common(world)[2:], "--json", *probes(world)]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    shutil.rmtree(work)
    return {"left": by_form(report, "forget"), "retained": by_form(report, "retain"), "neighbours": by_form(report, "other"),
            "refused": refused}


def line(name, seed, requests, result):
    left = {form: 100 * still / known for form, (known, still) in result["left"].items()}
    worst = max(left, key=left.get)
    kept = [100 * sum(v[1] for v in result[what].values()) / sum(v[0] for v in result[what].values())
            for what in ("retained", "neighbours")]
    return (f"| {name} | {seed} | {requests} | {left[worst]:.1f} % ({worst}) | {sum(left.values()) / len(left):.1f} % "
            f"| {kept[0]:.1f} % | {kept[1]:.1f} % | {len(result['refused'])} |")


if __name__ == "__main__":
    main()
