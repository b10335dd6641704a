"""Fit the cost model that chooses the algorithm of each convolution to measurements of this machine.

    python benchmarks/algorithms.py --data FILE [--seconds S]      measure more layers, for S seconds; they are kept in FILE
    python benchmarks/algorithms.py --data FILE --fit              print the constants, and how well they predict

Layers are a grid of image sizes and channels. Each candidate's steps are timed in turn, on one thread; the least of several
rounds counts, and the mean of weights that are in the caches and weights that are not: in models, they are partly. The
constants are a least-squares fit, none negative. They belong into LAYERS of backends/cpu/costs.py.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graphc.backends.cpu.conv import algorithms
from graphc.backends.cpu.conv.pointwise import fits_strassen
from graphc.backends.cpu.conv.window import Window, window_of
from graphc.backends.cpu.lower.policy import DEPTHWISE, DIRECT, STRASSEN, WINOGRAD
from graphc.backends.cpu.target import Target, detect
from graphc.backends.cpu.tune import evictor, measure
from graphc.graph import Builder, Node

SIZES = (5, 7, 10, 13, 14, 19, 20, 26, 28, 38, 40, 56, 75, 80, 112, 150, 224)
CHANNELS = (
    (16, 16), (16, 64), (32, 32), (32, 128), (64, 32), (64, 64), (48, 192), (96, 128), (128, 128), (64, 256),
    (128, 256), (192, 192), (256, 128), (256, 256), (160, 320), (512, 64), (512, 128), (512, 256), (512, 512), (128, 512),
    (256, 1024), (1024, 256), (1024, 512), (1024, 1024),
)  # fmt: skip
STEMS = ((3, 32), (3, 64))
DEPTHS = (32, 96, 144, 240, 384, 576, 960)  # channels of depthwise layers
LIMIT = 1.2e9  # multiply-adds of a layer
ROUNDS = 5
EMPHASIS = 0.3  # the power of its time with which a layer counts
WORST = 10  # choices that are listed


class Layer(NamedTuple):
    size: int
    channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def multiplications(self) -> int:
        return self.size**2 * self.channels * self.out_channels * self.kernel**2 // self.groups

    def node(self) -> Node:
        b, rng = Builder("layer"), np.random.default_rng(0)
        x = b.input("x", np.float32, (1, self.channels, self.size, self.size))
        shape = (self.out_channels, self.channels // self.groups, self.kernel, self.kernel)
        w = b.constant(rng.standard_normal(shape, np.float32), np.float32)
        b.add("Conv", x, w, pads=[self.kernel // 2] * 4, strides=[self.stride] * 2, group=self.groups)
        return b.nodes[-1]


def layers() -> Iterator[Layer]:
    for size in SIZES:
        for c, o in CHANNELS:
            yield Layer(size, c, o, 3)
            yield Layer(size, c, o, 1)
        for c, o in STEMS:
            yield Layer(2 * size, c, o, 3, 2)
        for c in DEPTHS:
            for kernel, stride in ((3, 1), (3, 2), (5, 1)):
                yield Layer(size, c, c, kernel, stride, c)


def quantities(w: Window, groups: int, target: Target) -> dict[str, tuple[float, ...]]:
    """What the cost model sees of each candidate."""
    if groups > 1:
        return {DEPTHWISE: algorithms.depthwise_quantities(w, target)}
    out = {DIRECT: algorithms.direct_quantities(w, 1, target)}
    if fits_strassen(w, groups, target):
        out[STRASSEN] = algorithms.strassen_quantities(w, target)
    if algorithms.fits_winograd(w, target):
        out |= {name: algorithms.winograd_quantities(w, m, target) for m, name in WINOGRAD.items()}
    return out


def collect(path: Path, target: Target, seconds: float, limit: float) -> None:
    """Measure layers that the file lacks, in an order that mixes them."""
    known = json.loads(path.read_text()) if path.exists() else {}
    order = [layer for layer in layers() if layer.multiplications <= limit]
    order = [order[i] for i in np.random.default_rng(1).permutation(len(order))]
    end, evict, done = time.perf_counter() + seconds, evictor(), 0
    for layer in order:
        key = f"{target.isa} {' '.join(map(str, layer))}"
        if key not in known:
            if time.perf_counter() > end:
                break
            node = layer.node()
            names = list(quantities(window_of(node), layer.groups, target))
            cold, warm = (measure(node, target, 1, names, evict=e, rounds=ROUNDS) for e in (evict, None))
            known[key] = {name: (cold[name] + warm[name]) / 2 for name in names}
        done += 1
    path.write_text(json.dumps(known, indent=0))
    print(f"{done} of {len(order)} layers are measured")


def least_squares(quantities: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """x >= 0 that brings quantities @ x near seconds, by coordinate descent: least squares of the relative error, in which
    long layers weigh somewhat more."""
    weight = seconds**EMPHASIS
    a = quantities * (weight / seconds)[:, None]
    scale = np.abs(a).max(0) + 1e-300
    a = a / scale
    gram, right, x = a.T @ a, a.T @ weight, np.zeros(a.shape[1])
    for _ in range(20000):
        for i in range(len(x)):
            if gram[i, i] > 0:
                x[i] = max(0.0, x[i] + (right[i] - gram[i] @ x) / gram[i, i])
    return x / scale


def fit(path: Path, target: Target) -> None:
    cases = []
    for key, spent in json.loads(path.read_text()).items():
        isa, *sizes = key.split()
        if isa == target.isa:
            layer = Layer(*map(int, sizes))
            seen = quantities(window_of(layer.node()), layer.groups, target)
            spent = {name: t for name, t in spent.items() if name in seen}  # without what no longer is a candidate
            cases.append((layer, spent, {name: np.array(seen[name]) for name in spent}))
    rates = {}
    for name in (DIRECT, DEPTHWISE, STRASSEN, *WINOGRAD.values()):
        rows = [(q[name], t[name]) for _, t, q in cases if name in t]
        rates[name] = least_squares(np.array([q for q, _ in rows]), np.array([t for _, t in rows]))
    print(f'    "{target.isa}": {{')
    for name, values in rates.items():
        print(f'        "{name}": ({", ".join(f"{r:.4g}" for r in values)}),')
    print("    },")
    for name, values in rates.items():
        for kernel in (1, 3, 5):
            found = [q[name] @ values / t[name] for s, t, q in cases if name in t and s.kernel == kernel]
            if found:
                low, middle, high = np.quantile(found, (0.05, 0.5, 0.95))
                spread = f"predicted/measured {middle:.2f}, nine of ten in {low:.2f} … {high:.2f}"
                print(f"{name:18} {kernel}x{kernel}: {len(found):4} layers, {spread}")
    cases = [(layer, spent, q) for layer, spent, q in cases if len(spent) > 1]
    chosen = [algorithms.fastest({name: float(v @ rates[name]) for name, v in q.items()}) for *_, q in cases]
    losses = [spent[name] / min(spent.values()) - 1 for name, (_, spent, _) in zip(chosen, cases)]
    together = sum(spent[name] for name, (_, spent, _) in zip(chosen, cases)) / sum(
        min(t.values()) for _, t, _ in cases
    )
    print(f"the fastest is chosen for {sum(loss == 0 for loss in losses)} of {len(losses)} layers")
    print(
        f"slower than the fastest: mean {np.mean(losses):.1%}, most {max(losses):.0%}, all layers together {together - 1:.1%}"
    )
    for i in np.argsort(losses)[: -WORST - 1 : -1]:
        layer, spent, _ = cases[i]
        best = min(spent, key=spent.get)
        print(
            f"  {losses[i]:4.0%} {layer.channels:4} -> {layer.out_channels:4} at {layer.size:3}: {chosen[i]}, not {best}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="JSON file of measurements")
    parser.add_argument("--seconds", type=float, default=50, help="how long to measure")
    parser.add_argument("--isa", default=None, help="avx512, avx2 or portable; default: the best of this machine")
    parser.add_argument("--limit", type=float, default=LIMIT, help="multiply-adds of the largest layer")
    parser.add_argument("--fit", action="store_true", help="fit, instead of measuring")
    options = parser.parse_args()
    target = detect(options.isa)
    if options.fit:
        fit(options.data, target)
    else:
        collect(options.data, target, options.seconds, options.limit)


if __name__ == "__main__":
    main()
