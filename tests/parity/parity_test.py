"""Our training steps beside those of transformers and PEFT on tiny random models.

parity_test.py STEP_PROBE [GROUP [NAME-PART]]     GROUP: a key of settings.py; all, and as many at a time as there are
                                                  processors, where it is left out
"""

import dataclasses
import functools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile

import compare
import peer
import quantized
import settings
import torch
from compare import Mismatch
from safetensors.torch import load_file

SEEDS = 5
# Rounding to 16 bits may move our losses from those in f32 by so much more than it moves the peer's.
WORST_16BIT_RATIO = 1.5
# Of our losses from bitsandbytes' int8 in f32, as a share of that of these from f32 alone.
WORST_INT8_DISTANCE = 0.4


class Pair:
    """One setting in files: what the peer trains and what the probe is given."""

    def __init__(self, binary, s, folder):
        self.binary, self.s, self.folder = binary, s, folder
        self.tokens = os.path.join(folder, "tokens.json")
        peer.write_tokens(peer.rows_of(s), self.tokens)
        self.model_folder = os.path.join(folder, "model")
        self.model = peer.make_model(s, self.model_folder)
        self.peer_folder = self.model_folder
        if s.method == "qlora":
            self.peer_folder = os.path.join(folder, "dequantized")
            quantized.dequantize_linears(self.model, s.double_quantization)
            self.model.save_pretrained(self.peer_folder)
        self.adapter = os.path.join(folder, "adapter") if s.method != "full" else ""
        if self.adapter:
            self.model = peer.add_adapter(s, self.model, self.adapter)

    def probe(self, s=None, **options):
        case = peer.write_case(s or self.s, self.folder, self.model_folder, self.adapter, self.tokens, **options)
        done = subprocess.run([self.binary, case], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Mismatch(f"exit {done.returncode}: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def train(self, rows, precision="fp32"):
        """Losses and first gradients of the peer on `rows`, lists of documents, and how many steps it left out."""
        model = self.model
        if precision != "fp32" and self.adapter and not peer.autocasts(self.s, precision):
            model = peer.load_16bit(self.s, self.peer_folder, self.adapter)
        else:
            model.load_state_dict(self.first_state())
        losses, _, gradients, skipped = peer.train(self.s, model, peer.batches_of(self.s, rows), precision)
        if not losses[-1] < 0.7 * losses[0]:
            raise Mismatch(f"the peer learns too little: {losses[0]} to {losses[-1]}")
        return losses, gradients, skipped

    def first_state(self):
        if not hasattr(self, "state"):
            self.state = {name: value.clone() for name, value in self.model.state_dict().items()}
        return self.state


def rows_of(ours):
    return [[(d["input_ids"], d["labels"]) for d in row] for row in ours["rows"]]


def check_packing(s, rows):
    """The peer trains on the rows that the program packed; so these must hold every token once."""
    documents = [(ids, labels) for row in rows for ids, labels in row]
    given = peer.rows_of(s)
    if s.packing == "concat":
        flat = lambda items: [token for ids, _ in items for token in ids]
        if flat(documents) != flat(given) or any(len(row) != 1 for row in rows):
            raise Mismatch("concat: the rows are not the running text")
    elif sorted(documents) != sorted(given):
        raise Mismatch("isolated: the rows do not hold each document once")
    elif len(rows) > 0.6 * len(given):
        raise Mismatch("isolated: documents do not share rows")


def run_f32(binary, s, folder, mutations=()):
    pair = Pair(binary, s, folder)
    file = os.path.join(folder, "gradients.safetensors") if s.ranks == 1 else ""
    ours = pair.probe(gradients=file, print_rows=True)
    rows = rows_of(ours)
    if s.packing != "none":
        check_packing(s, rows)
    elif [row[0] for row in rows] != peer.rows_of(s):
        raise Mismatch("the rows are not those of the file")
    losses, gradients, _ = pair.train(rows)
    compare.losses(ours["losses"], losses)
    compare.equal_bytes(ours)
    if file:
        compare.gradients(load_file(file), {peer.name_in_files(name): g for name, g in gradients.items()})
    for mutation in mutations:
        try:
            compare.losses(pair.probe(mutation=mutation)["losses"], losses)
        except Mismatch:
            continue
        raise Mismatch(f"the mutation \"{mutation}\" was not noticed")
    return f"loss {losses[0]:.3f} -> {losses[-1]:.3f}" + (f", noticed: {', '.join(mutations)}" if mutations else "")


def check_skipped(s, ours, theirs):
    """Where the scale begins too large, both halve it until gradients fit. Those of full fine-tuning are kept in fp16
    here and in f32 by autocast, which adds up an embedding's from more tokens."""
    overflows = (s.loss_scale or 0) > 65536
    later = overflows * (3 if s.method == "full" else 1)
    if overflows != (theirs > 0) or not -overflows <= ours - theirs <= later:
        raise Mismatch(f"{ours} steps are left out beside {theirs}")
    return f", {ours} steps left out, {theirs} by the peer" if overflows else ""


def run_16bit(binary, s, folder):
    """Rounding moves our losses about as far from f32 as it moves the peer's; bytes are exact once measured."""
    ratios, scale = [], ""
    for seed in range(SEEDS):
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            pair = Pair(binary, dataclasses.replace(s, seed=seed), inner)
            ours = pair.probe(calibrate=s.native_bf16, print_rows=True)
            compare.equal_bytes(ours)
            if seed == 0 and s.native_bf16:
                compare.bounded_bytes(pair.probe(), ours)
            exact, _, _ = pair.train(rows_of(ours))
            rounded, _, skipped = pair.train(rows_of(ours), s.precision)
            scale = check_skipped(s, ours["skipped"], skipped)
            ratios.append(compare.root_mean_square(ours["losses"], exact) /
                          compare.root_mean_square(rounded, exact))
    median = statistics.median(ratios)
    shown = f"distance to f32 {median:.2f} of the peer's ({', '.join(f'{r:.2f}' for r in ratios)}){scale}"
    if not median <= WORST_16BIT_RATIO:
        raise Mismatch(shown)
    return shown


def run_bitsandbytes(binary, s, folder):
    """The peer's linears are bitsandbytes' own."""
    pair = Pair(binary, s, folder)
    file = os.path.join(folder, "gradients.safetensors")
    ours = pair.probe(gradients=file, print_rows=True)
    model = quantized.with_4bit_linears(s, pair.model_folder, pair.adapter)
    losses, _, gradients, _ = peer.train(s, model, peer.batches_of(s, rows_of(ours)), "fp32")
    compare.losses(ours["losses"], losses)
    compare.gradients(load_file(file), {peer.name_in_files(name): g for name, g in gradients.items()})
    return f"loss {losses[0]:.3f} -> {losses[-1]:.3f}"


def int8_losses(binary, s, folder):
    """A pair, and losses: ours, bitsandbytes', and those of the same weights in f32 that are not quantized."""
    pair = Pair(binary, s, folder)
    ours = pair.probe(print_rows=True)
    compare.equal_bytes(ours)
    rows = rows_of(ours)
    exact, _, _ = pair.train(rows)
    model = quantized.with_8bit_linears(s, pair.model_folder, pair.adapter, peer.DTYPES.get(s.precision, torch.float32))
    theirs, _, _, _ = peer.train(s, model, peer.batches_of(s, rows), s.precision)
    return pair, ours["losses"], theirs, exact


def run_int8(binary, s, folder, mutations=()):
    """Quantization moves our losses about as far from f32 as it moves the peer's. In f32 they are nearer to each other: what
    is left are codes between which rounding decides, and training makes them count."""
    ratios, shown = [], ""
    for seed in range(3 if mutations else SEEDS):
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            pair, ours, theirs, exact = int8_losses(binary, dataclasses.replace(s, seed=seed), inner)
            distance = compare.root_mean_square(theirs, exact)
            ratios.append(compare.root_mean_square(ours, exact) / distance)
            if seed > 0 or not mutations:
                continue
            apart = lambda losses: compare.root_mean_square(losses, theirs) / distance
            found = {name: apart(pair.probe(mutation=name)["losses"]) for name in mutations}
            shown = f", from the peer {apart(ours):.2f}, " + ", ".join(f"{name} {far:.2f}" for name, far in found.items())
            if not apart(ours) <= WORST_INT8_DISTANCE or min(found.values()) <= WORST_INT8_DISTANCE:
                raise Mismatch(shown)
    median = statistics.median(ratios)
    shown = f"distance to f32 {median:.2f} of the peer's ({', '.join(f'{r:.2f}' for r in ratios)}){shown}"
    if not median <= WORST_16BIT_RATIO:
        raise Mismatch(shown)
    return shown


def run_states(binary, s, folder):
    """After a few steps the 8-bit states are bitsandbytes', but for codes between which rounding decides."""
    pair = Pair(binary, s, folder)
    ours = pair.probe(states=os.path.join(folder, "states"), print_rows=True)
    states = {}
    peer.train(s, pair.model, peer.batches_of(s, rows_of(ours)), "fp32", states)
    file, = os.listdir(os.path.join(folder, "states"))
    return compare.states(load_file(os.path.join(folder, "states", file)), states)


def check_masks(s, ours):
    """Each value is kept with probability 1 - p and scaled; masks differ by site, layer, row and step alone."""
    masks = ours["masks"]
    by_place = {}
    for m in masks:
        by_place.setdefault((m["step"], m["layer"], m["site"], m["row"]), set()).add((m["kept"], m["digest"]))
        if not abs(m["scale"] * (1 - s.dropout) - 1) < 1e-5:
            raise Mismatch(f"kept values are scaled by {m['scale']}")
    if any(len(found) != 1 for found in by_place.values()):
        raise Mismatch("a mask that is made again differs")
    # Linears that read the same tensor share neither site nor mask.
    if len(set.union(*by_place.values())) != len(by_place):
        raise Mismatch("two places have the same mask")
    elements = {(m["step"], m["layer"], m["site"], m["row"]): m["elements"] for m in masks}
    total = sum(elements.values())
    kept = sum(next(iter(found))[0] for found in by_place.values())
    deviation = (kept - total * (1 - s.dropout)) / (total * s.dropout * (1 - s.dropout)) ** 0.5
    if not abs(deviation) < 4:
        raise Mismatch(f"{kept} of {total} are kept, {deviation:.1f} standard deviations off")
    return {place: next(iter(found)) for place, found in by_place.items()}, deviation


def run_dropout(binary, s, folder):
    """The same masks, and so the same losses, however the step is cut; and not without dropout or by another seed."""
    pair = Pair(binary, s, folder)
    first = pair.probe(masks=True)
    masks, deviation = check_masks(s, first)
    compare.equal_bytes(first)
    for other in settings.SAME_MASKS:
        ours = pair.probe(dataclasses.replace(s, **other), masks=True)
        if check_masks(s, ours)[0] != masks:
            raise Mismatch(f"{other}: other masks")
        compare.losses(ours["losses"], first["losses"])
    full = pair.probe(dataclasses.replace(s, checkpointing="full"))
    if full["losses"] != first["losses"]:
        raise Mismatch("checkpointing changes losses")
    for other in ({"dropout": 0.0}, {"dropout": 2 * s.dropout}, {"seed": 7}):
        try:
            compare.losses(pair.probe(dataclasses.replace(s, **other))["losses"], first["losses"])
        except Mismatch:
            continue
        raise Mismatch(f"{other} gives the same losses")
    return f"{len(masks)} masks, {deviation:+.1f} standard deviations from the probability"


def entries():
    """By group: (name, function of binary, setting and folder, setting)."""
    found = {}
    for group, cases in settings.F32.items():
        for name, s in cases.items():
            mutations = settings.MUTATIONS.get((group, name), ())
            found.setdefault(group, []).append((name, functools.partial(run_f32, mutations=mutations), s))
    for group, cases in settings.HALVES.items():
        for name, s in cases.items():
            found.setdefault(group, []).append((f"{s.precision} {name}", run_16bit, s))
    for group, cases in settings.BITSANDBYTES.items():
        found[group] = [(name, run_bitsandbytes, s) for name, s in cases.items()]
    for group, cases in settings.INT8S.items():
        for name, s in cases.items():
            mutations = settings.MUTATIONS.get((group, name), ())
            found.setdefault(group, []).append((name, functools.partial(run_int8, mutations=mutations), s))
    for group, cases in settings.STATES.items():
        found[group] = [(name, run_states, s) for name, s in cases.items()]
    for group, cases in settings.DROPOUT.items():
        found[group] = [(name, run_dropout, s) for name, s in cases.items()]
    return found


def run_entry(binary, group, name, function, setting):
    """One line of the report, and whether it is good."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return f"ok    {group}: {name}: {function(binary, setting, folder)}", True
        except Mismatch as mismatch:
            return f"FAIL  {group}: {name}: {mismatch}", False


def main():
    found = entries()
    if stray := set(settings.MUTATIONS) - {(where, name) for where, cases in (settings.F32 | settings.INT8S).items()
                                             for name in cases}:
        sys.exit(f"mutations of no setting: {stray}")
    binary, group, part = sys.argv[1], (sys.argv + [""])[2], (sys.argv + ["", ""])[3]
    chosen = [(binary, where, *entry) for where, cases in found.items() if group in ("", where)
              for entry in cases if part in entry[0]]
    if not chosen:
        sys.exit(f"nothing is named so; groups: {', '.join(found)}")
    torch.set_num_threads(1)
    failed = 0
    # The peers take seconds to import, so processes share what this one imported.
    with multiprocessing.get_context("fork").Pool() as pool:
        for result in [pool.apply_async(run_entry, entry) for entry in chosen]:
            line, good = result.get()
            print(line, flush=True)
            failed += not good
    return 1 if failed else 0


sys.exit(main())
