"""Safetensors files and checkpoints against the safetensors package, torch and transformers, in both directions."""

import json
import os
import random
import struct
from pathlib import Path

from peers import check, equal, folder, run, tool

import safetensors
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

# What ftplan computes with, and what it only passes over.
OURS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
        torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
        torch.bool: "BOOL"}
OTHERS = {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.complex64: "C64",
          torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64"}


def raw(tensor):
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def fnv(data):
    total = 0
    for byte in data:
        total = ((total ^ byte) * 1099511628211) % (1 << 64)
    return str(total)


def random_tensor(generator, dtype, shape):
    count = 1
    for extent in shape:
        count *= extent
    size = torch.empty((), dtype=dtype).element_size()
    data = torch.randint(0, 2 if dtype == torch.bool else 256, (count * size,), generator=generator, dtype=torch.uint8)
    return data.view(dtype).reshape(shape)


def random_tensors(seed, dtypes):
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for index in range(rng.randint(0, 12)):
        name = rng.choice(["w", "layer.", "Ä\u4e16", 'q"uote\\', "tab\t", "\x01\x7f", "😀"]) + str(index)
        shape = [rng.choice([0, 1, 2, 3, 7]) for _ in range(rng.randint(0, 4))]
        tensors[name] = random_tensor(generator, rng.choice(dtypes), shape)
    return tensors


def files_of_the_package_are_read_in_all_types():
    for seed in range(30):
        tensors = random_tensors(seed, list(OURS | OTHERS))
        with folder() as path:
            save_file(tensors, f"{path}/f", metadata={"format": "pt"})
            read = tool("inspect", f"{path}/f")
        expected = {name: {"dtype": (OURS | OTHERS)[tensor.dtype], "shape": list(tensor.shape), "sum": fnv(raw(tensor))}
                    for name, tensor in tensors.items()}
        equal(read, {"metadata": {"format": "pt"}, "tensors": expected}, f"seed {seed}")


def the_writer_gives_the_same_bytes():
    for seed in range(60):
        metadata = random.Random(seed).choice([None, {"format": "pt"}, {"k\n": 'v"\u00e9'}])
        with folder() as path:
            save_file(random_tensors(seed, list(OURS)), f"{path}/theirs", metadata=metadata)
            answer = tool("rewrite", f"{path}/theirs", f"{path}/ours")
            theirs, ours = Path(f"{path}/theirs").read_bytes(), Path(f"{path}/ours").read_bytes()
        check(ours == theirs, f"seed {seed}: bytes differ")
        equal(answer["predicted"], len(theirs), f"seed {seed}: predicted size")


def what_is_written_is_read_by_the_package():
    for seed in range(20):
        tensors = random_tensors(seed, list(OURS))
        with folder() as path:
            save_file(tensors, f"{path}/theirs")
            tool("rewrite", f"{path}/theirs", f"{path}/ours")
            back = load_file(f"{path}/ours")
        equal(set(back), set(tensors), f"seed {seed}: names")
        for name, tensor in tensors.items():
            equal((back[name].dtype, back[name].shape), (tensor.dtype, tensor.shape), f"seed {seed} {name}")
            check(raw(back[name]) == raw(tensor), f"seed {seed} {name}: bytes")


def mutate(rng, data):
    data = bytearray(data)
    pieces = [b"{", b"}", b"[", b"]", b",", b'"', b"0", b"-1", b"1.0", b"null", b'"dtype"', b'"shape"', b"\xff", b" "]
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at:at] = rng.choice(pieces)
        elif kind == 2:
            del data[at:at + rng.randint(1, 6)]
        elif kind == 3:
            data[at:at] = data[max(0, at - 30):at]
        else:
            data[at:at + 1] = rng.choice([b"1", b"2", b"8", b"9"])
        if not data:
            return bytes(data)
    if len(data) > 8 and rng.random() < 0.9:  # keep the length true, or nothing behind it is ever looked at
        data[:8] = struct.pack("<Q", max(0, len(data) - 8 - 44))
    return bytes(data)


def accepted_by_the_package(data):
    try:
        safetensors.deserialize(data)
        return True
    except safetensors.SafetensorError:
        return False


def nothing_is_accepted_that_the_package_refuses():
    # F32 [2,3], F16 [4], BF16 scalar, I8 [2,5]: 24 + 8 + 2 + 10 = 44 bytes
    tensors = {"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.half), "c": torch.tensor(1, dtype=torch.bfloat16),
               "d": torch.ones(2, 5, dtype=torch.int8)}
    valid = safetensors.torch.save(tensors, metadata={"format": "pt"})
    rounds = 3000
    with folder() as path:
        for seed in range(rounds):
            Path(f"{path}/{seed}").write_bytes(mutate(random.Random(seed), valid))
        verdicts = tool("verdicts", path)
        both = refused_more = 0
        for seed in range(rounds):
            theirs = accepted_by_the_package(Path(f"{path}/{seed}").read_bytes())
            ours = verdicts[str(seed)] == "ok"
            check(theirs or not ours, f"seed {seed}: accepted, but the package refuses it")
            both += ours
            if theirs and not ours:
                refused_more += 1
                strict = ("begin with '{'", "two tensors have this name", "two keys named", "expected an object",
                          "two keys are named", "NUL byte")
                check(any(reason in verdicts[str(seed)] for reason in strict), f"seed {seed}: {verdicts[str(seed)]}")
    check(both > rounds // 100, f"only {both} mutations were accepted by both")
    print(f"    {rounds} mutations: {both} accepted by both, {refused_more} by the package alone")


def tiny_llama(**changes):
    keys = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 32}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**(keys | changes)))


def shards_and_index_are_those_of_transformers():
    for limit in (1000, 5000, 20000, 10**9):
        for dtype in (torch.float32, torch.bfloat16):
            with folder() as path:
                model = tiny_llama().to(dtype)
                model.save_pretrained(f"{path}/theirs", max_shard_size=limit)
                order = json.dumps(list(model.state_dict()))
                answer = tool("reshard", f"{path}/theirs", f"{path}/ours", limit, order)
                names = sorted(name for name in os.listdir(f"{path}/theirs") if name.startswith("model"))
                equal(sorted(os.listdir(f"{path}/ours")), names, f"{limit} {dtype}: files")
                total = 0
                for name in names:
                    theirs = Path(f"{path}/theirs/{name}").read_bytes()
                    check(Path(f"{path}/ours/{name}").read_bytes() == theirs, f"{limit} {dtype}: {name} differs")
                    total += len(theirs)
                equal(answer["predicted"], total, f"{limit} {dtype}: predicted bytes on disk")


def checkpoints_of_transformers_fit_their_configuration():
    for changes in ({}, {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True}, {"head_dim": 16}):
        with folder() as path:
            tiny_llama(**changes).save_pretrained(path)
            tool("check", path)
    with folder() as path:  # the base model alone, its names without the prefix; its head is the embedding
        model = tiny_llama(tie_word_embeddings=True)
        base = LlamaModel(model.config)
        base.save_pretrained(path)
        names = set(load_file(f"{path}/model.safetensors"))
        check("embed_tokens.weight" in names, f"transformers writes {sorted(names)[:3]} for a base model")
        tool("check", path)
        loaded = LlamaForCausalLM.from_pretrained(path)
        check(torch.equal(loaded.model.embed_tokens.weight, base.embed_tokens.weight), "transformers loads it too")


def numbers_are_rounded_as_torch_rounds_them():
    generator = torch.Generator().manual_seed(1)
    bits = torch.randint(-(2**31), 2**31, (1 << 20,), generator=generator, dtype=torch.int64).to(torch.int32)
    near = torch.cat([torch.arange(0, 1 << 16, dtype=torch.int32) << 16, torch.arange(0, 1 << 16, dtype=torch.int32) * 4096
                      + 0x38000000])  # ties of both types, and the subnormal numbers of F16
    values = torch.cat([bits, near, near + 1, near - 1]).view(torch.float32)
    values = values[~values.isnan()]
    halves = torch.arange(0, 1 << 16, dtype=torch.int32).to(torch.uint16)
    with folder() as path:
        save_file({"x": values}, f"{path}/f32")
        for name, dtype in (("BF16", torch.bfloat16), ("F16", torch.float16)):
            tool("convert", f"{path}/f32", f"{path}/{name}", name)
            ours = load_file(f"{path}/{name}")["x"]
            check(torch.equal(ours.view(torch.int16), values.to(dtype).view(torch.int16)), f"to {name}")
            wide = halves.view(dtype)
            wide = wide[~wide.isnan()]
            save_file({"x": wide}, f"{path}/from")
            tool("convert", f"{path}/from", f"{path}/wide", "F32")
            back = load_file(f"{path}/wide")["x"]
            check(torch.equal(back.view(torch.int32), wide.float().view(torch.int32)), f"from {name}")


run([files_of_the_package_are_read_in_all_types, the_writer_gives_the_same_bytes,
     what_is_written_is_read_by_the_package, nothing_is_accepted_that_the_package_refuses,
     shards_and_index_are_those_of_transformers, checkpoints_of_transformers_fit_their_configuration,
     numbers_are_rounded_as_torch_rounds_them])
