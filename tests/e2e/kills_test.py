"""Runs that are killed at random instants, again and again, end with the bytes of one that never was.

Of a run of several ranks one rank is killed, or all. FTPLAN_KILLS kills instead of 20, FTPLAN_KILL_MODE only in modes whose
name has this word, FTPLAN_SEED repeats a sequence, FTPLAN_KILL_REPORT names a file for what was done.
"""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import support
from support import Case, contents, make_model, make_rows, metrics

STEPS = 60
KILLS = 20
COMMON = ["--global-batch", 4, "--micro-batch", 2, "--steps", STEPS, "--learning-rate", "1e-2", "--validation", 0.1,
          "--eval-every", 5]
# Each writes in another way: every second step, several kept, the best beside them, a model or an adapter at the end.
MODES = {"full fp32, best and newest 3": ["--method", "full", "--save-every", 2, "--save-total-limit", 3,
                                          "--load-best-model-at-end"],
         "lora bf16, each step": ["--rank", 4, "--precision", "bf16", "--save-every", 1],
         "full bf16, adamw8bit": ["--method", "full", "--precision", "bf16", "--optimizer", "adamw8bit",
                                  "--save-every", 2],
         "qlora bf16, early end": ["--method", "qlora", "--rank", 4, "--precision", "bf16", "--save-every", 3,
                                   "--early-stopping-patience", 6, "--save-total-limit", 2],
         "two ranks, full bf16": ["--method", "full", "--precision", "bf16", "--gpus", "2xcpu", "--zero", 1,
                                  "--save-every", 2]}
KEPT = ("loss", "learning_rate", "gradient_norm", "target_tokens", "validation_loss", "best_step")


class Mode:
    """A plan, what a run of it leaves when nothing happens, and how long that takes."""

    def __init__(self, case, number, flags):
        self.case, self.folder = case, case.folder / f"mode-{number}"
        make_model(self.folder / "model", hidden_size=64, intermediate_size=80)  # large enough for 8-bit states
        make_rows(self.folder / "rows.json")
        case.folder = self.folder
        for _ in range(2):  # the second knows what the first had measured
            case.plan(*COMMON, *flags)
            case.ftplan("calibrate", "plan.json")
        case.ftplan("run", "plan.json", "-o", "whole")
        began = time.monotonic()
        case.ftplan("run", "plan.json", "-o", "timed")
        self.seconds = time.monotonic() - began
        self.kept = self.what_is_kept("whole")
        self.checkpoints = {}  # by step: all of that step must be the same bytes

    def what_is_kept(self, output):
        run = self.folder / output
        parts = [part for part in ("adapter", "model", "checkpoints") if (run / part).exists()]
        return {part: contents(run / part) for part in parts}, metrics(run, *KEPT)

    def check_checkpoints(self):
        """After a kill: those with their final name are complete."""
        checked = 0
        for path in (self.folder / "killed/checkpoints").glob("step-*.safetensors"):
            data = path.read_bytes()
            self.case.assertEqual(data, self.checkpoints.setdefault(path.name, data), f"{path.name} is torn")
            checked += 1
        return checked

    def check_end(self):
        files, lines = self.what_is_kept("killed")
        whole_files, whole_lines = self.kept
        self.case.assertEqual(sorted(files), sorted(whole_files))
        for part, found in files.items():
            self.case.assert_same_files(whole_files[part], found)
        self.case.assertEqual(lines, whole_lines)
        self.case.assertFalse(list((self.folder / "killed").rglob("*.partial")))
        shutil.rmtree(self.folder / "killed")


class Kills(Case):
    def test_a_run_that_was_killed_at_random_instants_equals_one_that_never_was(self):
        seed = int(os.environ.get("FTPLAN_SEED", random.SystemRandom().randrange(1 << 30)))
        wanted = int(os.environ.get("FTPLAN_KILLS", KILLS))
        print(f"FTPLAN_SEED={seed}")
        chance = random.Random(seed)
        folder = self.folder
        names = [name for name in MODES if os.environ.get("FTPLAN_KILL_MODE", "") in name]
        modes = {}
        began = time.monotonic()
        kills = dict.fromkeys(names, 0)
        writing = runs = checked = 0
        while sum(kills.values()) < wanted:
            name = names[runs % len(names)]
            if name not in modes:
                self.folder = folder
                modes[name] = Mode(self, runs, MODES[name])
            mode = modes[name]
            self.folder = mode.folder
            while self.kill_after(chance.uniform(0.1, 1.0) * mode.seconds, chance.random() if "rank" in name else 1):
                kills[name] += 1
                writing += bool(list((mode.folder / "killed").rglob("*.partial")))
                checked += mode.check_checkpoints()
            mode.check_end()
            runs += 1
        report = {"kills": sum(kills.values()), "while_a_file_was_written": writing, "kills_by_mode": kills,
                  "runs_that_ended_as_one_never_killed": runs, "checkpoints_found_complete": checked, "seed": seed,
                  "seconds": round(time.monotonic() - began)}
        print(json.dumps(report))
        if "FTPLAN_KILL_REPORT" in os.environ:
            pathlib.Path(os.environ["FTPLAN_KILL_REPORT"]).write_text(json.dumps(report, indent=2) + "\n")

    def kill_after(self, seconds, whom):
        """Starts or continues a run and kills it, below 0.8 one of its ranks; false when it was done before."""
        process = self.start("run", "plan.json", "-o", "killed")
        try:
            err = process.communicate(timeout=seconds)[1]
            self.assertEqual(process.returncode, 0, err)
            return False
        except subprocess.TimeoutExpired:
            ranks = support.ranks_of(process)
            if whom >= 0.8 or not ranks:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                return True
            rank = sorted(ranks)[int(whom / 0.8 * len(ranks))]
            with contextlib.suppress(ProcessLookupError):
                os.kill(ranks[rank], signal.SIGKILL)
            _, err = process.communicate(timeout=60)
            if process.returncode == 0:
                return False
            self.assertEqual(process.returncode, 4, err)
            self.assertIn(f"ftplan: rank {rank}: was ended by signal 9", err)
            return True


support.main()
