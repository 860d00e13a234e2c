"""Folders that ftplan writes in other numbers, with and without an adapter: what transformers, PEFT and bitsandbytes have."""

import json
import subprocess
import sys

import support
from peer_case import PeerCase, load, loss_of, make_model
from quantized_folders import KINDS, METHODS, SHAPE, quantize, theirs
from support import read_tensors

import bitsandbytes.functional as bnb
import peer
import quantized
import torch
from peft import PeftModel
from safetensors.torch import load_file

INTO = {"nf4-double": ["--into", "nf4"], "nf4": ["--into", "nf4", "--no-double-quantization"],
        "int8": ["--into", "int8"]}
STATE = ".quant_state.bitsandbytes__nf4"
UP = "model.layers.1.mlp.up_proj.weight"


def tensors_of(folder):
    """All tensors of a folder by name; states as what their JSON says."""
    tensors = {}
    for path in folder.glob("*.safetensors"):
        tensors |= load_file(path)
    return {name: json.loads(bytes(values.tolist())) if name.endswith(STATE) else values
            for name, values in tensors.items()}


class Convert(PeerCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_model("llama", cls.shared / "model", SHAPE)
        load(cls.shared / "model").save_pretrained(cls.shared / "sharded", max_shard_size="100KB")
        load(cls.shared / "model", torch.bfloat16).save_pretrained(cls.shared / "bf16")
        for kind, options in KINDS.items():
            quantize(cls.shared / "model", cls.shared / kind, **options)

    def setUp(self):
        super().setUp()
        for name in ("model", "sharded", "bf16", *KINDS):
            (self.folder / name).symlink_to(self.shared / name)

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
        make_model("falcon", self.folder / "falcon")
        self.refused("convert", "--model", "falcon", "--into", "nf4", "-o", "out", says="Falcon")
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
