"""A new operator in one place: SquaredReLU, relu(x - threshold)² (So et al., Primer, arXiv:2109.08668, with a threshold).

Run it: python examples/custom_operator.py
"""

from __future__ import annotations

import numpy as np

import graphc
from graphc import expr as e
from graphc.graph import Builder, Graph
from graphc.op import Attr, Call, Case, Op, Samples, Tensor, register
from graphc.types import TensorType


def infer(call: Call) -> list[TensorType]:
    """The result has the type of the operand, which must be a float."""
    x = call.type(0)
    if x.dtype.kind != "f":
        raise call.fail(f"takes floating-point operands, not {x.dtype}", "insert a Cast")
    return [x]


def scalar(x: e.Number, threshold: float) -> e.Number:
    """One element. Every backend makes its code from this."""
    positive = e.maximum(x - threshold, 0)
    return positive * positive


def reference(x: np.ndarray, threshold: float) -> np.ndarray:
    """The same, written independently: what the tests compare every backend with."""
    return np.where(x > threshold, np.square(x - threshold), 0).astype(x.dtype)


squared_relu = register(
    Op(
        "SquaredReLU",
        inputs=("x",),
        infer=infer,
        reference=reference,
        attrs={"threshold": Attr(float, 0.0)},
        scalar=scalar,
        scalar_attrs=("threshold",),
        tolerance=1e-6,  # two roundings
        samples=Samples(cases=(Case((Tensor((2, 5)),)), Case((Tensor((3, 4)),), {"threshold": -0.5}))),
    )
)


def network() -> Graph:
    """A dense layer with the operator behind it."""
    rng = np.random.default_rng(0)
    b = Builder("custom")
    x = b.input("x", "float32", (4, 32))
    weight = b.constant(rng.normal(size=(32, 64)) / 6, "float32")
    y = b.add("SquaredReLU", b.add("MatMul", x, weight), threshold=0.25)
    return b.build({"y": y})


def main() -> None:
    graph = network()
    x = np.random.default_rng(1).normal(size=(4, 32)).astype(np.float32)
    want = graphc.compile(graph, target="reference")(x)
    got = graphc.compile(graph)(x)
    difference = np.abs(got - want).max() / np.abs(want).max()
    print(f"SquaredReLU: {got.shape}, compiled and reference differ by {difference:.1e} of the largest value")
    assert difference < 1e-5


if __name__ == "__main__":
    main()
