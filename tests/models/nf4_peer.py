"""NF4 against bitsandbytes: packed bytes, scales, nested state and dequantized values, bit for bit."""

import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # bitsandbytes compiles what it falls back to, for a minute

from peers import check, equal, folder, run, tool

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import load_file, save_file

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Whole blocks, a part of one, rows that straddle blocks, odd counts, more than one block of scales.
SHAPES = ((1, 64), (4, 64), (64, 128), (3, 100), (5, 13), (1, 1), (7, 65), (129, 130), (256, 300), (1000, 333))


def random_tensor(shape, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator)
    # Blocks of different scales, as trained weights have; a few zeros.
    values *= torch.rand((shape[0], 1), generator=generator) ** 3
    values[torch.rand(shape, generator=generator) < 0.01] = 0
    return (values * 0.05).to(dtype)


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).flatten().tolist()


def same_bits(got, expected, what):
    equal(list(got.flatten().shape), list(expected.flatten().shape), f"{what}: elements")
    different = (torch.tensor(bits(got)) != torch.tensor(bits(expected))).nonzero().flatten()
    check(len(different) == 0, f"{what}: {len(different)} bytes differ, the first at {different[:1].tolist()}")


def quantized_by_the_tool(tensors):
    with folder() as path:
        save_file(tensors, f"{path}/in.safetensors")
        tool("nf4", f"{path}/in.safetensors", f"{path}/out.safetensors")
        return load_file(f"{path}/out.safetensors")


def compare(tensors):
    ours = quantized_by_the_tool(tensors)
    for name, tensor in tensors.items():
        for double in (False, True):
            packed, state = bnb.quantize_4bit(tensor, blocksize=64, quant_type="nf4", compress_statistics=double)
            what = f"{name} {tensor.dtype} {list(tensor.shape)} double={double}"
            same_bits(ours[f"{name}.packed"], packed, f"{what}: packed")
            if double:
                same_bits(ours[f"{name}.offset"], state.offset.reshape(1), f"{what}: offset")
                same_bits(ours[f"{name}.nested"], state.state2.absmax, f"{what}: nested absmax")
                same_bits(ours[f"{name}.codes"], state.absmax, f"{what}: codes")
                same_bits(ours["map"], state.state2.code, f"{what}: map")
            else:
                same_bits(ours[f"{name}.absmax"], state.absmax, f"{what}: absmax")
            state.dtype = torch.float32
            values = bnb.dequantize_4bit(packed, state)
            same_bits(ours[f"{name}.{'double' if double else 'single'}"], values, f"{what}: values")
            state.dtype = torch.bfloat16
            same_bits(values.bfloat16(), bnb.dequantize_4bit(packed, state), f"{what}: bf16 is the rounded f32")


def random_tensors_have_the_bits_of_bitsandbytes():
    tensors = {}
    for index, shape in enumerate(SHAPES):
        for dtype in DTYPES:
            tensors[f"t{index}{str(dtype)[6:]}"] = random_tensor(shape, dtype, 10 * index)
    compare(tensors)


def a_large_tensor_too():
    # More than a million values: the mean of 20,480 scales has several levels of sums.
    compare({"large": random_tensor((1280, 1024), torch.float32, 7)})


def special_values_too():
    ramp = torch.linspace(-1, 1, 64 * 64).reshape(64, 64)
    compare({"zeros": torch.zeros(3, 64), "some zeros": torch.cat([torch.zeros(2, 64), ramp[:2]]), "ramp": ramp,
             "tiny": ramp * 1e-30, "large": ramp * 1e30, "ones": torch.ones(5, 77)})


if __name__ == "__main__":
    torch.set_num_threads(1)
    run([random_tensors_have_the_bits_of_bitsandbytes, a_large_tensor_too, special_values_too])
