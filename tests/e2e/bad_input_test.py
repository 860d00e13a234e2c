"""What is wrong is refused in one line with its exit code, and nothing is left half-written."""

import json
import os
import resource
import shutil
import subprocess
import sys
import unittest

import numpy
import support
from support import Case, contents, make_model, make_rows, metrics, read_tensors, weights_of

COMMON = ["--global-batch", 4, "--micro-batch", 2, "--steps", 6, "--learning-rate", "1e-2"]


def edit(path, change):
    """Changes a JSON file in place."""
    json_value = json.loads(path.read_text())
    change(json_value)
    path.write_text(json.dumps(json_value))


class BadInput(Case):
    def setUp(self):
        super().setUp()
        make_model(self.folder / "model")
        make_rows(self.folder / "rows.json")

    def plan_refused(self, says, *flags, code=2, model="model", data="rows.json", **options):
        before = contents(self.folder)
        seq = [] if "--seq" in flags else ["--seq", 128]
        line = self.refused("plan", "--model", model, "--data", data, *seq, "--precision", "fp32", "-o",
                            "plan.json", *flags, says=says, code=code, **options)
        self.assert_same_files(before, contents(self.folder))
        return line

    def run_refused(self, says, *flags, code=2, plan="plan.json", **options):
        """The run folder does not even exist afterwards."""
        self.refused("run", plan, "-o", "run", *flags, says=says, code=code, **options)
        self.assertFalse((self.folder / "run").exists(), "a run folder was made")


class Model(BadInput):
    def test_what_is_missing_is_named(self):
        self.plan_refused(["nowhere", "did you mean"], model="nowhere")
        self.plan_refused(["rows2.json", "No such file"], data="rows2.json")
        self.plan_refused("--model", "--model", "")
        (self.folder / "model/config.json").unlink()
        self.plan_refused("config.json")

    def test_a_config_is_read_strictly(self):
        config = self.folder / "model/config.json"
        good = config.read_text()
        for says, change in {
            "bert": lambda c: c.update(architectures=["BertForMaskedLM"], model_type="bert"),
            "hidden_size": lambda c: c.update(hidden_size="32"),
            "num_attention_heads": lambda c: c.update(num_attention_heads=5),
            "vocab_size": lambda c: c.update(vocab_size=-1),
            "axial": lambda c: c.update(rope_scaling={"rope_type": "axial", "factor": 2.0}),
        }.items():
            with self.subTest(says):
                config.write_text(good)
                edit(config, change)
                self.plan_refused(["config.json", says])
        config.write_text(good[:100])
        self.plan_refused(["config.json", "JSON"])

    def test_more_tokens_than_positions_are_refused(self):
        self.plan_refused(["--seq", "300", "256"], "--seq", 300)

    def test_weights_that_are_cut_off_missing_or_of_another_shape_are_named(self):
        self.plan(*COMMON)
        file = self.folder / "model/model.safetensors"
        good = file.read_bytes()
        file.write_bytes(good[:-1000])
        self.run_refused(["model.safetensors", "cut off"])
        file.write_bytes(good[:100])
        self.run_refused("model.safetensors")
        file.write_bytes(b"")
        self.run_refused("model.safetensors")
        file.unlink()
        self.run_refused("safetensors")
        weights = weights_of(support.TINY)
        shutil.rmtree(self.folder / "model")
        del weights["model.layers.1.mlp.up_proj.weight"]
        make_model(self.folder / "model", weights=weights)
        self.run_refused("model.layers.1.mlp.up_proj.weight")
        shutil.rmtree(self.folder / "model")
        weights["model.layers.1.mlp.up_proj.weight"] = numpy.zeros((48, 31), numpy.float32)
        make_model(self.folder / "model", weights=weights)
        self.run_refused(["model.layers.1.mlp.up_proj.weight", "31", "32"])

    def test_another_model_than_planned_is_refused(self):
        self.plan(*COMMON)
        make_model(self.folder / "other", num_hidden_layers=3)
        self.run_refused(["other", "plan again"], "--model", "other")

    def test_an_adapter_of_another_model_is_refused(self):
        self.plan(*COMMON, "--rank", 4)
        self.ftplan("run", "plan.json", "-o", "first")
        make_model(self.folder / "wide", hidden_size=64)
        self.plan(*COMMON, "--adapter", "first/adapter", output="wide.json", model="wide")
        self.run_refused(["first/adapter", "lora_A"], plan="wide.json")
        self.refused("eval", "--model", "wide", "--adapter", "first/adapter", "--data", "rows.json", "--seq", 128,
                     says=["first/adapter", "lora_A"])
        self.refused("merge", "--model", "wide", "--adapter", "first/adapter", "-o", "merged",
                     says=["first/adapter", "lora_A"])
        self.assertFalse(list(self.folder.glob("merged/*.safetensors*")))
        edit(self.folder / "first/adapter/adapter_config.json", lambda c: c.update(peft_type="IA3"))
        self.plan_refused(["adapter_config.json", "IA3"], "--adapter", "first/adapter")
        (self.folder / "first/adapter/adapter_config.json").unlink()
        self.plan_refused("adapter_config.json", "--adapter", "first/adapter")

    def test_a_preset_has_no_weights_to_run(self):
        # Without a worker beside it, plan measures nothing of this large model.
        (self.folder / "bin").mkdir()
        shutil.copy(support.FTPLAN, self.folder / "bin/ftplan")
        self.ftplan("plan", "--model", "llama3.2-1b", "--seq", 64, "--steps", 1, "--memory", 64, "-o", "plan.json",
                    binary=self.folder / "bin/ftplan")
        self.run_refused(["--model", "llama3.2-1b"])


class Data(BadInput):
    def add_tokenizer(self):
        edit(self.folder / "model/config.json", lambda c: c.update(vocab_size=2048))
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(support.EXAMPLE_MODEL / name, self.folder / "model" / name)

    def test_a_broken_record_is_named_by_its_number(self):
        self.add_tokenizer()
        records = [json.dumps({"instruction": f"say {i}", "output": str(i)}) for i in range(1, 31)]
        for broken, says in {"{\"instruction\": \"say 17\",": "record 17", "[17]": "record 17",
                             "{\"instruction\": 17, \"output\": \"x\"}": "record 17"}.items():
            with self.subTest(broken):
                (self.folder / "alpaca.jsonl").write_text("\n".join(records[:16] + [broken] + records[17:]))
                self.plan_refused(["alpaca.jsonl", says], data="alpaca.jsonl")

    def test_tokens_must_be_those_of_the_model(self):
        rows = json.loads((self.folder / "rows.json").read_text())
        rows["input_ids"][16][3] = 64
        (self.folder / "rows.json").write_text(json.dumps(rows))
        self.plan_refused(["rows.json", "17", "64"])
        rows["input_ids"][16][3] = 5
        rows["labels"][16].append(5)
        (self.folder / "rows.json").write_text(json.dumps(rows))
        self.plan_refused(["rows.json", "17"])
        (self.folder / "rows.json").write_text(json.dumps(rows)[:-40])
        self.plan_refused("rows.json")
        (self.folder / "rows.json").write_text("")
        self.plan_refused("rows.json")

    def test_text_needs_a_tokenizer(self):
        (self.folder / "text.jsonl").write_text(json.dumps({"text": "one two"}) + "\n")
        self.plan_refused("tokenizer", data="text.jsonl")

    def test_parquet_is_refused_with_a_command_that_converts_it(self):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            self.skipTest("pyarrow is missing (tools/setup tests installs it)")
        self.add_tokenizer()
        pyarrow.parquet.write_table(pyarrow.table({"text": ["one \u00e9", "two 'three'"], "more": [[1], [2, 3]]}),
                                    self.folder / "some rows.parquet")
        line = self.plan_refused(["some rows.parquet", "is Parquet", "pyarrow.parquet"], data="some rows.parquet")
        command = line.split("convert it with  ")[1].replace("python3", sys.executable, 1)
        subprocess.run(["sh", "-c", command], cwd=self.folder, check=True)
        converted = [json.loads(row) for row in (self.folder / "some rows.jsonl").read_text().splitlines()]
        self.assertEqual(converted, [{"text": "one \u00e9", "more": [1]}, {"text": "two 'three'", "more": [2, 3]}])

    def test_data_that_has_changed_is_refused(self):
        self.plan(*COMMON)
        make_rows(self.folder / "rows.json", seed=1)
        self.run_refused(["data has changed", "plan again"])

    def test_data_that_is_gone_is_refused(self):
        self.plan(*COMMON)
        (self.folder / "rows.json").unlink()
        self.run_refused("rows.json")


class Files(BadInput):
    def test_a_plan_is_read_strictly(self):
        self.plan(*COMMON)
        path = self.folder / "plan.json"
        good = path.read_text()
        for says, change in {
            "#/job/training/stepz": lambda p: p["job"]["training"].update(stepz=3),
            "#/strategy/micro_batch": lambda p: p["strategy"].update(micro_batch=0),
            "#/steps": lambda p: p.update(steps="6"),
            "#/machine": lambda p: p.pop("machine"),
            "#/predicted": lambda p: p.update(predicted=[]),
            "#/format_version": lambda p: p.update(format_version=99),
        }.items():
            with self.subTest(says):
                path.write_text(good)
                edit(path, change)
                self.run_refused("plan.json" + says)
        for text in ("", good[:500], "[]", "7"):
            path.write_text(text)
            self.run_refused("plan.json")
        path.unlink()
        self.run_refused("plan.json")

    def test_a_plan_that_was_edited_is_refused(self):
        self.plan(*COMMON)
        good = (self.folder / "plan.json").read_text()
        edit(self.folder / "plan.json", lambda p: p["strategy"].update(checkpointing="full"))
        self.run_refused("plan again")
        (self.folder / "plan.json").write_text(good)
        edit(self.folder / "plan.json", lambda p: p["predicted"][0].update(arena=4096))
        self.run_refused(["4096", "plan again"])

    def test_a_job_is_read_strictly(self):
        job = self.folder / "job.json"
        for says, value in {
            "#/training/stepz": {"training": {"stepz": 3}},
            "#/method/rank": {"method": {"rank": "16"}},
            "#/method/method": {"method": {"method": "lorra"}},
            "#/data/seq": {"data": {"seq": 0}},
            "#/nonsense": {"nonsense": 1},
        }.items():
            with self.subTest(says):
                job.write_text(json.dumps({"model": "model"} | value))
                self.refused("plan", "--job", "job.json", "-o", "plan.json", says="job.json" + says)
        job.write_text('{"model": "mod')
        self.refused("plan", "--job", "job.json", says="job.json")
        self.assertFalse((self.folder / "plan.json").exists())

    def test_a_plan_for_another_device_or_trainer_is_not_run(self):
        for flags, says in ((["--gpus", "1xA100-80GB"], "--gpus cpu"), (["--gpus", "2xcpu", "--pipeline", "naive"], "--zero 3"),
                            (["--runtime", "hf", "--checkpointing", "none"], "runtime")):
            self.plan(*COMMON, *flags)
            self.run_refused(says)

    def test_a_folder_that_cannot_be_made_is_named(self):
        self.plan(*COMMON)
        (self.folder / "file").write_text("")
        self.refused("run", "plan.json", "-o", "file/run", says="file/run")
        self.refused("plan", "--model", "model", "--data", "rows.json", "-o", "nowhere/plan.json",
                     says=["--output", "no folder nowhere"])

    def test_a_run_without_the_worker_says_how_to_get_it(self):
        self.plan(*COMMON)
        (self.folder / "bin").mkdir()
        shutil.copy(support.FTPLAN, self.folder / "bin/ftplan")
        for command in ("run", "eval", "generate", "calibrate"):
            self.refused(command, "plan.json", binary=self.folder / "bin/ftplan",
                         says=["ftplan-worker is missing", "tools/setup"])


class Machine(BadInput):
    def test_an_arena_larger_than_the_memory_is_infeasible(self):
        self.plan(*COMMON)
        edit(self.folder / "plan.json", lambda p: p["predicted"][0]["device"].update(peak=1 << 50))
        self.run_refused(["memory", "1048576.00 GiB", "free"], code=3)
        self.refused("calibrate", "plan.json", says=["memory", "1048576.00 GiB", "free"], code=3)

    def test_memory_that_the_system_refuses_is_infeasible(self):
        # 800 MiB of address space hold LibTorch, but not 512 MiB of logits beside it.
        make_model(self.folder / "large", vocab_size=131072)
        self.plan("--global-batch", 16, "--micro-batch", 16, "--steps", 1, "--loss-chunk", 1024, model="large")
        limit = 800 << 20
        self.run_refused("memory", code=3,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))

    def test_a_loss_that_is_not_a_number_ends_the_run_and_keeps_the_state(self):
        self.plan(*COMMON, "--method", "full")
        weights = weights_of(support.TINY)
        weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
        shutil.rmtree(self.folder / "model")
        make_model(self.folder / "model", weights=weights)
        self.refused("run", "plan.json", "-o", "run", code=4,
                     says=["step 1", "the loss is not finite", "is saved", "--learning-rate"])
        run = self.folder / "run"
        file, = (run / "checkpoints").iterdir()
        self.assertEqual(file.name, "step-000000000000.safetensors")
        self.assertFalse((run / "model").exists())
        self.assertEqual(metrics(run), [])

    def test_a_loss_that_grows_beyond_numbers_keeps_the_last_finite_state(self):
        self.plan("--global-batch", 4, "--micro-batch", 2, "--steps", 60, "--learning-rate", 50, "--schedule",
                  "constant", "--clip", 0, "--method", "full", "--weight-decay", 10)
        line = self.refused("run", "plan.json", "-o", "run", code=4, says=["is not finite", "is saved"])
        failed = int(line.split("step ")[1].split(":")[0])
        run = self.folder / "run"
        file, = (run / "checkpoints").iterdir()
        self.assertEqual(file.name, f"step-{failed - 1:012}.safetensors")
        for name, values in read_tensors(file).items():
            self.assertTrue(numpy.isfinite(values).all(), name)
        self.assertEqual([step for step, in metrics(run)], list(range(1, failed)))
        again = self.refused("run", "plan.json", "-o", "run", code=4, says="is not finite")
        self.assertEqual(line, again)

    def test_a_gradient_that_overflows_after_updates_in_the_backward_keeps_the_last_checkpoint(self):
        # The loss is finite; only through the first layer's norm does the gradient grow beyond f32.
        weights = weights_of(support.TINY)
        weights["model.embed_tokens.weight"] *= numpy.float32(1e-15)
        weights["lm_head.weight"] *= numpy.float32(1e26)
        shutil.rmtree(self.folder / "model")
        make_model(self.folder / "model", weights=weights, rms_norm_eps=1e-34)
        early = ("--method", "full", "--precision", "fp32", "--micro-batch", 2, "--steps", 2, "--clip", 0)
        self.plan(*early)
        self.refused("run", "plan.json", "-o", "after", code=4, says=["the gradient's norm is not finite", "is saved"])
        self.plan(*early, "--update-in-backward")
        self.refused("run", "plan.json", "-o", "inside", code=4,
                     says=["the gradient's norm is not finite", "some layers are updated", "the last checkpoint stays"])
        self.assertFalse((self.folder / "inside/checkpoints").exists())

    def test_a_limit_on_files_is_a_failed_run(self):
        self.plan(*COMMON, "--method", "full")
        for limit, says in ((65536, "step-"), (1024, "plan.json")):
            shutil.rmtree(self.folder / "run", ignore_errors=True)
            self.refused("run", "plan.json", "-o", "run", code=4, says=[says, "too large"],
                         preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
            self.assertFalse((self.folder / "run/model").exists())
            self.assertFalse(list((self.folder / "run").rglob("*.partial")))
            self.assertFalse(list((self.folder / "run").rglob("*.safetensors")))
        self.ftplan("run", "plan.json", "-o", "run")

    def mount(self, size):
        place = self.folder / "small"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            self.skipTest(f"no file system can be mounted here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", place], check=True)
        return place

    @unittest.skipIf(os.geteuid() != 0, "mounting a small disk needs root")
    def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(self):
        self.plan("--global-batch", 4, "--micro-batch", 2, "--steps", 40, "--method", "full", "--save-every", 2)
        # 400 KiB hold one checkpoint of 243 KiB, not a second beside it.
        place = self.mount("400k")
        self.refused("run", "plan.json", "-o", "small/run", code=4, says=["step-000000000004", "disk is full", "missing"])
        kept = [path.name for path in (place / "run/checkpoints").iterdir()]
        self.assertEqual(kept, ["step-000000000002.safetensors"])
        subprocess.run(["mount", "-o", "remount,size=4m", place], check=True)
        _, err = self.ftplan("run", "plan.json", "-o", "small/run")
        self.assertIn("continues after step 2", err)
        self.ftplan("run", "plan.json", "-o", "run")
        self.assert_same_files(contents(place / "run/model"), contents(self.folder / "run/model"))

    @unittest.skipIf(os.geteuid() != 0, "mounting a small disk needs root")
    def test_a_full_disk_is_named_by_every_writer(self):
        place = self.mount("16k")
        self.plan(*COMMON, "--rank", 4)
        self.ftplan("run", "plan.json", "-o", "run")
        (place / "fill").write_bytes(b"x" * 12288)
        self.refused("plan", "--model", "model", "--data", "rows.json", "-o", "small/plan.json", code=4,
                     says=["small/plan.json", "disk is full"])
        self.refused("merge", "--model", "model", "--adapter", "run/adapter", "-o", "small/merged", code=4,
                     says=["small", "disk is full"])
        self.refused("data", "--model", "model", "--data", "rows.json", "--out", "small/rows.json", code=4,
                     says=["small/rows.json", "No space left"])
        self.assertEqual([path.name for path in place.rglob("*") if path.is_file()], ["fill"])


support.main()
