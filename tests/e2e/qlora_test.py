"""A 4-bit base: what ftplan trains on it, reads, merges and says is what PEFT has on the same values."""

import json

import support
from peer_case import PROMPTS, PeerCase, load, loss_of, make_model
from support import read_tensors

import peer
import quantized
import torch
from peft import PeftModel

QLORA = ["--method", "qlora"]


class Qlora(PeerCase):
    def setUp(self):
        super().setUp()
        make_model("llama", self.folder / "model")

    def dequantized(self, double_quantization=True):
        model = load(self.folder / "model")
        quantized.dequantize_linears(model, double_quantization)
        return model

    def train(self, *flags, output="run"):
        return super().train(*QLORA, *flags, output=output)

    def loss(self, *flags):
        return self.eval_loss("--model", "model", "--precision", "fp32", *flags)

    def test_losses_are_those_of_peft_on_the_dequantized_base(self):
        run = self.train()
        base = self.dequantized()
        before = loss_of(base, self.rows)
        self.assert_close(self.loss(*QLORA), before)
        self.assert_close(self.loss(*QLORA, "--no-double-quantization"), loss_of(self.dequantized(False), self.rows))
        plain = self.loss()
        self.assert_close(plain, loss_of(load(self.folder / "model"), self.rows))
        self.assertNotEqual(plain, self.loss(*QLORA))
        adapted = PeftModel.from_pretrained(base, str(run / "adapter")).eval()
        theirs = loss_of(adapted, self.rows)
        self.assertLess(theirs, before)
        self.assert_close(self.loss(*QLORA, "--adapter", run / "adapter"), theirs)

    def test_an_adapter_of_peft_is_continued(self):
        setting = peer.Setting(rank=4, alpha=12.0)
        adapted = peer.add_adapter(setting, self.dequantized(), self.folder / "peft").eval()
        self.assert_close(self.loss(*QLORA, "--adapter", "peft"), loss_of(adapted, self.rows))
        run = self.train("--adapter", "peft")
        config = json.loads((run / "adapter/adapter_config.json").read_text())
        self.assertEqual((config["r"], config["lora_alpha"]), (4, 12.0))
        first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["loss"]
        self.assertLess(self.loss(*QLORA, "--adapter", run / "adapter"), first)

    def test_a_checkpoint_holds_the_adapters_alone(self):
        run = self.train()
        checkpoint = read_tensors(next((run / "checkpoints").glob("*.safetensors")))
        self.assertTrue(all(name.startswith("adapters.") for name in checkpoint), sorted(checkpoint)[:3])

    def test_merged_is_the_base_as_it_was_with_the_adapter(self):
        # As PEFT merges into a base that was loaded in full: what was lost by quantization comes back.
        run = self.train()
        self.ftplan("merge", "--model", "model", "--adapter", run / "adapter", "-o", "merged")
        adapted = PeftModel.from_pretrained(load(self.folder / "model"), str(run / "adapter")).merge_and_unload()
        for name, values in load(self.folder / "merged").state_dict().items():
            torch.testing.assert_close(values, adapted.state_dict()[name], rtol=1e-6, atol=1e-7)

    def test_greedy_text_is_that_of_the_dequantized_base(self):
        words = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
        ours = self.answers("--max-new-tokens", 30, *QLORA, *words)
        self.assertEqual(ours, self.generated(self.dequantized(), 30))

    def test_a_weight_that_is_not_finite_is_refused(self):
        path = self.folder / "model/model.safetensors"
        weights = read_tensors(path)
        weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("inf")
        support.save_file(weights, path, metadata={"format": "pt"})
        self.plan("--steps", 1, *QLORA)
        self.refused("run", "plan.json", "-o", "run",
                     says=["model.safetensors", "model.layers.1.mlp.up_proj.weight", "not finite"])


torch.set_num_threads(1)
support.main()
