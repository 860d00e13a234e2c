#!/usr/bin/env python3
"""How many of the held-out prompts a model answers exactly.

    tools/examples/score.py MODEL [--adapter FOLDER] [--precision P] [--examples N] [--json]

MODEL is a model folder, FOLDER an adapter for it. The answers come from `ftplan generate`, greedy, at most 24 tokens;
an answer counts when it equals the record's output, white space around it left out. The percentage is printed
first, then a few prompts with what was said.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def answers_of(arguments):
    command = [arguments.ftplan, "generate", "--model", arguments.model, "--prompts", arguments.prompts]
    command += ["--max-new-tokens", "24", "--precision", arguments.precision, "--json"]
    if arguments.adapter:
        command += ["--adapter", arguments.adapter]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    except OSError as error:
        sys.exit(f"score: {arguments.ftplan}: {error.strerror}; build it, or name it with --ftplan")
    if done.returncode != 0:
        sys.exit(done.returncode)  # the program has said why
    return [answer["text"].strip() for answer in json.loads(done.stdout)["answers"]]


def question(record):
    return record["instruction"] + (f" [{record['input']}]" if record["input"] else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--adapter")
    parser.add_argument("--prompts", default=str(ROOT / "examples/held_out.json"), help="default: examples/held_out.json")
    parser.add_argument("--ftplan", default=str(ROOT / "build/release/bin/ftplan"), help="default: build/release/bin/ftplan")
    parser.add_argument("--precision", default="fp32", help="default: fp32, as the example is trained")
    parser.add_argument("--examples", type=int, default=4, help="how many to print (default: 4)")
    parser.add_argument("--json", action="store_true", help="print numbers only, as JSON")
    arguments = parser.parse_args()

    records = json.loads(Path(arguments.prompts).read_text(encoding="utf-8"))
    said = answers_of(arguments)
    if len(said) != len(records):
        sys.exit(f"score: {len(said)} answers to {len(records)} prompts")
    exact = sum(text == record["output"].strip() for record, text in zip(records, said))
    if arguments.json:
        print(json.dumps({"format_version": 1, "prompts": len(records), "exact": exact}))
        return
    print(f"exact answers: {exact} of {len(records)} held-out prompts ({100 * exact / len(records):.0f} %)")
    for record, text in list(zip(records, said))[: arguments.examples]:
        mark = "exact" if text == record["output"].strip() else "wrong"
        print(f"  {question(record)}\n    {mark}: {' '.join(text.split())}")


if __name__ == "__main__":
    main()
