"""Functions: those that a model defines, and the bodies that ONNX gives for operators graphc has no record of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, cast

import onnx.defs
from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, TypeProto

from graphc.dims import UNKNOWN
from graphc.errors import LoadError, UnsupportedError
from graphc.frontends.onnx_data import enum_of, to_array, to_dense
from graphc.frontends.onnx_values import UnknownTypeError
from graphc.objects import Content, Loose, ObjectType
from graphc.source_files import Folder
from graphc.types import Sym, TensorType

DEFAULT_DOMAINS = ("", "ai.onnx")
_A = AttributeProto


@dataclass(frozen=True)
class FunctionCall:
    """A function to inline: its body, and the attributes that its nodes may refer to by name."""

    body: FunctionProto
    attrs: Mapping[str, AttributeProto] = field(default_factory=dict)

    @property
    def opsets(self) -> dict[str, int]:
        return opset_versions(self.body.opset_import)


OTHER_NAMES = {
    "onnx.brevitas": "qonnx.custom_op.general",
    "finn.custom_op.general": "qonnx.custom_op.general",
}  # of domains


def operator_name(node: NodeProto) -> str:
    """The name under which graphc knows the operator: 'domain::name' outside of ONNX's main domain."""
    domain = OTHER_NAMES.get(node.domain, node.domain)
    return node.op_type if domain in DEFAULT_DOMAINS else f"{domain}::{node.op_type}"


def opset_versions(imports: Iterable) -> dict[str, int]:
    """Domain -> version; the default domain is ''."""
    return {"" if i.domain in DEFAULT_DOMAINS else i.domain: i.version for i in imports}


class Functions:
    """The functions that a model defines, by domain, name and overload."""

    def __init__(self, protos: Iterable[FunctionProto]) -> None:
        self._protos = {self._key(p, p.name): p for p in protos}

    @staticmethod
    def _key(proto: FunctionProto | NodeProto, name: str) -> tuple[str, str, str]:
        return "" if proto.domain in DEFAULT_DOMAINS else proto.domain, name, getattr(proto, "overload", "")

    def extent(self, nodes: Iterable[NodeProto]) -> Extent:
        """Of a list of nodes, their subgraphs included. Nothing is inlined. A call of a function within itself counts as one
        node."""
        extents = self._extents
        total, depth = 0, 0
        for node in every(nodes):
            called = extents.get(self._key(node, node.op_type), Extent(1, 0))
            total, depth = total + called.nodes, max(depth, called.depth)
        return Extent(min(total, MANY), depth)

    def call(self, node: NodeProto) -> Extent | None:
        """Of a node that calls a function."""
        return self._extents.get(self._key(node, node.op_type))

    @cached_property
    def _extents(self) -> dict[tuple[str, str, str], Extent]:
        """Of a call of each function, the functions that it calls first (an explicit stack: files nest them at will)."""
        done: dict[tuple[str, str, str], Extent] = {}
        active: set[tuple[str, str, str]] = set()
        stack = list(self._protos)
        while stack:
            key = stack[-1]
            body = [self._key(n, n.op_type) for n in every(self._protos[key].node)]
            waits = [k for k in dict.fromkeys(body) if k in self._protos and k not in done and k not in active]
            if key not in done and waits:
                active.add(key)
                stack += waits
                continue
            stack.pop()
            active.discard(key)
            if key not in done:
                called = [done.get(k, Extent(1, 0)) for k in body]
                done[key] = Extent(
                    min(sum(c.nodes for c in called), MANY), 1 + max((c.depth for c in called), default=0)
                )
        return done

    def find(self, node: NodeProto, attrs: Mapping[str, AttributeProto]) -> FunctionCall | None:
        """The model's own function that the node calls, if it does. `attrs`: the node's, references resolved."""
        body = self._protos.get(self._key(node, node.op_type))
        if body is None:
            return None
        values = {a.name: a for a in body.attribute_proto} | dict(attrs)
        unknown = set(attrs) - set(body.attribute) - {a.name for a in body.attribute_proto}
        if unknown:
            raise LoadError(f"the function has no attribute {', '.join(map(repr, sorted(unknown)))}")
        missing = [name for name in body.attribute if name not in values]
        if missing:
            raise LoadError(f"the function's attribute {', '.join(map(repr, missing))} is missing")
        return FunctionCall(body, values)


MANY = 1 << 62


@dataclass(frozen=True)
class Extent:
    """What a node or a list of nodes becomes when functions are inlined: how many nodes (MANY for more than that), through how
    many levels of calls."""

    nodes: int
    depth: int


def every(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for a in node.attribute:
            for g in (a.g, *a.graphs) if a.HasField("g") or a.graphs else ():
                yield from every(g.node)


def has_onnx_body(node: NodeProto, opset: int) -> bool:
    """Does ONNX define the operator in terms of others? opset: the version of its domain."""
    schema = _schema(node, opset)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


class _Schema(Protocol):
    """An onnx.defs.OpSchema with the members that onnx's own type hints leave out."""

    attributes: dict[str, onnx.defs.OpSchema.Attribute]
    has_function: bool
    function_body: FunctionProto
    has_context_dependent_function: bool
    context_dependent_function_opset_versions: list[int]

    def get_context_dependent_function_with_opset_version(
        self, opset: int, node: bytes, input_types: list[bytes]
    ) -> bytes: ...


def _schema(node: NodeProto, opset: int) -> _Schema | None:
    domain = "" if node.domain in DEFAULT_DOMAINS else node.domain
    if not onnx.defs.has(node.op_type, opset, domain):
        return None
    return cast("_Schema", onnx.defs.get_schema(node.op_type, opset, domain))


def onnx_body(
    node: NodeProto, opset: int, attrs: Mapping[str, AttributeProto], types: Sequence[TensorType | None]
) -> FunctionCall | None:
    """ONNX's own definition of the operator in terms of others, if it has one.

    Raises UnknownTypeError where that definition depends on operand types that are not known yet.
    """
    schema = _schema(node, opset)
    if schema is None:
        return None
    defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}
    if schema.has_function:
        return FunctionCall(schema.function_body, defaults | dict(attrs))
    versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    if not versions:
        return None
    if any(t is None for t, name in zip(types, node.input) if name):
        raise UnknownTypeError("its definition depends on operand types that are not known yet")
    resolved = NodeProto()
    resolved.CopyFrom(node)
    del resolved.attribute[:]
    resolved.attribute.extend(attrs.values())
    encoded = [b"" if t is None else type_proto(t).SerializeToString() for t in types]
    try:
        body = schema.get_context_dependent_function_with_opset_version(
            max(versions), resolved.SerializeToString(), encoded
        )
    except RuntimeError as error:
        raise UnsupportedError(f"ONNX can't define it for these attributes: {str(error).splitlines()[0]}") from None
    return FunctionCall(FunctionProto.FromString(body), defaults | dict(attrs)) if body else None


def type_proto(t: Content) -> TypeProto:
    """An ONNX type; symbolic dims of tensors become dim_param, unknown ones nothing."""
    proto = TypeProto()
    if isinstance(t, ObjectType):
        if t.key is not None:
            proto.map_type.key_type = enum_of(t.key)
            proto.map_type.value_type.CopyFrom(type_proto(t.of))
        else:
            holder = proto.sequence_type if t.kind == "sequence" else proto.optional_type
            holder.elem_type.CopyFrom(type_proto(t.of))
        return proto
    if isinstance(t, Loose):
        proto.tensor_type.elem_type = 0 if t.dtype is None else enum_of(t.dtype)
        return proto
    proto.tensor_type.elem_type = enum_of(t.dtype)
    proto.tensor_type.shape.SetInParent()
    for d in t.shape:
        dim = proto.tensor_type.shape.dim.add()
        if not isinstance(d, Sym):
            dim.dim_value = d
        elif d != UNKNOWN:
            dim.dim_param = str(d)
    return proto


def type_text(t: Content) -> str:
    """As schemas list the types that an operator takes: 'seq(tensor(float))'."""
    if isinstance(t, ObjectType):
        key = "" if t.key is None else f"{TensorProto.DataType.Name(enum_of(t.key)).lower()}, "
        return f"{'seq' if t.kind == 'sequence' else t.kind}({key}{type_text(t.of)})"
    enum = TensorProto.UNDEFINED if t.dtype is None else enum_of(t.dtype)
    return f"tensor({TensorProto.DataType.Name(enum).lower()})"


def resolve(node: NodeProto, outer: Mapping[str, AttributeProto] | None) -> dict[str, AttributeProto]:
    """The node's attributes by name, with references to the enclosing function's attributes replaced.

    A reference to an attribute that the caller did not give is left out (the operator's default holds).
    """
    attrs: dict[str, AttributeProto] = {}
    for a in node.attribute:
        if a.name in attrs:
            raise LoadError(f"attribute '{a.name}' is given twice")
        if a.ref_attr_name:
            if outer is None:
                raise LoadError(f"attribute '{a.name}' refers to '{a.ref_attr_name}' outside a function")
            if a.ref_attr_name in outer:
                attrs[a.name] = _A()
                attrs[a.name].CopyFrom(outer[a.ref_attr_name])
                attrs[a.name].name = a.name
        else:
            attrs[a.name] = a
    return attrs


def attribute_value(a: AttributeProto, folder: Folder | None) -> Any:
    """An attribute as int, float, str, list, array, or GraphProto. Raises LoadError or UnsupportedError."""
    kind = a.type or _guess_type(a)
    try:
        if kind == _A.STRING:
            return a.s.decode("utf-8")
        if kind == _A.STRINGS:
            return [s.decode("utf-8") for s in a.strings]
    except UnicodeDecodeError:
        raise LoadError(f"attribute '{a.name}' is not UTF-8") from None
    if kind == _A.TENSOR:
        return to_array(a.t, folder)
    if kind == _A.SPARSE_TENSOR:
        return to_dense(a.sparse_tensor, folder)
    if kind == _A.TYPE_PROTO:
        return a.tp
    if kind in _PLAIN:
        value = getattr(a, _PLAIN[kind])
        return list(value) if kind in (_A.INTS, _A.FLOATS) else value
    raise UnsupportedError(f"attribute '{a.name}' of type {_A.AttributeType.Name(kind)}")


_PLAIN: dict[int, str] = {_A.INT: "i", _A.FLOAT: "f", _A.INTS: "ints", _A.FLOATS: "floats", _A.GRAPH: "g"}


def _guess_type(a: AttributeProto) -> int:
    """Files of IR version 1 do not say which field holds the value."""
    for kind, name in ((_A.FLOAT, "f"), (_A.INT, "i"), (_A.STRING, "s"), (_A.TENSOR, "t"), (_A.GRAPH, "g")):
        if a.HasField(name):
            return kind
    for kind, name in ((_A.FLOATS, "floats"), (_A.STRINGS, "strings")):
        if getattr(a, name):
            return kind
    return _A.INTS


def dtype_enum(name: str) -> int:
    """The number of a dtype that opsets below 6 gave by name ('FLOAT'). Raises LoadError."""
    if name not in TensorProto.DataType.keys():  # noqa: SIM118  (an enum wrapper, not a dict)
        raise LoadError(f"unknown dtype '{name}'")
    return TensorProto.DataType.Value(name)
