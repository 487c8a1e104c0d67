"""Forgets TOFU's splits with every method, and holds the result against models that never saw them; a table in Markdown and JSON.

    python3 run.py --efface target/release/efface --data data --models models --out runs --splits 10 --seeds 1 2

`--data` is what make_data.py wrote; `--models` has full-SEED and goldSPLIT-SEED from train.py. Every call's JSON is kept under --out and
not made again, so that a run that was stopped goes on where it was; `--table-only` makes the tables of what is there. `--prefix` is put
before each heavy command (a lock, `nice`, ...).

A *setting* is a method and the forms that it is shown (refusal takes questions in their own form only). What is asked afterwards:
  forms      the forget set, a part of TOFU's retain probes, and neighbours (the retained questions most like forgotten ones), each
             in all forms that the decoder was trained in, in frames held out of the removal; only what the full model knew counts
  reworded   the same facts by TOFU's other words for the questions
  tofu       model utility, and forget quality against the gold model of the same seed
The gold model of another seed goes through the same as if it were an edited model.
"""
import argparse
import json
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

ASKED = "question,cloze,dialogue,instruction,json,table,key-value,code,affirmative,injected,hint"
ONE = "question"
SEVERAL = "question,cloze,dialogue,instruction,json,table,key-value,code"
SETTINGS = {
    "dampen": (SEVERAL, ["--method", "dampen"]),
    "dampen, repaired": (SEVERAL, ["--method", "dampen", "--recalibrate"]),
    "dampen, 0.3 %": (SEVERAL, ["--method", "dampen", "--max-utility-loss", "0.3%"]),
    "dampen, question, 0.3 %": (ONE, ["--method", "dampen", "--max-utility-loss", "0.3%"]),
    "simnpo, 0.3 %": (SEVERAL, ["--method", "simnpo", "--max-utility-loss", "0.3%"]),
    "dampen, min": (SEVERAL, ["--method", "dampen", "--combine", "min"]),
    "dampen, question": (ONE, ["--method", "dampen"]),
    "ssd": (SEVERAL, ["--method", "ssd"]),
    "simnpo": (SEVERAL, ["--method", "simnpo"]),
    "simnpo, question": (ONE, ["--method", "simnpo"]),
    "simnpo, geomean": (SEVERAL, ["--method", "simnpo", "--combine", "geomean"]),
    "npo": (SEVERAL, ["--method", "npo"]),
    "npo, question": (ONE, ["--method", "npo"]),
    "graddiff": (SEVERAL, ["--method", "graddiff"]),
    "refusal": (None, ["--method", "refusal"]),
    "salun": (SEVERAL, ["--method", "salun"]),
    "wagle": (SEVERAL, ["--method", "wagle"]),
    "task-vector": (SEVERAL, ["--method", "task-vector"]),
}
# methods that take the cached importance of the retain set
RATIO = {"dampen", "graddiff", "npo", "simnpo", "task-vector", "ssd"}
COLUMNS = [
    ("worst", "worst form"), ("mean", "mean form"), ("reworded_gone", "other words"), ("known", "known, fewest"), ("kept", "retained kept"),
    ("neighbours", "neighbours kept"), ("utility_share", "utility / before"), ("utility", "utility"), ("quality", "forget quality p"),
    ("distance", "KS distance"), ("forget_probability", "p(forgotten)"), ("retain_probability", "p(retained)"), ("seconds", "seconds"),
]
SHARES = {"worst", "mean", "reworded_gone", "kept", "neighbours", "utility_share"}


class Run:
    def __init__(self, given):
        self.given, self.efface = given, str(given.efface)
        self.common = ["--eos", "--device", given.device, "-q"]

    def call(self, out, arguments):
        """The JSON of a call of efface, from `out` if it was made before; {"failed": why} if it failed."""
        if out.exists():
            return json.loads(out.read_text())
        if self.given.table_only:
            return None
        out.parent.mkdir(parents=True, exist_ok=True)
        command = [self.efface, *map(str, arguments), *self.common]
        print("+", shlex.join(command), file=sys.stderr, flush=True)
        begin = time.perf_counter()
        done = subprocess.run([*self.given.prefix.split(), *command], capture_output=True, text=True)
        if done.returncode == 0:
            report = json.loads(done.stdout)
        else:
            report = {"failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"}
        report["wall_seconds"] = time.perf_counter() - begin
        print(f"  {report['wall_seconds']:.0f} s {report.get('failed', '')}", file=sys.stderr, flush=True)
        out.write_text(json.dumps(report))
        return report

    def part(self, name, count):
        """Every n-th line of a file of probes, `count` in all; without wrong answers, so that all are asked alike."""
        lines = (self.given.data / "probes" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        lines = lines[:: max(1, len(lines) // count)][:count]
        path = self.given.out / "probes" / f"{name}-{count}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = [{key: json.loads(line)[key] for key in ("question", "answer")} for line in lines]
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in plain), encoding="utf-8")
        return path

    def ask(self, folder, model, split, seed):
        """The three evaluations of a model in place of full-SEED."""
        given, full = self.given, self.given.models / f"full-{seed}"
        against = ["eval", "--model", model, "--baseline", full, "--json"]
        forms = self.call(folder / "forms.json", [
            *against, "--probes-forget", self.part(f"forget{split}", given.probes), "--forms", ASKED,
            "--probes-retain", self.part("retain", given.probes // 4), "--probes", self.part("neighbours", given.probes // 4)])
        reworded = self.call(folder / "reworded.json", [
            *against, "--probes-forget", self.part(f"forget{split}_reworded", given.probes),
            "--probes-retain", self.part("retain_reworded", given.probes // 4)])
        return forms, reworded, self.weigh(folder, model, split, seed)

    def weigh(self, folder, model, split, seed):
        """TOFU's own figures of a model."""
        given, probes = self.given, self.given.data / "probes"
        gold = given.models / f"gold{split}-{seed}"
        # without a gold model there is no forget quality: asked again once there is one
        name = "tofu.json" if (gold / "done").exists() else "tofu-without-gold.json"
        return self.call(folder / name, [
            "eval", "--model", model, "--probes-forget", probes / f"forget{split}.jsonl", "--probes-retain", probes / "retain.jsonl",
            "--probes", probes / "real_authors.jsonl", probes / "world_facts.jsonl", "--choices", "--json",
            *(["--reference", gold] if (gold / "done").exists() else [])])

    def forgotten(self, setting, split, seed):
        """The edited model of a setting: (its folder, the report of the removal)."""
        given = self.given
        forms, arguments = SETTINGS[setting]
        folder = given.out / f"{re.sub('[^a-z0-9.]+', '-', setting).strip('-')}-{split}-{seed}"
        model = given.models / f"full-{seed}"
        retain = given.data / "retain/retain.jsonl"
        if arguments[1] in RATIO:
            fisher = given.out / f"retain-{seed}-{forms.count(',')}.safetensors"
            if not fisher.exists() and not given.table_only:
                self.call(fisher.with_suffix(".json"), ["fisher", "--model", model, "--data", retain, "--forms", forms, "--out", fisher, "--json"])
            arguments = [*arguments, "--retain-fisher", fisher] if fisher.exists() else arguments
        report = self.call(folder / "forget.json", [
            "forget", "--model", model, "--forget", given.data / f"forget/forget{split}.jsonl", "--retain", retain, 
            *(["--forms", forms, "--probe-forms", "question"] if forms else []), *arguments, "--likelihood-only", "--seed", seed,
            *(["--max-utility-loss", given.limit] if given.limit else []), "--out", folder / "edited", "--json"])
        return folder, report


def share(forms, role, file=None):
    """Still known / known before, over all forms of a role."""
    chosen = [form for form in forms if form["role"] == role]
    known = sum(form["known"] for form in chosen)
    return sum(form["still"] for form in chosen) / known if known else None


def probability(tofu, name):
    found = [r["probability"] for r in tofu["results"] if Path(r["file"]).stem == name]
    return found[0] if found else None


def figures(asked, split, before, seconds):
    forms, reworded, tofu = asked
    made = {"seconds": seconds}
    if forms and "scores" in forms:
        scores = forms["scores"]
        made |= {"worst": scores["worst_form"], "mean": scores["mean_form"], "worst_name": scores["worst_form_name"],
                 "known": scores["fewest_known_probes"], "kept": share(forms["forms"], "retain"),
                 "neighbours": share(forms["forms"], "other"),
                 "forms": {f["form"]: [f["known"], f["still"], *f["interval"]] for f in forms["forms"] if f["role"] == "forget"}}
    if reworded and "forms" in reworded:
        still = share(reworded["forms"], "forget")
        made["reworded_gone"] = None if still is None else 1 - still
    if tofu and "results" in tofu:
        made |= {"utility": tofu["model_utility"], "forget_probability": probability(tofu, f"forget{split}"),
                 "retain_probability": probability(tofu, "retain")}
        if tofu["forget_quality"]:
            made |= {"quality": tofu["forget_quality"]["p_value"], "distance": tofu["forget_quality"]["statistic"]}
        if before and before.get("utility"):
            made["utility_share"] = tofu["model_utility"] / before["utility"]
    return made


def cell(name, values):
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    mean = statistics.mean(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    if name in SHARES:
        text = f"{100 * mean:.1f} %" + (f" ± {100 * spread:.1f}" if spread is not None else "")
    elif name == "quality":
        text = " / ".join(f"{value:.2g}" for value in values)
    elif name in ("known", "seconds"):
        text = f"{mean:.0f}"
    else:
        text = f"{mean:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
    return text


def table(split, rows):
    lines = [f"## forget{split}", "", "| setting | seeds | " + " | ".join(title for _, title in COLUMNS) + " |",
             "|---|---|" + "---|" * len(COLUMNS)]
    for setting, by_seed in rows.items():
        done = {seed: f for seed, f in by_seed.items() if "failed" not in f}
        failed = [f"{seed}: {f['failed']}" for seed, f in by_seed.items() if "failed" in f]
        if done:
            cells = [cell(name, [f.get(name) for f in done.values()]) for name, _ in COLUMNS]
            lines.append(f"| {setting} | {len(done)} | " + " | ".join(cells) + " |")
        lines += [f"| {setting} | seed {why[:160].replace('|', '/')} |" + " |" * len(COLUMNS) for why in failed]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--efface", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--splits", nargs="+", default=["01", "05", "10"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--probes", type=int, default=240, help="facts to be forgotten that are asked in every form (a quarter as many retained, and neighbours)")
    parser.add_argument("--limit", help="--max-utility-loss, for all methods [default: each method's own]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prefix", default="")
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    run = Run(given)
    everything = {}
    for split in given.splits:
        rows = everything[split] = {}
        for seed in given.seeds:
            full = given.models / f"full-{seed}"
            if not (full / "done").exists():
                continue
            before = figures((None, None, run.weigh(given.out / f"before-{split}-{seed}", full, split, seed)), split, None, None)
            rows.setdefault("before", {})[seed] = before
            for other in given.seeds:
                gold = given.models / f"gold{split}-{other}"
                if (gold / "done").exists():
                    name = "gold (never saw it)" if other == seed else "gold of another seed"
                    asked = run.ask(given.out / f"gold{other}-{split}-{seed}", gold, split, seed)
                    rows.setdefault(name, {}).setdefault(seed, figures(asked, split, before, None))
            for setting in given.settings:
                folder, report = run.forgotten(setting, split, seed)
                if report is None:
                    continue
                if "failed" in report:
                    rows.setdefault(setting, {})[seed] = {"failed": report["failed"]}
                    continue
                asking = ("asking before", "asking after", "reading")
                seconds = sum(p["seconds"] for p in report["phases"] if p["phase"] not in asking)
                rows.setdefault(setting, {})[seed] = figures(run.ask(folder, folder / "edited", split, seed), split, before, seconds)
            made = "\n".join(table(split, rows) for split, rows in everything.items())
            (given.out / "table.md").write_text(made)
            (given.out / "table.json").write_text(json.dumps(everything, indent=1))
    print((given.out / "table.md").read_text() if (given.out / "table.md").exists() else "no model is finished")


if __name__ == "__main__":
    main()
