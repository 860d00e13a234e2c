"""Makes training rows with ftplan and, from the published recipes, with the tokenizers package; both must be equal.
Usage: rows_peer_test.py PATH_OF_data_probe [-v]"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PROBE = sys.argv.pop(1)
SEED = 20240611
IGNORED = -100

# tatsu-lab/stanford_alpaca, train.py
PROMPTS = {
    True: (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
    ),
    False: (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\n{instruction}\n\n### Response:"
    ),
}
# databrickslabs/dolly, training/consts.py; its data collator masks all labels up to RESPONSE_KEY and its line end
DOLLY = {
    True: (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\n{instruction}\n\nInput:\n{input}\n\n### Response:\n"
    ),
    False: (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\n{instruction}\n\n### Response:\n"
    ),
}
DOLLY_END = "\n\n### End"
WORDS = "Add the numbers 12 and 345. Übung macht den Meister! 敏捷的棕色狐狸 👍🏽 \n\n \t \"quoted\" it's </s> x²".split(" ")


def records(count):
    rng = random.Random(SEED)
    text = lambda most: " ".join(rng.choices(WORDS, k=rng.randrange(most)))
    made = [{"instruction": text(20), "input": rng.choice(["", text(30)]), "output": text(60)} for _ in range(count)]
    for record in rng.sample(made, count // 10):
        del record["input"]
    return made


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, pre_tokenizers.ByteLevel.alphabet()


def spaced():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer, []


def train(folder, make):
    tokenizer, alphabet = make()
    special = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256 if not alphabet else 0))]
    trainer = trainers.BpeTrainer(
        vocab_size=900, show_progress=False, initial_alphabet=alphabet, special_tokens=special[:3]
    )
    if not alphabet:
        trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False, special_tokens=special)
    lines = [" ".join(r.values()) for r in records(200)] + [p for p in PROMPTS.values()]
    tokenizer.train_from_iterator(lines, trainer)
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return tokenizer


def instruction_rows(tokenizer, seq, prompts=PROMPTS, end=""):
    """preprocess() of Stanford's train.py: the whole text is tokenized, and as many labels are masked as the prompt has
    tokens."""
    rows = {"input_ids": [], "labels": []}
    eos = tokenizer.token_to_id("</s>")
    for record in records(300):
        prompt = prompts[bool(record.get("input"))].format_map(record)
        ids = (tokenizer.encode(prompt + record["output"] + end).ids + [eos])[:seq]
        masked = len(tokenizer.encode(prompt).ids)
        labels = [IGNORED] * min(masked, len(ids)) + ids[masked:]
        if any(label != IGNORED for label in labels[1:]):
            rows["input_ids"].append(ids)
            rows["labels"].append(labels)
    return rows


class Rows(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        self.addCleanup(self.scratch.cleanup)

    def probe(self, content, name="data.json", **options):
        path, out = self.folder / name, self.folder / "out.json"
        path.write_text(content, encoding="utf-8")
        options = json.dumps({"data": [str(path)], **options})
        done = subprocess.run([PROBE, str(self.folder), options, str(out)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(out.read_text()), json.loads(done.stdout)

    def test_alpaca(self):
        for make in (byte_level, spaced):
            tokenizer = train(self.folder, make)
            for seq in (4096, 120):
                with self.subTest(make=make.__name__, seq=seq):
                    rows, facts = self.probe(json.dumps(records(300), ensure_ascii=seq == 120), seq=seq)
                    expected = instruction_rows(tokenizer, seq)
                    self.assertEqual(rows, expected)
                    self.assertEqual(facts["target_tokens"], sum(x != IGNORED for r in rows["labels"] for x in r[1:]))
                    self.assertEqual(facts["tokens"], sum(map(len, rows["input_ids"])))

    def test_dolly(self):
        lines = []
        for record in records(300):
            line = {"instruction": record["instruction"], "response": record["output"], "category": "open_qa"}
            lines.append(json.dumps(line | ({"context": record["input"]} if "input" in record else {})) + "\n")
        for make in (byte_level, spaced):
            tokenizer = train(self.folder, make)
            with self.subTest(make=make.__name__):
                rows, _ = self.probe("".join(lines), name="dolly.jsonl", seq=4096)
                self.assertEqual(rows, instruction_rows(tokenizer, 4096, DOLLY, DOLLY_END))

    def test_concat_is_group_texts(self):
        """group_texts() of transformers' run_clm.py, but for the last, shorter row, which that script drops."""
        tokenizer = train(self.folder, byte_level)
        texts = [r["output"] for r in records(300)]
        lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
        rows, facts = self.probe(lines, name="text.jsonl", seq=64, packing="concat")
        stream = [i for t in texts for i in tokenizer.encode(t).ids + [tokenizer.token_to_id("</s>")]]
        expected = [stream[i : i + 64] for i in range(0, len(stream), 64)]
        if len(expected[-1]) == 1:
            expected.pop()
        self.assertEqual(rows, {"input_ids": expected, "labels": expected})
        self.assertEqual(facts["lengths"][-1]["tokens"], 64)

    def test_isolated_packs_whole_documents_tightly(self):
        tokenizer = train(self.folder, byte_level)
        alone = instruction_rows(tokenizer, 512)
        rows, facts = self.probe(json.dumps(records(300)), seq=512, packing="isolated")
        key = lambda data: sorted(zip(data["input_ids"], data["labels"]))
        self.assertEqual(key(rows), key(alone))
        least = -(-sum(map(len, alone["input_ids"])) // 512)
        self.assertLessEqual(facts["rows"], least * 1.25 + 1)
        self.assertLess(facts["rows"], len(alone["input_ids"]))


if __name__ == "__main__":
    unittest.main()
