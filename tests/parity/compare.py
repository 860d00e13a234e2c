"""What must agree between two trainers, and how closely."""

import torch


class Mismatch(Exception):
    pass


def losses(ours, theirs):
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        limit = 1e-5 if step < 5 else 1e-4
        if not abs(a - b) <= limit * abs(b):
            raise Mismatch(f"loss of step {step + 1}: {a} beside {b}")


def gradients(ours, theirs):
    total = sum(float(g.square().sum()) for g in theirs.values()) ** 0.5
    missing = set(theirs) - set(ours)
    if missing:
        raise Mismatch(f"no gradient of {sorted(missing)[:3]}")
    for name, g in theirs.items():
        distance = float((ours[name] - g).norm())
        limit = 1e-5 * max(float(g.norm()), 1e-3 * total)
        if not distance <= limit:
            raise Mismatch(f"gradient of {name}: distance {distance}, allowed {limit}")


def equal_bytes(ours):
    """Predicted equals measured, category by category, on device and host."""
    for rank, (predicted, measured) in enumerate(zip(ours["predicted"], ours["measured"], strict=True)):
        for place in ("device", "host"):
            for key, value in measured[place].items():
                if predicted[place][key] != value:
                    raise Mismatch(f"rank {rank} {place} {key}: predicted {predicted[place][key]}, measured {value}")
            if measured[place]["peak"] <= 0:
                raise Mismatch(f"{place}: nothing was measured")
    nothing_outside(ours)


def bounded_bytes(bound, exact):
    """Without a measurement the prediction is a bound, and all but scratch and what it leaves unused is exact."""
    for predicted, measured in zip(bound["predicted"], exact["measured"], strict=True):
        for key, value in measured["device"].items():
            free = key in ("scratch", "unused", "peak")
            if predicted["device"][key] < value if key in ("scratch", "peak") else not free and \
                    predicted["device"][key] != value:
                raise Mismatch(f"{key}: predicted {predicted['device'][key]}, used {value}")
    nothing_outside(bound)


def nothing_outside(ours):
    if ours["outside_arena_bytes"] != 0:
        raise Mismatch(f"{ours['outside_arena_bytes']} bytes outside the arena")


def root_mean_square(a, b):
    return (sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)) ** 0.5


def eight_bit_units(theirs):
    """The peer's states in the order of our units: `layer.N` and `head`, whose tensors are whole blocks or the last."""
    units = {}
    for name, state in theirs.items():
        if "qmap1" in state:
            layer = name.split(".")[2] if ".layers." in name else ""
            units.setdefault(f"layer.{layer}" if layer else "head", []).append(state)
    return units


def states(ours, theirs):
    """Scales within rounding; codes equal, or neighbours where one in a thousand may differ."""
    units, codes, different = eight_bit_units(theirs), 0, 0
    if len(units) < 2 or len(units) == len(theirs):
        raise Mismatch(f"8-bit states in {sorted(units)}")
    for unit, tensors in units.items():
        for moment, scale, number in (("moment1", "scale1", "1"), ("moment2", "scale2", "2")):
            mine = ours[f"{unit}.{scale}"]
            want = torch.cat([state[f"absmax{number}"] for state in tensors])
            if len(mine) != len(want) or not torch.allclose(mine, want, rtol=1e-4, atol=0):
                raise Mismatch(f"{unit}.{scale}: {mine[:4].tolist()} beside {want[:4].tolist()}")
            want = torch.cat([state[f"state{number}"].flatten() for state in tensors]).int()
            distance = (ours[f"{unit}.{moment}"][:len(want)].int() - want).abs()
            if distance.max() > 1:
                raise Mismatch(f"{unit}.{moment}: codes differ by {int(distance.max())}")
            codes, different = codes + len(want), different + int(distance.sum())
    if different > codes / 1000:
        raise Mismatch(f"{different} of {codes} codes differ")
    return f"{different} of {codes} codes differ, by one"
