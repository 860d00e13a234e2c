"""Folders that transformers saved with bitsandbytes' codes: read as they are, in training, evaluation and generation."""

import json
import shutil

import support
from peer_case import PROMPTS, PeerCase, loss_of, make_model
from quantized_folders import KINDS, METHODS, SHAPE, quantize, theirs
from support import metrics, read_tensors

import torch
from peft import PeftModel

# int8: codes between which rounding decides.
LIMITS = {"nf4-double": 1e-5, "nf4": 1e-5, "int8": 1e-4}


class Bitsandbytes(PeerCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_model("llama", cls.shared / "model", SHAPE)
        for kind, options in KINDS.items():
            quantize(cls.shared / "model", cls.shared / kind, **options)

    def setUp(self):
        super().setUp()
        for name in ("model", *KINDS):
            (self.folder / name).symlink_to(self.shared / name)

    def loss(self, model, *flags):
        return self.eval_loss("--model", model, "--precision", "fp32", *flags)

    def spoil(self, kind, change=None, config=None):
        """A copy of the folder with other tensors or another configuration."""
        folder = self.folder / "spoiled"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.shared / kind, folder)
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
                plain = [flag for flag in METHODS[kind] if "double" not in flag]
                ours = self.train(*plain, model=kind, output=f"from-{kind}")
                other = self.train(*METHODS[kind], output=f"quantized-{kind}")
                self.assertEqual(metrics(ours, "loss"), metrics(other, "loss"))
                adapted = PeftModel.from_pretrained(theirs(self.folder / kind, kind), str(ours / "adapter"))
                adapted.train(kind != "int8")
                self.assert_close(self.loss(kind, "--adapter", ours / "adapter"), loss_of(adapted, self.rows),
                                  LIMITS[kind])

    def test_predicted_bytes_are_measured_bytes(self):
        for kind in KINDS:
            self.plan("--steps", 1, *METHODS[kind][:2], model=kind)
            out, _ = self.ftplan("run", "plan.json", "-o", f"run-{kind}")
            self.assertIn("every category as predicted; 0 bytes outside the arena", out)

    def test_other_methods_are_refused(self):
        for kind, method in (("nf4", "int8-lora"), ("int8", "qlora"), ("nf4-double", "lora"), ("int8", "full")):
            self.refused("plan", "--model", kind, "--data", "rows.json", "--method", method, "-o", "plan.json",
                         says=["--method", method, kind, "use "])
        self.refused("plan", "--model", "nf4-double", "--data", "rows.json", "--method", "qlora",
                     "--no-double-quantization", "-o", "plan.json", says=["--no-double-quantization", "leave"])

    def test_what_is_not_read_is_named(self):
        for says, options in {
            "bnb_4bit_quant_type": {"load_in_4bit": True},  # fp4
            "bnb_4bit_quant_storage": KINDS["nf4"] | {"bnb_4bit_quant_storage": "float32"},
            "up_proj": KINDS["nf4"] | {"llm_int8_skip_modules": ["up_proj", "lm_head"]},
            "the head": KINDS["int8"] | {"llm_int8_skip_modules": []},
            "llm_int8_threshold": KINDS["int8"] | {"llm_int8_threshold": 4.0},
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


torch.set_num_threads(1)
support.main()
