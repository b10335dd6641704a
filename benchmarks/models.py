"""Model files for the benchmarks: the architectures that the onnx package carries, and YAML models, as ONNX."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "zoo"


@dataclass(frozen=True)
class Network:
    """A model of fixed shapes; `make` builds it."""

    name: str
    make: Callable[[], onnx.ModelProto]

    def files(self, folder: Path) -> tuple[Path, Path]:
        """The ONNX file and random inputs for it (.npz) in the folder. Files that exist are kept."""
        folder.mkdir(parents=True, exist_ok=True)
        model, feeds = folder / f"{self.name}.onnx", folder / f"{self.name}.npz"
        if not model.exists():
            onnx.save(self.make(), model)
        if not feeds.exists():
            np.savez(feeds, **random_feeds(model))
        return model, feeds


def light(name: str) -> Network:
    """light_NAME.onnx of the onnx package, with random weights."""
    import onnx.backend.test

    data = Path(os.path.dirname(onnx.backend.test.__file__)) / "data" / "light"
    return Network(f"light_{name}", lambda: with_random_weights(onnx.load(data / f"light_{name}.onnx")))


def example(name: str, batch: int = 1, **params: Any) -> Network:
    """A YAML file under examples/."""
    from graphc.frontends.yaml_load import load_yaml

    path = next(EXAMPLES.rglob(f"{name}.yaml"))
    return Network(f"{name}_batch{batch}", lambda: _export(load_yaml(path, params), batch))


def written(name: str, text: str, batch: int = 1) -> Network:
    """A YAML model from text."""
    from graphc.frontends.yaml_load import loads_yaml

    return Network(f"{name}_batch{batch}", lambda: _export(loads_yaml(text), batch))


def _export(graph: Any, batch: int) -> onnx.ModelProto:
    """As ONNX, with a fixed batch: runtimes do better when they know all shapes."""
    from graphc.frontends.onnx_export import to_onnx

    model = to_onnx(graph)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == "batch":
                dim.dim_value = batch
    return model


def with_random_weights(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """The light models fill weights by ConstantOfShape, all elements equal: put He-scaled random ones in their place.

    A matrix or kernel [out, in, …] gets a deviation of sqrt(2 / elements of one output), a vector 0.1; scale and
    variance of a batch norm lie in [0.5, 1.5).
    """
    graph, rng = model.graph, np.random.default_rng(seed)
    initializers = {i.name: i for i in graph.initializer}
    positive = {n.input[k] for n in graph.node if n.op_type == "BatchNormalization" for k in (1, 4)}
    nodes = []
    for node in graph.node:
        if node.op_type == "Softmax" and not node.attribute:  # MNN takes today's default for that of old opsets
            node.attribute.append(onnx.helper.make_attribute("axis", 1))
        if node.op_type != "ConstantOfShape" or node.input[0] not in initializers:
            nodes.append(node)
            continue
        shape = numpy_helper.to_array(initializers[node.input[0]]).tolist()
        fill = next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), np.zeros(1, np.float32))
        name = node.output[0]
        if fill.dtype != np.float32:
            weights = np.full(shape, fill.flat[0])
        elif name in positive:
            weights = rng.uniform(0.5, 1.5, shape)
        else:
            weights = rng.standard_normal(shape) * (np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1)
        graph.initializer.append(numpy_helper.from_array(weights.astype(fill.dtype), name))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for n in nodes for name in n.input}
    kept = [i for i in graph.initializer if i.name in used]
    inputs = [i for i in graph.input if i.name not in {k.name for k in graph.initializer}]
    for field, items in ((graph.initializer, kept), (graph.input, inputs)):
        del field[:]
        field.extend(items)
    return model


def random_feeds(path: Path, seed: int = 1) -> dict[str, np.ndarray]:
    """Random inputs of a model file: floats in [0, 1), integers 0 and 1 (every embedding has these); open dims are 1."""
    graph, rng = onnx.load(path).graph, np.random.default_rng(seed)
    weights = {i.name for i in graph.initializer}
    feeds = {}
    for value in graph.input:
        if value.name in weights:
            continue
        tensor = value.type.tensor_type
        shape = [d.dim_value or 1 for d in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        numbers = rng.random(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        feeds[value.name] = numbers.astype(dtype)
    return feeds


def in_dtype(model: onnx.ModelProto, dtype: np.dtype | type) -> onnx.ModelProto:
    """The model with every float32 turned into another floating-point type."""
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def convert(tensor: onnx.TensorProto) -> None:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))

    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = to
    for tensor in model.graph.initializer:
        convert(tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                convert(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = to
    return model


def reference(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Results of a model file in float64, by the NumPy references of the operators; slow."""
    import graphc

    wide = {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in feeds.items()}
    return list(graphc.compile(in_dtype(onnx.load(path), np.float64), target="reference").run(wide).values())
