"""What is timed on a GPU, beside PyTorch: graphs, the shapes of their inputs, precisions; the most important first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from graphc.backends.cuda.options import CudaOptions
from graphc.frontends.yaml_load import load_yaml
from graphc.graph import Builder, Graph, Rewriter, Value, constant

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "zoo"
PRECISIONS = ("float32", "tf32", "float16")
# of the largest element, between graphc and PyTorch: float32 in another order of sums, TF32's 11 and float16's 11 digits in
# networks of up to 120 layers
TOLERANCE = {"float32": 1e-4, "tf32": 2e-2, "float16": 5e-2}


@dataclass(frozen=True)
class Case:
    """A graph in float32 (`graph`) that is timed in a precision. images: PyTorch has it channels last. compiled: also against
    torch.compile, which takes a minute. tuned: also with tiles that were measured. memory: its time is that of memory, and it says how much of a copy's pace it has."""

    group: str
    name: str
    precision: str
    graph: Callable[[], Graph]
    shapes: Mapping[str, tuple[int, ...]]
    images: bool = False
    compiled: bool = False
    memory: bool = False
    tuned: bool = False

    @property
    def key(self) -> str:
        return f"{self.name}, {self.precision}"

    def source(self) -> Graph:
        """What graphc compiles."""
        return in_half(self.graph()) if self.precision == "float16" else self.graph()

    @property
    def options(self) -> dict[str, Any]:
        """Of graphc.compile."""
        return {"precision": "tf32"} if self.precision == "tf32" else {}

    @property
    def lacks(self) -> str:
        """Why it can't be compiled, or ''."""
        has = "precision" in CudaOptions.__dataclass_fields__
        return "" if has or self.precision != "tf32" else "target 'cuda' has no option 'precision'"

    def feeds(self) -> dict[str, np.ndarray]:
        """Random inputs: normal floats, integers 0 and 1, which every embedding has."""
        rng, found = np.random.default_rng(1), {}
        for v in self.source().inputs:
            shape = self.shapes[v.name]
            if v.dtype.kind == "f":
                found[v.name] = rng.standard_normal(shape, np.float32).astype(v.dtype)
            else:
                found[v.name] = rng.integers(0, 2, shape).astype(v.dtype)
        return found


def in_half(graph: Graph) -> Graph:
    """The graph with every float32 input and constant in float16."""
    rw = Rewriter(graph)
    rw.inputs = [_halved(v) for v in graph.inputs]
    rw.map = dict(zip(graph.inputs, rw.inputs))
    for node in graph.nodes:
        rw.map |= {v: _halved(v) for v in node.operands if v.is_const and v not in rw.map}
        rw.copy(node)
    return replace(rw.finish(), meta={})  # declared types of results are others now


def _halved(v: Value) -> Value:
    if v.dtype != np.float32:
        return v
    if v.is_const:
        return constant(v.name, v.data.astype(np.float16))
    return replace(v, type=replace(v.type, dtype=np.dtype(np.float16)))


# --- graphs -------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1)  # weights of VGG-16 take a second
def example(name: str, **params: Any) -> Graph:
    return load_yaml(next(EXAMPLES.rglob(f"{name}.yaml")), params)


def product(m: int, n: int, k: int) -> Graph:
    b = Builder("product")
    return b.build({"y": b.add("MatMul", b.input("a", np.float32, (m, k)), b.input("b", np.float32, (k, n)))})


def recurrent(op: str, steps: int, batch: int, hidden: int) -> Graph:
    b, rng, gates = Builder(op.lower()), np.random.default_rng(0), {"GRU": 3, "LSTM": 4}[op]

    def weights(*shape: int) -> Value:
        return b.constant(rng.uniform(-1, 1, shape) / hidden**0.5, np.float32)

    x = b.input("x", np.float32, (steps, batch, hidden))
    operands = weights(1, gates * hidden, hidden), weights(1, gates * hidden, hidden), weights(1, 2 * gates * hidden)
    attrs = {"linear_before_reset": 1} if op == "GRU" else {}
    return b.build({"y": b.add(op, x, *operands, hidden_size=hidden, outputs=["y"], **attrs)})


def elementwise(n: int) -> Graph:
    b = Builder("elementwise")
    x, y, z = (b.input(name, np.float32, (n,)) for name in "xyz")
    return b.build({"r": b.add("Relu", b.add("Add", b.add("Mul", x, y), z))})


def rows(op: str, m: int, n: int) -> Graph:
    """Softmax or LayerNormalization of rows."""
    b = Builder(op.lower())
    x = b.input("x", np.float32, (m, n))
    scale = [b.constant(np.full(n, c), np.float32) for c in (1.5, 0.5)] if op == "LayerNormalization" else []
    return b.build({"y": b.add(op, x, *scale, axis=-1)})


def transposed(m: int, n: int) -> Graph:
    b = Builder("transpose")
    return b.build({"y": b.add("Transpose", b.input("x", np.float32, (m, n)), perm=[1, 0])})


# --- cases --------------------------------------------------------------------------------------------------------------
NETWORKS = {
    "ResNet-50": "resnet50", "MobileNet v2": "mobilenet_v2", "DenseNet-121": "densenet121", "VGG-16": "vgg16",
}  # fmt: skip


def _network(title: str, name: str, batch: int, image: tuple[int, ...], compiled: Sequence[str] = ()) -> Iterator[Case]:
    for p in PRECISIONS:
        yield Case(
            "networks", f"{title}, batch {batch}", p, partial(example, name), {"image": (batch, *image)}, True, p in compiled,
            tuned=p == "float16" and bool(compiled),
        )  # fmt: skip


def _encoder(layers: int, width: int, heads: int, steps: int, compiled: Sequence[str] = ()) -> Iterator[Case]:
    graph = partial(example, "transformer_encoder", layers=layers, width=width, heads=heads, steps=steps)
    shapes = {"tokens": (1, steps), "segments": (1, steps)}
    for p in reversed(PRECISIONS):
        yield Case("encoder", f"encoder {layers}x{width}, {steps} tokens", p, graph, shapes, compiled=p in compiled)


def _product(n: int, precision: str) -> Case:
    return Case("products", f"product {n}", precision, partial(product, n, n, n), {"a": (n, n), "b": (n, n)})


def _recurrent(op: str, steps: int, batch: int, hidden: int, precision: str = "float32") -> Case:
    shapes = {"x": (steps, batch, hidden)}
    name = f"{op}, {steps} steps, hidden {hidden}, batch {batch}"
    return Case("recurrent", name, precision, partial(recurrent, op, steps, batch, hidden), shapes)


def _of_memory(elements: int, m: int, n: int, side: int) -> Iterator[Case]:
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys("xyz", (elements,))
    yield Case(
        "memory", f"elementwise, {elements} elements", "float32", partial(elementwise, elements), shapes, memory=True
    )
    for op, title in (("Softmax", "softmax"), ("LayerNormalization", "layer norm")):
        name, graph = f"{title}, {m} rows of {n}", partial(rows, op, m, n)
        yield Case("memory", name, "float32", graph, {"x": (m, n)}, memory=True)
    name = f"transpose {side}x{side}"
    yield Case("memory", name, "float32", partial(transposed, side, side), {"x": (side, side)}, memory=True)


def whole() -> list[Case]:
    (name, file), *others = NETWORKS.items()
    image = (3, 224, 224)
    return [
        *_network(name, file, 1, image, ["float16", "float32"]),
        _product(8192, "float16"),
        *_encoder(12, 768, 12, 128, ["float16"]),
        *_network(name, file, 64, image, ["float16"]),
        *(_recurrent(op, 128, batch, 512) for op in ("LSTM", "GRU") for batch in (1, 16, 64)),
        *(_recurrent(op, 128, batch, 512, "float16") for op in ("LSTM", "GRU") for batch in (1, 64)),
        *_of_memory(1 << 26, 1 << 16, 1024, 1 << 13),
        *(_product(n, p) for n, p in ((8192, "tf32"), (4096, "float32"), (1024, "float16"))),
        *(case for title, file in others for batch in (1, 64) for case in _network(title, file, batch, image)),
    ]


def tiny() -> list[Case]:
    """The same kinds, for tests of the benchmark."""
    return [
        *_network("LeNet-5", "lenet5", 2, (1, 28, 28), ["float32"]),
        _product(32, "float16"),
        *_encoder(1, 32, 2, 8),
        *(_recurrent(op, 4, 2, 16) for op in ("LSTM", "GRU")),
        *_of_memory(1000, 4, 32, 24),
    ]


def cases(small: bool) -> list[Case]:
    return tiny() if small else whole()
