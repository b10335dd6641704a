"""ONNX's Backend interface (onnx.backend.base): what runs ONNX models runs them by graphc.

>>> import graphc.onnx_backend as backend
>>> (y,) = backend.run_model(onnx.load("net.onnx"), [x])
>>> prepared = backend.prepare(model, "CPU", threads=1)
>>> prepared.run([x]), prepared.run({"x": x})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict

import graphc
from graphc.errors import GraphcError, InputError, UnsupportedError
from graphc.frontends.onnx_functions import DEFAULT_DOMAINS, type_proto
from graphc.frontends.onnx_versions import NEWEST_OPSET
from graphc.graph import Builder
from graphc.objects import Content, Loose, common, sequence
from graphc.types import TensorType


class GraphcRep(BackendRep):
    """A compiled model."""

    def __init__(self, model: graphc.Model) -> None:
        self.model = model
        self._outputs = namedtupledict("Outputs", [s.name for s in model.outputs])

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Results in order, which names index too: `outputs["y"]`. inputs: by position, or by name; one array where there is one.

        A list is a sequence or the inputs by position: of a model whose one input is a sequence, give a list of one list.
        Raises InputError where they do not fit.
        """
        if isinstance(inputs, Mapping):
            feeds = dict(inputs)
        else:
            given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
            specs = self.model.inputs
            if len(given) > len(specs):
                raise InputError(f"{self.model.name} takes {len(specs)} inputs, not {len(given)}")
            feeds = {s.name: x for s, x in zip(specs, given) if x is not None}
        return self._outputs(*self.model.run(feeds, **kwargs).values())


class GraphcBackend(Backend):
    """Devices are 'CPU' and 'CUDA', where there is a GPU. Further arguments are options of `graphc.compile`."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        try:
            return _target(device) == "cpu" or _has_gpu()
        except UnsupportedError:
            return False

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **options: Any) -> bool:
        """Can it be compiled?"""
        try:
            cls.prepare(model, device, **options)
        except GraphcError:
            return False
        return True

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **options: Any) -> GraphcRep:
        """Compile a model. Raises what `graphc.compile` raises, UnsupportedError for other devices."""
        target = _target(device)
        host = {"host": True} if target == "cuda" else {}
        return GraphcRep(graphc.compile(model, target=target, **{**host, **options}))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **options: Any) -> tuple[Any, ...]:
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **options: Any,
    ) -> tuple[Any, ...]:
        """Results of one operator. inputs: of its operands that have a name. opset_version, an option: of the operator's
        domain; else the newest."""
        version = options.pop("opset_version", None)
        values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        names = list(dict.fromkeys(filter(None, node.input)))
        if len(values) != len(names):
            raise InputError(f"{node.op_type} has {len(names)} operands, not {len(values)}")
        infos = [onnx.ValueInfoProto(name=n, type=type_proto(_type_of(v))) for n, v in zip(names, values)]
        results = [onnx.ValueInfoProto(name=n) for n in node.output if n]
        domain = "" if node.domain in DEFAULT_DOMAINS else node.domain
        versions = {"": min(NEWEST_OPSET, onnx.defs.onnx_opset_version())}
        if domain and onnx.defs.has(node.op_type, domain):
            versions[domain] = onnx.defs.get_schema(node.op_type, domain).since_version
        versions[domain] = version or versions.get(domain, 1)
        graph = onnx.helper.make_graph([node], node.name or node.op_type, infos, results)
        opsets = [onnx.helper.make_opsetid(*pair) for pair in versions.items()]
        return cls.run_model(onnx.helper.make_model(graph, opset_imports=opsets), values, device, **options)


def _target(device: str) -> str:
    """Raises UnsupportedError for devices other than 'CPU' and 'CUDA', and GPUs other than the first."""
    kind, _, number = device.partition(":")
    if kind not in ("CPU", "CUDA") or number not in ("", "0"):
        raise UnsupportedError(f"device '{device}'", hint="CPU, or CUDA for the first GPU")
    return kind.lower()


@cache
def _has_gpu() -> bool:
    b = Builder("anything")
    try:
        graphc.compile(b.build({"y": b.add("Neg", b.input("x", "float32", (1,)))}), target="cuda")
    except GraphcError:
        return False
    return True


def _type_of(value: Any) -> Content:
    if isinstance(value, (list, tuple)):
        of: Content | None = Loose(np.dtype(np.float32), nothing=True) if not value else _type_of(value[0])
        for item in value:
            of = None if of is None else common(of, _type_of(item))
        if of is None:
            raise InputError("elements of a sequence have one dtype")
        return sequence(of)
    array = np.asarray(value)
    return TensorType(array.dtype, array.shape)


supports_device = GraphcBackend.supports_device
is_compatible = GraphcBackend.is_compatible
prepare = GraphcBackend.prepare
run_model = GraphcBackend.run_model
run_node = GraphcBackend.run_node
