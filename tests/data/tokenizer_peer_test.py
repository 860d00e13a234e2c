"""Encodes and decodes a hard set of texts with ftplan and with the packages that define the formats; ids and texts
must be equal. Usage: tokenizer_peer_test.py PATH_OF_tokenizer_probe [-v]"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PROBE = sys.argv.pop(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
SEED = 20240611

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)

# Qwen/Qwen2-7B, tokenizer.json: as Llama 3, but each digit alone.
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, doesn't it? I'll say we've 1234567 reasons.",
    "Übergrößenträger mögen Äpfel; ça va très bien, señor — naïve façade œuvre.",
    "Быстрая коричневая лиса перепрыгивает через ленивую собаку.",
    "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "敏捷的棕色狐狸跳过了懒狗。天地玄黄宇宙洪荒",
    "素早い茶色の狐がのろまな犬を飛び越える。カタカナとひらがな",
    "다람쥐 헌 쳇바퀴에 타고파",
    "الثعلب البني السريع يقفز فوق الكلب الكسول ١٢٣٤٥",
    "שועל חום זריז קופץ מעל הכלב העצל",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है १२३",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ ๑๒๓",
    "for (int i = 0; i < n; ++i) {\n\treturn a[i] * 3.14e-10;\n}\r\n",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 e\u0301 o\u0302\u0323 ﬁ ﬃ ß ẞ ǆ ſ K",
]

HARD = SENTENCES + [
    "",
    " ",
    "  ",
    "\n",
    "\r\n\r\n",
    "\t\t x \t\n\n  y\n ",
    "a" * 3000,
    " " * 5000,
    " " * 500 + "x",
    "\n" * 700 + " \n" * 300,
    "x" + "\u3000\u2003\u00a0\u1680\u180e\u200b\u2028\u2029\u0085" * 3 + "y",
    "it's IT'S It'S we'Re we'LL don'T I'D I'm I'M 'ſ x'ſ 'sS ''s '",
    "1 12 123 1234 12345 123456 1234567 3.14159 1,000,000 ١٢٣٤ ⅷ ½ ² 𝟘𝟙𝟚𝟛",
    "<s> </s> <unk> <pad> <|endoftext|><|endoftext|> a<|endoftext|>b <|begin_of_text|>",
    "<|start|>  <|strip|>  x <|strip|>\n\ny word<|word|>x <|word|> <|word|>, <|wo",
    "hello<|left|> <|left|>   <|left|>x <|right|>   y <|right|>",
    "é e\u0301 \u0301 \u0301\u0301 a\u0300\u0301\u0302\u0303",
    "\x00\x01\x02\x7f\x80\x9f control",
    "\ufeffbom \ufffd \ufffe \U0010ffff \U000e0001",
    "▁ ▁▁ a▁b ▁a a▁ ▁ ▁",
    "Ġ Ċ ĉ Ā ā",
    "a\u00adb\u200dc\u2060d",
    "漢" * 400 + "字" * 300,
    "lorem ipsum " * 500,
    "\\n \\\\ \"quoted\" 'single' `tick` {[()]} <html> &amp; %20 #hash @at $1.00 ~^|",
    "https://example.com/a/b?c=d&e=f#g user@example.com C:\\Windows\\System32",
]


def random_texts(count):
    """Seeded strings that mix scripts, spaces, line ends, digits, quotes and special tokens."""
    rng = random.Random(SEED)
    assigned = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x58F), (0x590, 0x6FF), (0x900, 0xE7F)]
    assigned += [(0x1E00, 0x206F), (0x2070, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xAD00)]
    assigned += [(0x1F300, 0x1FAFF), (0x20000, 0x20100), (0x1D400, 0x1D7FF)]
    bits = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "'s", "'LL", "'Ve", "'ſ", "123", "4567", "89", "e\u0301"]
    bits += ["<|endoftext|>", "<s>", "</s>", "<|strip|>", "<|left|>", "<|right|>", "<|word|>", "the", " and", "▁"]
    bits += ["👩‍👩‍👧‍👦", "\u00a0", "\u3000", "\u180e", "...", "--", "!?", "/*", "µ", "ß"]
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randrange(1, 24)):
            kind = rng.random()
            if kind < 0.45:
                parts.append(rng.choice(bits))
            elif kind < 0.6:
                parts.append(rng.choice(rng.choice(SENTENCES).split(" ")))
            elif kind < 0.8:
                low, high = rng.choice(assigned)
                parts += [chr(rng.randint(low, high)) for _ in range(rng.randrange(1, 6))]
            elif kind < 0.9:
                parts.append(chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])))
            else:
                parts.append("".join(chr(rng.randint(0x61, 0x7A)) for _ in range(rng.randrange(1, 12))))
        texts.append("".join(parts))
    return texts


def every_character():
    """Each assigned code point between letters and digits, so that its class decides where the text is cut."""
    points = [c for c in [*range(0xD800), *range(0xE000, 0x32400), *range(0xE0000, 0xE0200)]]
    return ["".join(f"a{chr(c)}1" for c in points[i : i + 64]) for i in range(0, len(points), 64)]


def corpus():
    rng = random.Random(SEED)
    words = " ".join(SENTENCES).split(" ")
    lines = SENTENCES * 20 + [" ".join(rng.choices(words, k=12)) for _ in range(2000)]
    return lines + (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines()


def probe(folder, questions):
    lines = "".join(json.dumps(q) + "\n" for q in questions)
    done = subprocess.run([PROBE, str(folder)], input=lines, capture_output=True, text=True, encoding="utf-8")
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return [json.loads(line) for line in done.stdout.split("\n") if line]


ADDED = [
    AddedToken("<|strip|>", lstrip=True, rstrip=True, normalized=False),
    AddedToken("<|left|>", lstrip=True),
    AddedToken("<|right|>", rstrip=True, special=True),
    AddedToken("<|word|>", single_word=True),
    AddedToken("lazy"),
    AddedToken("lazy dog"),
]


def ends_in_characters(text, ends):
    """The reference counts characters, and of a token that holds a part of one all of it."""
    starts, at = {}, 0
    for i, character in enumerate(text):
        for _ in character.encode("utf-8", "surrogatepass"):
            at += 1
            starts[at] = i + 1
    return [starts[end] for end in ends]


def byte_level(pre_tokenizer, vocabulary=1500, special=("<|endoftext|>", "<|begin_of_text|>"), normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(special),
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def gpt2(add_prefix_space):
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space))


def llama3(ignore_merges=True):
    split = pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer = byte_level(pre_tokenizers.Sequence([split, bytes_only]), 3000)
    document = json.loads(tokenizer.to_str())
    document["model"]["ignore_merges"] = ignore_merges
    tokenizer = Tokenizer.from_str(json.dumps(document))
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    template = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="$A $B", special_tokens=[("<|begin_of_text|>", bos)]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def llama2(form):
    """BPE with U+2581 for spaces, in the two forms that files have."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    special = ["<unk>", "<s>", "</s>"]
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=2000, show_progress=False, special_tokens=special + alphabet)
    tokenizer.train_from_iterator(corpus(), trainer)
    document = json.loads(tokenizer.to_str())
    document["pre_tokenizer"] = None
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in special]
    if form != "normalizer":
        document["normalizer"] = None
        document["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": form, "split": False}
    tokenizer = Tokenizer.from_str(json.dumps(document))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A $B", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def qwen2():
    split = pre_tokenizers.Split(Regex(QWEN2), behavior="isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    normalizer = normalizers.NFC()
    tokenizer = byte_level(pre_tokenizers.Sequence([split, bytes_only]), 3000, normalizer=normalizer)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return tokenizer


def falcon():
    """tiiuae/falcon-7b, tokenizer.json: digits are cut behind ByteLevel, where bytes of other letters are digits, too."""
    steps = [
        pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), behavior="isolated"),
    ]
    return byte_level(pre_tokenizers.Sequence(steps), 2000)


def with_byte_fallback(normalizer, special, split_words):
    """A tokenizer of characters, trained on words or, as its pre-tokenizer has it, on whole lines."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizer
    if split_words:
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=2000, show_progress=False, special_tokens=special + alphabet)
    tokenizer.train_from_iterator(corpus(), trainer)
    document = json.loads(tokenizer.to_str())
    document["pre_tokenizer"] = None
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in special]
    return document


def gemma(split_words):
    """google/gemma-2b, tokenizer.json: the pre-tokenizer looks for spaces, of which the normalizer leaves none."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    document = with_byte_fallback(normalizers.Replace(" ", "▁"), special, split_words)
    pattern = {"String": " "}
    document["pre_tokenizer"] = {"type": "Split", "pattern": pattern, "behavior": "MergedWithPrevious", "invert": False}
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer.add_special_tokens(["<start_of_turn>", "<end_of_turn>"])
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("▁▁▁", normalized=False)])
    return tokenizer


def phi3():
    """microsoft/Phi-3-mini-4k-instruct, tokenizer.json: Llama 2 with added tokens that take the space behind them."""
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    document = with_byte_fallback(normalizer, ["<unk>", "<s>", "</s>"], True)
    tokenizer = Tokenizer.from_str(json.dumps(document))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    names = ["<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|system|>", "<|end|>", "<|user|>"]
    tokens = [AddedToken(n, rstrip=n != "<|endoftext|>", special=True, normalized=False) for n in names]
    tokenizer.add_special_tokens(tokens)
    return tokenizer


TURNS = ["<|system|>\nBe brief.<|end|>\n<|user|>\n Hi  <|end|>\n<|assistant|>\nHello<|end|>\n<|endoftext|>"]
TURNS += ["<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n\n\nHello   you<end_of_turn>\n"]
# Spellings that normalization changes: marks out of order, jamo, what is excluded from composition, late marks.
SPELLINGS = ["e\u0301 o\u0302\u0323 o\u0323\u0302 a\u0315\u0300\u05ae\u0300b"]
SPELLINGS += ["\u1112\u1161\u11ab \u1100\u1161 \uac00\u11a8 \u11a8", "A\u030a \u212b \u1e9b\u0323"]
SPELLINGS += ["\u0958 \u0344 \u0374 \u2126 \ufb1d \u0cc6\u0cc2\u0cd5 \u09c7\u09be \U0001d15e"]
SPELLINGS += ["\U00010d24\u0301\u0316 \u1df6\u0334 x\u0301\u0316\u0345\u0334 \u0301\u0301a"]


class HuggingFace(unittest.TestCase):
    def compare(self, tokenizer, texts, legacy_merges=False, decodes=True, drops_bytes=False):
        with tempfile.TemporaryDirectory() as folder:
            document = json.loads(tokenizer.to_str())
            if legacy_merges:
                document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
            path = pathlib.Path(folder, "tokenizer.json")
            path.write_text(json.dumps(document, ensure_ascii=legacy_merges), encoding="utf-8")
            answers = probe(folder, texts)
            self.assertEqual(len(answers), len(texts))
            for text, answer in zip(texts, answers):
                expected = tokenizer.encode(text).ids
                self.assertEqual(answer["all"], expected, repr(text))
                if decodes:
                    body = tokenizer.encode(text, add_special_tokens=False)
                    self.assertEqual(answer["ids"], body.ids, repr(text))
                    composes = isinstance(tokenizer.normalizer, normalizers.NFC)
                    changed = composes and tokenizer.normalizer.normalize_str(text) != text
                    if not drops_bytes and not changed:
                        ends = [end for _, end in body.offsets]
                        self.assertEqual(ends_in_characters(text, answer["ends"]), ends, repr(text))
                    self.assertEqual(answer["text"], tokenizer.decode(expected), repr(text))
                    self.assertEqual(answer["shown"], tokenizer.decode(expected, skip_special_tokens=False), repr(text))
            if decodes:
                self.compare_decoding(tokenizer, folder)

    def compare_decoding(self, tokenizer, folder):
        rng = random.Random(SEED)
        size = tokenizer.get_vocab_size()
        lists = [[rng.randrange(size + 5) for _ in range(rng.randrange(12))] for _ in range(2000)]
        for ids, answer in zip(lists, probe(folder, lists)):
            self.assertEqual(answer["text"], tokenizer.decode(ids), ids)
            self.assertEqual(answer["shown"], tokenizer.decode(ids, skip_special_tokens=False), ids)

    def test_gpt2(self):
        self.compare(gpt2(False), HARD + random_texts(3000))

    def test_gpt2_with_prefix_space(self):
        self.compare(gpt2(True), HARD + random_texts(3000), legacy_merges=True)

    def test_gpt2_with_added_tokens(self):
        tokenizer = gpt2(False)
        tokenizer.add_tokens(ADDED)
        self.compare(tokenizer, HARD + random_texts(3000))

    def test_llama3(self):
        self.compare(llama3(), HARD + random_texts(3000))

    def test_llama3_with_added_tokens_and_merges(self):
        tokenizer = llama3(ignore_merges=False)
        tokenizer.add_tokens(ADDED)
        tokenizer.add_special_tokens(["<|reserved_special_token_0|>", "<|reserved_special_token_01|>"])
        texts = ["<|reserved_special_token_0|><|reserved_special_token_01|>"]
        self.compare(tokenizer, texts + HARD + random_texts(3000))

    def test_every_character_gpt2(self):
        self.compare(gpt2(False), every_character(), decodes=False)

    def test_every_character_llama3(self):
        self.compare(llama3(), every_character(), decodes=False)

    def test_llama2_with_normalizer(self):
        self.compare(llama2("normalizer"), HARD + random_texts(3000))

    def test_llama2_with_metaspace(self):
        for form in ("first", "always", "never"):
            with self.subTest(form):
                self.compare(llama2(form), HARD + random_texts(1000))

    def test_qwen2(self):
        self.compare(qwen2(), SPELLINGS + TURNS + HARD + random_texts(3000) + self.random_marks(2000))

    def random_marks(self, count):
        """Bases and marks in any order."""
        rng = random.Random(SEED)
        marks = [chr(c) for c in [*range(0x300, 0x370), *range(0x591, 0x5C8), *range(0x1DC0, 0x1E00)]]
        others = [chr(c) for c in [*range(0x41, 0x5B), *range(0x1100, 0x1113), *range(0x1161, 0x1176)]]
        others += [chr(c) for c in [*range(0x11A8, 0x11C3), *range(0x1E00, 0x2000), *range(0x900, 0xE00)]]
        pick = lambda: rng.choice(rng.choice([marks, others]))
        return ["".join(pick() for _ in range(rng.randrange(12))) for _ in range(count)]

    def test_every_character_qwen2(self):
        self.compare(qwen2(), every_character(), decodes=False)

    def test_falcon(self):
        numbers = ["1 12 123 1234 12345 123456 x123y 1,234.56", "²³¹ ¼½¾ 1²2 ٣٤٥٦ ١٢٣ ৳ ൲ ೳ ³³³ a²b"]
        self.compare(falcon(), numbers + HARD + random_texts(3000))

    def test_every_character_falcon(self):
        self.compare(falcon(), every_character(), decodes=False)

    def test_digits_and_punctuation(self):
        steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation("isolated")]
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False))
        self.compare(byte_level(pre_tokenizers.Sequence(steps)), HARD + random_texts(1000))

    def test_gemma(self):
        for split_words in (True, False):
            with self.subTest(split_words=split_words):
                self.compare(gemma(split_words), TURNS + HARD + random_texts(1000))

    def test_phi3(self):
        self.compare(phi3(), TURNS + HARD + random_texts(2000))

    def test_split_without_byte_level_pieces(self):
        plain = pre_tokenizers.Split(", ", behavior="isolated")
        digits = pre_tokenizers.Split(Regex(r"[0-9]{2}(?=\S)|[\s\-]"), behavior="isolated")
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        self.compare(byte_level(pre_tokenizers.Sequence([plain, digits, last])), HARD + random_texts(1000))

    def test_vocabulary_without_some_bytes(self):
        tokenizer = gpt2(False)
        document = json.loads(tokenizer.to_str())
        model = document["model"]
        drop = {"z", "Ń", "ł"}
        model["merges"] = [pair for pair in model["merges"] if not drop & set("".join(pair))]
        model["vocab"] = {token: i for token, i in model["vocab"].items() if not drop & set(token)}
        self.compare(Tokenizer.from_str(json.dumps(document)), HARD + random_texts(500), drops_bytes=True)
        model["unk_token"] = "<|endoftext|>"
        for fuse in (False, True):
            model["fuse_unk"] = fuse
            self.compare(Tokenizer.from_str(json.dumps(document)), HARD + random_texts(500))


class SentencePiece(unittest.TestCase):
    def train(self, folder, **options):
        settings = dict(
            model_type="bpe",
            vocab_size=1500,
            byte_fallback=True,
            character_coverage=0.98,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            split_digits=True,
            minloglevel=2,
        )
        settings.update(options)
        prefix = pathlib.Path(folder, "tokenizer")
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_prefix=str(prefix), **settings)
        return sentencepiece.SentencePieceProcessor(model_file=str(prefix) + ".model")

    def compare(self, texts, config=None, special=("<s>", "</s>", "<unk>"), **options):
        with tempfile.TemporaryDirectory() as folder:
            model = self.train(folder, **options)
            if config is not None:
                pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
            texts = [text for text in texts if not any(token in text for token in special)]
            before = [model.bos_id()] if (config or {}).get("add_bos_token", True) else []
            answers = probe(folder, texts)
            self.assertEqual(len(answers), len(texts))
            for text, answer in zip(texts, answers):
                expected = model.encode(text)
                self.assertEqual(answer["ids"], expected, repr(text))
                walks = "user_defined_symbols" not in options and "normalization_rule_name" not in options
                if walks and model.unk_id() not in expected:
                    pieces = model.encode(text, out_type=str)
                    ends = self.ends_of_pieces(text, pieces, options.get("add_dummy_prefix", True))
                    self.assertEqual(answer["ends"], ends, repr(text))
                self.assertEqual(answer["all"], before + expected, repr(text))
                if model.unk_id() not in expected:
                    self.assertEqual(answer["text"], model.decode(expected), repr(text))
                    if options.get("add_dummy_prefix", True):
                        self.assertEqual(answer["stream"], model.decode(expected), repr(text))
            rng = random.Random(SEED)
            known = [i for i in range(model.vocab_size()) if not model.is_control(i) and not model.is_unknown(i)]
            lists = [rng.choices(known, k=rng.randrange(12)) for _ in range(2000)]
            for ids, answer in zip(lists, probe(folder, lists)):
                self.assertEqual(answer["text"], model.decode(ids), ids)

    def ends_of_pieces(self, text, pieces, prefix):
        """Walks over the text: a piece is its own characters, a byte, or U+2581 for a space."""
        data, at, ends = text.encode(), 0, []
        for piece in pieces:
            if len(piece) == 6 and piece.startswith("<0x"):
                at += 1
            else:
                for character in piece:
                    if character == "▁" and prefix:
                        prefix = False
                    elif character == "▁" and data[at : at + 1] == b" ":
                        at += 1
                    else:
                        at += len(character.encode())
            ends.append(max(at, 1))
        return ends

    def test_llama2(self):
        self.compare(HARD + random_texts(4000))

    def test_llama2_every_character(self):
        self.compare(every_character())

    def test_without_bos(self):
        self.compare(HARD, config={"add_bos_token": False})

    def test_that_joins_spaces(self):
        self.compare(HARD + random_texts(1000), remove_extra_whitespaces=True, normalization_rule_name="nmt_nfkc")

    def test_unigram(self):
        self.compare(HARD + random_texts(1000), model_type="unigram", vocab_size=800)

    def test_without_prefix(self):
        self.compare(HARD + random_texts(1000), add_dummy_prefix=False)

    def test_pieces_over_words(self):
        self.compare(HARD + random_texts(1000), split_by_whitespace=False)

    def test_symbols_of_spaces(self):
        self.compare(HARD + random_texts(1000), user_defined_symbols=["▁▁", "▁▁▁▁", "<|x|>", "lazy"])

    def test_gemma(self):
        """google/gemma-2b, tokenizer.model: no space in front, digits alone, white space and markup as symbols."""
        symbols = ["▁▁", "▁▁▁▁", "\n\n", "\t\t", "<start_of_turn>", "<end_of_turn>", "</table>"]
        options = dict(add_dummy_prefix=False, user_defined_symbols=symbols, pad_id=0, eos_id=1, bos_id=2, unk_id=3)
        self.compare(TURNS + HARD + random_texts(1000), special=("<s>", "</s>", "<unk>", "<pad>"), **options)

    def test_special_tokens_in_text(self):
        with tempfile.TemporaryDirectory() as folder:
            model = self.train(folder)
            texts = ["a b</s>", "<s>a</s> b", "a<unk> <s><s>", " </s> x", "<s>", "a</s>b<pad>c"]
            config = {"pad_token": "<pad>", "add_bos_token": True}
            pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
            for legacy in (False, True):
                config["legacy"] = legacy
                pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
                for text, answer in zip(texts, probe(folder, texts)):
                    self.assertEqual(answer["ids"], self.by_hand(model, text, legacy), (text, legacy))

    def by_hand(self, model, text, legacy):
        """Cuts special tokens out; behind one of them the space in front is taken away again, as transformers does."""
        special = {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": model.vocab_size()}
        ids, rest, first = [], text, True
        while rest:
            found = min(((rest.find(t), t) for t in special if t in rest), default=(len(rest), ""))
            if found[0] > 0:
                part = rest[: found[0]]
                if first or legacy:
                    ids += model.encode(part)
                else:
                    ids += model.encode("<unk>" + part)[len(model.encode("<unk>")) :]
            if found[1]:
                ids.append(special[found[1]])
            rest, first = rest[found[0] + len(found[1]) :], False
        return ids


if __name__ == "__main__":
    unittest.main()
