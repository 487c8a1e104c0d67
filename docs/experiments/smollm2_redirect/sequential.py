"""Ten requests one after the other, beside one request for all of it: `--method redirect`, one fact a request.

    python ../smollm2_capitals/make_data.py --facts smollm2_135m.jsonl --wikitext test.parquet --out cap
    python make_facts.py --data cap
    python sequential.py --efface ../../../target/release/efface --model SmolLM2-135M-Instruct --data cap

Every request edits what the one before it wrote, measures the ordinary text's covariance anew, and takes all of its change
(`--strength 1`), as the joint request does; other flags of `efface forget` take the place of these two. A request that is refused, as
nothing would be forgotten any more, leaves the model as it is and is counted. Right answers, of those that were right before.
"""
import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

# What `efface forget` ends with where it changes nothing, for a reason that it says.
REFUSED = 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--efface", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    given, more = parser.parse_known_args()
    given.more = more or ["--strength", "1", "--max-utility-loss", "100000%"]
    print("| requests | refused | left, worst form | left, all | other capitals | facts |")
    print("|---|---|---|---|---|---|")
    facts = (given.data / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    for requests in (1, len(facts)):
        work = Path(tempfile.mkdtemp())
        model, refused = forgotten(given, facts, requests, work)
        print(line(f"{requests} | {refused}", asked(given, model)), flush=True)
        shutil.rmtree(work)


def forgotten(given, facts, requests, work):
    """The model after so many requests, and how many of them were refused."""
    model, refused = given.model, 0
    for request in range(requests):
        part = facts[request * len(facts) // requests:(request + 1) * len(facts) // requests]
        (work / "facts.jsonl").write_text("\n".join(part) + "\n", encoding="utf-8")
        out = work / str(request)
        done = subprocess.run([given.efface, "forget", "--model", model, "--device", "cpu", "-q", "--likelihood-only",
                        "--method", "redirect", *given.more, "--forget", work / "facts.jsonl", "--relations", given.data / "relations.json",
                        "--retain", given.data / "retain-facts.jsonl", "--out", out], stdout=subprocess.DEVNULL)
        if done.returncode == REFUSED:
            refused += 1
            continue
        done.check_returncode()
        if model != given.model:
            shutil.rmtree(model)
        model = out
    return model, refused


def asked(given, model):
    command = [given.efface, "eval", "--model", model, "--baseline", given.model, "--device", "cpu", "-q", "--json",
               "--probes-forget", given.data / "probes-forget.jsonl", "--probes-retain", given.data / "probes-capitals.jsonl",
               "--probes", given.data / "probes-facts.jsonl"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def line(requests, report):
    def of(role):
        return [form for form in report["forms"] if form["role"] == role]

    def right(role):
        return f"{sum(form['still'] for form in of(role))} of {sum(form['known'] for form in of(role))}"

    worst = max(of("forget"), key=lambda form: form["still"] / max(form["known"], 1))
    return (f"| {requests} | {worst['still']} of {worst['known']} ({worst['form']}) | {right('forget')} | {right('retain')} "
            f"| {right('other')} |")


if __name__ == "__main__":
    main()
