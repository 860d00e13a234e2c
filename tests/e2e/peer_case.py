"""A tiny model with the example's tokenizer, as transformers and as ftplan have it."""

import json
import shutil

import support
from support import Case, make_rows

import peer
import torch
import torch.nn.functional as functional
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

PROMPTS = ["Once", "The opposite of hot is", "Tell me about robin, said Tom. A robin is a bird and",
           "One day a small dog ran to the river. " * 9]


def loss_of(model, rows):
    """Mean over all target tokens of rows that are read one by one."""
    total, count = 0.0, 0
    with torch.no_grad():
        for ids, labels in zip(rows["input_ids"], rows["labels"]):
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].float()
            wanted = torch.tensor(labels[1:])
            total += float(functional.cross_entropy(logits, wanted, ignore_index=-100, reduction="sum"))
            count += int((wanted != -100).sum())
    return total / count


def load(folder, dtype=torch.float32):
    family = json.loads((folder / "config.json").read_text())["model_type"]
    attention = peer.ATTENTION.get(family, "sdpa")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation=attention).eval()


def make_model(family, folder, changes=None):
    torch.manual_seed(0)
    keys = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 2048, "max_position_embeddings": 512, "initializer_range": 0.1,
            "bos_token_id": 0, "eos_token_id": 1}
    keys |= peer.FAMILIES[family] | (changes or {})
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **keys))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(support.EXAMPLE_MODEL / name, folder / name)


class PeerCase(Case):
    def setUp(self):
        super().setUp()
        self.rows = json.loads(make_rows(self.folder / "rows.json").read_text())

    def train(self, *flags, output="run", **options):
        self.plan("--global-batch", 4, "--micro-batch", 2, "--steps", 8, "--learning-rate", "5e-3", *flags, **options)
        self.ftplan("run", "plan.json", "-o", output)
        return self.folder / output

    def eval_loss(self, *flags):
        out, _ = self.ftplan("eval", "--data", "rows.json", "--seq", 128, "--json", *flags)
        return json.loads(out)["loss"]

    def assert_close(self, ours, theirs, limit=1e-5):
        self.assertLessEqual(abs(ours - theirs), limit * abs(theirs), f"{ours} beside {theirs}")

    def assert_merged(self, run):
        """`merged` is the base with the adapter of `run`."""
        self.ftplan("merge", "--model", "model", "--adapter", run / "adapter", "-o", "merged")
        adapted = PeftModel.from_pretrained(load(self.folder / "model"), str(run / "adapter")).merge_and_unload()
        merged = load(self.folder / "merged")
        theirs = adapted.state_dict()
        self.assertEqual(list(theirs), list(merged.state_dict()))
        for name, values in merged.state_dict().items():
            torch.testing.assert_close(values, theirs[name], rtol=1e-6, atol=1e-7)
        self.assert_close(self.eval_loss("--model", "merged", "--precision", "fp32"), loss_of(merged, self.rows))

    def generated(self, model, count):
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "model")
        texts = []
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count,
                                  pad_token_id=1)[0, ids.shape[1]:].tolist()
            texts.append(tokenizer.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return texts

    def answers(self, *flags):
        out, _ = self.ftplan("generate", "--model", "model", "--precision", "fp32", "--json", *flags)
        return [answer["text"] for answer in json.loads(out)["answers"]]
