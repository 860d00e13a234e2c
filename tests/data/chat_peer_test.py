"""Renders conversations with ftplan and with transformers' apply_chat_template and the templates as published; ids,
learned tokens and refusals must be equal. Usage: chat_peer_test.py PATH_OF_data_probe [-v]"""

import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

import jinja2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PROBE = sys.argv.pop(1)
TEMPLATES = pathlib.Path(__file__).with_name("chat_templates")
SEED = 20240611
IGNORED = -100

# The token that ends a turn of the assistant.
END_OF_TURN = {
    "llama-2": "</s>",
    "llama-3": "<|eot_id|>",
    "chatml": "<|im_end|>",
    "qwen2": "<|im_end|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "phi-3": "<|end|>",
    "zephyr": "</s>",
}
SPECIAL = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>", "<start_of_turn>"]
SPECIAL += ["<end_of_turn>"]
# As in Phi-3's files they take the white space behind them.
STRIPPING = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
ROLES = {"s": "system", "u": "user", "a": "assistant"}
# Python strips more than Unicode's White_Space.
BITS = ["Hello", " world", "\n", "\n\n", "  ", "\t", "\x1c", "\u00a0", "\u3000", "👩‍👩‍👧", "é", "敏捷", "1234", "it's", "ſ"]
BITS += ["[INST]", "[/INST]", "<<SYS>>", "<|im_end|>", "</s>", "<s>", "▁", "Übung", "```", "<|end|>", ".", "!", "\x1f"]


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, ["<unk>", "<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet()


def spaced():
    """As Llama 2 and Phi-3: a space in front of every text between special tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer, ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))], []


def train(folder, make, stripping):
    tokenizer, special, alphabet = make()
    trainer = trainers.BpeTrainer(
        vocab_size=800, show_progress=False, initial_alphabet=alphabet, special_tokens=special
    )
    words = "<|user|> assistant system model user INST SYS Hello world the and you are helpful 12 345\n\n".split(" ")
    rng = random.Random(SEED)
    tokenizer.train_from_iterator([" ".join(rng.choices(words + BITS, k=30)) for _ in range(300)], trainer)
    document = json.loads(tokenizer.to_str())
    named = ("<unk>", "<s>", "</s>")
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in named]
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True, rstrip=stripping) for t in STRIPPING])
    # A template puts BOS itself, so this one must not come twice.
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


def configure(folder, jinja):
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": jinja}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **config)


def conversation(letters, rng):
    text = lambda: "".join(rng.choices(BITS, k=rng.randrange(9)))
    return [{"role": ROLES[letter], "content": text()} for letter in letters]


def share_gpt(messages):
    spelled = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"conversations": [{"from": spelled[m["role"]], "value": m["content"]} for m in messages]}


def learned_parts(tokenizer, messages, name):
    """Characters of assistant turns: behind what asks for the turn, through the token that ends it."""
    parts = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        begin = len(tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True))
        through = tokenizer.apply_chat_template(messages[: i + 1], tokenize=False)
        # Phi-3 ends a whole conversation with EOS.
        rest = through.removesuffix("</s>") if name == "phi-3" else through
        end = through.rindex(END_OF_TURN[name], begin, len(rest))
        parts.append((begin, end + len(END_OF_TURN[name])))
    return parts


def expected_row(tokenizer, messages, name):
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert ids == encoded["input_ids"]
    parts = learned_parts(tokenizer, messages, name)
    learned = [any(end > b and begin < e for b, e in parts) for begin, end in encoded["offset_mapping"]]
    return ids, [i if yes else IGNORED for i, yes in zip(ids, learned)]


class Chat(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def probe(self, records, **options):
        path, out = self.folder / "chat.jsonl", self.folder / "out.json"
        path.write_text("".join(json.dumps(r, ensure_ascii=i % 2 == 0) + "\n" for i, r in enumerate(records)))
        options = json.dumps({"data": [str(path)], "seq": 100000, **options})
        done = subprocess.run([PROBE, str(self.folder), options, str(out)], capture_output=True, text=True)
        return (json.loads(out.read_text()), "") if done.returncode == 0 else (None, done.stderr)

    def compare(self, name, make, stripping):
        train(self.folder, make, stripping)
        tokenizer = configure(self.folder, (TEMPLATES / f"{name}.jinja").read_text())
        rng = random.Random(SEED)
        begins = ["u"] if name == "gemma" else ["u", "su"]
        shapes = ["".join(s) for n in range(3) for s in itertools.product(begins, ["au" * n + "a", "au" * n + "aua"])]
        if name not in ("llama-2", "mistral", "gemma"):
            shapes += ["uuaa", "usau", "suas", "ssuaau"]
        records = [conversation(rng.choice(shapes), rng) for _ in range(300)]
        rows, problem = self.probe([share_gpt(r) if i % 3 else {"messages": r} for i, r in enumerate(records)])
        self.assertEqual(problem, "")
        for i, messages in enumerate(records):
            ids, labels = expected_row(tokenizer, messages, name)
            self.assertEqual(rows["input_ids"][i], ids, messages)
            self.assertEqual(rows["labels"][i], labels, messages)

    def test_templates(self):
        for name in END_OF_TURN:
            for make in (byte_level, spaced):
                for stripping in (False, True):
                    with self.subTest(name, make=make.__name__, stripping=stripping):
                        self.compare(name, make, stripping)

    def test_every_order_of_roles(self):
        """What a template refuses, ftplan refuses; what it renders, ftplan renders, but where the template would leave
        a system turn out without a word."""
        train(self.folder, byte_level, False)
        rng = random.Random(SEED)
        orders = ["".join(o) for n in (1, 2, 3) for o in itertools.product("sua", repeat=n)]
        for name in END_OF_TURN:
            tokenizer = configure(self.folder, (TEMPLATES / f"{name}.jinja").read_text())
            for order in orders:
                messages = conversation(order, rng)
                try:
                    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
                except jinja2.TemplateError:
                    ids = None
                rows, problem = self.probe([{"messages": messages}], train_on_prompt=True)
                with self.subTest(name, order=order):
                    if ids is None or "is a system turn" in problem or "has a system turn and no other" in problem:
                        self.assertIsNone(rows)
                        place = "chat.jsonl record 1( turn [123])?: "
                        self.assertRegex(problem, place + "(has the role|(is|has) a system turn)")
                        loses = "s" in order[1:] or order == "s"
                        self.assertTrue(ids is None or (name in ("llama-2", "mistral", "gemma") and loses))
                    else:
                        self.assertEqual(problem, "")
                        self.assertEqual(rows["input_ids"], [ids])


if __name__ == "__main__":
    unittest.main()
