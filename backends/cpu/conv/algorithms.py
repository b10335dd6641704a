"""Which algorithm computes a convolution: the candidates, what a model of the cost expects of each, how exact each is.

The model is a sum of a few quantities of a layer times the seconds of each (backends/cpu/costs.py), which
`benchmarks/algorithms.py` fits to measurements. Multiply-adds are those of whole vectors.
A choice is made for one image and one thread, so that results depend neither on the batch size nor on the threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, floor, inf, prod, sqrt

from graphc.backends.cpu.conv.pointwise import cut, fits_strassen
from graphc.backends.cpu.conv.window import Triple, Window, triple
from graphc.backends.cpu.conv.winograd_groups import FAR, group_bytes, grouping
from graphc.backends.cpu.conv.winograd_micro import POINTS, amplification
from graphc.backends.cpu.costs import FROM_MEMORY, LAYERS, multiply
from graphc.backends.cpu.lower.policy import DEPTHWISE, DIRECT, STRASSEN, WINOGRAD, Algorithm, Choice, Policy
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA
from graphc.backends.cpu.tile.tiles import cut_channels, cut_into, efficiency, even_cut, tile_costs
from graphc.dtypes import FLOAT32
from graphc.sizes import for_speed, is_size, need

ERROR_LIMIT = 5e-5  # of a layer's result, over its scale: half of what whole models are held to
ROUNDING = 2.0**-24  # of float32
REGRET = 1.15  # times the cost of the best algorithm, up to which an image may have another one's plan
STEP = 2**0.5  # times the pixels, from one image that is looked at to the next
# Candidates are compared by estimated seconds * BIAS, so a factor below 1 favours one. Direct convolution reads the smallest
# weights; the model is pessimistic about large tiles and Strassen's algorithm. Of the factors tried, these lose least over the
# layers measured.
BIAS = {DIRECT: 0.94, STRASSEN: 0.925, WINOGRAD[4]: 0.97, WINOGRAD[6]: 0.94}


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
    """The fastest of the allowed candidates: as measured, where all of them were, else as estimated. Where an image's size stands for
    many, it is chosen for the example, and for images up to the next one, in steps, of which it costs more than REGRET times the
    best one."""
    choice, several = _choose(w, groups, target, policy)
    pixels = w.pixels
    if several and is_size(pixels):
        least, most = _images_of(w, groups, target, policy, choice.algorithm, tuple(map(is_size, w.out)))
        need(pixels >= least)
        need(pixels <= most)
    return choice


@for_speed
def _images_of(
    w: Window, groups: int, target: Target, policy: Policy, algorithm: Algorithm, open_axes: tuple[bool, ...]
) -> tuple[int, int]:
    """Pixels of the smallest and of the largest image that the algorithm was chosen for: the first ones, going by steps, of which
    it costs too much, or FAR times as many or as few."""

    def cost(factor: float) -> float:
        """Over the best one's, of an image of so many times the pixels."""
        f = factor ** (1 / sum(open_axes))

        def scaled(sizes: Triple) -> Triple:
            return triple(max(1, round(n * f)) if is_open else n for n, is_open in zip(sizes, open_axes))

        image = replace(w, size=scaled(w.size), out=scaled(w.out))
        found = candidates(image, groups, target, policy.winograd, policy.uses("strassen"))
        seconds = {c.algorithm: c.seconds * BIAS.get(c.algorithm, 1.0) for c in found if not c.excluded}
        return seconds.get(algorithm, inf) / min(seconds.values())

    def last(step: float) -> float:
        factor = step
        while 1 / FAR < factor < FAR and cost(factor) <= REGRET * usual:
            factor *= step
        return factor

    usual = cost(1.0)  # not 1 where it was measured
    return floor(w.pixels * last(1 / STEP)), ceil(w.pixels * last(STEP))


@for_speed
def _choose(w: Window, groups: int, target: Target, policy: Policy) -> tuple[Choice, bool]:
    """Also: was there another one?"""
    if policy.forced is not None:
        return Choice(policy.forced, "as demanded"), False
    found = candidates(w, groups, target, policy.winograd, policy.uses("strassen"))
    allowed = [c for c in found if not c.excluded]
    measured = policy.measured.get(layer_key(w, groups), {})
    known = all(c.algorithm in measured for c in allowed)
    seconds = {c.algorithm: measured[c.algorithm] if known else c.seconds for c in allowed}
    best = min(seconds, key=lambda algorithm: seconds[algorithm]) if known else fastest(seconds)
    reason = f"{'measured' if known else 'estimated'} {_time(seconds.pop(best))}"
    if seconds:
        reason += f" ({', '.join(f'{name} {_time(s)}' for name, s in seconds.items())})"
    reason = "; ".join([reason, *(f"not {c.algorithm}: {c.excluded}" for c in found if c.excluded)])
    return Choice(best, reason), len(allowed) > 1


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
    return sum(rate * q for rate, q in zip(LAYERS[target.isa][algorithm], quantities))


def direct_quantities(w: Window, groups: int, target: Target) -> tuple[float, ...]:
    """Multiply-adds over the efficiency of their register tiles (of one height: what others gain is not in the measured rates),
    seconds that the weights come too late, bytes of activations, 1."""
    vl, window = target.vl, prod(w.kernel)
    depth, blocks = w.channels // groups, -(-w.out_channels // vl)
    block_bytes = FMA.weights(vl) * depth * window  # of the weights of one output block
    flat = window == 1 and w.stride == (1, 1, 1) and not any(w.pad)
    pixels = w.pixels if flat else w.out[2]
    macs = sum(
        w.n * w.pixels * depth * window * len(covered) / efficiency(even_cut(target, pixels, nv), nv)
        for nv, covered in cut_channels(target, pixels, blocks, block_bytes, even=True)
    )
    weights = blocks * block_bytes
    activations = FLOAT32.item * w.n * (w.channels * prod(w.size) + blocks * vl * w.pixels)
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
    products = points * w.channels * out_blocks  # of vectors, per tile
    macs = products * ((groups - 1) * g.rows.computed + g.rest.computed)
    broadcasts = products * ((groups - 1) * g.rows.tiles + g.rest.tiles)
    group = points * target.vector * g.count * (blocks + g.nv)
    again = groups * group * out_blocks // g.nv if group > group_bytes(target) else 0
    values = points * tiles * w.channels, points * (tiles - inner) * w.channels, points * tiles * w.out_channels
    return macs, broadcasts, macs / g.nv, _stall(FMA.weights(products * vl), macs, target), again, *values, 1


def strassen_quantities(w: Window, target: Target) -> tuple[float, ...]:
    """Multiply-adds of the seven products over the efficiency of their register tile, seconds that the factors of the weights
    come too late, bytes that making factors of the input moves, bytes of sums of products, 1."""
    h = cut(w, target)
    rows = h.blocks * h.rows
    tiles = cut_into(h.rows, (h.mr,), tile_costs(target, h.nv))
    macs = 7 * rows * h.steps * (w.out_channels // 2) / efficiency(tiles, h.nv)
    values = w.n * w.channels * w.pixels
    return (
        macs,
        _stall(FMA.weights(7 * w.channels * w.out_channels // 4), macs, target),
        2 * FLOAT32.item * values,
        FLOAT32.item * w.n * w.out_channels * w.pixels,
        1,
    )


def _stall(weights: int, macs: float, target: Target) -> float:
    """Seconds that reading the weights takes longer than the multiplications."""
    return max(0.0, weights * FROM_MEMORY - macs * multiply(target))


def depthwise_quantities(w: Window, target: Target) -> tuple[float, ...]:
    """Multiply-adds, bytes of activations, 1."""
    vectors = -(-w.channels // target.vl) * w.n
    return vectors * w.pixels * prod(w.kernel), target.vector * vectors * (prod(w.size) + w.pixels), 1
