"""Our training steps beside those of transformers and PEFT on tiny random models.

parity_test.py STEP_PROBE [NAME-PART]
"""

import copy
import json
import os
import subprocess
import sys
import tempfile

import peer
import torch
from peer import Setting
from safetensors.torch import load_file

LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}

F32 = {
    "full": Setting(),
    "full tied": Setting(tied=True, layers=2),
    "full bias accumulation": Setting(bias=True, accumulation=3, seed=1),
    "full checkpointing full": Setting(checkpointing="full", scaling=LLAMA3),
    "full every-2 accumulation": Setting(checkpointing="every-2", accumulation=2, layers=5, steps=12),
    "full linear rope, chunks": Setting(scaling=LINEAR, loss_chunk=32, schedule="linear"),
    "full tied accumulation chunks": Setting(tied=True, accumulation=2, loss_chunk=24),
    "full one layer, no clipping": Setting(layers=1, clip=0.0, schedule="constant"),
    "full two ranks": Setting(ranks=2, zero=1),
    "full two ranks accumulation": Setting(ranks=2, zero=1, accumulation=2, steps=12),
    "lora": Setting(method="lora", learning_rate=2e-2),
    "lora q v": Setting(method="lora", targets=["q_proj", "v_proj"], learning_rate=5e-2),
    "lora rslora checkpointing full": Setting(method="lora", rslora=True, checkpointing="full", learning_rate=2e-2),
    "lora every-2 accumulation": Setting(method="lora", checkpointing="every-2", accumulation=2, layers=5,
                                         learning_rate=2e-2, steps=12),
    "lora one layer tied": Setting(method="lora", layers=1, tied=True, learning_rate=3e-2),
    "lora two ranks": Setting(method="lora", ranks=2, zero=1, learning_rate=2e-2),
}

MUTATIONS = {
    "full": ["adamw epsilon", "adamw beta2", "no weight decay", "decay on norms", "norm epsilon", "rope base",
             "no clipping", "rotation not undone", "residual gradient lost", "no bias correction", "mean of means",
             "late warm-up"],
    "lora": ["wrong alpha", "no weight decay"],
    "full bias accumulation": ["accumulation overwrites"],
}


class Mismatch(Exception):
    pass


def probe(binary, case):
    done = subprocess.run([binary, case], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Mismatch(f"exit {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def compare_losses(ours, theirs):
    for step, (a, b) in enumerate(zip(ours, theirs)):
        limit = 1e-5 if step < 5 else 1e-4
        if not abs(a - b) <= limit * abs(b):
            raise Mismatch(f"loss of step {step + 1}: {a} beside {b}")


def compare_gradients(ours, theirs):
    total = sum(float(g.square().sum()) for g in theirs.values()) ** 0.5
    missing = set(theirs) - set(ours)
    if missing:
        raise Mismatch(f"no gradient of {sorted(missing)[:3]}")
    for name, g in theirs.items():
        distance = float((ours[name] - g).norm())
        limit = 1e-5 * max(float(g.norm()), 1e-3 * total)
        if not distance <= limit:
            raise Mismatch(f"gradient of {name}: distance {distance}, allowed {limit}")


def compare_bytes(ours):
    """Predicted equals measured, category by category, on device and host."""
    for rank, (predicted, measured) in enumerate(zip(ours["predicted"], ours["measured"])):
        for place in ("device", "host"):
            for key, value in measured[place].items():
                if predicted[place][key] != value:
                    raise Mismatch(f"rank {rank} {place} {key}: predicted {predicted[place][key]}, measured {value}")
            if measured[place]["peak"] <= 0:
                raise Mismatch(f"{place}: nothing was measured")
    if ours["outside_arena_bytes"] != 0:
        raise Mismatch(f"{ours['outside_arena_bytes']} bytes outside the arena")


def peer_name(name, method):
    return name.replace(".default.", ".") if method == "lora" else name


def run_setting(binary, name, s):
    with tempfile.TemporaryDirectory() as folder:
        rows = peer.rows_of(s)
        tokens = os.path.join(folder, "tokens.json")
        peer.write_tokens(rows, tokens)
        model_folder = os.path.join(folder, "model")
        model = peer.make_model(s, model_folder)
        adapter = ""
        if s.method == "lora":
            adapter = os.path.join(folder, "adapter")
            model = peer.add_adapter(s, model, adapter)
        losses, norms, gradients = peer.train(s, model, peer.batches_of(s, rows), "fp32")
        if not losses[-1] < 0.7 * losses[0]:
            raise Mismatch(f"the peer learns too little: {losses[0]} to {losses[-1]}")
        gradient_file = "" if s.ranks > 1 else os.path.join(folder, "gradients.safetensors")
        case = peer.write_case(s, folder, model_folder, adapter, tokens, gradients=gradient_file)
        ours = probe(binary, case)
        compare_losses(ours["losses"], losses)
        compare_bytes(ours)
        if gradient_file:
            compare_gradients(load_file(gradient_file), {peer_name(n, s.method): g for n, g in gradients.items()})
        noticed = 0
        for mutation in MUTATIONS.get(name, []):
            gradient_file = os.path.join(folder, "mutated.safetensors")
            case = peer.write_case(s, folder, model_folder, adapter, tokens, mutation)
            try:
                compare_losses(probe(binary, case)["losses"], losses)
            except Mismatch:
                noticed += 1
                continue
            raise Mismatch(f"the mutation \"{mutation}\" was not noticed")
        return losses, noticed


def main():
    binary = sys.argv[1]
    part = sys.argv[2] if len(sys.argv) > 2 else ""
    torch.set_num_threads(1)
    failed = 0
    noticed = 0
    for name, setting in F32.items():
        if part not in name:
            continue
        try:
            losses, found = run_setting(binary, name, setting)
            noticed += found
            print(f"ok    {name}: loss {losses[0]:.3f} -> {losses[-1]:.3f}, {found} mutations noticed", flush=True)
        except Mismatch as mismatch:
            failed += 1
            print(f"FAIL  {name}: {mismatch}", flush=True)
    print(f"{failed} failed, {noticed} mutations noticed")
    return 1 if failed or (not part and noticed < 10) else 0


sys.exit(main())
