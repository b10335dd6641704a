"""Model files for the benchmarks: the architectures that the onnx package carries, and the YAML examples, as ONNX."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def make_models(folder: Path, only: Collection[str] = ()) -> dict[str, Path]:
    """Name -> ONNX file of every model, or of those in `only`. Files that exist are kept.

    Raises ValueError for a name that is neither an architecture of the onnx package nor an example.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = {**_light_sources(), **{p.stem: p for p in sorted(EXAMPLES.rglob("*.yaml"))}}
    if unknown := [name for name in only if name not in sources]:
        raise ValueError(f"unknown models: {', '.join(unknown)}; known: {', '.join(sources)}")
    models = {}
    for name in only or sources:
        path = folder / f"{name}.onnx"
        if not path.exists():
            source = sources[name]
            model = with_random_weights(onnx.load(source)) if source.suffix == ".onnx" else _from_yaml(source)
            onnx.save(model, path)
        models[name] = path
    return models


def _light_sources() -> dict[str, Path]:
    import onnx.backend.test

    pattern = os.path.join(os.path.dirname(onnx.backend.test.__file__), "data", "light", "light_*.onnx")
    return {Path(p).stem.removeprefix("light_"): Path(p) for p in sorted(glob.glob(pattern))}


def _from_yaml(path: Path) -> onnx.ModelProto:
    import frontends
    from frontends.onnx_export import to_onnx

    return to_onnx(frontends.load(str(path)))


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
    """Random inputs of a model file; open dims are 1."""
    graph, rng = onnx.load(path).graph, np.random.default_rng(seed)
    weights = {i.name for i in graph.initializer}
    feeds = {}
    for value in graph.input:
        if value.name in weights:
            continue
        tensor = value.type.tensor_type
        shape = [d.dim_value or 1 for d in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        numbers = rng.random(shape) if dtype.kind == "f" else rng.integers(0, 10, shape)
        feeds[value.name] = numbers.astype(dtype)
    return feeds
