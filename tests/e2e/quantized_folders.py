"""Folders that transformers saves with bitsandbytes."""

import shutil

from peer_case import load

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

KINDS = {"nf4-double": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
         "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
         "int8": {"load_in_8bit": True}}
# What reads the 16-bit model in the same form.
METHODS = {"nf4-double": ["--method", "qlora"], "nf4": ["--method", "qlora", "--no-double-quantization"],
           "int8": ["--method", "int8-lora"]}
# Blocks of scales straddle no rows, which bitsandbytes 0.50 mistakes when it reads them.
SHAPE = {"intermediate_size": 128}


def quantize(source, folder, dtype=torch.float32, **options):
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype,
                                                 quantization_config=BitsAndBytesConfig(**options))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (source / name).exists():
            shutil.copy(source / name, folder / name)


def theirs(folder, kind):
    # For inference bitsandbytes takes 4-bit kernels of its own on some processors, for training no outlier rule.
    return load(folder).train(kind != "int8")
