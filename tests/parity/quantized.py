"""Peers whose linears are quantized by bitsandbytes."""

import logging

import bitsandbytes
import bitsandbytes.autograd._functions as autograd
import bitsandbytes.functional as bnb
import torch
from peft import PeftModel
from peer import ATTENTION, DTYPES, FALCON_TARGETS, FUSED_TARGETS, TARGETS
from transformers import AutoModelForCausalLM, LlamaForCausalLM

# A line for each product in f32.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


LINEARS = {*TARGETS, *FUSED_TARGETS, *FALCON_TARGETS}


def linears_of(model):
    """The linears of the layers: (parent, name, linear)."""
    for module in model.modules():
        for name, child in module.named_children():
            if name in LINEARS and isinstance(child, torch.nn.Linear):
                yield module, name, child


def dequantize_linears(model, double_quantization):
    """Gives each linear the values that its NF4 form stands for."""
    with torch.no_grad():
        for _, _, linear in linears_of(model):
            # As one row: bitsandbytes 0.50 mistakes scales where a block straddles rows.
            row = linear.weight.reshape(1, -1)
            packed, state = bnb.quantize_4bit(row, blocksize=64, quant_type="nf4",
                                              compress_statistics=double_quantization)
            linear.weight.copy_(bnb.dequantize_4bit(packed, state).reshape(linear.weight.shape))


def with_4bit_linears(s, folder, adapter):
    """A model with bitsandbytes' Linear4bit under PEFT's adapters."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for parent, name, linear in list(linears_of(model)):
        quantized = bitsandbytes.nn.Linear4bit(linear.in_features, linear.out_features, bias=linear.bias is not None,
                                               compute_dtype=torch.float32, quant_type="nf4",
                                               compress_statistics=s.double_quantization)
        quantized.weight = bitsandbytes.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4",
                                                      compress_statistics=s.double_quantization)
        quantized.bias = linear.bias
        setattr(parent, name, quantized.to("cpu"))
    model.is_loaded_in_4bit = True
    return PeftModel.from_pretrained(model, adapter, is_trainable=True)


class OutlierRule:
    @staticmethod
    def apply(x, *others):
        # A copy: of fp16 inputs outliers are taken out, and put back, in place.
        return autograd.MatMul8bitLt.apply(x.clone(), *others)


def with_8bit_linears(s, folder, adapter):
    """A model with bitsandbytes' Linear8bitLt under PEFT's adapters, trained as on a GPU.

    On a CPU bitsandbytes 0.50 trains with products of dequantized weights, which leaves the outlier rule to evaluation."""
    autograd.MatMul8bitFp = OutlierRule
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES.get(s.precision, torch.float32),
                                                 attn_implementation=ATTENTION.get(s.family, "sdpa"))
    quantize_in_8_bits(model)
    model.is_loaded_in_8bit = True
    return PeftModel.from_pretrained(model, adapter, is_trainable=True)


def quantize_in_8_bits(model):
    """Gives the model bitsandbytes' linears."""
    for parent, name, linear in list(linears_of(model)):
        quantized = bitsandbytes.nn.Linear8bitLt(linear.in_features, linear.out_features, bias=linear.bias is not None,
                                                 has_fp16_weights=False, threshold=6.0)
        quantized.weight = bitsandbytes.nn.Int8Params(linear.weight.data.float(), requires_grad=False,
                                                      has_fp16_weights=False)
        quantized.bias = linear.bias
        setattr(parent, name, quantized.to("cpu"))
