"""ONNX models from Python: operators, random weights, open dims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Dims = Sequence["int | str"]  # a name is an open dim
EXPORTED = 18  # opset of what exporters write today


class Writer:
    """Adds nodes in order; each method gives the names of results."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def integers(self, *values: int) -> str:
        """An int64 vector."""
        return self.constant(values, np.int64)

    def random(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self.rng.standard_normal(shape) * scale)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.several(op, 1, *inputs, **attributes)[0]

    def several(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        names = [f"{op}_{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def dense(self, x: str, rows: int, columns: int) -> str:
        """x @ kernel [rows, columns] + bias."""
        product = self.add("MatMul", x, self.random(rows, columns, scale=rows**-0.5))
        return self.add("Add", product, self.random(columns, scale=0.02))

    def convolution(self, x: str, channels: int, out: int, k: int, stride: int = 1) -> str:
        """Padded by k // 2, with a bias."""
        weights = self.random(out, channels, k, k, scale=(2 / (channels * k * k)) ** 0.5)
        places = {"pads": [k // 2] * 4, "strides": [stride] * 2}
        return self.add("Conv", x, weights, self.random(out, scale=0.02), kernel_shape=[k, k], **places)

    def size(self, x: str, axis: int) -> str:
        """The size of an axis as an int64 vector of one element, by Shape and Gather as exporters write it."""
        return self.add("Gather", self.add("Shape", x), self.integers(axis), axis=0)

    def named(self, x: str, name: str) -> str:
        """The result under another name."""
        self.nodes.append(helper.make_node("Identity", [x], [name]))
        return name

    def model(
        self,
        name: str,
        inputs: Mapping[str, tuple[Any, Dims]],
        outputs: Mapping[str, tuple[Any, Dims]],
        opset: int = EXPORTED,
    ) -> onnx.ModelProto:
        """inputs, outputs: dtype and dims by name."""

        def values(types: Mapping[str, tuple[Any, Dims]]) -> list[onnx.ValueInfoProto]:
            elements = {n: helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for n, (dtype, _) in types.items()}
            return [helper.make_tensor_value_info(n, elements[n], list(dims)) for n, (_, dims) in types.items()]

        graph = helper.make_graph(self.nodes, name, values(inputs), values(outputs), self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
