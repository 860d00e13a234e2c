"""8-bit blocks against bitsandbytes: maps, codes, scales and dequantized values, bit for bit."""

import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # bitsandbytes compiles what it falls back to, for a minute

from peers import check, equal, folder, run, tool

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import load_file, save_file

MAPS = {"signed": bnb.create_dynamic_map(signed=True), "unsigned": bnb.create_dynamic_map(signed=False)}


def same_bits(got, expected, what):
    equal(list(got.shape), list(expected.shape), f"{what}: elements")
    different = (got.view(torch.uint8) != expected.contiguous().view(torch.uint8)).nonzero().flatten()
    check(len(different) == 0, f"{what}: {len(different)} bytes differ, the first at {different[:1].tolist()}")


def compare(tensors):
    with folder() as path:
        save_file(tensors, f"{path}/in.safetensors")
        tool("dynamic", f"{path}/in.safetensors", f"{path}/out.safetensors")
        ours = load_file(f"{path}/out.safetensors")
    for kind, code in MAPS.items():
        same_bits(ours[kind], code, f"{kind} map")
        for name, tensor in tensors.items():
            codes, state = bnb.quantize_blockwise(tensor, code=code, blocksize=256)
            what = f"{name}, {kind}"
            same_bits(ours[f"{name}.{kind}.codes"], codes, f"{what}: codes")
            same_bits(ours[f"{name}.{kind}.absmax"], state.absmax, f"{what}: absmax")
            same_bits(ours[f"{name}.{kind}.values"], bnb.dequantize_blockwise(codes, state), f"{what}: values")


def random_states_have_the_bits_of_bitsandbytes():
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    # Whole blocks, a part of one, less than one.
    for count in (256, 4096, 5000, 70, 1, 100_003):
        # Blocks of different scales, values of all sizes in one, a few zeros.
        values = torch.randn(count, generator=generator) * 10 ** (-8 * torch.rand(count, generator=generator))
        values[torch.rand(count, generator=generator) < 0.01] = 0
        tensors |= {f"moments{count}": values, f"squares{count}": values * values}
    compare(tensors)


def special_values_too():
    ramp = torch.linspace(-1, 1, 4096)
    compare({"zeros": torch.zeros(300), "ramp": ramp, "tiny": ramp * 1e-30, "large": ramp * 1e30, "ones": torch.ones(77),
             "values of the map": MAPS["signed"].clone(), "below the least normal": ramp * 1e-39})


torch.set_num_threads(1)
run([random_states_have_the_bits_of_bitsandbytes, special_values_too])
