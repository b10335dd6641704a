"""Graph -> ONNX, so that any model can be run and compared elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, SupportsInt, cast

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

from graphc.attrs import Attrs
from graphc.errors import CheckError, GraphcError, UnsupportedError
from graphc.frontends.onnx_data import enum_of, from_array
from graphc.frontends.onnx_functions import type_proto, type_text
from graphc.frontends.onnx_labels import write_labels
from graphc.frontends.onnx_states import write_states
from graphc.frontends.onnx_versions import NEWEST_OPSET
from graphc.graph import Builder, Graph, Node, Rewriter, Value
from graphc.objects import is_object
from graphc.op import Call, Deferred
from graphc.types import dtype_name

OLDEST_OPSET = 21  # of what is written: other runtimes know it
_A = AttributeProto
_Schema = onnx.defs.OpSchema


def to_onnx(
    graph: Graph, defaults: Mapping[str, np.ndarray] | None = None, domains: Collection[str] = ()
) -> ModelProto:
    """The graph as an ONNX model of the lowest opset, from 21 on, that has all its operators, attributes and dtypes, with the
    types of all values that are known, also in held graphs. A symbolic dim is the text of its expression: 'batch', '2*h'.

    Operators that ONNX does not have are written as their expansion. Raises CheckError with every node that has no ONNX
    form. defaults: of inputs, by name. (In a graph whose inputs with a default were not asked for, they are constants.)
    domains: whose operators are written as such, for readers that know them.
    """
    if graph.meta.get("partial"):
        raise UnsupportedError("it has inputs without a shape, and nodes that can't be read without them")
    graph = _expand_foreign(graph, domains)
    opset = _opset_for(graph, domains)
    imports = [onnx.helper.make_opsetid("", opset)]
    imports += [onnx.helper.make_opsetid(d, 1) for d in sorted({_domain(n) for n in _all_nodes(graph)} & {*domains})]
    model = ModelProto(producer_name="graphc", ir_version=onnx.helper.find_min_ir_version_for(imports[:1]))
    model.opset_import.extend(imports)
    _Writer(model, opset).graph(graph, model.graph)
    write_states(graph, model)
    write_labels(graph, model)
    model.graph.initializer.extend(from_array(array, name) for name, array in (defaults or {}).items())
    return model


# --- which opset, which operators -------------------------------------------------------------------------------------
def _newest() -> int:
    return min(NEWEST_OPSET, onnx.defs.onnx_opset_version())


def _domain(node: Node) -> str:
    return node.op.name.rpartition("::")[0]


def _expand_foreign(graph: Graph, domains: Collection[str]) -> Graph:
    """Replace composite operators that ONNX does not have by what they stand for, also in held graphs."""
    if all(_expansion(n, domains) is None for n in _all_nodes(graph)):
        return graph
    rw = Rewriter(graph)
    for node in graph.nodes:
        expand = _expansion(node, domains)
        if expand is None:
            new = rw.copy(node)
            held = {k: _expand_foreign(g, domains) for k, g in node.attrs.items() if isinstance(g, Graph)}
            rw.nodes[-1] = replace(new, attrs=Attrs({**new.attrs, **held})) if held else new
            continue
        rw.prefix, rw.source = f"{node.name}/", node.source
        inner = Builder(node.name, node.source, f"{node.name}/")
        call = type(node.call)(node.op, tuple(rw(v) for v in node.inputs), node.attrs, len(node.outputs))
        try:
            results = expand(inner, call)
        except Deferred as missing:
            why, hint = f": it needs the {missing}, which only a run brings", "make it a constant"
            raise _no_form(node, why, hint) from None
        if results is None:
            known = all(v.type is not None and v.type.is_static for v in node.operands)
            raise (
                _no_form(node)
                if known
                else _no_form(node, " while its shapes are open", "export a model of fixed shapes")
            )
        results = (results,) if isinstance(results, Value) else tuple(results)
        typed = _typed(node.outputs, results)
        for n in inner.nodes:
            ins, outs = (tuple(typed.get(v, v) for v in values) for values in (n.inputs, n.outputs))
            rw.nodes.append(replace(n, inputs=ins, outputs=outs) if typed else n)
        rw.map.update((old, typed.get(v, v)) for old, v in zip(node.outputs, results))
    return _expand_foreign(rw.finish(), domains)


def _no_form(node: Node, why: str = "", hint: str | None = None) -> UnsupportedError:
    text = f"can't be written in operators of ONNX{why}"
    return UnsupportedError(text, hint=hint, op=node.op.name, node=node.name, source=node.source)


def _typed(outputs: Sequence[Value], results: Sequence[Value]) -> dict[Value, Value]:
    """Results of an expansion that are not typed, with the type that the operator's own have."""
    return {v: replace(v, type=o.type) for o, v in zip(outputs, results) if v.type is None and o.type is not None}


def _expansion(node: Node, domains: Collection[str]) -> Callable[[Builder, Call], Any] | None:
    """What the node is to be replaced by, if it is."""
    stays = _schema(node, _newest()) is not None or _domain(node) in domains
    return None if stays else _unchecked if node.op.name == "Within" else node.op.expand


def _unchecked(b: Builder, call: Call) -> Value:
    """Whether numbers are in range is left to who reads the file."""
    return b.add("Identity", call.inputs[0])


def _schema(node: Node, opset: int) -> _Schema | None:
    """ONNX's record of the operator in that opset; None where it has none (any more)."""
    if not onnx.defs.has(node.op.name, opset):
        return None
    schema = onnx.defs.get_schema(node.op.name, opset, "")
    return None if schema.deprecated else schema


def _opset_for(graph: Graph, domains: Collection[str]) -> int:
    nodes = [n for n in _all_nodes(graph) if _domain(n) not in domains or not _domain(n)]
    for opset in range(min(OLDEST_OPSET, _newest()), _newest() + 1):
        if all(_misfit(node, opset) is None for node in nodes):
            return opset
    reasons = [(node, _misfit(node, _newest())) for node in nodes]
    problems: list[GraphcError] = [
        UnsupportedError(f"can't be written as ONNX: {why}", op=node.op.name, node=node.name, source=node.source)
        for node, why in reasons
        if why is not None
    ]
    raise CheckError(problems)


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for value in node.attrs.values():
            if isinstance(value, Graph):
                yield from _all_nodes(value)


def _misfit(node: Node, opset: int) -> str | None:
    """Why that opset can't say the node; None if it can."""
    schema = _schema(node, opset)
    if schema is None:
        return f"opset {opset} has no operator of that name"
    inputs = _inputs(node)
    if len(inputs) > schema.max_input or len(node.outputs) > schema.max_output:
        return f"opset {opset} has {schema.max_input} inputs and {schema.max_output} outputs at most"
    for key, value in node.attrs.items():
        if key not in schema.attributes and not _is_default(node, key, value) and key not in _OUR_OWN:
            return f"opset {opset} has no attribute '{key}'"
    for i, v in enumerate(inputs):
        if v is None or v.type is None:
            continue
        if v.type.layout is not None:
            return f"operand {i} has the layout {v.type.layout}"
        formal = schema.inputs[min(i, len(schema.inputs) - 1)]
        if type_text(v.type) not in formal.types:
            what = v.type if is_object(v.type) else dtype_name(v.type.dtype)
            return f"opset {opset} does not take {what} for '{formal.name}'"
    return None


_OUR_OWN = ("n_states", "exact")  # attributes of the records that ONNX nodes do not have


def _is_default(node: Node, key: str, value: Any) -> bool:
    return value is None or _same(value, node.op.attrs[key].default)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return False
    if isinstance(a, float) and isinstance(b, float):  # ONNX keeps them in single precision
        return np.float32(a) == np.float32(b)
    numbers = isinstance(a, (int, float)) and isinstance(b, (int, float))
    return (numbers or type(a) is type(b)) and a == b


def _captures(node: Node) -> int:
    """How many operands at the end are captures of subgraphs, which ONNX refers to by name."""
    bodies = [g for g in node.attrs.values() if isinstance(g, Graph)]
    if not bodies:
        return 0
    if node.op.name == "If":
        return len(node.inputs) - 1
    if node.op.name == "Loop":
        return len(node.inputs) - 2 - node.attrs["n_states"]
    return len(node.inputs) - node.attrs["n_states"] - node.attrs["num_scan_inputs"]  # Scan


def _inputs(node: Node) -> Sequence[Value | None]:
    """The operands that ONNX writes down, without absent ones at the end."""
    inputs = list(node.inputs[: len(node.inputs) - _captures(node)])
    while inputs and inputs[-1] is None:
        inputs.pop()
    return inputs


# --- writing ----------------------------------------------------------------------------------------------------------
class _Writer:
    def __init__(self, model: ModelProto, opset: int) -> None:
        self.model, self.opset = model, opset
        self.names: dict[Value, str] = {}
        self.used: set[str] = set()  # of the whole model: subgraphs see the names outside

    def graph(self, graph: Graph, out: GraphProto, captured: Mapping[Value, str] | None = None) -> None:
        """Fill `out`. captured: names outside of the subgraph's inputs that are no formal inputs."""
        out.name = graph.name
        captured = dict(captured or {})
        self.names.update(captured)
        inputs = [v for v in graph.inputs if v not in captured]
        made = {v for n in graph.nodes for v in n.outputs}
        results: list[tuple[str, Value]] = []
        for v in inputs:
            self.names[v] = self._fresh(v.name)
        for wanted, v in zip(graph.output_names, graph.outputs):
            name = wanted if self.names.get(v) == wanted else self._fresh(wanted)
            if v in made and v not in self.names:
                self.names[v] = name
            results.append((name, v))
        dtypes = graph.meta.get("dtypes", {})
        out.input.extend(_value_info(self.names[v], v, dtypes.get(v.name)) for v in inputs)
        for node in graph.nodes:
            self._node(node, out)
        for name, v in results:
            if self._name(v) != name:
                out.node.append(NodeProto(op_type="Identity", name=name, input=[self._name(v)], output=[name]))
            out.output.append(_value_info(name, v, dtypes.get(name)))
        known = {info.name for info in out.output}
        inner = [v for node in graph.nodes for v in node.outputs if v.type is not None and self.names[v] not in known]
        out.value_info.extend(_value_info(self.names[v], v) for v in inner)

    def _node(self, node: Node, out: GraphProto) -> None:
        schema = _schema(node, self.opset)
        if schema is None:
            out.node.append(self._foreign(node))
            return
        proto = NodeProto(op_type=node.op.name, name=node.name)
        proto.input.extend("" if v is None else self._name(v) for v in _inputs(node))
        proto.input.extend([""] * (schema.min_input - len(proto.input)))  # a Loop without a condition and states
        for key, value in node.attrs.items():
            if key in schema.attributes and not self._left_out(node, key, value, schema):
                kind = cast("SupportsInt", schema.attributes[key].type)  # an enum, which onnx's type hints leave out
                proto.attribute.append(self._attribute(node, key, value, int(kind)))
        proto.output.extend(self._name(v) for v in node.outputs)
        out.node.append(proto)

    def _foreign(self, node: Node) -> NodeProto:
        """A node of another domain."""
        domain, _, op = node.op.name.rpartition("::")
        proto = NodeProto(op_type=op, domain=domain, name=node.name)
        proto.input.extend("" if v is None else self._name(v) for v in _inputs(node))
        proto.output.extend(self._name(v) for v in node.outputs)
        for key, value in node.attrs.items():
            if not _is_default(node, key, value):
                known = enum_of(value) if isinstance(value, np.dtype) else value
                proto.attribute.append(onnx.helper.make_attribute(key, known))
        return proto

    @staticmethod
    def _left_out(node: Node, key: str, value: Any, schema: _Schema) -> bool:
        """Is the attribute what ONNX assumes anyway?"""
        if value is None:
            return True
        spec = schema.attributes[key]
        if spec.required or not _is_default(node, key, value):
            return False
        if not spec.default_value.name:
            return True
        default = onnx.helper.get_attribute_value(spec.default_value)
        return _same(value, default.decode() if isinstance(default, bytes) else default)

    def _attribute(self, node: Node, key: str, value: Any, kind: int) -> AttributeProto:
        a = _A(name=key, type=_A.AttributeType.Name(kind))
        if isinstance(value, Graph):
            n = _captures(node)
            inner = value.inputs[len(value.inputs) - n :] if n else ()
            outer = node.inputs[len(node.inputs) - n :] if n else ()
            self.graph(value, a.g, {i: self._name(o) for i, o in zip(inner, outer)})
        elif a.type == _A.TENSOR:
            a.t.CopyFrom(from_array(np.asarray(value)))
        elif a.type == _A.INT:
            a.i = enum_of(value) if node.op.attrs[key].type == "dtype" else int(value)
        elif a.type == _A.FLOAT:
            a.f = float(value)
        elif a.type == _A.STRING:
            a.s = value.encode()
        elif a.type == _A.INTS:
            a.ints.extend(value)
        elif a.type == _A.FLOATS:
            a.floats.extend(value)
        elif a.type == _A.STRINGS:
            a.strings.extend(s.encode() for s in value)
        elif a.type == _A.TYPE_PROTO:
            a.tp.CopyFrom(type_proto(value))
        else:
            kind_name = _A.AttributeType.Name(a.type)
            raise UnsupportedError(f"attribute '{key}' of type {kind_name}", op=node.op.name, node=node.name)
        return a

    def _name(self, v: Value) -> str:
        """The value's name; a constant that has none yet becomes an initializer (of the outermost graph)."""
        if v not in self.names:
            self.names[v] = self._fresh(v.name)
            if v.is_const:
                self.model.graph.initializer.append(from_array(v.data, self.names[v]))
        return self.names[v]

    def _fresh(self, name: str) -> str:
        unique, n = name or "value", 1
        while unique in self.used:
            unique, n = f"{name or 'value'}_{n}", n + 1
        self.used.add(unique)
        return unique


def _value_info(name: str, v: Value, dtype: np.dtype | None = None) -> ValueInfoProto:
    """dtype: what the source declares, for a value whose rank is not known."""
    info = ValueInfoProto(name=name)
    if v.type is not None:
        info.type.CopyFrom(type_proto(v.type))
    elif dtype is not None:
        info.type.tensor_type.elem_type = enum_of(dtype)
    return info
