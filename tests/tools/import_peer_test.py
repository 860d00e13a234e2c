"""Every option of the installed TrainingArguments and LoraConfig, at its default, is one that --from knows.

Run as: python import_peer_test.py FTPLAN
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

from peft import LoraConfig
from transformers import TrainingArguments


def defaults(of):
    values = {}
    for field in dataclasses.fields(of):
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        values[field.name] = None if value is dataclasses.MISSING else value
    return values


def estimate(ftplan, folder, name, values):
    file = pathlib.Path(folder) / name
    file.write_text(json.dumps(values, default=lambda value: sorted(value) if isinstance(value, set) else str(value)))
    done = subprocess.run([ftplan, "estimate", "--json", "--from", file, "--model", "tinyllama-1.1b", "--gpus", "1xT4"],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr}")
    return json.loads(done.stdout)


def main(ftplan):
    with tempfile.TemporaryDirectory() as folder:
        training = estimate(ftplan, folder, "training_args.json", defaults(TrainingArguments) | {"bf16": True})
        adapter = estimate(ftplan, folder, "adapter_config.json",
                           LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict())
        strange = estimate(ftplan, folder, "strange.json", defaults(TrainingArguments) | {"bf16": True, "strange": 7})
    assert training["from"] == {"trainer": "TrainingArguments", "runtime": "hf", "left_out": []}, training["from"]
    assert {row["strategy"]["micro_batch"] for row in training["rows"]} == {8}
    assert adapter["from"] == {"trainer": "PEFT", "runtime": "hf", "left_out": []}, adapter["from"]
    assert {row["trainable_parameters"] for row in adapter["rows"]} == {22 * 8 * (2048 + 2048)}
    assert strange["from"]["left_out"] == ["strange = 7"], strange["from"]
    print("all options are known")


if __name__ == "__main__":
    main(sys.argv[1])
