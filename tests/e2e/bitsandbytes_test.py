"""Folders with bitsandbytes' codes: those of transformers are read as they are, those of ftplan are the same.

What is written in other numbers, with and without an adapter, is what transformers, PEFT and bitsandbytes have."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import support
from peer_case import PROMPTS, PeerCase, load, loss_of, make_model
from support import metrics, read_tensors

import bitsandbytes.functional as bnb
import peer
import quantized
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

KINDS = {"nf4-double": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
         "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
         "int8": {"load_in_8bit": True}}
# What reads the 16-bit model in the same form.
METHODS = {"nf4-double": ["--method", "qlora"], "nf4": ["--method", "qlora", "--no-double-quantization"],
           "int8": ["--method", "int8-lora"]}
# int8: codes between which rounding decides.
LIMITS = {"nf4-double": 1e-5, "nf4": 1e-5, "int8": 1e-4}
INTO = {"nf4-double": ["--into", "nf4"], "nf4": ["--into", "nf4", "--no-double-quantization"],
        "int8": ["--into", "int8"]}
# Blocks of scales straddle no rows, which bitsandbytes 0.50 mistakes when it reads them.
SHAPE = {"intermediate_size": 128}
STATE = ".quant_state.bitsandbytes__nf4"
UP = "model.layers.1.mlp.up_proj.weight"


def quantize(source, folder, dtype=torch.float32, **options):
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype,
                                                 quantization_config=BitsAndBytesConfig(**options))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (source / name).exists():
            shutil.copy(source / name, folder / name)


def theirs(folder, kind):
    # For inference bitsandbytes takes 4-bit kernels of its own on some processors, for training no outlier rule.
    return load(folder).train(kind != "int8")


def tensors_of(folder):
    """All tensors of a folder by name; states as what their JSON says."""
    tensors = {}
    for path in folder.glob("*.safetensors"):
        tensors |= load_file(path)
    return {name: json.loads(bytes(values.tolist())) if name.endswith(STATE) else values
            for name, values in tensors.items()}


class Folders(PeerCase):
    """Tests that look at the same folders, which are made once."""

    made = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if Folders.made is None:
            Folders.made = pathlib.Path(unittest.enterModuleContext(tempfile.TemporaryDirectory()))
            make_model("llama", cls.made / "model", SHAPE)
            load(cls.made / "model").save_pretrained(cls.made / "sharded", max_shard_size="100KB")
            load(cls.made / "model", torch.bfloat16).save_pretrained(cls.made / "bf16")
            for kind, options in KINDS.items():
                quantize(cls.made / "model", cls.made / kind, **options)

    def setUp(self):
        super().setUp()
        for folder in self.made.iterdir():
            (self.folder / folder.name).symlink_to(folder)


class Read(Folders):
    def loss(self, model, *flags):
        return self.eval_loss("--model", model, "--precision", "fp32", *flags)

    def spoil(self, kind, change=None, config=None):
        """A copy of the folder with other tensors or another configuration."""
        folder = self.folder / "spoiled"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.made / kind, folder)
        if change:
            tensors = read_tensors(folder / "model.safetensors")
            change(tensors)
            support.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        if config:
            text = json.loads((folder / "config.json").read_text())
            config(text)
            (folder / "config.json").write_text(json.dumps(text))

    def eval_refused(self, says):
        self.refused("eval", "--model", "spoiled", "--data", "rows.json", says=says)

    def test_losses_and_text_are_those_of_bitsandbytes(self):
        words = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
        for kind in KINDS:
            with self.subTest(kind=kind):
                self.assert_close(self.loss(kind), loss_of(theirs(self.folder / kind, kind), self.rows), LIMITS[kind])
                # The codes are those that ftplan makes itself.
                self.assertEqual(self.loss(kind), self.loss(kind, *METHODS[kind]))
                self.assertEqual(self.loss(kind), self.loss("model", *METHODS[kind]))
                out, _ = self.ftplan("generate", "--model", kind, "--precision", "fp32", "--json", "--max-new-tokens",
                                     12, *words)
                self.assertEqual([answer["text"] for answer in json.loads(out)["answers"]],
                                 self.answers("--max-new-tokens", 12, *METHODS[kind], *words))

    def test_training_is_that_on_the_base_that_ftplan_quantizes(self):
        for kind in KINDS:
            with self.subTest(kind=kind):
                other = self.train(*METHODS[kind], output=f"quantized-{kind}")
                self.plan("--global-batch", 4, "--micro-batch", 2, "--steps", 8, "--learning-rate", "5e-3",
                          *METHODS[kind][:2], model=kind)
                out, _ = self.ftplan("run", "plan.json", "-o", f"from-{kind}")
                self.assertIn("every category as predicted; 0 bytes outside the arena", out)
                ours = self.folder / f"from-{kind}"
                self.assertEqual(metrics(ours, "loss"), metrics(other, "loss"))
                adapted = PeftModel.from_pretrained(theirs(self.folder / kind, kind), str(ours / "adapter"))
                adapted.train(kind != "int8")
                self.assert_close(self.loss(kind, "--adapter", ours / "adapter"), loss_of(adapted, self.rows),
                                  LIMITS[kind])

    def test_other_methods_are_refused(self):
        for kind, method in (("nf4", "int8-lora"), ("int8", "qlora"), ("nf4-double", "lora"), ("int8", "full")):
            self.refused("plan", "--model", kind, "--data", "rows.json", "--method", method, "-o", "plan.json",
                         says=["--method", method, kind, "use "])
        self.refused("plan", "--model", "nf4-double", "--data", "rows.json", "--method", "qlora",
                     "--no-double-quantization", "-o", "plan.json", says=["--no-double-quantization", "leave"])

    def test_what_is_not_read_is_named(self):
        for says, options in {
            "bnb_4bit_quant_type": {"load_in_4bit": True},  # fp4
            "up_proj": KINDS["nf4"] | {"llm_int8_skip_modules": ["up_proj", "lm_head"]},
            "the head": KINDS["int8"] | {"llm_int8_skip_modules": []},
        }.items():
            shutil.rmtree(self.folder / "spoiled", ignore_errors=True)
            quantize(self.folder / "model", self.folder / "spoiled", **options)
            self.eval_refused([says, "config.json"])

    def test_a_folder_that_is_not_whole_is_refused(self):
        weight = "model.layers.1.mlp.up_proj.weight"

        def state(**changes):
            def change(tensors):
                name = weight + ".quant_state.bitsandbytes__nf4"
                text = json.dumps(json.loads(tensors[name].tobytes()) | changes)
                tensors[name] = support.numpy.frombuffer(text.encode(), dtype="uint8")
            return change

        def replaced(name, values):
            return lambda tensors: tensors.update({name: values})

        numpy = support.numpy
        floats = read_tensors(self.folder / "model/model.safetensors")[weight]
        for kind, says, change in [
            ("nf4", [weight + ".absmax", "lacks"], lambda tensors: tensors.pop(weight + ".absmax")),
            ("nf4", [weight, "is F32 [128, 64]", "expected U8 [4096, 1]"], replaced(weight, floats)),
            ("nf4", [weight + ".quant_map", "other values"],
             replaced(weight + ".quant_map", numpy.zeros(16, "float32"))),
            ("nf4", ["unexpected", "odd.weight"], replaced("odd.weight", floats)),
            ("nf4", ["blocksize", "got 128, expected 64"], state(blocksize=128)),
            ("nf4", ["quant_type", "fp4"], state(quant_type="fp4")),
            ("nf4", ["shape", "[128, 64]"], state(shape=[64, 128])),
            ("nf4-double", ["nested_offset", "not finite"], state(nested_offset=1e300)),
            ("nf4-double", ["nested_blocksize", "got 64"], state(nested_blocksize=64)),
            ("nf4-double", [weight + ".nested_absmax", "not finite"],
             replaced(weight + ".nested_absmax", numpy.full(1, numpy.inf, "float32"))),
            ("int8", ["up_proj.weight_format", "is 1, expected 0"],
             replaced("model.layers.1.mlp.up_proj.weight_format", numpy.array(1, "uint8"))),
            ("int8", ["up_proj.SCB", "lacks"], lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.SCB")),
            ("int8", ["up_proj.SCB", "not finite"],
             replaced("model.layers.1.mlp.up_proj.SCB", numpy.full(128, numpy.nan, "float32"))),
        ]:
            with self.subTest(says=says):
                self.spoil(kind, change)
                self.eval_refused(says)
        self.spoil("nf4", config=lambda text: text["quantization_config"].update(bnb_4bit_use_double_quant=True))
        self.eval_refused(["absmax", "is F32", "expected U8"])
        self.spoil("nf4", config=lambda text: text.pop("quantization_config"))
        self.eval_refused("the weights are not those of config.json")


class Written(Folders):
    def convert(self, model, *flags, output="out"):
        out, _ = self.ftplan("convert", "--model", model, "-o", output, "--json", *flags)
        return json.loads(out)

    def merge(self, model, *flags, output="out"):
        out, _ = self.ftplan("merge", "--model", model, "--adapter", "adapter", "-o", output, "--json", *flags)
        return json.loads(out)

    def make_adapter(self, targets=None):
        setting = peer.Setting(rank=4, alpha=12.0, targets=targets)
        peer.add_adapter(setting, load(self.folder / "model"), self.folder / "adapter")

    def peak_of(self, *words):
        """Bytes that ftplan held at most; asked by a small process, whose own peak a child begins with."""
        ask = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
               "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
        out = subprocess.run([sys.executable, "-c", ask, str(support.FTPLAN), *words], cwd=self.folder,
                             env=self.environment, check=True, capture_output=True, text=True).stdout
        return int(out) << 10

    def assert_same_tensors(self, ours, expected):
        self.assertEqual(sorted(ours), sorted(expected))
        for name, values in ours.items():
            same = torch.equal(values, expected[name]) if torch.is_tensor(values) else values == expected[name]
            self.assertTrue(same, name)

    def dequantized(self, kind):
        """The plain model with the values of its codes."""
        model = load(self.folder / "model")
        if kind != "int8":
            quantized.dequantize_linears(model, kind == "nf4-double")
            return model
        with torch.no_grad():
            for _, _, linear in quantized.linears_of(model):
                codes, scales, _ = bnb.int8_vectorwise_quant(linear.weight.half())
                linear.weight.copy_(bnb.int8_vectorwise_dequant(codes, scales))
        return model

    def assert_rounding(self, printed, meant, stored):
        """What was printed of each linear and of all is what the values say."""
        found = {}
        for name, values in meant.items():
            linear = name.split(".")[-2]
            difference = stored[name].double() - values.double()
            for key in (linear, "all"):
                largest, squares, norm = found.get(key, (0, 0, 0))
                found[key] = (max(largest, float(difference.abs().max())), squares + float(difference.square().sum()),
                              norm + float(values.double().square().sum()))
        self.assertEqual({row["linear"] for row in printed["rounding"]}, set(found))
        for row in printed["rounding"]:
            largest, squares, norm = found[row["linear"]]
            self.assert_close(row["largest_error"], largest, 1e-6)
            self.assert_close(row["relative_rms"], (squares / norm) ** 0.5, 1e-6)

    def test_codes_are_those_that_bitsandbytes_makes(self):
        for kind, options in KINDS.items():
            with self.subTest(kind=kind):
                self.convert("model", *INTO[kind], output=f"our-{kind}")
                ours = self.folder / f"our-{kind}"
                self.assert_same_tensors(tensors_of(ours), tensors_of(self.folder / kind))
                config = json.loads((ours / "config.json").read_text())
                self.assertEqual(config, json.loads((self.folder / kind / "config.json").read_text()))
                self.assertEqual(loss_of(theirs(ours, kind), self.rows),
                                 loss_of(theirs(self.folder / kind, kind), self.rows))
                quantize(self.folder / "bf16", self.folder / f"their-{kind}-bf16", dtype=torch.bfloat16, **options)
                self.convert("bf16", *INTO[kind], output=f"our-{kind}-bf16")
                self.assert_same_tensors(tensors_of(self.folder / f"our-{kind}-bf16"),
                                         tensors_of(self.folder / f"their-{kind}-bf16"))

    def test_families_too(self):
        # Biases, fused linears, experts that stay as they are.
        for family in ("qwen2", "phi3", "mixtral"):
            with self.subTest(family=family):
                make_model(family, self.folder / family, SHAPE)
                quantize(self.folder / family, self.folder / f"their-{family}", **KINDS["nf4-double"])
                self.convert(family, *INTO["nf4-double"], output=f"our-{family}")
                self.assert_same_tensors(tensors_of(self.folder / f"our-{family}"),
                                         tensors_of(self.folder / f"their-{family}"))
                self.assert_close(self.eval_loss("--model", f"our-{family}", "--precision", "fp32"),
                                  loss_of(theirs(self.folder / f"our-{family}", "nf4"), self.rows))
        make_model("falcon", self.folder / "falcon")
        quantize(self.folder / "falcon", self.folder / "their-falcon", **KINDS["nf4"])
        self.refused("eval", "--model", "their-falcon", "--data", "rows.json", says=["quantization_config", "Falcon"])
        self.refused("convert", "--model", "falcon", "--into", "nf4", "-o", "out", says="Falcon")

    def test_shards_stay_and_their_index_names_what_they_hold(self):
        self.convert("sharded", *INTO["nf4-double"])
        self.assertEqual(sorted(path.name for path in (self.folder / "out").glob("*.safetensors")),
                         sorted(path.name for path in (self.folder / "sharded").glob("*.safetensors")))
        self.assert_same_tensors(tensors_of(self.folder / "out"), tensors_of(self.folder / "nf4-double"))
        self.assertEqual(loss_of(theirs(self.folder / "out", "nf4"), self.rows),
                         loss_of(theirs(self.folder / "nf4-double", "nf4"), self.rows))

    def test_codes_become_their_values(self):
        for kind in KINDS:
            self.convert(kind, "--into", "fp32", output=f"plain-{kind}")
            ours = self.folder / f"plain-{kind}"
            self.assertNotIn("quantization_config", json.loads((ours / "config.json").read_text()))
            self.assert_same_tensors(load(ours).state_dict(), self.dequantized(kind).state_dict())

    def test_floats_are_rounded_once(self):
        for into, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
            self.convert("model", "--into", into, output=into + "-out")
            plain = {name: values.to(dtype) for name, values in load(self.folder / "model").state_dict().items()}
            self.assert_same_tensors(load(self.folder / f"{into}-out", dtype="auto").state_dict(), plain)

    def test_merged_is_the_function_that_was_trained(self):
        self.make_adapter()
        for kind in KINDS:
            with self.subTest(kind=kind):
                self.merge("model", *METHODS[kind], "--into", "fp32", output=f"of-model-{kind}")
                self.merge(kind, "--into", "fp32", output=f"of-codes-{kind}")
                ours = load(self.folder / f"of-model-{kind}")
                self.assert_same_tensors(ours.state_dict(), load(self.folder / f"of-codes-{kind}").state_dict())
                base = PeftModel.from_pretrained(self.dequantized(kind), str(self.folder / "adapter"))
                for name, values in base.merge_and_unload().state_dict().items():
                    torch.testing.assert_close(ours.state_dict()[name], values, rtol=1e-6, atol=1e-7)
                trained = self.eval_loss("--model", kind, "--precision", "fp32", "--adapter", "adapter")
                merged = self.eval_loss("--model", f"of-model-{kind}", "--precision", "fp32")
                # int8 training quantizes the inputs of products, too; no weight can do that.
                self.assert_close(merged, trained, 2e-3 if kind == "int8" else 1e-6)

    def test_merged_into_codes_and_what_that_took(self):
        self.make_adapter()
        for kind in KINDS:
            with self.subTest(kind=kind):
                self.merge(kind, "--into", "fp32", output=f"exact-{kind}")
                meant = {name: values for name, values in tensors_of(self.folder / f"exact-{kind}").items()
                         if "_proj" in name}
                printed = self.merge(kind, *INTO[kind], output=f"codes-{kind}")
                self.convert(f"codes-{kind}", "--into", "fp32", output=f"values-{kind}")
                stored = tensors_of(self.folder / f"values-{kind}")
                codes = tensors_of(self.folder / f"codes-{kind}")
                for name, values in meant.items():
                    if kind == "int8":
                        expected, scales, _ = bnb.int8_vectorwise_quant(values.half())
                        self.assertTrue(torch.equal(codes[name[:-6] + "SCB"], scales), name)
                    else:
                        expected, _ = bnb.quantize_4bit(values.reshape(1, -1), blocksize=64, quant_type="nf4",
                                                        compress_statistics=kind == "nf4-double")
                    self.assertTrue(torch.equal(codes[name], expected), name)
                self.assert_rounding(printed, meant, stored)
                loaded = loss_of(theirs(self.folder / f"codes-{kind}", kind), self.rows)
                self.assert_close(self.eval_loss("--model", f"codes-{kind}", "--precision", "fp32"), loaded, 1e-4)

    def test_what_the_adapter_leaves_alone_keeps_its_codes(self):
        self.make_adapter(["q_proj"])
        for kind in KINDS:
            self.merge(kind, *INTO[kind], output=f"out-{kind}")
            ours, before = tensors_of(self.folder / f"out-{kind}"), tensors_of(self.folder / kind)
            changed = {name for name in before if ".q_proj." in name}
            self.assert_same_tensors({name: ours[name] for name in ours if name not in changed},
                                     {name: before[name] for name in before if name not in changed})
            self.assertFalse(torch.equal(ours["model.layers.0.self_attn.q_proj.weight"],
                                         before["model.layers.0.self_attn.q_proj.weight"]))
        # The same from the plain model: codes that training had, not codes of their values.
        self.merge("model", "--method", "qlora", "--into", "nf4", output="from-plain")
        self.assert_same_tensors(tensors_of(self.folder / "from-plain"), tensors_of(self.folder / "out-nf4-double"))

    def test_it_says_which_function_is_written(self):
        self.assertNotEqual(self.ftplan("merge", "--help")[0], "")
        run = self.train("--method", "qlora", "--rank", 4)
        words = ["merge", "--model", "model", "--adapter", run / "adapter", "-o"]
        out, _ = self.ftplan(*words, "other")
        self.assertIn("trained with --method qlora, so its base was another", out)
        out, _ = self.ftplan(*words, "exact", "--method", "qlora", "--into", "fp32")
        self.assertIn("nothing was rounded\nthe function that was trained", out)
        out, _ = self.ftplan(*words, "rounded", "--method", "qlora", "--into", "bf16")
        self.assertRegex(out, r"rounded to BF16 +largest error +relative rms\n  q_proj +\d")
        self.assertIn("--into fp32 keeps it", out)
        out, _ = self.ftplan(*words, "codes", "--method", "qlora", "--into", "nf4")
        self.assertRegex(out, r"rounded to nf4-double +largest error +relative rms\n(  \w+ +[\d.e-]+ +[\d.e-]+\n){8}")
        run.joinpath("plan.json").unlink()
        out, _ = self.ftplan(*words, "unknown")
        self.assertIn("if the adapter was trained with --method qlora or int8-lora", out)
        out, _ = self.ftplan(*words, "plain", "--method", "lora")
        self.assertNotIn("adapter was trained", out)

    def test_what_cannot_be_written_is_refused(self):
        self.make_adapter()
        merge = ["merge", "--adapter", "adapter", "-o", "out"]
        self.refused(*merge, "--model", "nf4", "--method", "int8-lora", says=["--method", "nf4", "leave"])
        self.refused(*merge, "--model", "model", "--method", "full", says=["--method", "lora | qlora | int8-lora"])
        self.refused(*merge, "--model", "model", "--into", "fp4", says=["--into", "fp4", "nf4 | int8"])
        self.refused("convert", "--model", "model", "-o", "out", says=["--into", "missing"])
        self.refused("convert", "--model", "llama2-7b", "--into", "nf4", "-o", "out", says="no weights")
        weights = read_tensors(self.folder / "model/model.safetensors")
        weights[UP][3, 5] = 1e5
        (self.folder / "wide").mkdir()
        support.save_file(weights, self.folder / "wide/model.safetensors", metadata={"format": "pt"})
        (self.folder / "wide/config.json").write_text((self.folder / "model/config.json").read_text())
        for into in ("int8", "fp16"):
            self.refused("convert", "--model", "wide", "--into", into, "-o", "out", says=[UP, "not finite"])
        self.assertFalse((self.folder / "out/config.json").exists())
        self.assertFalse((self.folder / "out/model.safetensors").exists())

    def test_memory_does_not_grow_with_the_model(self):
        folder = support.make_model(self.folder / "large", hidden_size=512, intermediate_size=2048,
                                    num_hidden_layers=8)
        size = (folder / "model.safetensors").stat().st_size
        self.assertGreater(size, 100 << 20)
        for flags in (["--into", "nf4"], ["--into", "int8"], ["--into", "bf16"]):
            with self.subTest(flags=flags):
                peak = self.peak_of("convert", "--model", "large", "-o", "large-" + flags[1], *flags)
                # The program, one matrix of 4 MiB that is read, what it becomes, and rows of each thread.
                self.assertLess(peak, 40 << 20)


torch.set_num_threads(1)
support.main()
