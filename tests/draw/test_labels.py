"""What boxes and edges say."""

from __future__ import annotations

import numpy as np
import pytest

from graphc.draw.kinds import Kind
from graphc.draw.labels import details, type_text
from graphc.draw.parts import scopes_of
from graphc.frontends.yaml_load import loads_yaml
from graphc.graph import Builder, Graph, Value
from graphc.types import Sym, TensorType


def constant(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    "op, shape, constants, attrs, said",
    [
        ("Conv", (1, 3, 9, 9), [constant(8, 3, 3, 3)], {"strides": (2, 2)}, "3×3, 8, stride 2"),
        ("Conv", (1, 4, 9, 19), [constant(4, 1, 1, 7)], {"group": 4, "dilations": (1, 2)}, "1×7, 4, dilation 1×2, 4 groups"),
        ("ConvTranspose", (1, 4, 9, 9), [constant(4, 3, 2, 2)], {"group": 2, "strides": (2, 2)}, "2×2, 6, stride 2, 2 groups"),
        ("MaxPool", (1, 4, 9, 9), [], {"kernel_shape": (3, 3), "strides": (2, 1)}, "3×3, stride 2×1"),
        ("Gemm", (2, 4), [constant(7, 4)], {"transB": 1}, "4 → 7"),
        ("MatMul", (2, 4), [constant(4, 7)], {}, "4 → 7"),
        ("Softmax", (2, 4), [], {"axis": 0}, "axis 0"),
        ("Softmax", (2, 4), [], {}, ""),
        ("Mul", (2, 4), [np.float32(0.125)], {}, "0.125"),
        ("Transpose", (2, 4), [], {"perm": (1, 0)}, "1 0"),
        ("Cast", (2, 4), [], {"to": np.int64}, "to int64"),
        ("Clip", (2, 4), [np.float32(0), np.float32(6)], {}, "0 to 6"),
        ("ReduceSum", (2, 4), [np.array([0, 1])], {"keepdims": 0}, "axes 0 1"),
        ("LeakyRelu", (2, 4), [], {"alpha": 0.2}, "alpha 0.2"),
        ("Relu", (2, 4), [], {}, ""),
    ],
)  # fmt: skip
def test_attributes_that_matter(op: str, shape: tuple, constants: list, attrs: dict, said: str):
    b = Builder("g")
    b.add(op, b.input("x", "float32", shape), *map(b.constant, constants), **attrs)
    assert details(b.nodes[-1]) == said


def test_a_number_before_a_value():
    b = Builder("g")
    b.add("Sub", b.constant(np.float32(1)), b.input("x", "float32", (2,)))
    assert details(b.nodes[-1]) == "1 - x"


@pytest.mark.parametrize(
    "dtype, shape, said",
    [
        ("float32", (Sym("batch"), 3, 8), "batch×3×8"),
        ("int64", (2,), "int64 2"),
        ("float32", (), "scalar"),
        ("bool", (), "bool"),
        ("float32", ((Sym("h") + 1) // 2, 2), "((h + 1)//2)×2"),
        ("float32", (Sym("NonMaxSuppression(boxes, scores)"), 4), "…×4"),
    ],
)
def test_types(dtype: str, shape: tuple, said: str):
    assert type_text(Value("v", TensorType(np.dtype(dtype), shape))) == said


def test_a_type_that_is_not_known_says_nothing():
    assert type_text(Value("v", None)) == ""


def titles(graph: Graph) -> list[str]:
    return [part.title for part in scopes_of(graph).parts() if part.kind is not Kind.PORT]


def test_rows_of_weights_are_an_embedding():
    text = "graphc: 1\ninputs: {ids: {shape: [batch, 4], dtype: int64}}\nnet: [{embedding: {vocab: 9, dim: 3}}, relu]\n"
    assert titles(loads_yaml(text)) == ["Embedding", "Relu"]
    b = Builder("g")
    ids = b.input("ids", "int64", (2,))
    b.add("Gather", b.constant(constant(9, 3)), ids)
    b.add("Gather", b.constant(constant(9, 3)), ids, axis=1)
    b.add("Gather", b.constant(np.zeros((9, 3), np.int64)), ids)
    b.add("Gather", b.input("x", "float32", (9, 3)), ids)
    assert titles(b.build({"y": b.nodes[-1].output})) == ["Embedding", "Gather", "Gather", "Gather"]
