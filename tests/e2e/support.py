"""Tiny Llama folders made without LibTorch, and the program itself as a child process."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "parity"))  # its peers are of use here too
import numpy
from safetensors import safe_open
from safetensors.numpy import save_file

FTPLAN = pathlib.Path(os.environ["FTPLAN_BINARY"])
FTPLAN_WORKER = FTPLAN.with_name("ftplan-worker")
ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE_MODEL = ROOT / "examples/model"
VOCABULARY = 64

# The smallest shape with grouped keys, several layers and an untied head.
TINY = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": False, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2}


def weights_of(config, seed=0):
    """Random f32 weights by name; norms are about 1."""
    random = numpy.random.default_rng(seed)
    width, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = width // config["num_attention_heads"]
    grouped = head * config["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        shapes |= {name + "input_layernorm.weight": (width,), name + "post_attention_layernorm.weight": (width,),
                   name + "self_attn.q_proj.weight": (width, width),
                   name + "self_attn.k_proj.weight": (grouped, width),
                   name + "self_attn.v_proj.weight": (grouped, width),
                   name + "self_attn.o_proj.weight": (width, width),
                   name + "mlp.gate_proj.weight": (inner, width), name + "mlp.up_proj.weight": (inner, width),
                   name + "mlp.down_proj.weight": (width, inner)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocabulary, width)
    weights = {name: random.normal(0, 0.08, shape).astype(numpy.float32) for name, shape in shapes.items()}
    for name in weights:
        if "norm" in name:
            weights[name] += 1
    return weights


def make_model(folder, seed=0, weights=None, **changes):
    folder.mkdir(parents=True)
    config = TINY | changes
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights or weights_of(config, seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_rows(path, count=40, shortest=9, longest=60, seed=0):
    """Pre-tokenized rows of several lengths that cycle through a motif: learnable in a few steps."""
    random = numpy.random.default_rng(seed)
    motif = random.integers(3, VOCABULARY, 7).tolist()
    rows = {"input_ids": [], "labels": []}
    for _ in range(count):
        length, start = int(random.integers(shortest, longest)), int(random.integers(0, 7))
        ids = [motif[(start + i) % 7] for i in range(length)]
        rows["input_ids"].append(ids)
        rows["labels"].append([-100 if i < length // 4 else token for i, token in enumerate(ids)])
    path.write_text(json.dumps(rows))
    return path


def read_tensors(path):
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def contents(folder):
    """Every file below `folder` by its relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def metrics(run, *keys):
    """The chosen values of each line of metrics.jsonl; absent ones are None."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [tuple(line.get(key) for key in ("step", *keys)) for line in lines]


class Case(unittest.TestCase):
    """Tests in a folder of their own; what ftplan caches is kept for all tests of a class."""

    @classmethod
    def setUpClass(cls):
        cls.shared = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.environment = {"PATH": "/usr/bin:/bin", "HOME": str(cls.shared), "XDG_CACHE_HOME": str(cls.shared / "cache"),
                           "LC_ALL": "C.UTF-8", "OMP_WAIT_POLICY": "passive"}

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(dir=self.shared)))

    def start(self, *words, binary=FTPLAN, **options):
        """Starts ftplan in the test's folder, in a process group of its own."""
        return subprocess.Popen([str(binary), *map(str, words)], cwd=self.folder, env=self.environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options)

    def ftplan(self, *words, code=0, **options):
        """Runs ftplan to its end and checks its exit code. Returns (stdout, stderr)."""
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, code, f"ftplan {' '.join(map(str, words))}\n{out}{err}")
        return out, err

    def refused(self, *words, says, code=2, **options):
        """Runs ftplan, which must end with `code` and one line on stderr that holds each of `says`."""
        out, err = self.ftplan(*words, code=code, **options)
        last = err.splitlines()[-1] if err else ""
        errors = [line for line in err.splitlines() if line.startswith("ftplan: ")]
        self.assertEqual([last], errors, f"one error line was expected:\n{out}{err}")
        for part in [says] if isinstance(says, str) else says:
            self.assertIn(part, last)
        return last

    def assert_same_files(self, first, second):
        """Both are `contents`. Names what differs; a diff of the bytes would take minutes."""
        self.assertEqual(sorted(first), sorted(second))
        self.assertEqual([], [name for name in first if first[name] != second[name]], "files that differ")

    def plan(self, *flags, model="model", data="rows.json", output="plan.json", **options):
        """Plans for a tiny model, f32 unless the flags say otherwise."""
        words = ["plan", "--model", model, "--data", data, "--seq", 128, "--pad-multiple", 16, "-o", output]
        if "--precision" not in flags:
            words += ["--precision", "fp32"]
        return self.ftplan(*words, *flags, **options)

    def wait_for(self, condition, process, what, seconds=60):
        """Until the condition holds; fails when the process ends before or takes too long."""
        end = time.monotonic() + seconds
        while not condition():
            if process.poll() is not None:
                self.fail(f"the run ended with {process.returncode} before {what}: {process.communicate()[1]}")
            if time.monotonic() > end:
                os.killpg(process.pid, signal.SIGKILL)
                self.fail(f"no {what} within {seconds} s")
            time.sleep(0.002)


def lines_of(path):
    """Complete lines of a file that may not exist yet."""
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def ranks_of(process):
    """Ids of the workers that ftplan has started as ranks, by rank."""
    ids = {}
    with contextlib.suppress(OSError):
        for worker in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            for variable in pathlib.Path(f"/proc/{worker}/environ").read_bytes().split(b"\0"):
                if variable.startswith(b"RANK="):
                    ids[int(variable[5:])] = int(worker)
    return ids


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]], verbosity=2)
