"""Which algorithm computes a convolution: the candidates, what a model of the cost expects of each, how exact each is.

The model is a sum of a few quantities of a layer times seconds each, which `benchmarks/algorithms.py` fits to measurements.
A choice is made for one image and one thread, so that results depend neither on the batch size nor on the threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod, sqrt

from graphc.backends.cpu.lower.direct import PANEL_BYTES, in_chunks
from graphc.backends.cpu.lower.pointwise import cut, fits_strassen
from graphc.backends.cpu.lower.policy import DEPTHWISE, DIRECT, STRASSEN, WINOGRAD, Algorithm, Choice, Policy
from graphc.backends.cpu.lower.tiles import best_vectors, cut_into, efficiency, even_cut, tile_costs
from graphc.backends.cpu.lower.window import Window
from graphc.backends.cpu.lower.winograd import L2, grouping
from graphc.backends.cpu.micro.winograd import POINTS, amplification
from graphc.backends.cpu.target import Target

ERROR_LIMIT = 5e-5  # of a layer's result, over its scale: half of what whole models are held to
ROUNDING = 2.0**-24  # of float32
# What estimates are multiplied with before they are compared: direct convolution has the smallest weights, and the model is
# a little hard on large tiles and on Strassen's algorithm (with what is here it loses least over the layers measured).
BIAS = {DIRECT: 0.94, STRASSEN: 0.925, WINOGRAD[4]: 0.97, WINOGRAD[6]: 0.94}
MEMORY = 20e9  # bytes a second, of weights that no cache holds
MULTIPLY = 1e-10  # seconds of a vector multiply-add

# Seconds a unit of each quantity, in the order of the functions below, by `python benchmarks/algorithms.py --fit`. One
# thread of an AMD EPYC with Zen 5 cores (1 MB of level 2 each). Other machines differ less in the proportions than in the
# scale, which no choice depends on.
RATES: dict[str, dict[str, tuple[float, ...]]] = {
    "avx512": {
        "direct": (6.62e-12, 0, 1.45e-11, 1.75e-06),
        "depthwise": (1.12e-11, 2.38e-11, 0),
        "strassen": (6.84e-12, 0, 4.87e-11, 2.82e-11, 0),
        "winograd F(2x2)": (9.15e-12, 0, 5.16e-13, 0.24, 9.91e-13, 1.08e-10, 1.31e-10, 1.38e-10, 3.03e-06),
        "winograd F(4x4)": (8.56e-12, 4.71e-12, 0, 0.374, 4.86e-12, 2.51e-10, 1.42e-10, 1.83e-10, 1.51e-06),
        "winograd F(6x6)": (7.31e-12, 1.08e-11, 0, 0.395, 5.18e-12, 2.87e-10, 0, 1.95e-10, 0),
    },
    "avx2": {
        "direct": (1.19e-11, 0, 1.7e-11, 1.82e-06),
        "depthwise": (2.88e-11, 2.71e-11, 0),
        "strassen": (1.25e-11, 0, 4.81e-11, 0, 0),
        "winograd F(2x2)": (5.89e-12, 2.82e-11, 1.61e-11, 0.131, 7.84e-13, 1.69e-10, 1.21e-10, 1.37e-10, 4.27e-06),
        "winograd F(4x4)": (2.35e-12, 3.03e-11, 2.46e-11, 0.17, 0, 2.45e-10, 2.38e-10, 1.7e-10, 3.54e-06),
        "winograd F(6x6)": (7.28e-12, 2.32e-11, 1.6e-11, 0.256, 2.13e-12, 2.75e-10, 2.21e-10, 1.95e-10, 2.81e-06),
    },
    "portable": {
        "direct": (3.77e-11, 0, 5.38e-11, 1.81e-06),
        "depthwise": (5.56e-11, 5.62e-11, 0),
        "strassen": (3.74e-11, 0, 6.91e-11, 2.52e-10, 0),
        "winograd F(2x2)": (5.4e-11, 2.58e-11, 2.04e-12, 0.67, 0, 1.01e-10, 6.71e-11, 3.01e-10, 5.17e-06),
        "winograd F(4x4)": (5.28e-11, 4.23e-11, 0, 0, 0, 1.45e-10, 4.85e-10, 4.29e-10, 3.12e-06),
        "winograd F(6x6)": (5.18e-11, 4.32e-11, 0, 0, 0, 1.56e-10, 5.15e-10, 5.72e-10, 2.07e-06),
    },
}


@dataclass(frozen=True)
class Candidate:
    """An algorithm that could compute a layer.

    seconds: what the model expects. excluded: why it may not be chosen, or ''.
    """

    algorithm: Algorithm
    seconds: float
    excluded: str = ""


def layer_key(w: Window, groups: int) -> str:
    """What the time of a layer depends on, for one image."""
    sizes = (w.channels, w.out_channels, *w.size, *w.kernel, *w.stride, *w.dilation, *w.pad, *w.pad_end, groups)
    return "conv " + " ".join(map(str, sizes))


def choose(w: Window, groups: int, target: Target, policy: Policy) -> Choice:
    """The fastest of the allowed candidates: as measured, where all of them were, else as estimated."""
    if policy.forced is not None:
        return Choice(policy.forced, "as demanded")
    found = candidates(w, groups, target, policy.winograd, policy.uses("strassen"))
    allowed = [c for c in found if not c.excluded]
    measured = policy.measured.get(layer_key(w, groups), {})
    known = all(c.algorithm in measured for c in allowed)
    seconds = {c.algorithm: measured[c.algorithm] if known else c.seconds for c in allowed}
    best = min(seconds, key=lambda algorithm: seconds[algorithm]) if known else fastest(seconds)
    reason = f"{'measured' if known else 'estimated'} {_time(seconds.pop(best))}"
    if seconds:
        reason += f" ({', '.join(f'{name} {_time(s)}' for name, s in seconds.items())})"
    return Choice(best, "; ".join([reason, *(f"not {c.algorithm}: {c.excluded}" for c in found if c.excluded)]))


def fastest(seconds: Mapping[Algorithm, float]) -> Algorithm:
    """The algorithm to choose by the estimate of each."""
    return min(seconds, key=lambda name: seconds[name] * BIAS.get(name, 1.0))


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


@lru_cache(maxsize=4096)
def candidates(
    w: Window, groups: int, target: Target, largest: int = max(POINTS), strassen: bool = True
) -> tuple[Candidate, ...]:
    """Every algorithm that can compute the layer, most exact first. largest: `Policy.winograd`; strassen: is it used?"""
    w = replace(w, n=1)
    if groups == w.channels == w.out_channels and groups > 1 and w.is_planar:
        return (Candidate(DEPTHWISE, _seconds(DEPTHWISE, depthwise_quantities(w, target), target)),)
    out = [Candidate(DIRECT, _seconds(DIRECT, direct_quantities(w, groups, target), target))]
    if fits_strassen(w, groups, target):
        seconds = _seconds(STRASSEN, strassen_quantities(w, target), target)
        out.append(Candidate(STRASSEN, seconds, "" if strassen else "switched off"))
    if groups == 1 and fits_winograd(w, target):
        for m, name in WINOGRAD.items():
            seconds = _seconds(name, winograd_quantities(w, m, target), target)
            out.append(Candidate(name, seconds, _exclusion(m, w.channels, largest)))
    return tuple(out)


def fits_winograd(w: Window, target: Target) -> bool:
    """3x3, dense, in whole blocks of channels."""
    if w.kernel != (1, 3, 3) or w.stride != (1, 1, 1) or w.dilation != (1, 1, 1) or not w.is_planar:
        return False
    return w.pad[1] <= 1 and w.pad[2] <= 1 and not (w.channels % target.vl or w.out_channels % target.vl)


def _exclusion(m: int, channels: int, largest: int) -> str:
    if m > largest:
        return f"tiles are limited to {largest}x{largest}" if largest else "switched off"
    bound = error_bound(m, channels)
    if bound > ERROR_LIMIT:
        return f"its error may reach {bound:.1e} of scale, more than {ERROR_LIMIT:.0e}"
    return ""


def error_bound(m: int, channels: int) -> float:
    """How large the error of F(m x m, 3x3) over `channels` may become, over the result's scale (its largest magnitude).

    u * alpha^2 * sqrt(channels), u = 2^-24. A point of a tile is a sum of `channels` products; independent rounding errors
    add up to u * sqrt(channels) of it (Higham and Mary, "A new approach to probabilistic rounding error analysis", SIAM J.
    Sci. Comput. 2019). The output transform enlarges them by alpha = `amplification(m)` in each of two directions; it takes
    the place that the norms of the matrices have in bounds of the worst case (Barabasz, Anderson, Soodhalter and Gregg,
    "Error analysis and improving the accuracy of Winograd convolution for deep neural networks", ACM TOMS 2020), which no
    network comes near. Errors that were measured stay below half of it.
    """
    return ROUNDING * amplification(m) ** 2 * sqrt(channels)


# --- cost -------------------------------------------------------------------------------------------------------------
def _seconds(algorithm: Algorithm, quantities: tuple[float, ...], target: Target) -> float:
    return sum(rate * q for rate, q in zip(RATES[target.isa][algorithm], quantities))


def direct_quantities(w: Window, groups: int, target: Target) -> tuple[float, ...]:
    """Multiply-adds over the efficiency of their register tiles (of one height: what others gain is not in the measured rates),
    seconds that the weights come too late, bytes of activations, 1."""
    vl, window = target.vl, prod(w.kernel)
    depth, blocks = w.channels // groups, -(-w.out_channels // vl)
    flat = window == 1 and w.stride == (1, 1, 1) and not any(w.pad)
    pixels = w.pixels if flat else w.out[2]
    widest = max(2, PANEL_BYTES // (4 * vl * depth * window))
    macs, left = 0.0, blocks
    while left:
        nv = best_vectors(target, pixels, left, even=True)
        if nv > widest and not in_chunks(target, pixels, nv):
            nv = best_vectors(target, pixels, min(widest, left), even=True)
        width = left // nv * nv
        macs += w.n * w.pixels * depth * window * width * vl / efficiency(even_cut(target, pixels, nv), nv)
        left -= width
    weights = 4 * blocks * vl * depth * window
    activations = 4 * w.n * (w.channels * prod(w.size) + blocks * vl * w.pixels)
    return macs, _stall(weights, macs, target), activations, 1


def winograd_quantities(w: Window, m: int, target: Target) -> tuple[float, ...]:
    """Multiply-adds, the same over the rows and over the vectors of their register tiles, seconds that the transformed
    weights come too late, bytes of groups of tiles that level 2 does not hold, values of input tiles, of those at the
    border, and of output tiles, 1."""
    vl, points = target.vl, (m + 2) ** 2
    blocks, out_blocks = w.channels // vl, w.out_channels // vl
    high, wide = -(-w.out[1] // m), -(-w.out[2] // m)
    tiles, inner = w.n * high * wide, w.n * max(0, high - 2) * max(0, wide - 2)
    g = grouping(w, m, target, 1)
    groups = -(-tiles // g.count)
    products = points * w.channels * w.out_channels
    macs = products * ((groups - 1) * g.rows.computed + g.rest.computed)
    broadcasts = products * ((groups - 1) * g.rows.tiles + g.rest.tiles)
    group = points * vl * 4 * g.count * (blocks + g.nv)
    again = groups * group * out_blocks // g.nv if group > L2 else 0
    values = points * tiles * w.channels, points * (tiles - inner) * w.channels, points * tiles * w.out_channels
    return macs, broadcasts, macs / g.nv, _stall(4 * products, macs, target), again, *values, 1


def strassen_quantities(w: Window, target: Target) -> tuple[float, ...]:
    """Multiply-adds of the seven products over the efficiency of their register tile, seconds that the factors of the weights
    come too late, bytes that making factors of the input moves, bytes of sums of products, 1."""
    h = cut(w, target)
    rows = h.blocks * h.rows
    tiles = cut_into(h.rows, (h.mr,), tile_costs(target, h.nv))
    macs = 7 * rows * h.steps * target.vl * (w.out_channels // 2) / efficiency(tiles, h.nv)
    values = w.n * w.channels * w.pixels
    return (
        macs,
        _stall(7 * w.channels * w.out_channels, macs, target),
        8 * values,
        4 * w.n * w.out_channels * w.pixels,
        1,
    )


def _stall(weights: int, macs: float, target: Target) -> float:
    """Seconds that reading the weights takes longer than the multiplications."""
    return max(0.0, weights / MEMORY - macs * MULTIPLY / target.vl)


def depthwise_quantities(w: Window, target: Target) -> tuple[float, ...]:
    """Multiply-adds, bytes of activations, 1."""
    values = -(-w.channels // target.vl) * target.vl * w.n
    return values * w.pixels * prod(w.kernel), 4 * values * (prod(w.size) + w.pixels), 1
