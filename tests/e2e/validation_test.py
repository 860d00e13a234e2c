"""Evaluations, the best state, the newest checkpoints and the early end of a run."""

import json
import random

import support
from support import Case, contents, make_model, make_rows, metrics, read_tensors

import transformers

# Learned fast and then by heart: the validation loss falls, turns and rises again.
COMMON = ["--global-batch", 4, "--micro-batch", 2, "--schedule", "constant", "--learning-rate", "2e-2", "--seed", 3]
EVALUATED = ["--validation", 0.2, "--eval-every", 5]
BEST = "--load-best-model-at-end"


class Validation(Case):
    def setUp(self):
        super().setUp()
        make_model(self.folder / "model")
        self.make_rows(3)

    def make_rows(self, seed, count=40):
        """Rows without a pattern: what is learned of some does not help with the others."""
        draw = random.Random(seed)
        rows = {"input_ids": [[draw.randrange(3, support.VOCABULARY) for _ in range(draw.randrange(9, 60))]
                              for _ in range(count)]}
        rows["labels"] = rows["input_ids"]
        (self.folder / "rows.json").write_text(json.dumps(rows))

    def train(self, *flags, output="run", steps=40):
        self.plan(*COMMON, "--steps", steps, *flags)
        self.ftplan("calibrate", "plan.json")
        self.plan(*COMMON, "--steps", steps, *flags)
        out, err = self.ftplan("run", "plan.json", "-o", output)
        self.assertIn("every category as predicted", out)
        return self.folder / output, out, err

    def evaluations(self, run):
        return [(step, loss) for step, loss in metrics(run, "validation_loss") if loss is not None]

    def checkpoints(self, run):
        return sorted(path.name for path in (run / "checkpoints").iterdir())

    def test_evaluations_are_where_the_flags_say(self):
        for flags, expected in {("--eval-every", 15): [15, 30, 40],
                                ("--eval-every", 10, "--eval-delay", 20): [20, 30, 40],
                                ("--eval-every", 5, "--eval-delay", 1000): [40],
                                ("--eval-every", "epoch"): [8, 16, 24, 32, 40],
                                ("--eval-every", "epoch", "--eval-delay", 3): [24, 32, 40],
                                ("--eval-every", "none"): []}.items():
            with self.subTest(flags):
                output = "-".join(map(str, flags))
                run, _, _ = self.train("--rank", 4, "--validation", 0.2, *flags, output=output)
                self.assertEqual([step for step, _ in self.evaluations(run)], expected)

    def test_the_best_state_becomes_the_result(self):
        for name, flags in {"model": ["--method", "full"], "model bf16": ["--method", "full", "--precision", "bf16"],
                            "adapter": ["--rank", 4]}.items():
            with self.subTest(name):
                output = "best-" + name.replace(" ", "-")
                run, out, _ = self.train(*flags, *EVALUATED, BEST, output=output)
                seen = self.evaluations(run)
                best, lowest = min(seen, key=lambda pair: pair[1])
                self.assertTrue(0 < best < 40, f"the loss turns within the run: {seen}")
                self.assertIn(f"the state after step {best}, the best", out)
                result = json.loads((run / "measured.json").read_text())
                self.assertEqual((result["best_step"], result["result_step"], result["steps"]), (best, best, 40))
                self.assertEqual(result["best_validation_loss"], lowest)
                self.assertEqual(metrics(run, "best_step", "best_validation_loss")[-1], (40, best, lowest))
                # The rate is constant, so a run that ends there has the same weights there.
                shorter, _, _ = self.train(*flags, *EVALUATED, output=output + "-shorter", steps=best)
                part = name.split()[0]
                self.assert_same_files(contents(shorter / part), contents(run / part))
                self.assertEqual(self.checkpoints(run), ["best.safetensors", "step-000000000040.safetensors"])
                self.assertTrue(all(key.endswith(".values") for key in read_tensors(run / "checkpoints/best.safetensors")))
                page, _ = self.ftplan("report", output)
                self.assertIn(f"It was lowest after step {best}", " ".join(page.split()))
                self.assertIn(f"The result is the state after step {best}, the best.", " ".join(page.split()))

    def test_the_last_state_is_the_result_when_nothing_else_is_asked(self):
        run, _, _ = self.train("--rank", 4, *EVALUATED)
        self.assertEqual(json.loads((run / "measured.json").read_text())["result_step"], 40)
        self.assertEqual(self.checkpoints(run), ["step-000000000040.safetensors"])

    def test_the_newest_checkpoints_are_kept(self):
        run, _, _ = self.train("--rank", 4, "--save-every", 6, "--save-total-limit", 3)
        self.assertEqual(self.checkpoints(run), [f"step-{step:012}.safetensors" for step in (30, 36, 40)])
        run, _, _ = self.train("--rank", 4, "--save-every", 15, "--save-total-limit", 9, output="all")
        self.assertEqual(self.checkpoints(run), [f"step-{step:012}.safetensors" for step in (15, 30, 40)])

    def early_end(self, losses, patience, threshold):
        """Where HF Trainer would stop, by its own callback."""
        callback = transformers.EarlyStoppingCallback(patience, threshold)
        arguments = transformers.TrainingArguments(output_dir=self.folder / "hf", metric_for_best_model="loss",
                                                   greater_is_better=False, eval_strategy="steps", report_to=[],
                                                   use_cpu=True)
        state, control = transformers.TrainerState(), transformers.TrainerControl()
        for step, loss in losses:
            callback.on_evaluate(arguments, state, control, metrics={"eval_loss": loss})
            if state.best_metric is None or loss < state.best_metric:
                state.best_metric = loss
            if control.should_training_stop:
                return step
        return None

    def test_a_run_stops_where_the_trainer_of_transformers_would(self):
        whole, _, _ = self.train("--rank", 4, *EVALUATED, output="whole", steps=80)
        losses = self.evaluations(whole)
        ends = set()
        for patience, threshold in ((1, 0), (3, 0), (2, 0.02), (1, 0.5)):
            with self.subTest(patience=patience, threshold=threshold):
                expected = self.early_end(losses, patience, threshold)
                self.assertIsNotNone(expected)
                ends.add(expected)
                output = f"patience-{patience}-{threshold}"
                flags = ["--early-stopping-patience", patience, "--early-stopping-threshold", threshold]
                run, out, err = self.train("--rank", 4, *EVALUATED, *flags, "--save-every", 10, "--save-total-limit", 2,
                                           BEST, output=output, steps=80)
                self.assertEqual(self.evaluations(run), [line for line in losses if line[0] <= expected])
                self.assertIn(f"stopped after step {expected} of 80", err)
                result = json.loads((run / "measured.json").read_text())
                self.assertEqual((result["steps"], result["stopped_early"]), (expected, True))
                self.assertEqual(result["ranks"][0]["predicted"], result["ranks"][0]["measured"])
                text = " ".join(self.ftplan("report", output)[0].split())
                self.assertIn(f"It stopped early, after step {expected} of 80", text)
                self.assertIn("Predicted equals measured, to the byte", text)
                # It has ended: the same command changes nothing.
                before = contents(run)
                self.ftplan("run", "plan.json", "-o", output)
                self.assert_same_files(before, contents(run))
        self.assertGreater(len(ends), 1, "the settings stop at different steps")

    def test_a_best_state_that_is_gone_or_damaged_is_refused(self):
        run, _, _ = self.train("--rank", 4, *EVALUATED, BEST)
        best = run / "checkpoints/best.safetensors"
        good = best.read_bytes()
        for bad, says in ((None, "cannot be read"), (good[:-10], "cannot be read"),
                          (good[:-2000] + bytes([good[-2000] ^ 1]) + good[-1999:], "is damaged")):
            best.unlink(missing_ok=True)
            if bad is not None:
                best.write_bytes(bad)
            self.refused("run", "plan.json", "-o", "run", says=["best.safetensors", says, "remove run/checkpoints"])
        best.write_bytes(good)
        self.ftplan("run", "plan.json", "-o", "run")

    def test_a_damaged_checkpoint_has_others_before_it(self):
        run, _, _ = self.train("--rank", 4, "--save-every", 10, "--save-total-limit", 2)
        whole = contents(run / "adapter")
        newest = run / "checkpoints/step-000000000040.safetensors"
        newest.write_bytes(newest.read_bytes()[:-1] + b"\xff")
        self.refused("run", "plan.json", "-o", "run", says=[newest.name, "is damaged", "remove it to continue after step 30"])
        newest.unlink()
        _, err = self.ftplan("run", "plan.json", "-o", "run")
        self.assertIn("continues after step 30 of 40", err)
        self.assert_same_files(whole, contents(run / "adapter"))

    def test_what_contradicts_itself_is_refused(self):
        held_out = ["--validation", 0.2]
        for flags, says in (([BEST], [BEST, "--validation"]),
                            ([BEST, *held_out, "--eval-every", "none"], [BEST, "--eval-every none"]),
                            (["--early-stopping-patience", 2], ["--early-stopping-patience", "--validation"]),
                            ([*held_out, "--early-stopping-patience", 2, "--eval-every", "none"],
                             ["--early-stopping-patience", "--eval-every none"]),
                            ([*held_out, "--early-stopping-threshold", 0.1],
                             ["--early-stopping-threshold", "--early-stopping-patience"]),
                            ([*held_out, "--early-stopping-patience", 0], ["--early-stopping-patience", "got 0"]),
                            (["--eval-every", 7], ["--eval-every", "--validation"]),
                            (["--eval-delay", 7], ["--eval-delay", "--validation"]),
                            (["--save-total-limit", 3], ["--save-total-limit", "--save-every"]),
                            (["--save-total-limit", 0, "--save-every", 2], ["--save-total-limit", "got 0"])):
            with self.subTest(flags):
                self.refused("plan", "--model", "model", "--data", "rows.json", "--seq", 128, "--steps", 5, *flags,
                             "-o", "none.json", says=says)

    def test_held_out_rows_without_targets_cannot_choose(self):
        rows = json.loads((self.folder / "rows.json").read_text())
        rows["labels"] = [[-100] * len(row) for row in rows["input_ids"]]
        rows["labels"][0] = rows["input_ids"][0]  # which the seed does not hold out
        (self.folder / "rows.json").write_text(json.dumps(rows))
        self.plan(*COMMON, "--steps", 4, "--validation", 0.2, BEST)
        self.refused("run", "plan.json", "-o", "run", says=["--validation", "no tokens to learn"])
        self.assertFalse((self.folder / "run").exists())


support.main()
