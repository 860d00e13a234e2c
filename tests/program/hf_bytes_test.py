"""Profile `hf` against the installed transformers and PEFT: bytes of unique storages that autograd keeps, and the most
that is allocated at a time in a step.

Run as: python hf_bytes_test.py HF_PROBE
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
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = 48
SAVED_BOUND = 0.01
PEAKS = 32
PEAK_BOUND = (-0.01, 0.05)


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
        "precision": ["fp32", "bf16", "fp16"][(index // 2 + index // 6) % 3],
        "attention": ["sdpa", "sdpa", "eager"][index % 3],
        "family": list(FAMILIES)[index // 4 % len(FAMILIES)],
        "window": 0,
        "checkpointing": 0,
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
        if case["precision"] in HALVES:
            model = model.to(HALVES[case["precision"]])
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
    mixed = case["method"] == "full" and case["precision"] in HALVES
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}  # by address; the tensors are held, so that no address is used twice

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(0, case["vocabulary"], (case["rows"], case["sequence"]))
    precision = torch.autocast("cpu", dtype=HALVES[case["precision"]]) if mixed else contextlib.nullcontext()
    with precision, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids, labels=ids)
    return sum(size for size, _ in kept.values())


def most_allocated(profile):
    """Of what the CPU allocator reports; 0 when the profile began."""
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = [0]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live.append(live[-1] + event.nbytes())
    return max(live)


def measure_peak(case):
    """Of forward and backward, with the optimizer's states there and gradients set to none."""
    model = build(case)
    if case["checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if case["method"] == "lora":
            model.enable_input_require_grads()
    mixed = case["method"] == "full" and case["precision"] in HALVES
    ids = torch.randint(0, case["vocabulary"], (case["rows"], case["sequence"]))

    def step():
        model.zero_grad()
        with torch.autocast("cpu", dtype=HALVES[case["precision"]]) if mixed else contextlib.nullcontext():
            outputs = model(input_ids=ids, labels=ids)
        outputs.loss.backward()

    step()
    model.zero_grad()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    states = 2 * 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    return sum(p.nbytes for p in model.parameters()) + states + most_allocated(profile)


def peak_case(draw, index):
    """Large enough that rounding to 64 bytes is lost in it, and without dropout, whose masks torch makes on CPU by way
    of integers."""
    layers, sequence = draw.randint(2, 5), 64 * draw.randint(1, 3)
    case = random_case(draw, index) | {"layers": layers, "sequence": sequence, "attention": "sdpa", "window": 0,
                                       "dropout": 0.0, "vocabulary": draw.randint(500, 4000)}
    return case | {"intermediate": 2 * case["hidden"], "checkpointing": index // 16 % 2}


def ask(probe, cases):
    """Predicted (saved, peak) of each case."""
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    answer = subprocess.run([probe], input=lines, capture_output=True, text=True)
    if answer.returncode != 0:
        sys.exit(f"hf_probe: {answer.stderr.strip()}")
    return [tuple(map(int, line.split())) for line in answer.stdout.splitlines()]


def compare(what, cases, predicted, measure, low, high):
    errors = []
    for case, bytes_ in zip(cases, predicted, strict=True):
        measured = measure(case)
        errors.append(bytes_ / measured - 1)
        if not low <= errors[-1] <= high:
            print(f"{what}: predicted {bytes_}, measured {measured} ({errors[-1]:+.2%}): {case}")
    print(f"{what}: {len(cases)} cases, errors {min(errors):+.3%} to {max(errors):+.3%}, bounds {low:+.0%} {high:+.0%}")
    return low <= min(errors) and max(errors) <= high


def main(probe):
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    draw = random.Random(3)
    cases = [random_case(draw, index) for index in range(CASES)]
    good = compare("saved", cases, [saved for saved, _ in ask(probe, cases)], measure, -SAVED_BOUND, SAVED_BOUND)
    cases = [peak_case(draw, index) for index in range(PEAKS)]
    good &= compare("peak", cases, [peak for _, peak in ask(probe, cases)], measure_peak, *PEAK_BOUND)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main(sys.argv[1])
