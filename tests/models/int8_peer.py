"""LLM.int8 against bitsandbytes: codes, scales and dequantized values, bit for bit."""

from peers import folder, run, tool

import bitsandbytes
import torch
from nf4_peer import DTYPES, SHAPES, random_tensor, same_bits
from safetensors.torch import load_file, save_file


def compare(tensors):
    with folder() as path:
        save_file(tensors, f"{path}/in.safetensors")
        tool("int8", f"{path}/in.safetensors", f"{path}/out.safetensors")
        ours = load_file(f"{path}/out.safetensors")
    for name, tensor in tensors.items():
        codes, scales, _ = bitsandbytes.functional.int8_vectorwise_quant(tensor.to(torch.float16))
        what = f"{name} {tensor.dtype} {list(tensor.shape)}"
        same_bits(ours[f"{name}.CB"], codes, f"{what}: codes")
        same_bits(ours[f"{name}.SCB"], scales, f"{what}: scales")
        same_bits(ours[f"{name}.values"], bitsandbytes.functional.int8_vectorwise_dequant(codes, scales),
                  f"{what}: values")


def random_tensors_have_the_bits_of_bitsandbytes():
    compare({f"t{index}{str(dtype)[6:]}": random_tensor(shape, dtype, 10 * index)
             for index, shape in enumerate(SHAPES) for dtype in DTYPES})


def special_values_too():
    ramp = torch.linspace(-1, 1, 64 * 64).reshape(64, 64)
    compare({"ramp": ramp, "tiny": ramp * 1e-5, "large": ramp * 6e4, "ones": torch.ones(5, 77),
             "some zeros": torch.cat([torch.zeros(2, 64), ramp[:2]])})


if __name__ == "__main__":
    torch.set_num_threads(1)
    run([random_tensors_have_the_bits_of_bitsandbytes, special_values_too])
