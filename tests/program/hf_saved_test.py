"""Profile `hf` against the installed transformers and PEFT: bytes of unique storages that autograd keeps.

Run as: python hf_saved_test.py HF_PROBE
"""

import contextlib
import json
import random
import subprocess
import sys
import warnings

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

# Where transformers' modules are Llama's: by family, its keys of config.json.
FAMILIES = {
    "llama": lambda case: {"attention_bias": case["bias"]},
    "mistral": lambda case: {"sliding_window": case["window"] or None},
    "qwen2": lambda case: {},
    "qwen3": lambda case: {"attention_bias": case["bias"]},
}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = 48
BOUND = 0.01


def random_case(draw, index):
    kv_heads = draw.choice([1, 2, 3, 4])
    case = {
        "kv_heads": kv_heads,
        "heads": kv_heads * draw.choice([1, 1, 2, 4]),
        "head_size": draw.choice([8, 16, 32]),
        "intermediate": 8 * draw.randint(4, 60),
        "vocabulary": draw.randint(50, 900),
        "layers": draw.randint(1, 4),
        "rows": draw.randint(1, 3),
        "sequence": 8 * draw.randint(2, 12),
        "rank": draw.randint(1, 16),
        "targets": ",".join(draw.sample(LINEARS, draw.randint(1, 7))),
        "dropout": draw.choice([0.0, 0.0, 0.1]),
        "tied": draw.random() < 0.3,
        "bias": draw.random() < 0.3,
        # Every combination occurs.
        "method": ["full", "lora"][index % 2],
        "precision": ["fp32", "bf16"][index // 2 % 2],
        "attention": ["sdpa", "sdpa", "eager"][index % 3],
        "family": list(FAMILIES)[index // 4 % len(FAMILIES)],
        "window": 0,
    }
    case["bias"] = case["family"] == "qwen2" or (case["bias"] and case["family"] in ("llama", "qwen3"))
    if case["family"] == "mistral":
        # Only eager attention goes without a mask where rows are longer.
        case["window"] = draw.choice([0, case["sequence"] + 1] + [5] * (case["attention"] == "eager"))
    case["hidden"] = case["heads"] * draw.choice([case["head_size"], 4 * draw.randint(1, 9)])
    return case


def build(case):
    config = AutoConfig.for_model(
        case["family"],
        hidden_size=case["hidden"],
        intermediate_size=case["intermediate"],
        num_attention_heads=case["heads"],
        num_key_value_heads=case["kv_heads"],
        head_dim=case["head_size"],
        vocab_size=case["vocabulary"],
        num_hidden_layers=case["layers"],
        tie_word_embeddings=case["tied"],
        attn_implementation=case["attention"],
        use_cache=False,
        **FAMILIES[case["family"]](case),
    )
    model = AutoModelForCausalLM.from_config(config)
    if case["method"] == "lora":
        if case["precision"] == "bf16":
            model = model.to(torch.bfloat16)
        model = get_peft_model(
            model,
            LoraConfig(
                r=case["rank"],
                lora_dropout=case["dropout"],
                target_modules=case["targets"].split(","),
                task_type="CAUSAL_LM",
            ),
        )
    return model.train()


def measure(case):
    model = build(case)
    mixed = case["method"] == "full" and case["precision"] == "bf16"
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}  # by address; the tensors are held, so that no address is used twice

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(0, case["vocabulary"], (case["rows"], case["sequence"]))
    precision = torch.autocast("cpu", dtype=torch.bfloat16) if mixed else contextlib.nullcontext()
    with precision, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids, labels=ids)
    return sum(size for size, _ in kept.values())


def main(probe):
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    draw = random.Random(3)
    cases = [random_case(draw, index) for index in range(CASES)]
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    answer = subprocess.run([probe], input=lines, capture_output=True, text=True)
    if answer.returncode != 0:
        sys.exit(f"hf_probe: {answer.stderr.strip()}")
    worst = 0.0
    failed = False
    for case, predicted in zip(cases, map(int, answer.stdout.split()), strict=True):
        measured = measure(case)
        error = predicted / measured - 1
        worst = max(worst, abs(error))
        if abs(error) > BOUND:
            failed = True
            print(f"predicted {predicted}, measured {measured} ({error:+.2%}): {case}")
    print(f"{CASES} cases, largest error {worst:.3%}, bound {BOUND:.0%}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1])
