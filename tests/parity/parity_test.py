"""Our training steps beside those of transformers and PEFT on tiny random models.

parity_test.py STEP_PROBE [GROUP [NAME-PART]]     all, and as many at a time as there are processors, without GROUP
"""

import argparse
import dataclasses
import functools
import multiprocessing
import os
import statistics
import sys
import tempfile

import compare
import peer
import probe
import quantized
import settings
import torch
from compare import Mismatch
from safetensors.torch import load_file

SEEDS = 5
# Rounding to 16 bits or int8 may move our losses from those in f32 by so much more than it moves the peer's.
WORST_RATIO = 1.5
# Of our first five losses from bitsandbytes' int8 in f32, as a share of that of these from f32 alone.
WORST_INT8_DISTANCE = 0.25


@functools.cache
def probe_of(binary):
    """Of this process."""
    return probe.Probe(binary)


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
        return probe_of(self.binary).run(case)

    def train(self, rows, s=None):
        """Losses and first gradients of the peer on `rows`, lists of documents, and how many steps it left out."""
        s, model = s or self.s, self.model
        if s.precision != "fp32" and self.adapter and not peer.autocasts(s, s.precision):
            model = peer.load_16bit(s, self.peer_folder, self.adapter)
        else:
            model.load_state_dict(self.first_state())
        return self.learned(s, model, rows)

    def train_int8(self, rows, s):
        """As `train`, of bitsandbytes' int8 linears."""
        return self.learned(s, quantized.with_8bit_linears(s, self.model_folder, self.adapter), rows)

    def learned(self, s, model, rows):
        losses, _, gradients, skipped = peer.train(s, model, peer.batches_of(s, rows), s.precision)
        if not losses[-1] < 0.7 * losses[0]:
            raise Mismatch(f"the peer learns too little: {losses[0]} to {losses[-1]}")
        return losses, gradients, skipped

    def first_state(self):
        if not hasattr(self, "state"):
            self.state = {name: value.clone() for name, value in self.model.state_dict().items()}
        return self.state


def rows_of(ours):
    return [[(d["input_ids"], d["labels"]) for d in row] for row in ours["rows"]]


def check_rows(s, rows):
    """The peer trains on the rows that the program packed; so these must hold every token once."""
    if s.packing == "none":
        if rows != [[row] for row in peer.rows_of(s)]:
            raise Mismatch("the rows are not those of the file")
        return
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


def compare_f32(pair, folder):
    """Rows, and the losses of the peer in f32 on them, which ours equal, as first gradients do."""
    s = pair.s
    file = os.path.join(folder, "gradients.safetensors") if s.ranks == 1 else ""
    ours = pair.probe(gradients=file, print_rows=True)
    rows = rows_of(ours)
    check_rows(s, rows)
    losses, gradients, _ = pair.train(rows)
    compare.losses(ours["losses"], losses)
    compare.equal_bytes(ours)
    if file:
        compare.gradients(load_file(file), {peer.name_in_files(name): g for name, g in gradients.items()})
    return rows, losses


def mutated(pair, rows, mutation):
    if mutation not in peer.MUTATIONS:
        return pair.probe(mutation=mutation)["losses"]
    with peer.MUTATIONS[mutation]():
        return pair.train(rows)[0]


def notice(pair, rows, losses, mutations):
    for mutation in mutations:
        try:
            compare.losses(mutated(pair, rows, mutation), losses)
        except Mismatch:
            continue
        raise Mismatch(f"the mutation \"{mutation}\" was not noticed")
    return f", noticed: {', '.join(mutations)}" if mutations else ""


def run_f32(binary, s, folder, mutations=()):
    pair = Pair(binary, s, folder)
    rows, losses = compare_f32(pair, folder)
    return f"loss {losses[0]:.3f} -> {losses[-1]:.3f}" + notice(pair, rows, losses, mutations)


def check_skipped(s, ours, theirs):
    """Where the scale begins too large, both halve it until gradients fit. Those of full fine-tuning are kept in fp16
    here and in f32 by autocast, which adds up an embedding's from more tokens."""
    overflows = (s.loss_scale or 0) > 65536
    later = overflows * (3 if s.method == "full" else 1)
    if overflows != (theirs > 0) or not -overflows <= ours - theirs <= later:
        raise Mismatch(f"{ours} steps are left out beside {theirs}")
    return f", {ours} steps left out, {theirs} by the peer" if overflows else ""


class Ratios:
    """Our distances to f32 as shares of the peer's, by seed."""

    def __init__(self):
        self.found, self.notes = [], set()

    def decided(self):
        """Whether most seeds are on one side of the limit, which their median then is on, too."""
        good = sum(ratio <= WORST_RATIO for ratio in self.found)
        return max(good, len(self.found) - good) > SEEDS // 2

    def check(self):
        shown = f"{statistics.median(self.found):.2f} ({', '.join(f'{r:.2f}' for r in self.found)})"
        shown += "".join(sorted(self.notes))
        if sum(ratio <= WORST_RATIO for ratio in self.found) <= SEEDS // 2:
            raise Mismatch(f"distance to f32 is too large: {shown}")
        return shown


def moved(pair, s, rows, exact, mutations, ratios):
    """Adds to `ratios` how far 16 bits or int8 move our losses and the peer's from `exact`."""
    ours = pair.probe(s, calibrate=s.native_bf16)
    compare.equal_bytes(ours)
    if s.seed == 0 and s.native_bf16:
        compare.bounded_bytes(pair.probe(s), ours)
    train = pair.train_int8 if s.method == "int8-lora" else pair.train
    theirs, _, skipped = train(rows, s)
    ratios.found.append(compare.root_mean_square(ours["losses"], exact) / compare.root_mean_square(theirs, exact))
    ratios.notes.add(check_skipped(s, ours["skipped"], skipped))
    if s.precision == "fp32" and s.seed == 0:
        ratios.notes.add(check_int8(pair, s, ours["losses"], theirs, exact, mutations))


def check_int8(pair, s, ours, theirs, exact, mutations):
    """In f32 int8's losses are nearer to each other, until training makes codes count between which rounding decides."""
    apart = lambda a, b: compare.root_mean_square(a[:5], b[:5])
    limit = WORST_INT8_DISTANCE * apart(theirs, exact)
    if not apart(ours, theirs) <= limit:
        raise Mismatch(f"int8's losses are {apart(ours, theirs)} apart, allowed {limit}")
    for name in mutations:
        if apart(pair.probe(s, mutation=name)["losses"], theirs) <= limit:
            raise Mismatch(f"the mutation \"{name}\" was not noticed")
    shown = f", from the peer {apart(ours, theirs) / apart(theirs, exact):.2f}"
    return shown + (f", noticed: {', '.join(mutations)}" if mutations else "")


def run_pair(binary, s, folder, precisions=None, mutations=()):
    """A family and a method: equal to the peer in f32, and as far from f32 in 16 bits, all with the peer's one run in
    f32. LLM.int8 is a rounding in f32, too."""
    precisions = precisions or {s.precision: {}}
    exactly = "fp32" in precisions and s.method != "int8-lora"
    ratios = {p: Ratios() for p in precisions if p != "fp32" or not exactly}
    shown = []
    for seed in range(SEEDS):
        left = [p for p in ratios if not ratios[p].decided()]
        if not left and seed > 0:
            break
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            pair = Pair(binary, dataclasses.replace(s, seed=seed, precision="fp32", native_bf16=False), inner)
            if exactly and seed == 0:
                rows, exact = compare_f32(pair, inner)
                shown.append(f"fp32 loss {exact[0]:.3f} -> {exact[-1]:.3f}" + notice(pair, rows, exact, mutations))
            else:
                rows = [[row] for row in peer.rows_of(pair.s)]
                exact, _, _ = pair.train(rows)
            for p in left:
                at = dataclasses.replace(s, seed=seed, precision=p, **precisions[p])
                moved(pair, at, rows, exact, mutations, ratios[p])
    for p, found in ratios.items():
        try:
            shown.append(f"{p} distance to f32 of the peer's: {found.check()}")
        except Mismatch as mismatch:
            raise Mismatch(f"{p}: {mismatch}") from None
    return "; ".join(shown)


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
    for (family, method), s in settings.PAIRS.items():
        left_out = settings.LEFT_OUT.get((family, method), ())
        precisions = {p: of for p, of in settings.PRECISIONS.items() if p not in left_out}
        run = functools.partial(run_pair, precisions=precisions,
                                mutations=settings.MUTATIONS.get((family, method), ()))
        found.setdefault(family, []).append((method, run, s))
    for cases, run in ((settings.F32, run_f32), (settings.ROUNDED, run_pair)):
        for group, of in cases.items():
            for name, s in of.items():
                mutations = settings.MUTATIONS.get((group, name), ())
                found.setdefault(group, []).append((name, functools.partial(run, mutations=mutations), s))
    for cases, run in ((settings.BITSANDBYTES, run_bitsandbytes), (settings.STATES, run_states),
                       (settings.DROPOUT, run_dropout)):
        for group, of in cases.items():
            found[group] = [(name, run, s) for name, s in of.items()]
    return found


def run_entry(binary, group, name, function, setting):
    """One line of the report, and whether it is good."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return f"ok    {group}: {name}: {function(binary, setting, folder)}", True
        except Mismatch as mismatch:
            return f"FAIL  {group}: {name}: {mismatch}", False


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step_probe")
    parser.add_argument("group", nargs="?", default="", help="a key of settings.py, such as qwen3")
    parser.add_argument("part", nargs="?", default="", help="of a name in it")
    return parser.parse_args()


def main():
    given = arguments()
    found = entries()
    names = {(group, name) for group, cases in found.items() for name, *_ in cases}
    if stray := set(settings.MUTATIONS) - names:
        sys.exit(f"mutations of no setting: {stray}")
    chosen = [(given.step_probe, where, *entry) for where, cases in found.items() if given.group in ("", where)
              for entry in cases if given.part in entry[0]]
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
        pool.close()
        pool.join()
    return 1 if failed else 0


sys.exit(main())
