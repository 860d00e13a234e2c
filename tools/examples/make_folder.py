#!/usr/bin/env python3
"""Writes a model folder with random weights: tokenizer, configuration, model.safetensors.

    build/deps/peers/bin/python tools/examples/make_folder.py TEXT FOLDER

TEXT is what `make_corpus.py --text` wrote. Same text, same versions of tokenizers, transformers and torch: same bytes.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = 2048
POSITIONS = 256
BOS, EOS = "<s>", "</s>"
SEED = 3
# The words around every instruction become tokens of their own, so that prompts stay short.
# @source tatsu-lab/stanford_alpaca, train.py, PROMPT_DICT
TEMPLATE = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:{output}"
)


def texts(text_file):
    for line in text_file.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)["text"]
    for record in json.loads((ROOT / "examples/instructions.json").read_text(encoding="utf-8")):
        yield TEMPLATE.format(**record)


def make_tokenizer(text_file):
    """Byte-level BPE with GPT-2's splitting, and BOS before every text as in Llama 3.

    Llama 3's splitting would join the colon that ends a prompt with the word that begins its answer.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in (BOS, EOS)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(text_file), trainer)
    begin = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, begin)]
    )
    return tokenizer


def write_tokenizer(tokenizer, folder):
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "clean_up_tokenization_spaces": False,
        "model_max_length": POSITIONS,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def write_model(tokenizer, folder):
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
        dtype="float32",
    )
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=bos, eos_token_id=eos, pad_token_id=eos)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip())
    text_file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(text_file)
    write_tokenizer(tokenizer, folder)
    parameters = write_model(tokenizer, folder)
    print(f"{folder}: {parameters:,} parameters, {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
