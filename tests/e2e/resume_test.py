"""A run that was stopped, killed or repeated ends with the bytes of one that never was."""

import json
import os
import pty
import random
import signal
import subprocess
import termios
import time

import support
from support import Case, contents, lines_of, make_model, make_rows, metrics

STEPS = 150
COMMON = ["--global-batch", 4, "--micro-batch", 2, "--steps", STEPS, "--learning-rate", "1e-2", "--validation", 0.1,
          "--eval-every", 7]
MODES = {"full fp32": ["--method", "full"],
         "full bf16": ["--method", "full", "--precision", "bf16"],
         "full bf16, sgd": ["--method", "full", "--precision", "bf16", "--optimizer", "sgd", "--momentum", 0.9],
         "full bf16, adamw8bit": ["--method", "full", "--precision", "bf16", "--optimizer", "adamw8bit"],
         "full fp32, paged-adamw8bit": ["--method", "full", "--optimizer", "paged-adamw8bit"],
         "lora fp32": ["--rank", 4, "--dropout", 0.1],
         "lora fp32, best and newest 3": ["--rank", 4, "--save-every", 9, "--save-total-limit", 3,
                                          "--load-best-model-at-end", "--early-stopping-patience", 1000],
         "lora bf16": ["--rank", 4, "--dropout", 0.1, "--precision", "bf16", "--layers-to-transform", "0"],
         "full fp16": ["--method", "full", "--precision", "fp16", "--loss-scale", 1e9],
         "lora fp16": ["--rank", 4, "--precision", "fp16", "--loss-scale", 1e9],
         "int8-lora bf16": ["--method", "int8-lora", "--rank", 4, "--precision", "bf16"],
         "lora bf16, modules": ["--rank", 4, "--precision", "bf16", "--modules-to-save", "embed_tokens,lm_head,norm",
                                "--pad-vocabulary-to", 7],
         "qlora fp32, edges": ["--method", "qlora", "--rank", 4, "--targets", "v_proj,embed_tokens,lm_head"],
         "qlora bf16": ["--method", "qlora", "--rank", 4, "--precision", "bf16"]}
# What differs from the tiny model: matrices that are large enough for 8-bit states.
WIDE = {"hidden_size": 64, "intermediate_size": 80}
MODELS = {"full bf16, adamw8bit": WIDE, "full fp32, paged-adamw8bit": WIDE}
KEPT = ("loss", "learning_rate", "gradient_norm", "target_tokens", "validation_loss", "loss_scale", "skipped_steps")


class Resume(Case):
    def setUp(self):
        super().setUp()
        self.make_inputs()

    def make_inputs(self, **changes):
        make_model(self.folder / "model", **changes)
        make_rows(self.folder / "rows.json")

    def prepare(self, *flags):
        """Plans, calibrates where scratch is a bound, and runs without a stop into `whole`."""
        self.plan(*COMMON, *flags)
        self.ftplan("calibrate", "plan.json")
        self.plan(*COMMON, *flags)
        self.ftplan("run", "plan.json", "-o", "whole")

    def stop_at(self, line, number=signal.SIGINT, output="stopped", group=False):
        """Starts or continues a run and asks it to stop once it has added to metrics.jsonl and made `line` lines."""
        file = self.folder / output / "metrics.jsonl"
        wanted = max(line, lines_of(file) + 1)
        process = self.start("run", "plan.json", "-o", output)
        self.wait_for(lambda: lines_of(file) >= wanted, process, f"line {wanted}")
        (os.killpg if group else os.kill)(process.pid, number)
        err = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("the state is saved: the same command continues", err)
        return int(err.split("after step ")[-1].split(" of ")[0])

    def assert_equal_runs(self, output="stopped"):
        whole, other = self.folder / "whole", self.folder / output
        for part in ("adapter", "model", "checkpoints"):
            self.assertEqual((whole / part).exists(), (other / part).exists())
            self.assert_same_files(contents(whole / part), contents(other / part))
        self.assertEqual(metrics(whole, *KEPT), metrics(other, *KEPT))
        steps = [line[0] for line in metrics(other, "loss") if line[1] is not None]
        self.assertEqual(steps, list(range(1, STEPS + 1)))

    def test_a_run_that_was_stopped_twice_equals_one_that_never_was(self):
        for number, (mode, flags) in enumerate(MODES.items()):
            with self.subTest(mode):
                self.folder = self.folder.parent / f"mode-{number}"
                self.make_inputs(**MODELS.get(mode, {}))
                self.prepare(*flags)
                first = self.stop_at(10)
                second = self.stop_at(35)
                self.assertLess(first, second)
                self.assertLess(second, STEPS)
                _, err = self.ftplan("run", "plan.json", "-o", "stopped")
                self.assertIn(f"continues after step {second} of {STEPS}", err)
                self.assert_equal_runs()

    def test_a_damaged_checkpoint_is_named_and_not_continued(self):
        self.prepare(*MODES["lora fp32"])
        self.stop_at(10)
        file, = (self.folder / "stopped/checkpoints").iterdir()
        good = file.read_bytes()
        at = random.Random(7).randrange(len(good) - 4096, len(good))
        for bad, says in ((good[:at] + bytes([good[at] ^ 1]) + good[at + 1:], "is damaged"), (good[:at], "cut off")):
            file.write_bytes(bad)
            done = subprocess.run([support.FTPLAN, "run", "plan.json", "-o", "stopped"], cwd=self.folder,
                                  env=self.environment, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn(file.name, done.stderr)
            self.assertIn(says, done.stderr)
            self.assertIn("remove it", done.stderr)
            self.assertEqual(file.read_bytes(), bad)
        file.write_bytes(good)
        self.ftplan("run", "plan.json", "-o", "stopped")
        self.assert_equal_runs()

    def test_a_run_whose_front_was_killed_saves_and_continues(self):
        self.prepare(*MODES["full fp32"])
        process = self.start("run", "plan.json", "-o", "stopped")
        run = self.folder / "stopped"
        self.wait_for(lambda: lines_of(run / "metrics.jsonl") >= 5, process, "line 5")
        process.kill()
        process.communicate(timeout=60)  # ends when the worker has closed its end of the pipes
        self.assertTrue(list((run / "checkpoints").iterdir()))
        self.ftplan("run", "plan.json", "-o", "stopped")
        self.assert_equal_runs()

    def test_each_way_of_asking_finishes_the_step_and_saves(self):
        self.prepare(*MODES["lora fp32"])
        self.stop_at(5, signal.SIGTERM)
        # As `timeout` and service managers do: every process of the group is told.
        self.stop_at(20, signal.SIGINT, group=True)
        self.stop_at(35, signal.SIGTERM, group=True)
        self.ftplan("run", "plan.json", "-o", "stopped")
        self.assert_equal_runs()

    def test_the_key_of_a_terminal_stops_it(self):
        self.prepare(*MODES["lora fp32"])
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(self.folder)
            words = [str(support.FTPLAN), "run", "plan.json", "-o", "stopped"]
            os.execve(words[0], words, self.environment)
        file = self.folder / "stopped/metrics.jsonl"
        end = time.monotonic() + 60
        while lines_of(file) < 8 and time.monotonic() < end:
            time.sleep(0.002)
        os.write(terminal, termios.tcgetattr(terminal)[6][termios.VINTR])
        shown = b""
        try:
            while part := os.read(terminal, 1 << 16):
                shown += part
        except OSError:
            pass  # the terminal is gone with its last process
        _, status = os.waitpid(child, 0)
        os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(status), 130, shown)
        self.assertRegex(shown.decode(), r"step \d+/150  loss \d\.\d{4}  \d+ tokens/s  [\d.]+ KiB  \d\d:\d\d left")
        self.assertIn("the same command continues", shown.decode())
        self.ftplan("run", "plan.json", "-o", "stopped")
        self.assert_equal_runs()

    def test_a_checkpoint_of_another_plan_is_refused_and_its_run_stays(self):
        self.prepare(*MODES["lora fp32"])
        before = contents(self.folder / "whole")
        self.plan(*COMMON, *MODES["lora fp32"], "--seed", 5, output="other.json")
        self.refused("run", "other.json", "-o", "whole",
                     says=["step-000000000150.safetensors", "belongs to a run of another plan", "another --output"])
        self.assert_same_files(before, contents(self.folder / "whole"))

    def test_a_torn_checkpoint_is_refused_with_the_way_out(self):
        self.prepare(*MODES["lora fp32"])
        file, = (self.folder / "whole/checkpoints").iterdir()
        file.write_bytes(file.read_bytes()[:-100])
        self.refused("run", "plan.json", "-o", "whole", says=["step-000000000150.safetensors", "the file is cut off", "remove it to start"])

    def test_a_finished_run_is_left_as_it_is(self):
        self.prepare(*MODES["lora fp32"])
        before = contents(self.folder / "whole")
        self.ftplan("run", "plan.json", "-o", "whole")
        self.assert_same_files(before, contents(self.folder / "whole"))

    def test_a_stopped_run_says_what_it_measured(self):
        self.prepare(*MODES["lora fp32"])
        self.stop_at(5)
        measured = json.loads((self.folder / "stopped/measured.json").read_text())["ranks"][0]
        self.assertEqual(measured["predicted"]["device"], measured["measured"]["device"])


support.main()
