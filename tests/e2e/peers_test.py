"""What ftplan writes and says is what transformers and PEFT read and say."""

import contextlib
import json

import support
from peer_case import PROMPTS, PeerCase, load, loss_of, make_model
from support import read_tensors

import peer
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoTokenizer


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

    def check(self, family, changes=None):
        make_model(family, self.folder / "model", changes)
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

    def test_longrope(self):
        # Texts and rows lie on both sides of the positions of pre-training.
        make_model("phi3", self.folder / "model", {
            "original_max_position_embeddings": 24, "sliding_window": None, "rope_parameters": {
                "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
                "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [2.0, 3.0, 5.0, 7.0, 9.0, 11.0]}})
        self.check_adapter()

    def test_dynamic_rope(self):
        # Each token beyond 40 is made with a base of its own.
        make_model("llama", self.folder / "model", {"max_position_embeddings": 40, "rope_parameters": {
            "rope_type": "dynamic", "rope_theta": 10000.0, "factor": 8.0}})
        flags = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
        answers = self.answers("--max-new-tokens", 50, *flags)
        self.assertEqual(answers, self.generated(load(self.folder / "model"), 50))

    def test_gemma2(self):
        self.check("gemma2")

    def test_mixtral(self):
        self.check("mixtral")

    def test_falcon(self):
        self.check("falcon", peer.FALCON_7B)

    def test_falcon_of_groups(self):
        make_model("falcon", self.folder / "model")
        self.check_adapter()

    def test_falcon_with_alibi(self):
        make_model("falcon", self.folder / "model", peer.FALCON_RW)
        self.check_adapter()
        # Rows of a batch are padded on the left, which moves no key's place.
        flags = [word for prompt in PROMPTS for word in ("--prompt", prompt)] + ["--max-new-tokens", 20]
        self.assertEqual(self.answers(*flags, "--batch", len(PROMPTS)), self.answers(*flags))


class NewTokens(PeerCase):
    """Tokens that the model has no rows for, as tokenizer.add_tokens and resize_token_embeddings make them."""

    TOKENS = ["<tool>", "</tool>", "<result>"]

    def check(self, *flags, tied=False, rows=2051):
        make_model("llama", self.folder / "model", {"tie_word_embeddings": tied})
        texts = [f"Say <tool>{word}</tool> to the {word}<result>" for word in ("dog", "river", "robin", "sun")] * 3
        (self.folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        (self.folder / "tokens.txt").write_text("\n".join(self.TOKENS))
        run = self.train("--add-tokens", "tokens.txt", *flags, data="texts.jsonl")
        result = run / ("model" if "full" in flags else "adapter")
        tokenizer = AutoTokenizer.from_pretrained(result)
        self.assertEqual([tokenizer.encode(token, add_special_tokens=False) for token in self.TOKENS],
                         [[2048], [2049], [2050]])
        # The rows of the data are those of their tokenizer.
        self.ftplan("data", "--model", "model", "--data", "texts.jsonl", "--seq", 128, "--add-tokens", "tokens.txt",
                    "--out", "rows.json")
        self.rows = json.loads((self.folder / "rows.json").read_text())
        for text, ids in zip(texts, self.rows["input_ids"], strict=True):
            self.assertEqual(tokenizer.encode(text, add_special_tokens=False), ids[1:-1])
        return run, result, tokenizer, rows

    def check_adapter(self, *flags, **options):
        run, result, tokenizer, rows = self.check("--method", "lora", "--rank", 4, *flags, **options)
        base = load(self.folder / "model")
        base.resize_token_embeddings(rows)
        adapted = PeftModel.from_pretrained(base, str(result)).eval()
        theirs = loss_of(adapted, self.rows)
        used = ["--model", "model", "--adapter", result, "--precision", "fp32"]
        self.assert_close(self.eval_loss(*used), theirs)
        out, _ = self.ftplan("eval", "--data", "texts.jsonl", "--seq", 128, "--json", *used)
        self.assert_close(json.loads(out)["loss"], theirs)
        if rows == len(tokenizer):
            with contextlib.chdir(self.folder):
                found = AutoPeftModelForCausalLM.from_pretrained(result, dtype=torch.float32).eval()
            self.assert_close(loss_of(found, self.rows), theirs)
        prompt = "Say <tool>dog</tool> to"
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        made = adapted.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=9,
                                pad_token_id=1)[0, ids.shape[1]:].tolist()
        self.assertEqual(self.answers("--max-new-tokens", 9, "--adapter", result, "--prompt", prompt),
                         [tokenizer.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)])
        self.ftplan("merge", "--model", "model", "--adapter", result, "-o", "merged")
        merged = load(self.folder / "merged")
        self.assertEqual(merged.config.vocab_size, rows)
        self.assert_close(loss_of(merged, self.rows), theirs)
        self.assertEqual(len(AutoTokenizer.from_pretrained(self.folder / "merged")), 2051)
        # Training goes on with the tokens of the adapter, and takes them along.
        further = self.train("--adapter", result, data="texts.jsonl", output="further")
        self.assertLess(self.eval_loss("--model", "model", "--adapter", further / "adapter", "--precision", "fp32"), theirs)

    def test_with_an_adapter(self):
        self.check_adapter("--modules-to-save", "embed_tokens,lm_head")

    def test_with_a_tied_pair_and_rows_to_spare(self):
        self.check_adapter("--modules-to-save", "embed_tokens", "--ensure-weight-tying", "--pad-vocabulary-to", 64,
                           tied=True, rows=2112)

    def test_with_the_whole_model(self):
        _, result, _, rows = self.check("--method", "full")
        model = load(result)
        self.assertEqual(model.config.vocab_size, rows)
        self.assert_close(self.eval_loss("--model", result, "--precision", "fp32"), loss_of(model, self.rows))

    def test_new_rows_begin_as_the_mean(self):
        make_model("llama", self.folder / "model")
        self.plan("--add-tokens", "<tool>,<result>", "--method", "full", "--global-batch", 4, "--micro-batch", 2,
                  "--steps", 1, "--learning-rate", 1e-9)
        self.ftplan("run", "plan.json", "-o", "run")
        before, after = load(self.folder / "model"), load(self.folder / "run/model")
        for part in ("get_input_embeddings", "get_output_embeddings"):
            old, new = getattr(before, part)().weight.detach(), getattr(after, part)().weight.detach()
            torch.testing.assert_close(new[:2048], old, rtol=0, atol=1e-7)
            torch.testing.assert_close(new[2048:], old.mean(0).expand(2, -1), rtol=0, atol=1e-6)

    def test_rows_that_nothing_trains_are_refused(self):
        make_model("llama", self.folder / "model")
        _, error = self.plan("--add-tokens", "<tool>", "--method", "lora", code=2)
        self.assertIn("--modules-to-save embed_tokens,lm_head", error)

    def test_a_tokenizer_with_more_ids_than_the_model(self):
        make_model("llama", self.folder / "model", {"vocab_size": 2040})
        text = json.dumps({"text": "the dog</s> ran to the river"})
        (self.folder / "texts.jsonl").write_text(text + "\n")
        flags = ["--method", "full", "--pad-vocabulary-to", 1]
        run = self.train(*flags, data="texts.jsonl")
        self.assertEqual(load(run / "model").config.vocab_size, 2048)


class Peers(PeerCase):
    def setUp(self):
        super().setUp()
        make_model("llama", self.folder / "model")

    def test_peft_loads_the_adapter_and_finds_the_same_loss(self):
        for flags in ([], ["--rslora", "--rank", 4, "--targets", r".*\.(q|down)_proj"]):
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

    def test_files_are_evaluated_each_and_all(self):
        parts = [{key: values[first::2] for key, values in self.rows.items()} for first in (0, 1)]
        for name, part in zip("ab", parts, strict=True):
            (self.folder / f"{name}.json").write_text(json.dumps(part))
        flags = ["--model", "model", "--precision", "fp32", "--seq", 128, "--json"]
        single = [json.loads(self.ftplan("eval", "--data", f"{name}.json", *flags)[0]) for name in "ab"]
        both = json.loads(self.ftplan("eval", "--data", "a.json", "--data", "b.json", *flags)[0])
        self.assertEqual([source["loss"] for source in both["sources"]], [one["loss"] for one in single])
        self.assertEqual(both["rows"], sum(one["rows"] for one in single))
        self.assert_close(both["loss"], loss_of(load(self.folder / "model"), self.rows))

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

    def test_modules_trained_in_full_are_as_in_peft(self):
        self.check_adapter_of_peft(peer.Setting(rank=4, targets=["q_proj"], modules=["embed_tokens", "lm_head", "norm"]))

    def test_adapters_on_embedding_and_head_are_as_in_peft(self):
        # Whose file holds the table and the head, too.
        self.check_adapter_of_peft(peer.Setting(rank=4, targets=["q_proj", "embed_tokens", "lm_head"]))

    def test_adapters_of_some_layers_are_as_in_peft(self):
        adapted = peer.add_adapter(peer.Setting(rank=4, targets=["q_proj", "up_proj"]), load(self.folder / "model"),
                                   self.folder / "peft", layers_to_transform=[0, 2]).eval()
        self.assert_close(self.eval_loss("--model", "model", "--adapter", "peft", "--precision", "fp32"),
                          loss_of(adapted, self.rows))
        run = self.train("--adapter", "peft", "--weight-decay", 0.1)
        config = json.loads((run / "adapter/adapter_config.json").read_text())
        self.assertEqual(config["layers_to_transform"], [0, 2])
        adapted = PeftModel.from_pretrained(load(self.folder / "model"), str(run / "adapter")).eval()
        self.assert_close(self.eval_loss("--model", "model", "--adapter", run / "adapter", "--precision", "fp32"),
                          loss_of(adapted, self.rows))
        _, error = self.plan("--layers-to-transform", 3, code=2)
        self.assertIn("has the layers 0 to 2", error)
        # The layers that a regular expression names, from the start.
        run = self.train("--targets", r".*\.[12]\.(self_attn\.v|mlp\.down)_proj", output="named")
        written = read_tensors(run / "adapter/adapter_model.safetensors")
        self.assertEqual({name.split(".")[4] for name in written}, {"1", "2"})
        PeftModel.from_pretrained(load(self.folder / "model"), str(run / "adapter"))

    def check_adapter_of_peft(self, setting):
        adapted = peer.add_adapter(setting, load(self.folder / "model"), self.folder / "peft").eval()
        self.assert_close(self.eval_loss("--model", "model", "--adapter", "peft", "--precision", "fp32"),
                          loss_of(adapted, self.rows))
        run = self.train("--adapter", "peft")
        config = json.loads((run / "adapter/adapter_config.json").read_text())
        self.assertEqual(sorted(config["modules_to_save"] or []), sorted(setting.modules or []))
        again = PeftModel.from_pretrained(load(self.folder / "model"), str(run / "adapter")).eval()
        theirs = loss_of(again, self.rows)
        self.assertLess(theirs, loss_of(adapted, self.rows))
        self.assert_close(self.eval_loss("--model", "model", "--adapter", run / "adapter", "--precision", "fp32"), theirs)
        flags = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
        self.assertEqual(self.answers("--max-new-tokens", 20, "--adapter", run / "adapter", *flags),
                         self.generated(again, 20))
        self.assert_merged(run)

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
