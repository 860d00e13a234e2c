"""What ftplan writes and says is what transformers and PEFT read and say."""

import json
import shutil

import support
from support import Case, make_rows, read_tensors

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


def make_model(family, folder):
    torch.manual_seed(0)
    keys = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 2048, "max_position_embeddings": 512, "initializer_range": 0.1,
            "bos_token_id": 0, "eos_token_id": 1}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **(keys | peer.FAMILIES[family])))
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

    def train(self, *flags, output="run"):
        self.plan("--global-batch", 4, "--micro-batch", 2, "--steps", 8, "--learning-rate", "5e-3", *flags)
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


class Families(PeerCase):
    """Each family from a model folder to an adapter, a merged model, a trained model and text."""

    def check_adapter(self):
        run = self.train("--method", "lora")
        base = load(self.folder / "model")
        self.assert_close(self.eval_loss("--model", "model", "--precision", "fp32"), loss_of(base, self.rows))
        adapted = PeftModel.from_pretrained(base, str(run / "adapter")).eval()
        ours = self.eval_loss("--model", "model", "--adapter", run / "adapter", "--precision", "fp32")
        self.assert_close(ours, loss_of(adapted, self.rows))
        flags = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
        answers = self.answers("--max-new-tokens", 30, "--adapter", run / "adapter", *flags)
        self.assertEqual(answers, self.generated(adapted, 30))
        self.assertGreater(len(set(answers)), 1)
        self.assert_merged(run)

    def check_model(self):
        before = self.eval_loss("--model", "model", "--precision", "fp32")
        run = self.train("--method", "full", "--precision", "bf16", output="full")
        model = load(run / "model")
        self.assertLess(loss_of(model, self.rows), before)
        self.assert_close(self.eval_loss("--model", run / "model", "--precision", "fp32"), loss_of(model, self.rows))

    def check(self, family):
        make_model(family, self.folder / "model")
        self.check_adapter()
        self.check_model()

    def test_mistral(self):
        self.check("mistral")

    def test_qwen2(self):
        self.check("qwen2")

    def test_qwen3(self):
        self.check("qwen3")

    def test_phi3(self):
        self.check("phi3")

    def test_gemma2(self):
        self.check("gemma2")


class Peers(PeerCase):
    def setUp(self):
        super().setUp()
        make_model("llama", self.folder / "model")

    def test_peft_loads_the_adapter_and_finds_the_same_loss(self):
        for flags in ([], ["--rslora", "--rank", 4, "--targets", "q_proj,down_proj"]):
            with self.subTest(flags=flags):
                run = self.train(*flags, output=f"run-{len(flags)}")
                base = load(self.folder / "model")
                before = loss_of(base, self.rows)
                self.assert_close(self.eval_loss("--model", "model", "--precision", "fp32"), before)
                adapted = PeftModel.from_pretrained(base, str(run / "adapter")).eval()
                theirs = loss_of(adapted, self.rows)
                self.assertLess(theirs, before)
                ours = self.eval_loss("--model", "model", "--adapter", run / "adapter", "--precision", "fp32")
                self.assert_close(ours, theirs)

    def test_an_adapter_of_peft_is_continued(self):
        setting = peer.Setting(rank=4, alpha=12.0)
        adapted = peer.add_adapter(setting, load(self.folder / "model"), self.folder / "peft").eval()
        self.assert_close(self.eval_loss("--model", "model", "--adapter", "peft", "--precision", "fp32"),
                          loss_of(adapted, self.rows))
        run = self.train("--adapter", "peft", "--validation", 0.2)
        config = json.loads((run / "adapter/adapter_config.json").read_text())
        self.assertEqual((config["r"], config["lora_alpha"]), (4, 12.0))
        self.assertEqual(sorted(config["target_modules"]), sorted(setting.targets))
        first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["loss"]
        self.assertLess(self.eval_loss("--model", "model", "--adapter", run / "adapter", "--precision", "fp32"), first)
        PeftModel.from_pretrained(load(self.folder / "model"), str(run / "adapter"))

    def test_a_merged_model_is_the_base_with_its_adapter(self):
        self.assert_merged(self.train())
        self.assertEqual(AutoTokenizer.from_pretrained(self.folder / "merged")("a robin").input_ids,
                         AutoTokenizer.from_pretrained(self.folder / "model")("a robin").input_ids)

    def test_transformers_loads_a_trained_model(self):
        before = self.eval_loss("--model", "model", "--precision", "fp32")
        run = self.train("--method", "full")
        model = load(run / "model")
        self.assertLess(loss_of(model, self.rows), before)
        self.assert_close(self.eval_loss("--model", run / "model", "--precision", "fp32"), loss_of(model, self.rows))
        AutoTokenizer.from_pretrained(run / "model")

    def test_transformers_loads_a_model_trained_in_bf16(self):
        run = self.train("--method", "full", "--precision", "bf16")
        types = {str(values.dtype) for values in load(run / "model", "auto").state_dict().values()}
        ours = self.eval_loss("--model", run / "model", "--precision", "fp32")
        self.assert_close(ours, loss_of(load(run / "model"), self.rows))
        config = json.loads((run / "model/config.json").read_text())
        self.assertEqual(types, {"torch." + (config.get("dtype") or config["torch_dtype"])})

    def test_greedy_text_is_that_of_transformers(self):
        flags = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
        ours = self.answers("--max-new-tokens", 70, *flags)
        base = load(self.folder / "model")
        self.assertEqual(ours, self.generated(base, 70))
        self.assertGreater(len(set(ours)), 1)
        run = self.train()
        adapted = PeftModel.from_pretrained(base, str(run / "adapter")).eval()
        with_adapter = self.answers("--max-new-tokens", 20, "--adapter", run / "adapter", *flags)
        self.assertEqual(with_adapter, self.generated(adapted, 20))
        self.assertNotEqual(with_adapter, [text[:len(other)] for text, other in zip(ours, with_adapter)])

    def test_text_ends_where_the_model_ends_it(self):
        # This head prefers the end token or one other, so some texts end at once.
        model = load(self.folder / "model")
        with torch.no_grad():
            model.model.norm.weight.zero_()
            model.model.norm.weight[0] = 1
            model.lm_head.weight.zero_()
            model.lm_head.weight[1, 0], model.lm_head.weight[2, 0] = 1.0, -1.0
        model.save_pretrained(self.folder / "model")
        flags = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
        self.assertEqual(self.answers("--max-new-tokens", 5, *flags), self.generated(load(self.folder / "model"), 5))

    def test_what_is_drawn_depends_on_the_seed_and_not_on_the_batch(self):
        flags = [word for prompt in PROMPTS for word in ("--prompt", prompt)] + ["--max-new-tokens", 20]
        greedy = self.answers(*flags)
        self.assertEqual(self.answers(*flags, "--batch", 2), greedy)
        drawing = [*flags, "--temperature", 0.9]
        drawn = self.answers(*drawing, "--seed", 4)
        self.assertNotEqual(drawn, greedy)
        self.assertEqual(self.answers(*drawing, "--seed", 4, "--batch", len(PROMPTS)), drawn)
        self.assertNotEqual(self.answers(*drawing, "--seed", 5), drawn)
        self.assertEqual(self.answers(*drawing, "--seed", 5, "--top-k", 1), greedy)
        self.assertEqual(self.answers(*drawing, "--seed", 5, "--top-p", 1e-6), greedy)

    def test_a_stop_text_ends_an_answer_and_is_not_in_it(self):
        whole, = self.answers("--prompt", PROMPTS[0], "--max-new-tokens", 20)
        at = len(whole) // 2
        stop = whole[at:at + 3]
        wanted = whole[:whole.find(stop)]
        flags = ["--prompt", PROMPTS[0], "--max-new-tokens", 20, "--stop", "never in it", "--stop", stop]
        self.assertEqual(self.answers(*flags), [wanted])
        out, _ = self.ftplan("generate", "--model", "model", "--precision", "fp32", *flags)
        self.assertEqual(out, wanted + "\n")

    def test_a_single_prompt_is_streamed_and_equals_the_json(self):
        out, _ = self.ftplan("generate", "--model", "model", "--precision", "fp32", "--prompt", PROMPTS[1],
                             "--max-new-tokens", 12)
        self.assertEqual([out.removesuffix("\n")], self.answers("--prompt", PROMPTS[1], "--max-new-tokens", 12))

    def test_the_adapter_file_has_the_names_and_types_of_peft(self):
        run = self.train("--rank", 4)
        peer.add_adapter(peer.Setting(rank=4), load(self.folder / "model"), self.folder / "peft")
        ours = read_tensors(run / "adapter/adapter_model.safetensors")
        theirs = read_tensors(self.folder / "peft/adapter_model.safetensors")
        self.assertEqual({name: (v.shape, v.dtype) for name, v in ours.items()},
                         {name: (v.shape, v.dtype) for name, v in theirs.items()})


torch.set_num_threads(1)
support.main()
