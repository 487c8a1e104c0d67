"""Every method of `efface forget` on the capitals, as a table.

    python make_data.py --facts smollm2_135m.jsonl --wikitext test.parquet --out cap
    python methods.py --efface ../../../target/release/efface --model SmolLM2-135M-Instruct --data cap --work runs > table.md

Each line is one call; its report stays in --work, and a line whose report is there is not run again. Shares are of the probability
before. The forms are the six wordings, the chat, and the chat with its answer begun; all but the chat ask for the city alone. `repeat` is how
much is left of repeating a forgotten city that is there to read.
"""
import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

TRAINED = ["--auto", "--steps", "24", "--batch", "8"]
METHODS = {
    "dampen": ["--method", "dampen"],
    "dampen, repaired": ["--method", "dampen", "--recalibrate", "20"],
    "dampen, chats kept": ["--method", "dampen"],
    "dampen, chats kept, repaired": ["--method", "dampen", "--recalibrate", "20"],
    "simnpo": ["--method", "simnpo", *TRAINED],
    "simnpo, chats kept": ["--method", "simnpo", *TRAINED],
    "npo": ["--method", "npo", *TRAINED],
    "refusal": ["--method", "refusal", *TRAINED],
    "graddiff": ["--method", "graddiff", *TRAINED],
    "salun": ["--method", "salun", *TRAINED],
    "wagle": ["--method", "wagle", *TRAINED],
    "task-vector": ["--method", "task-vector", "--batch", "8"],
    "heads": ["--method", "heads"],
    "redirect": ["--method", "redirect"],
    "redirect, chats kept, repaired": ["--method", "redirect", "--recalibrate", "20"],
}
# Methods whose mask compares importances take that of the retain set from a file.
RATIO = ("dampen", "graddiff", "npo", "simnpo", "refusal", "task-vector")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--efface", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of the table's lines")
    parser.add_argument("--limit", default="2%", help="--max-utility-loss")
    given = parser.parse_args()
    given.work.mkdir(exist_ok=True)
    print("| method | worst form keeps | the city alone | mean form | in a chat | begun | other capitals | worst form of them | other facts | perplexity "
          "| repeat | weights changed | held-out loss | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name, arguments in METHODS.items():
        if given.only and name not in given.only:
            continue
        report = run(given, name, arguments)
        if report:
            print(line(name, report), flush=True)


def retained(given, name, arguments):
    """The retain set of a line, and the file of its importance, which is measured once where the method takes it."""
    chats = "chats kept" in name
    # Facts to be kept hold their subjects' names where others are redirected.
    own = "retain-facts.jsonl" if arguments[1] == "redirect" else "retain.jsonl"
    files = [given.data / own] + ([given.data / "retain-chat.jsonl"] if chats else [])
    fisher = given.work / ("retain-chat.safetensors" if chats else "retain.safetensors")
    if arguments[1] in RATIO and not fisher.exists():
        command = [given.efface, "fisher", "--model", given.model, "--device", "cpu", "-q", "--data", *files, "--out", fisher]
        subprocess.run(command, check=True)
    return files, fisher


def run(given, name, arguments):
    folder = given.work / name
    if not (folder / "report.json").exists():
        data = given.data
        retain, fisher = retained(given, name, arguments)
        edited = given.work / "edited" / name
        edited.parent.mkdir(exist_ok=True)
        # A concept is redirected by its name: facts instead of wordings.
        forget = [data / "facts.jsonl", "--relations", data / "relations.json"] if arguments[1] == "redirect" else [data / "forget.jsonl"]
        command = [given.efface, "forget", "--model", given.model, "--device", "cpu", "-q", "--likelihood-only",
                   "--forget", *forget, "--retain", *retain, "--max-utility-loss", given.limit,
                   "--probes-forget", data / "probes-forget.jsonl", "--probes-retain", data / "probes-capitals.jsonl",
                   "--probes", data / "probes-facts.jsonl", data / "probes-text.jsonl", data / "probes-words.jsonl",
                   "--out", edited, "--report", folder, *arguments]
        if arguments[1] in RATIO:
            command += ["--retain-fisher", fisher]
        shutil.rmtree(edited, ignore_errors=True)
        done = subprocess.run(command, capture_output=True, text=True)
        if not (folder / "report.json").exists():
            print(f"{name}: {done.stderr.strip()}", file=sys.stderr)
            return None
    return json.loads((folder / "report.json").read_text())


def line(name, report):
    def of(file, form=""):
        return [p for p in report["probes"] if p["file"].endswith(file) and form in p["form"]]

    def kept(probes):
        return [100 * p["probability"]["after"] / p["probability"]["before"] for p in probes]

    def mean(values):
        return sum(values) / len(values) if values else math.nan

    forget, capitals = kept(of("probes-forget.jsonl")), kept(of("probes-capitals.jsonl"))
    forms = [p["form"] for p in of("probes-forget.jsonl")]
    chat = [k for k, form in zip(forget, forms) if form == "chat"]
    begun = [k for k, form in zip(forget, forms) if form == "chat, answer begun"]
    alone = [k for k, form in zip(forget, forms) if form != "chat"]
    if not of("probes-text.jsonl"):
        return f"| {name} | {report['verdict']['headline']} |" + " |" * 12
    text = of("probes-text.jsonl")[0]
    loss = text.get("loss") or {key: -math.log(value) for key, value in text["probability"].items()}
    perplexity = 100 * (math.exp(loss["after"] - loss["before"]) - 1)
    guard, changed = report["guard"], report["changed"]
    rise = 100 * (guard["loss_after"] - guard["loss_before"]) / max(guard["loss_before"], 1.0) if guard else math.nan
    talking = ("asking before", "asking after", "reading")
    seconds = sum(p["seconds"] for p in report["phases"] if p["phase"] not in talking)
    share = 100 * sum(part["changed"] for part in changed) / sum(part["total"] for part in changed)
    repeat = [k for k, p in zip(kept(of("probes-words.jsonl")), of("probes-words.jsonl"))
              if "repeat" in p["form"] and "forgotten" in p["form"]]
    return (f"| {name} | {max(forget):.1f} % | {max(alone):.1f} % | {mean(forget):.1f} % | {mean(chat):.1f} % | {mean(begun):.1f} % | {mean(capitals):.1f} % "
            f"| {min(capitals):.1f} % | {mean(kept(of('probes-facts.jsonl'))):.1f} % | {perplexity:+.1f} % | {mean(repeat):.0f} % "
            f"| {share:.3f} % | {rise:+.1f} % | {seconds:.0f} |")


if __name__ == "__main__":
    main()
