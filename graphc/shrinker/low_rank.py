"""Low-rank factors: a product by weights W becomes two, by A and B with A·B ≈ W.

Cut after the r largest singular values, no matrix of rank r is nearer to W in the Frobenius norm, and the error is the root of the sum of
squares of those that are left out (C. Eckart and G. Young, "The approximation of one matrix by another of lower rank", Psychometrika 1, 1936).

A convolution is such a product in two ways: as [outputs, inputs·kernel] it is a convolution to r channels and one of 1x1 (X. Zhang, J. Zou, K. He
and J. Sun, "Accelerating very deep convolutional networks", 2015); as [inputs·height, outputs·width] it is one of height x 1 and one of 1 x width
(M. Jaderberg, A. Vedaldi and A. Zisserman, "Speeding up convolutional neural networks with low rank expansions", BMVC 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from graphc.errors import InputError
from graphc.graph import Graph, Node, Value
from graphc.passes.rewrite import remove_dead
from graphc.quantizer.placement import weight_axis
from graphc.shrinker.layers import (
    NOT_FINITE,
    SHARED,
    Rebuilt,
    is_finite,
    is_shared,
    layers_of,
    relative_error,
    size_of,
    weights_of,
)
from graphc.shrinker.report import LayerReport

Factors = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Split:
    """A way to factor weights. size: numbers in both factors; work: multiply-adds of a position of the result, beside `work_before`;
    error: relative, of the weights; build: makes the two products over the layer's input."""

    made: str
    size: int
    work: int
    error: float
    build: Callable[[Rebuilt, Node], Value]


@dataclass(frozen=True)
class LowRank:
    """Factors a layer at the least rank whose relative error is at most this, where that takes fewer bytes and multiply-adds.

    Raises InputError for what is no number between 0 and 1.
    """

    error: float

    def __post_init__(self) -> None:
        if isinstance(self.error, bool) or not isinstance(self.error, (int, float)) or not 0 <= self.error < 1:
            raise InputError(
                f"low_rank must be a relative error, from 0 to below 1, not {self.error!r}", hint="low_rank=0.1"
            )

    def __str__(self) -> str:
        return f"low rank, a relative error of weights of {self.error:g} at most"

    def __call__(self, graph: Graph, keep: Collection[str]) -> tuple[Graph, tuple[LayerReport, ...]]:
        sweep, reports = Rebuilt(graph), []
        layers = set(layers_of(graph, keep))
        for node in graph.nodes:
            if node not in layers:
                sweep.copy(node)
                continue
            found = SHARED if is_shared(node, graph) else self._best(node)
            before = size_of(weights_of(node))
            if isinstance(found, str):
                sweep.copy(node)
                reports.append(LayerReport(node.name, node.op.name, kept=found, bytes=(before, before)))
                continue
            sweep.stands_for(node.output, found.build(sweep, node))
            sizes = before, found.size * weights_of(node).dtype.itemsize
            reports.append(LayerReport(node.name, node.op.name, found.made, "", found.error, sizes))
        return remove_dead(sweep.finish()), tuple(reports)

    def _best(self, node: Node) -> Split | str:
        """The way with the fewest multiply-adds, or why none pays."""
        w = weights_of(node).data
        if not is_finite(node):
            return NOT_FINITE
        if node.op.name in ("Gemm", "MatMul"):
            ways, work = [_dense(node, self.error)], w.size
        elif node.op.name != "Conv" or node.attrs["group"] != 1:
            return "its channels are in groups" if node.attrs["group"] != 1 else f"{node.op.name} is not factored"
        else:
            ways, work = _convolutions(node, self.error), w.size
        better = [way for way in ways if way.size < w.size and way.work < work]
        if not better:
            least = min(ways, key=lambda way: way.size)
            return f"{least.made} would take {least.size / w.size:.2f} times as much"
        return min(better, key=lambda way: (way.work, way.size))


def factors(matrix: np.ndarray, error: float) -> Factors:
    """A [m, r] and B [r, n], float32, of the least rank r ≥ 1 with ‖A·B - matrix‖ ≤ error·‖matrix‖ in the Frobenius norm. Each has the
    roots of the singular values."""
    if len(matrix) < matrix.shape[1]:
        b, a = factors(matrix.T, error)
        return a.T, b.T
    wide = matrix.astype(np.float64)
    squares, vectors = np.linalg.eigh(wide.T @ wide)  # much faster than SVD, and exact to float32
    squares, vectors = np.maximum(squares[::-1], 0), vectors[:, ::-1]
    rest = np.append(np.cumsum(squares[::-1])[::-1], 0.0)  # [r]: the square of the error at rank r
    rank = max(1, int(np.argmax(rest <= error**2 * rest[0])))
    root = np.maximum(squares[:rank], np.finfo(np.float64).tiny) ** 0.25
    return (wide @ vectors[:, :rank] / root).astype(np.float32), (root[:, None] * vectors[:, :rank].T).astype(
        np.float32
    )


def _dense(node: Node, error: float) -> Split:
    w = weights_of(node).data
    matrix = w if weight_axis(node) == 1 else w.T  # [inputs, outputs]
    a, b = factors(matrix, error)
    size = a.size + b.size

    def build(sweep: Rebuilt, node: Node) -> Value:
        x, bias = sweep(node.inputs[0]), [sweep(v) for v in node.inputs[2:]]
        attrs = {"transB": False} if node.op.name == "Gemm" else {}
        first = sweep.made(node.op.name, x, sweep.weights(a, f"{_stem(node)}_a"), stem=f"{node.name}_reduced", **attrs)
        return sweep.remake(node, first, sweep.weights(b, f"{_stem(node)}_b"), *bias, attrs=attrs)

    return Split(f"rank {a.shape[1]} of {min(matrix.shape)}", size, size, relative_error(matrix, a @ b), build)


def _convolutions(node: Node, error: float) -> list[Split]:
    w = weights_of(node).data
    ways = [_by_channels(node, error)]
    if w.ndim == 4 and w.shape[2] > 1 and w.shape[3] > 1 and node.attrs["auto_pad"] == "NOTSET":
        ways.append(_by_axes(node, error))
    return ways


def _by_channels(node: Node, error: float) -> Split:
    """The kernel to r channels, and 1x1."""
    w = weights_of(node).data
    matrix = w.reshape(len(w), -1)
    a, b = factors(matrix, error)  # [outputs, r], [r, inputs·kernel]
    first, second = b.reshape(-1, *w.shape[1:]), a.reshape(*a.shape, *(1,) * (w.ndim - 2))
    ones = (1,) * (w.ndim - 2)
    plain = {"strides": ones, "pads": (0, 0) * len(ones), "dilations": ones, "kernel_shape": ones, "auto_pad": "NOTSET"}
    made = f"rank {len(first)} of {min(matrix.shape)}" + (" by channels" if w[0, 0].size > 1 else "")
    size = a.size + b.size
    return Split(made, size, size, relative_error(matrix, a @ b), _two(first, second, {}, plain))


def _by_axes(node: Node, error: float) -> Split:
    """height x 1, and 1 x width."""
    w, attrs = weights_of(node).data, node.attrs
    outputs, inputs, height, width = w.shape
    matrix = w.transpose(1, 2, 0, 3).reshape(inputs * height, outputs * width)
    a, b = factors(matrix, error)
    first = a.T.reshape(-1, inputs, height, 1)
    second = b.reshape(-1, outputs, width).transpose(1, 0, 2)[:, :, None]
    pads, strides, dilations = attrs["pads"] or (0,) * 4, attrs["strides"] or (1, 1), attrs["dilations"] or (1, 1)
    parts = []
    for axis in (0, 1):
        ends = [pads[i] if i % 2 == axis else 0 for i in range(4)]
        steps = {"strides": strides, "dilations": dilations}
        along = {key: tuple(step[i] if i == axis else 1 for i in (0, 1)) for key, step in steps.items()}
        kernel = tuple(w.shape[2 + i] if i == axis else 1 for i in (0, 1))
        parts.append({**along, "pads": tuple(ends), "kernel_shape": kernel})
    work = first.size * strides[1] + second.size  # the first makes columns that the second leaves out
    made = f"rank {len(first)} of {min(matrix.shape)} by axes"
    return Split(made, a.size + b.size, work, relative_error(matrix, a @ b), _two(first, second, *parts))


def _two(first: np.ndarray, second: np.ndarray, before: dict, after: dict) -> Callable[[Rebuilt, Node], Value]:
    """Two convolutions with these weights, and attributes other than the layer's own."""

    def build(sweep: Rebuilt, node: Node) -> Value:
        x, bias = sweep(node.inputs[0]), [sweep(v) for v in node.inputs[2:]]
        weights = (sweep.weights(array, f"{_stem(node)}_{part}") for part, array in (("a", first), ("b", second)))
        inner = sweep.made("Conv", x, next(weights), stem=f"{node.name}_reduced", **{**node.attrs, **before})
        return sweep.remake(node, inner, next(weights), *bias, attrs=after)

    return build


def _stem(node: Node) -> str:
    return weights_of(node).name
