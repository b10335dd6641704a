"""A model with its inputs, expected results and tolerances; on disk for a person, and back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from . import exact
from .draft import Draft
from .evaluate import IR_VERSION, Refused, Tensor, full_name, imports, read_names, value_info


@dataclass(frozen=True)
class Options:
    """How graphc compiles the model."""

    threads: int = 1
    disabled: tuple[str, ...] = ()
    winograd: int = 6


@dataclass(frozen=True)
class Case:
    """tensors: every value outside of subgraphs by name. feeds: the inputs' arrays, for each world. refused: nodes that were
    left out because graphc raised an error."""

    kind: str
    model: ModelProto
    tensors: Mapping[str, Tensor]
    feeds: Sequence[Mapping[str, np.ndarray]]
    options: Options
    refused: Sequence[Refused] = field(default=(), compare=False)

    @classmethod
    def of(cls, d: Draft, kind: str, outputs: Sequence[str], options: Options) -> Case:
        """The draft's model with these results."""
        inputs = {i.tensor.name: i for i in d.inputs}
        defaults = {n: i.default for n, i in inputs.items() if i.default is not None}
        initializers = {**d.initializers, **defaults}
        graph = helper.make_graph(
            d.nodes,
            kind,
            [value_info(n, i.tensor.dtype, i.dims) for n, i in inputs.items()],
            [declared(d.tensors[n]) for n in outputs],
            [numpy_helper.from_array(a, n) for n, a in initializers.items()],
        )
        case = cls(kind, whole(graph, d.opset), d.tensors, (), options, tuple(d.shared.refused))
        feeds = []
        for w in range(d.shared.worlds):
            arrays = {n: i.tensor.native(w) for n, i in inputs.items()}
            as_default = {n for n, a in defaults.items() if exact.same(exact.widened(a), exact.widened(arrays[n]))}
            feeds.append({n: a for n, a in arrays.items() if n not in as_default})
        return replace(case, feeds=feeds).without_unused()

    def without_unused(self) -> Case:
        """Without initializers that nothing reads. Inputs stay."""
        graph = self.model.graph
        read = {n for node in graph.node for n in read_names(node)} | {o.name for o in graph.output}
        read |= {i.name for i in graph.input}
        kept = [t for t in graph.initializer if t.name in read]
        model = ModelProto()
        model.CopyFrom(self.model)
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        return replace(self, model=model)

    @property
    def outputs(self) -> list[str]:
        return [o.name for o in self.model.graph.output]

    @property
    def opset(self) -> int:
        return self.model.opset_import[0].version

    def operators(self) -> Counter[str]:
        """How often each operator occurs, in subgraphs too."""
        return Counter(full_name(node) for node in all_nodes(self.model.graph))

    def save(self, folder: Path, about: Mapping) -> None:
        """model.onnx, inputs-W.npz and expected-W.npz for each world W, case.json."""
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(self.model, folder / "model.onnx")
        for w, feeds in enumerate(self.feeds):
            np.savez(folder / f"inputs-{w}.npz", **{n: stored(a) for n, a in feeds.items()})
            known = [n for n in self.outputs if n in self.tensors]
            np.savez(folder / f"expected-{w}.npz", **{n: self.tensors[n].worlds[w][0] for n in known})
        dtypes = {n: a.dtype.name for feeds in self.feeds for n, a in feeds.items()}
        document = {**about, "kind": self.kind, "options": asdict(self.options), "dtypes": dtypes}
        (folder / "case.json").write_text(json.dumps(document, indent=1))


def stored(a: np.ndarray) -> np.ndarray:
    """NumPy's files do not know bfloat16 and the small types: float32 instead."""
    return a.astype(np.float32) if a.dtype.kind == "V" else a


def declared(t: Tensor):
    """A result's type; open dims are left open."""
    return value_info(t.name, t.dtype, [None if i in t.open else n for i, n in enumerate(t.shape)])


def whole(graph: GraphProto, opset: int) -> ModelProto:
    return helper.make_model(graph, opset_imports=imports(all_nodes(graph), opset), ir_version=IR_VERSION)


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for a in node.attribute:
            if a.HasField("g"):
                yield from all_nodes(a.g)
