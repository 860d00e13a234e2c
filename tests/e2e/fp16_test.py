"""fp16 from the command line: what overflows is skipped and told, and a run that only overflows ends."""

import json

import support
from support import Case, make_model, make_rows, metrics, read_tensors, weights_of

FP16 = ["--precision", "fp16", "--steps", 40, "--global-batch", 4, "--learning-rate", "1e-2"]


class Fp16(Case):
    def setUp(self):
        super().setUp()
        make_model(self.folder / "model")
        make_rows(self.folder / "rows.json")

    def test_skipped_steps_are_told_in_line_metrics_and_summary(self):
        for method in ("full", "lora"):
            with self.subTest(method):
                run = self.folder / f"run-{method}"
                self.plan(*FP16, "--method", method, "--loss-scale", 2**30)
                out, err = self.ftplan("run", "plan.json", "-o", run)
                lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
                steps = [line for line in lines if "learning_rate" in line]
                skipped = [line for line in steps if "gradient_norm" not in line]
                self.assertGreater(len(skipped), 5)
                self.assertIn(f"40 steps, {len(skipped)} skipped, last loss", out)
                self.assertIn("every category as predicted; 0 bytes outside the arena", out)
                self.assertEqual(err.count("is skipped: gradients overflow in fp16 at the loss scale"), len(skipped))
                self.assertEqual(steps[-1]["skipped_steps"], len(skipped))
                scale, rate = 2.0**30, steps[0]["learning_rate"]
                for line in steps:
                    self.assertEqual(line["loss_scale"], scale)
                    if line in skipped:
                        scale /= 2
                # A step without an update does not count in the schedule: the first update has the first rate.
                first = next(line for line in steps if line not in skipped)
                self.assertEqual(first["learning_rate"], rate)
                self.assertLess(steps[-1]["loss"], 0.7 * steps[0]["loss"])
                self.ftplan("report", run)

    def test_the_model_is_written_in_fp16(self):
        self.plan(*FP16, "--method", "full")
        self.ftplan("run", "plan.json", "-o", "run")
        self.assertEqual({str(values.dtype) for values in read_tensors(self.folder / "run/model/model.safetensors").values()},
                         {"float16"})

    def test_a_run_that_no_scale_saves_ends(self):
        # Activations of 1e-7 before the last norm, which divides by them: their gradient is 1e7 times larger.
        weights = weights_of(support.TINY)
        for name in weights:
            weights[name] *= 1e-6 if "embed" in name else 0 if "o_proj" in name or "down_proj" in name else 1
        weights["lm_head.weight"] *= 1000
        make_model(self.folder / "tiny", weights=weights, rms_norm_eps=1e-20)
        self.plan(*FP16, "--method", "full", "--loss-scale", 1, model="tiny")
        self.refused("run", "plan.json", "-o", "run", code=4,
                     says=["step 9", "gradients overflow in fp16", "fallen to 0.0039", "is saved", "--precision bf16"])
        self.assertEqual([step for step, in metrics(self.folder / "run")], list(range(1, 9)))
        # Of eight steps none was an update: the state is the first one.
        file, = (self.folder / "run/checkpoints").iterdir()
        self.assertEqual(file.name, "step-000000000008.safetensors")

    def test_a_loss_scale_is_for_fp16_alone(self):
        for precision in ("bf16", "fp32"):
            line = self.plan("--precision", precision, "--loss-scale", 1024, code=2)[1]
            self.assertIn(f"--loss-scale: got 1024 with {precision}", line)


support.main()
