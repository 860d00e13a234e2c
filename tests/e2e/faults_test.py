"""The machine fails during a run: one clear line, exit code 4, and the same command goes on when the cause is gone."""

import contextlib
import json
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import unittest

import support
from support import Case, contents, lines_of, make_model, make_rows, metrics

STEPS = 60
COMMON = ["--global-batch", 4, "--micro-batch", 2, "--steps", STEPS, "--learning-rate", "1e-2", "--save-every", 5]
KEPT = ("loss", "learning_rate", "gradient_norm", "validation_loss")
CGROUPS = pathlib.Path("/sys/fs/cgroup")
# Takes memory until it has `sys.argv[1]` bytes, and keeps it.
HOG = """
import sys, time
taken = []
while sum(map(len, taken)) < int(sys.argv[1]):
    taken.append(b"x" * (1 << 20))
time.sleep(60)
"""


class Faults(Case):
    def setUp(self):
        super().setUp()
        make_model(self.folder / "model")
        make_rows(self.folder / "rows.json")

    def prepare(self, *flags):
        self.plan(*COMMON, *flags)
        self.ftplan("run", "plan.json", "-o", "whole")

    def assert_goes_on(self, output="run"):
        """The same command ends as a run to which nothing happened."""
        self.ftplan("run", "plan.json", "-o", output)
        for part in ("adapter", "model", "checkpoints"):
            self.assertEqual((self.folder / "whole" / part).exists(), (self.folder / output / part).exists())
            self.assert_same_files(contents(self.folder / "whole" / part), contents(self.folder / output / part))
        self.assertEqual(metrics(self.folder / "whole", *KEPT), metrics(self.folder / output, *KEPT))

    def start_and_stop(self, line=7, **options):
        """A run that is held at its `line`th step: (process, id of its worker)."""
        process = self.start("run", "plan.json", "-o", "run", **options)
        self.wait_for(lambda: lines_of(self.folder / "run/metrics.jsonl") >= line, process, f"line {line}")
        worker = int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        os.kill(worker, signal.SIGSTOP)
        self.addCleanup(self.end, worker)
        return process, worker

    @staticmethod
    def end(worker):
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)

    def fails(self, process, says, code=4):
        """It ends with one line that holds each of `says`."""
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, code, err)
        line, = [line for line in err.splitlines() if line.startswith("ftplan: ")]
        for part in says:
            self.assertIn(part, line)
        return line

    def test_weights_that_are_cut_while_they_are_read_are_named(self):
        # Zeros take no disk, but time to read: 256 MiB.
        wide, inner = 2048, 16384
        shapes = {"model.embed_tokens.weight": (64, wide), "model.norm.weight": (wide,), "lm_head.weight": (64, wide)}
        name = "model.layers.0."
        shapes |= {name + "input_layernorm.weight": (wide,), name + "post_attention_layernorm.weight": (wide,)}
        shapes |= {name + f"self_attn.{part}_proj.weight": (wide, wide) for part in "qkvo"}
        shapes |= {name + f"mlp.{part}_proj.weight": (inner, wide) for part in ("gate", "up")}
        shapes[name + "mlp.down_proj.weight"] = (wide, inner)
        header, at = {}, 0
        for weight, shape in shapes.items():
            size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[weight] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        big = self.folder / "big"
        big.mkdir()
        (big / "config.json").write_text(json.dumps(support.TINY | {
            "hidden_size": wide, "intermediate_size": inner, "num_hidden_layers": 1, "num_attention_heads": 16,
            "num_key_value_heads": 16}))
        with open(big / "model.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + at)
        self.plan("--global-batch", 1, "--micro-batch", 1, "--steps", 1, "--rank", 1, model="big")
        process = self.start("run", "plan.json", "-o", "run")
        worker = []

        def reads_it():
            children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            maps = pathlib.Path(f"/proc/{children[0]}/smaps").read_text() if children else ""
            read = re.search(r"big/model\.safetensors\n(?:.*\n)*?Rss: +(\d+) kB", maps)
            if read and int(read[1]) > 1024:  # more than the header
                os.kill(int(children[0]), signal.SIGSTOP)
                worker.append(int(children[0]))
            return bool(worker)

        self.wait_for(reads_it, process, "a file that is read")
        self.addCleanup(self.end, worker[0])
        os.truncate(big / "model.safetensors", 8 + len(text))
        os.kill(worker[0], signal.SIGCONT)
        self.fails(process, ["big/model.safetensors", "can no longer be read", "was cut"])
        self.assertFalse((self.folder / "run").exists())

    def test_a_model_that_vanishes_during_a_run_leaves_the_state(self):
        self.prepare("--method", "full")
        process, worker = self.start_and_stop()
        os.rename(self.folder / "model", self.folder / "elsewhere")
        os.kill(worker, signal.SIGCONT)
        self.fails(process, ["model", "config.json", "the state is saved"])
        self.assertTrue((self.folder / f"run/checkpoints/step-{STEPS:012}.safetensors").exists())
        os.rename(self.folder / "elsewhere", self.folder / "model")
        self.assert_goes_on()

    def test_a_run_folder_that_vanishes_is_named(self):
        self.prepare("--rank", 4)
        process, worker = self.start_and_stop()
        shutil.rmtree(self.folder / "run")
        os.kill(worker, signal.SIGCONT)
        self.fails(process, ["run", "is gone"])
        self.assertFalse((self.folder / "run").exists())
        self.assert_goes_on()

    def test_data_that_vanishes_during_a_run_does_not_matter(self):
        self.prepare("--rank", 4)
        process, worker = self.start_and_stop()
        os.truncate(self.folder / "rows.json", 0)
        os.remove(self.folder / "rows.json")
        os.kill(worker, signal.SIGCONT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)
        make_rows(self.folder / "rows.json")
        self.assert_goes_on()

    def open_to_others(self, path):
        """Makes `path`, all in it, and what leads to it from the shared folder readable for every user."""
        for file in path.rglob("*"):
            file.chmod(0o755)
        for folder in [path, *path.parents]:
            folder.chmod(0o755)
            if folder == self.shared:
                return

    def test_a_folder_that_becomes_read_only_ends_the_run(self):
        self.prepare("--rank", 4)
        (self.folder / "run").mkdir()
        self.open_to_others(self.folder)
        options = {}
        if os.geteuid() == 0:  # to whom nothing is read-only
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder / "run", nobody.pw_uid, nobody.pw_gid)
            options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            try:
                subprocess.run([support.FTPLAN, "--version"], capture_output=True, check=True, **options)
            except (PermissionError, subprocess.CalledProcessError):
                self.skipTest("another user cannot reach the build tree")
        process, worker = self.start_and_stop(**options)
        (self.folder / "run/checkpoints").chmod(0o555)
        os.kill(worker, signal.SIGCONT)
        # It may have been held between writing a file and giving it its name.
        line = self.fails(process, ["run/checkpoints/step-", "Permission denied"])
        self.assertRegex(line, "cannot be (written|put in place)")
        self.assertTrue(list((self.folder / "run/checkpoints").glob("step-*.safetensors")))
        (self.folder / "run/checkpoints").chmod(0o755)
        self.assert_goes_on()

    @unittest.skipIf(os.geteuid() != 0, "mounting needs root")
    def test_a_read_only_disk_ends_a_run_before_its_first_step(self):
        self.plan(*COMMON, "--rank", 4)
        place = self.folder / "disk"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place], capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            self.skipTest(f"no file system can be mounted here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", place], check=True)
        self.refused("run", "plan.json", "-o", "disk/run", code=4, says=["disk/run", "Read-only file system"])

    def test_a_worker_that_the_system_ends_is_reported(self):
        self.prepare("--rank", 4)
        process, worker = self.start_and_stop()
        os.kill(worker, signal.SIGKILL)
        self.fails(process, ["signal 9", "memory", "what was saved is kept", "run again"])
        self.assert_goes_on()

    def test_memory_that_the_system_no_longer_gives_ends_the_run_cleanly(self):
        self.prepare("--method", "full", "--precision", "bf16")
        for limit in (0, 1 << 30):  # beside what is mapped already, nothing; and in the whole process, little
            with self.subTest(limit):
                shutil.rmtree(self.folder / "run", ignore_errors=True)
                process, worker = self.start_and_stop()
                size = int(pathlib.Path(f"/proc/{worker}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
                resource.prlimit(worker, resource.RLIMIT_AS, (min(size, limit or size),) * 2)
                os.kill(worker, signal.SIGCONT)
                _, err = process.communicate(timeout=60)
                self.assertIn(process.returncode, (0, 4), err)
                if process.returncode == 4:
                    line, = [line for line in err.splitlines() if line.startswith("ftplan: ")]
                    self.assertRegex(line, "memory|mapped")
                self.assert_goes_on()

    def memory_cgroup(self, limit):
        """The file that takes processes into a group of at most `limit` bytes."""
        for root, key in ((CGROUPS / "memory", "memory.limit_in_bytes"), (CGROUPS, "memory.max")):
            group = root / f"ftplan-test-{os.getpid()}"
            try:
                group.mkdir()
            except OSError:
                continue
            self.addCleanup(self.remove, group)
            if (group / key).exists():
                (group / key).write_text(str(limit))
                swap = group / "memory.swap.max"
                if swap.exists():
                    swap.write_text("0")
                return group / "cgroup.procs"
        self.skipTest("no memory cgroup can be made here")

    @staticmethod
    def remove(group):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                group.rmdir()
                return
            except OSError:
                time.sleep(0.05)  # its processes are still ending

    @unittest.skipIf(os.geteuid() != 0, "a cgroup needs root")
    def test_memory_that_another_process_takes_ends_the_run_and_leaves_the_state(self):
        self.prepare("--rank", 4)
        limit = 600 << 20
        group = self.memory_cgroup(limit)
        process, worker = self.start_and_stop(preexec_fn=lambda: group.write_text(str(os.getpid())))
        pathlib.Path(f"/proc/{worker}/oom_score_adj").write_text("1000")  # it has to go, not the other
        other = subprocess.Popen([sys.executable, "-c", HOG, str(limit)], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, preexec_fn=lambda: group.write_text(str(os.getpid())))
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        # Held, it cannot be done before the other has taken all.
        self.fails(process, ["signal 9", "memory", "run again"])
        other.kill()
        self.assert_goes_on()

    def test_a_wrong_clock_does_not_matter(self):
        self.prepare("--rank", 4, "--validation", 0.1, "--eval-every", 7)
        for path in self.folder.rglob("*"):
            if "whole" not in path.parts:
                os.utime(path, (2**32, 2**32))  # in the year 2106
        process, worker = self.start_and_stop()
        for path in (self.folder / "run").rglob("*"):
            os.utime(path, (1, 1))  # in 1970
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGCONT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.environment = self.environment | {"LD_PRELOAD": os.environ["FTPLAN_BACKWARD_CLOCK"]}
        self.assert_goes_on()
        seconds = [float(line[1]) for line in metrics(self.folder / "run", "seconds") if line[1] is not None]
        self.assertTrue(all(0 < value < 60 for value in seconds), "durations are not of the wall clock")


support.main()
