"""The layers that measure and standardise: norms, distances, inputs of mean 0 and deviation 1, local contrast."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from ml_dtypes import finfo

from graphc.dtypes import is_float
from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.graph import Value

Ints = int | tuple[int, ...]
Floats = float | tuple[float, ...]
Metric = Literal["euclidean", "squared", "cosine", "manhattan"]


# --- norms ------------------------------------------------------------------------------------------------------------
@layer
def norm(c: LayerBuilder, x: Value, *, p: int = 2, axis: Ints = -1, keepdims: bool = False) -> Value:
    """The length along axes: Σ|x| for p = 1, √Σx² for p = 2."""
    op = _by_p(c, p, "ReduceL1", "ReduceL2")
    return c.add(op, x, c.const([axis] if isinstance(axis, int) else list(axis)), keepdims=int(keepdims))


@layer
def normalize(c: LayerBuilder, x: Value, *, p: int = 2, axis: int = -1, eps: float = 1e-12) -> Value:
    """x divided by its length along an axis, which is taken to be at least eps: length 1, or 0 where x is 0."""
    op = _by_p(c, p, "ReduceL1", "ReduceL2")
    length = c.add(op, x, c.const([axis]), keepdims=1)
    return c.add("Div", x, c.add("Max", length, _at_least(c, eps, x.dtype)))


def _by_p(c: LayerBuilder, p: int, one: str, two: str) -> str:
    if p not in (1, 2):
        raise c.fail(f"p must be 1 or 2, not {p}")
    return one if p == 1 else two


def _at_least(c: LayerBuilder, eps: float, dtype: np.dtype) -> Value:
    """A number that keeps a quotient finite, not smaller than the dtype can tell from 0."""
    return c.const(max(eps, float(finfo(dtype).smallest_normal)) if is_float(dtype) and eps > 0 else eps, dtype)


# --- distances --------------------------------------------------------------------------------------------------------
@layer
def distance(c: LayerBuilder, *xs: Value, metric: Metric = "euclidean", rows: int | None = None) -> Value:
    """How far each of [batch, features] is from each of [rows, features]: [batch, rows].

    `from: [x, rows]`, or a number of learned rows: the centres of a radial basis network, the units of a self-organising map.
    euclidean √Σ(x-r)², squared Σ(x-r)², manhattan Σ|x-r|, cosine 1 - x·r/(|x||r|)."""
    if rows is None:
        c.operands(xs, 2, hint="name them: from: [x, rows], or give `rows`, how many are learned")
        x, r = xs
    else:
        c.operands(xs, 1, hint="with `rows`, what it measures to is learned")
        x = xs[0]
        c.rank(x, 2)
        r = c.weight("weight", (rows, c.fixed(x, 1, "the number of features")), x.dtype, "embedding")
    if c.rank(x, 2) != len(r.shape) or x.shape[1] != r.shape[1]:
        raise c.fail(f"measures [batch, features] to [rows, features], not {x.type} to {r.type}")
    if metric == "cosine":
        lengths = (c.add("ReduceL2", v, c.const([1]), keepdims=1) for v in (x, r))
        x, r = (
            c.add("Div", v, c.add("Max", length, _at_least(c, 1e-8, v.dtype))) for v, length in zip((x, r), lengths)
        )
        alike = c.add("MatMul", x, c.add("Transpose", r, perm=(1, 0)))
        return c.add("Sub", c.const(1, x.dtype), alike)
    apart = c.add("Sub", c.add("Unsqueeze", x, c.const([1])), r)  # not |x|² - 2xr + |r|², which cancels
    op = {"euclidean": "ReduceL2", "squared": "ReduceSumSquare", "manhattan": "ReduceL1"}[metric]
    return c.add(op, apart, c.const([2]), keepdims=0)


@layer
def gram(c: LayerBuilder, x: Value, *, mean: bool = False) -> Value:
    """Products of every two channels of [batch, channels, …space], summed over all places: [batch, channels, channels].
    The style of an image (Gatys, Ecker, Bethge 2015, arXiv:1508.06576); mean: divided by channels times places."""
    c.rank(x, 3, 4, 5)
    channels = c.fixed(x, 1, "the number of channels")
    rows = c.add("Reshape", x, c.const([0, channels, -1]))
    products = c.add("MatMul", rows, c.add("Transpose", rows, perm=(0, 2, 1)))
    if not mean:
        return products
    places = [c.fixed(x, a, "the size of the image") for a in range(2, len(x.shape))]
    return c.add("Div", products, c.const(channels * int(np.prod(places)), x.dtype))


# --- inputs -----------------------------------------------------------------------------------------------------------
@layer
def standardize(c: LayerBuilder, x: Value, *, mean: Floats = 0.0, std: Floats = 1.0, axis: int = 1) -> Value:
    """(x - mean)/std with given numbers: one for all, or one for each entry along an axis (channels)."""
    shift, scale = _along(c, x, "mean", mean, axis), _along(c, x, "std", std, axis)
    if not np.all(scale.astype(x.dtype)):
        raise c.fail("std must not be 0")
    y = c.add("Sub", x, c.const(shift, x.dtype)) if np.any(shift) else x
    return c.add("Div", y, c.const(scale, x.dtype)) if np.any(scale != 1) else y


def _along(c: LayerBuilder, x: Value, name: str, values: Floats, axis: int) -> np.ndarray:
    """The numbers of an argument, shaped to broadcast along an axis of x."""
    data: Any = np.array(values)
    if not is_float(x.dtype):
        raise c.fail(f"takes floats, not {x.type}", "cast the input first: {Cast: {to: float32}}")
    if not data.ndim:
        return data
    rank = len(x.shape)
    size = c.fixed(x, axis, "the number of channels")
    if len(data) != size:
        last = rank == 4 and axis == 1 and x.shape[-1] == len(data)
        hint = "channels are axis 1: put `to_nchw` before it" if last else None
        raise c.fail(f"{name} has {len(data)} numbers, but axis {axis} of {x.type} has {size}", hint)
    return data.reshape([size if a == axis % rank else 1 for a in range(rank)])


@layer
def zscore(c: LayerBuilder, x: Value, *, axis: Ints = -1, eps: float = 1e-12) -> Value:
    """Mean 0 and deviation 1 along axes, of each input by itself; eps is added to the variance."""
    axes = c.const([axis] if isinstance(axis, int) else list(axis))
    centred = c.add("Sub", x, c.add("ReduceMean", x, axes, keepdims=1))
    variance = c.add("ReduceMean", c.add("Mul", centred, centred), axes, keepdims=1)
    return c.add("Div", centred, c.add("Sqrt", c.add("Add", variance, _at_least(c, eps, x.dtype))))


@layer
def minmax(
    c: LayerBuilder, x: Value, *, axis: Ints = -1, low: float = 0.0, high: float = 1.0, eps: float = 1e-12
) -> Value:
    """From low to high along axes, of each input by itself; its range is taken to be at least eps."""
    axes = c.const([axis] if isinstance(axis, int) else list(axis))
    least, most = (c.add(op, x, axes, keepdims=1) for op in ("ReduceMin", "ReduceMax"))
    width = c.add("Max", c.add("Sub", most, least), _at_least(c, eps, x.dtype))
    y = c.add("Div", c.add("Sub", x, least), width)
    if high - low != 1:
        y = c.add("Mul", y, c.const(high - low, x.dtype))
    return c.add("Add", y, c.const(low, x.dtype)) if low else y


@layer
def local_contrast(c: LayerBuilder, x: Value, *, k: int = 9) -> Value:
    """Local contrast normalisation of [batch, channels, height, width] (Jarrett et al. 2009, What is the best multi-stage
    architecture for object recognition?, 2.1): less the mean under a k×k Gaussian window over all channels, divided by the
    deviation under it where that is above its mean over the image. Beyond the border are zeros."""
    c.rank(x, 4)
    channels = c.fixed(x, 1, "the number of channels")
    if k < 1 or k % 2 == 0:
        raise c.fail(f"k must be odd, not {k}")
    bell = np.exp(-0.5 * ((np.arange(k) - k // 2) / (k / 6)) ** 2)
    window = np.broadcast_to(np.outer(bell, bell), (1, channels, k, k))
    weights = c.const(window / window.sum(), x.dtype)

    def under(v: Value) -> Value:
        return c.add("Conv", v, weights, kernel_shape=(k, k), pads=(k // 2,) * 4)

    centred = c.add("Sub", x, under(x))
    deviation = c.add("Sqrt", under(c.add("Mul", centred, centred)))
    floor = c.add("Max", c.add("ReduceMean", deviation, c.const([2, 3]), keepdims=1), _at_least(c, 1e-12, x.dtype))
    return c.add("Div", centred, c.add("Max", deviation, floor))
