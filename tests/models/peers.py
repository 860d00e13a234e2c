"""What the Python peers of models/ share: the tool binary, folders, and a tiny Llama."""

import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

TOOL = sys.argv[1]


class ToolError(Exception):
    """The tool refused; the text is its line."""


def tool(*words):
    """Runs one command of models_tool and returns its JSON."""
    done = subprocess.run([TOOL, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolError(done.stderr.strip() or f"exit code {done.returncode}")
    return json.loads(done.stdout)


def folder():
    return tempfile.TemporaryDirectory(prefix="ftplan-models-")


def check(condition, what):
    """An assert that python -O keeps."""
    if not condition:
        raise AssertionError(what)


def equal(got, expected, what):
    check(got == expected, f"{what}: got {got!r}, expected {expected!r}")


def run(tests):
    """Calls each test and prints its name; the first failure ends the run."""
    for test in tests:
        test()
        print(f"ok  {test.__name__}", flush=True)
