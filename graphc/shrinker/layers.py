"""The layers that are made smaller, and their weights as matrices with a row for each output channel."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from graphc.dtypes import find
from graphc.graph import Graph, Node, Value
from graphc.passes.rewrite import Sweep
from graphc.quantizer.placement import is_product

NOT_FINITE = "its weights are not finite"
SHARED = "other nodes read its weights, too"


def layers_of(graph: Graph, keep: Collection[str] = ()) -> list[Node]:
    """Products by constant weights in float32 (Conv, ConvTranspose, Gemm, MatMul), without those whose results have these names."""
    return [n for n in graph.nodes if is_product(n) and n.output.name not in keep]


def weights_of(node: Node) -> Value:
    weights = node.inputs[1]
    assert weights is not None, "products have weights"
    return weights


def rows(w: np.ndarray, axis: int) -> np.ndarray:
    """[w.shape[axis], all others], the others in their order."""
    return np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1)


def unrows(matrix: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """The inverse of `rows`: an array of this shape."""
    others = [d for i, d in enumerate(shape) if i != axis]
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(-1, *others), 0, axis))


def relative_error(w: np.ndarray, other: np.ndarray) -> float:
    """The Frobenius norm of the differences over that of w; 0 where both are zero."""
    norm = float(np.linalg.norm(w.astype(np.float64)))
    difference = float(np.linalg.norm(w.astype(np.float64) - other))
    return difference / norm if norm else float(difference > 0)


def is_shared(node: Node, graph: Graph) -> bool:
    """Do other nodes read a layer's weights, too?"""
    return sum(v is node.inputs[1] for n in graph.nodes for v in n.operands) > 1


def is_finite(node: Node) -> bool:
    """Are a layer's weights numbers that can be ranked?"""
    return bool(np.isfinite(weights_of(node).data).all())


def size_of(v: Value) -> int:
    """Bytes of a constant in an ONNX file: elements of less than a byte lie side by side."""
    found = find(v.dtype)
    return 0 if found is None else found.packed_bytes(v.data.size)


class Rebuilt(Sweep):
    """A sweep whose new constants and nodes have names that nothing else has."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.taken = {v.name for v in graph.values()} | {n.name for n in graph.nodes}

    def unique(self, stem: str) -> str:
        name, n = stem, 1
        while name in self.taken:
            name, n = f"{stem}_{n}", n + 1
        self.taken.add(name)
        return name

    def weights(self, array: np.ndarray, stem: str) -> Value:
        return self.constant(np.ascontiguousarray(array), array.dtype, self.unique(stem))

    def made(self, op: str, *inputs: Value | None, stem: str, **attrs: Any) -> Value:
        name = self.unique(stem)
        return self.add(op, *inputs, name=name, outputs=[name], **attrs)
