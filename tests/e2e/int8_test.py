"""An 8-bit base: what ftplan trains on it, reads, merges and says is what PEFT has with bitsandbytes' linears."""

import support
from peer_case import PROMPTS, PeerCase, load, loss_of, make_model
from support import read_tensors

import peer
import quantized
import torch
from peft import PeftModel

INT8 = ["--method", "int8-lora"]
# Codes between which rounding decides.
LIMIT = 1e-4


class Int8(PeerCase):
    def setUp(self):
        super().setUp()
        make_model("llama", self.folder / "model")

    def in_8_bits(self):
        model = load(self.folder / "model")
        quantized.quantize_in_8_bits(model)
        model.is_loaded_in_8bit = True
        return model.eval()

    def loss(self, *flags):
        return self.eval_loss("--model", "model", "--precision", "fp32", *flags)

    def test_losses_are_those_of_bitsandbytes(self):
        run = self.train(*INT8)
        before = loss_of(self.in_8_bits(), self.rows)
        self.assert_close(self.loss(*INT8), before, LIMIT)
        self.assertNotEqual(self.loss(), self.loss(*INT8))
        theirs = loss_of(PeftModel.from_pretrained(self.in_8_bits(), str(run / "adapter")).eval(), self.rows)
        self.assertLess(theirs, before)
        self.assert_close(self.loss(*INT8, "--adapter", run / "adapter"), theirs, LIMIT)

    def test_an_adapter_of_peft_is_continued_and_merged(self):
        peer.add_adapter(peer.Setting(rank=4, alpha=12.0), load(self.folder / "model"), self.folder / "peft")
        run = self.train(*INT8, "--adapter", "peft")
        self.assertLess(self.loss(*INT8, "--adapter", run / "adapter"), self.loss(*INT8, "--adapter", "peft"))
        checkpoint = read_tensors(next((run / "checkpoints").glob("*.safetensors")))
        self.assertTrue(all(name.startswith("adapters.") for name in checkpoint), sorted(checkpoint)[:3])
        # Into the base as it was: what was lost by quantization comes back.
        self.assert_merged(run)

    def test_text_is_made(self):
        words = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
        ours = self.answers("--max-new-tokens", 12, *INT8, *words)
        self.assertEqual(ours, self.generated(self.in_8_bits(), 12))

    def test_a_weight_that_is_not_finite_in_fp16_is_refused(self):
        path = self.folder / "model/model.safetensors"
        weights = read_tensors(path)
        weights["model.layers.1.mlp.up_proj.weight"][3, 5] = 1e5
        support.save_file(weights, path, metadata={"format": "pt"})
        self.plan("--steps", 1, *INT8)
        self.refused("run", "plan.json", "-o", "run",
                     says=["model.safetensors", "model.layers.1.mlp.up_proj.weight", "not finite"])


torch.set_num_threads(1)
support.main()
