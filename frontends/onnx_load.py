"""ONNX -> Graph: operators map by name, and code is here only where ONNX's form differs.

Everything wrong with a file is collected on the way, so that a person reads one report.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

from graphc.declared import contradictions
from graphc.errors import CheckError, GraphcError, LoadError, Location, TypeRuleError, UnsupportedError
from graphc.frontends.onnx_appending import Appending
from graphc.frontends.onnx_data import dtype_of, to_array, to_dense
from graphc.frontends.onnx_described import described
from graphc.frontends.onnx_file import ModelFile, read_model
from graphc.frontends.onnx_functions import (
    DEFAULT_DOMAINS,
    FunctionCall,
    Functions,
    attribute_value,
    dtype_enum,
    every,
    has_onnx_body,
    onnx_body,
    operator_name,
    opset_versions,
    resolve,
)
from graphc.frontends.onnx_labels import KEY as LABELS
from graphc.frontends.onnx_labels import read_labels
from graphc.frontends.onnx_problems import Problems, TooLarge
from graphc.frontends.onnx_scope import Context, FileNode, Scope, did_you_mean, order
from graphc.frontends.onnx_sequences import (
    SEQUENCE_OPS,
    Item,
    Listed,
    SequenceUse,
    SequenceValue,
    as_value,
    told_in_tensors,
)
from graphc.frontends.onnx_states import KEY as STATES
from graphc.frontends.onnx_states import read_states
from graphc.frontends.onnx_types import (
    constant_value,
    content_type,
    declared_dtype,
    declared_type,
    element_of,
    tensor_type,
)
from graphc.frontends.onnx_unused import unused
from graphc.frontends.onnx_values import KnowingBuilder
from graphc.frontends.onnx_versions import NEWEST_OPSET, RENAMED, Use, modernize, scans_of_samples
from graphc.gradient import gradients, substituted
from graphc.graph import Graph, Value, constant
from graphc.objects import is_object
from graphc.op import Op, named_ops
from graphc.ops.raising import raising
from graphc.ops.specialised import keeping
from graphc.reading import AS_IT_IS, Reading
from graphc.signature import Spec, State
from graphc.source_files import text_of
from graphc.types import Sym, TensorType

GRADIENT = "ai.onnx.preview.training::Gradient"
OpenDims = dict[
    int, dict[int, Sym] | None
]  # by input of a held graph the dims that are open, by axis; None: even its rank
_MAX_NODES = 200_000  # after inlining: a few nested functions can describe billions
_MOST_COPIES = 64  # of the body of a SequenceMap
_MAX_CALLS = 100  # of functions within functions


def load_onnx(source: str | os.PathLike | bytes | ModelProto, reading: Reading = AS_IT_IS) -> Graph:
    """A graph from the path or the bytes of an ONNX file, or a ModelProto.

    Where an input has no shape, and `reading` gives none, its type is None. Nodes that can't be read without it are left
    out: such a graph tells inputs and outputs, and is not for running ('partial' in its meta).

    Raises LoadError when it can't be read, else CheckError with every problem of the model.
    """
    model = read_model(source)
    importer = _Importer(model, reading)
    with keeping():
        graph = importer.run()
    if importer.problems.found:
        raise CheckError(importer.problems.found, source=Location(model.file) if model.file else None)
    return graph


class _Importer:
    def __init__(self, model: ModelFile, reading: Reading) -> None:
        self.model, self.proto, self.given, self.types = model, model.proto, reading.given, dict(reading.types)
        self.problems = Problems()
        self.functions = Functions(self.proto.functions)
        self.ops: dict[str, Op] = named_ops()
        self._opened: dict[tuple[str, ...], OpenDims] = {}  # by the place of a held graph
        self.count = 0

    def run(self) -> Graph:
        proto, opsets = self.proto.graph, opset_versions(self.proto.opset_import) or {"": 1}
        name = proto.name or (text_of(Path(self.model.file).stem) if self.model.file else "graph")
        self._check_extent()
        scope = Scope(KnowingBuilder(name))
        self._initializers(proto, scope, self.model.raw, self.given)
        optional = self._inputs(proto, scope)
        if not proto.output:
            self.problems.found.append(
                LoadError("the graph has no outputs", hint="it computes nothing: export it again")
            )
        self._nodes(proto.node, scope, Context(opsets))
        outputs = self._results(proto, scope)
        meta: dict[str, Any] = {
            "format": "onnx",
            "producer": f"{self.proto.producer_name} {self.proto.producer_version}".strip(),
            "opset": dict(opsets),
            "warnings": (*self.problems.warnings, *unused(proto, self.model.file), *self._mistaken(proto, outputs)),
            "declared": _declared(proto),
            "optional": optional,
            "dtypes": {
                i.name: dtype for i in (*proto.input, *proto.output) if (dtype := declared_dtype(i)) is not None
            },
            "partial": self.problems.partial,
            "described": described(self.proto),
        }
        builder, names = scope.builder, tuple(o.name for o in proto.output)
        states: tuple[State, ...] = ()
        with self.problems.report(Location(self.model.file, f"metadata '{STATES}'")):
            states = read_states(self.proto, [v.name for v in builder.inputs], names)
        with self.problems.report(Location(self.model.file, f"metadata '{LABELS}'")):
            meta["labels"] = read_labels(self.proto, dict(zip(names, outputs)))
        return Graph(name, tuple(builder.inputs), tuple(outputs), tuple(builder.nodes), names, meta, states)

    def _inputs(self, proto: GraphProto, scope: Scope) -> tuple[Spec, ...]:
        """Make the graph's inputs; gives those that have a default: from IR version 4 on, initializers that are inputs."""
        optional = []
        for info in proto.input:
            with self.problems.report(Location(self.model.file, f"input '{info.name}'")):
                held = scope.values.get(info.name)
                if held in scope.builder.inputs:
                    raise LoadError("is declared twice")
                if held is None:
                    # in case its type is none of ours
                    scope.values[info.name] = self.problems.poison(scope.prefix + info.name)
                    t = self.types.get(info.name) or declared_type(info)
                    self.problems.open |= t is None
                    scope.values[info.name] = declared = Value(info.name, t)
                    scope.builder.inputs.append(declared)
                elif self.proto.ir_version >= 4:
                    optional.append(Spec.of(info.name, declared_type(info), declared_dtype(info), optional=True))
        return tuple(optional)

    def _check_extent(self) -> None:
        """Raises LoadError where functions would become too many nodes, before the first of them is inlined."""
        extent = self.functions.extent(self.proto.graph.node)
        if extent.depth and (extent.nodes > _MAX_NODES or extent.depth > _MAX_CALLS):
            each = {n.op_type: e for n in every(self.proto.graph.node) if (e := self.functions.call(n)) is not None}
            worst = max(each, key=lambda name: (each[name].nodes, each[name].depth))
            what = f"{extent.nodes} nodes" if extent.nodes > _MAX_NODES else f"{extent.depth} levels of calls"
            limit = f"more than {_MAX_NODES}" if extent.nodes > _MAX_NODES else f"more than {_MAX_CALLS}"
            raise TooLarge(
                f"its functions become {what} when they are inlined, {limit}; most of them '{worst}'",
                hint="functions that call others several times grow with each level: export the model without functions",
                source=Location(self.model.file) if self.model.file else None,
            )

    # --- names, types, constants --------------------------------------------------------------------------------------
    def _initializers(
        self, proto: GraphProto, scope: Scope, raw: Mapping[int, np.ndarray], given: Collection[str] = ()
    ) -> None:
        """Constants of a graph, but for those whose value is given."""
        for i, tensor in enumerate(proto.initializer):
            if tensor.name in given:
                continue
            with self.problems.report(Location(self.model.file, f"initializer {i}")):
                if tensor.name in scope.values:
                    raise LoadError(f"initializer '{tensor.name}' is given twice")
                scope.values[tensor.name] = self.problems.poison(scope.prefix + tensor.name)
                scope.values[tensor.name] = constant(
                    scope.prefix + tensor.name, to_array(tensor, self.model.folder, raw.get(i))
                )
        for sparse in proto.sparse_initializer:
            if sparse.values.name in given:
                continue
            with self.problems.report(Location(self.model.file, f"sparse initializer '{sparse.values.name}'")):
                scope.values[sparse.values.name] = self.problems.poison(scope.prefix + sparse.values.name)
                scope.values[sparse.values.name] = constant(
                    scope.prefix + sparse.values.name, to_dense(sparse, self.model.folder)
                )

    def _mistaken(self, proto: GraphProto, outputs: Sequence[Value]) -> list[GraphcError]:
        """Outputs that can't have the types that the file declares."""
        results = {o.name: v.type for o, v in zip(proto.output, outputs)}
        source = Location(self.model.file) if self.model.file else None
        return [GraphcError(text, source=source) for text in contradictions(_declared(proto), results)]

    def _results(self, proto: GraphProto, scope: Scope) -> list[Value]:
        """Values of a graph: those that are told in tensors while it is read become such, too."""
        out = []
        for info, item in zip(proto.output, self._items(proto, scope)):
            v = self.problems.poison(scope.prefix + info.name)
            with self.problems.report(Location(self.model.file, f"output '{info.name}'")):
                v = as_value(item, scope.builder)
            out.append(v)
        return out

    def _items(self, proto: GraphProto, scope: Scope) -> list[Item]:
        out: list[Item] = []
        for info in proto.output:
            v: Item = self.problems.poison(scope.prefix + info.name)
            with self.problems.report(Location(self.model.file, f"output '{info.name}'")):
                try:
                    found = scope.find(info.name)
                except KeyError:
                    found = None
                if found is None:
                    hint = did_you_mean(info.name, scope)
                    raise LoadError(f"output '{info.name}' is produced by no node", hint=hint)
                v = found
            out.append(v)
        return out

    # --- nodes --------------------------------------------------------------------------------------------------------
    def _nodes(self, protos: Sequence[NodeProto], scope: Scope, context: Context) -> None:
        """Convert the nodes in an order in which every value is produced before it is read."""
        indices, problems = order(protos, scope.values, self.model.file, context.path)
        self.problems.found += problems
        if not indices:
            scope.values.update((o, self.problems.poison(scope.prefix + o)) for n in protos for o in n.output if o)
        used = {n.name for n in scope.builder.nodes}
        for i in indices:
            proto = protos[i]
            name = scope.prefix + (proto.name or next((o for o in proto.output if o), "") or f"{proto.op_type}_{i}")
            if name in used:
                name = f"{name}_{i}"
            used.add(name)
            opset = context.opsets.get("" if proto.domain in DEFAULT_DOMAINS else proto.domain)
            place = f"node {i}" + (f" (opset {opset})" if opset is not None else "")
            at = FileNode(proto, name, Location(self.model.file, place, context.path), scope, context)
            self._node(at)

    def _node(self, at: FileNode) -> None:
        operands: list[Item | None] = []
        op = operator_name(at.proto)
        with self.problems.report(at.source, op, at.name, operands):
            self.count += 1
            if self.count > _MAX_NODES:
                raise TooLarge(f"more than {_MAX_NODES} nodes")
            for name in at.proto.input:
                try:
                    operands.append(at.scope.find(name))
                except KeyError:
                    raise LoadError(
                        f"reads '{name}', which nothing produces", hint=did_you_mean(name, at.scope)
                    ) from None
            if any(v in self.problems.poisoned for v in operands):
                self._known(at)
            else:
                self._convert(at, operands)
        for name in at.outputs:  # after a problem, so that one report holds them all
            if name and name not in at.scope.values:
                at.scope.values[name] = self.problems.poison(at.scope.prefix + name)

    def _known(self, at: FileNode) -> None:
        """Report an unknown operator though its operands are not known."""
        proto = at.proto
        standard, name = proto.domain in DEFAULT_DOMAINS, operator_name(proto)
        if name in self.ops or name in RENAMED or name in SEQUENCE_OPS or name == GRADIENT:
            return
        attrs = resolve(proto, at.context.attrs)
        opset = at.context.opsets.get("" if standard else proto.domain, NEWEST_OPSET)
        if self.functions.find(proto, attrs) is None and not has_onnx_body(proto, opset):
            raise _unknown(proto, self.ops)

    def _convert(self, at: FileNode, operands: list[Item | None]) -> None:
        proto, protos = at.proto, resolve(at.proto, at.context.attrs)
        call = self.functions.find(proto, protos)
        if call is not None:
            self._inline(at, call, operands)
            return
        name, standard = operator_name(proto), proto.domain in DEFAULT_DOMAINS
        if name == GRADIENT:
            self._gradient(at, {key: attribute_value(a, self.model.folder) for key, a in protos.items()}, operands)
            return
        if not standard and name not in self.ops:
            self._inline_onnx_body(at, at.context.opsets.get(proto.domain, 1), protos, operands)
            return
        if standard and "" not in at.context.opsets:
            raise LoadError("the model imports no opset of the domain ''", hint="the file is damaged: export it again")
        opset = at.context.opsets.get("" if standard else proto.domain, 1)
        if name == "If" and (branch := self._taken_branch(at, protos, operands)):
            self._put_in_place(at, branch)
            return
        attrs = {name: attribute_value(a, self.model.folder) for name, a in protos.items()}
        if name == "Constant":
            at.scope.values[proto.output[0]] = constant(at.scope.prefix + proto.output[0], constant_value(attrs))
            return
        while operands and operands[-1] is None:
            operands.pop()
        builder = at.scope.builder
        builder.prefix, builder.source = f"{at.name}/", at.source
        if name in SEQUENCE_OPS:
            told = told_in_tensors(name, SequenceUse(list(operands), attrs, builder))
            if told is not None:
                at.scope.values[proto.output[0]] = told
                return
        if name == "Identity" and operands and isinstance(operands[0], SequenceValue):
            at.scope.values[proto.output[0]] = operands[0]
            return
        if name == "SequenceMap" and self._map_items(at, protos, operands):
            return
        tensors = [None if v is None else as_value(v, builder) for v in operands]
        names = [n and at.scope.prefix + n for n in at.outputs]
        use = Use(name, tensors, attrs, names, opset, builder)
        results: Sequence[Item] | None = modernize(use) if standard else None
        if name == "Scan" and opset < 9:
            results = scans_of_samples(use, lambda scan: self._values(at, scan, f"{at.name}.{scan.outputs[0]}"))
        if results is None and use.op not in self.ops:
            self._inline_onnx_body(at, opset, protos, tensors)
            return
        if results is None:
            results = self._add(at, use, at.name)
        at.scope.values.update((name, v) for name, v in zip(at.outputs, results) if name)

    def _values(self, at: FileNode, use: Use, name: str) -> list[Value]:
        return [as_value(v, at.scope.builder) for v in self._add(at, use, name)]

    def _add(self, at: FileNode, use: Use, name: str) -> Sequence[Item]:
        """A node in its newest form."""
        self._subgraphs(at, use)
        appending = Appending(use) if use.op == "Loop" else None
        attrs = {key: self._attribute(use.op, key, value) for key, value in use.attrs.items()}
        attrs = {key: value for key, value in attrs.items() if value is not None}
        made = use.builder.add(use.op, *use.inputs, name=name, outputs=use.outputs, source=at.source, **attrs)
        results = made if isinstance(made, tuple) else (made,)
        return results if appending is None else appending.results(results)

    def _attribute(self, op: str, key: str, value: Any) -> Any:
        """Dtypes are numbers (or names, in old files) in ONNX; UNDEFINED stands for one that is not given (None)."""
        spec = self.ops[op].attrs.get(key)
        if isinstance(value, TypeProto):
            return content_type(value, f"{op}.{key}")
        if spec is None or spec.type != "dtype" or isinstance(value, np.dtype):
            return value
        number = dtype_enum(value) if isinstance(value, str) else value
        return None if number == TensorProto.UNDEFINED else dtype_of(number)

    def _inline_onnx_body(
        self, at: FileNode, opset: int, attrs: Mapping[str, AttributeProto], operands: Sequence[Item | None]
    ) -> None:
        call = onnx_body(at.proto, opset, attrs, [None if v is None else v.type for v in operands])
        if call is None:
            raise _unknown(at.proto, self.ops)
        self._inline(at, call, operands)

    # --- functions ----------------------------------------------------------------------------------------------------
    def _inline(self, at: FileNode, call: FunctionCall, operands: Sequence[Item | None]) -> None:
        body, key = call.body, (at.proto.domain, at.proto.op_type)
        if key in at.context.inside:
            raise LoadError(f"the function '{body.name}' calls itself", hint="ONNX does not allow recursion")
        if len(operands) > len(body.input) or len(at.outputs) > len(body.output):
            counts = f"{len(body.input)} inputs and {len(body.output)} outputs"
            raise LoadError(
                f"the function '{body.name}' has {counts}; the node names {len(operands)} and {len(at.outputs)}"
            )
        given = list(operands) + [None] * (len(body.input) - len(operands))
        inner = Scope(at.scope.builder, dict(zip(body.input, given)), prefix=f"{at.name}/")
        context = Context(
            {**at.context.opsets, **call.opsets},
            call.attrs,
            (*at.context.path, f"{at.proto.op_type} '{at.name}'"),
            (*at.context.inside, key),
        )
        self._nodes(body.node, inner, context)
        for formal, actual in zip(body.output, at.outputs):
            if actual:
                try:
                    v = inner.find(formal)
                except KeyError:
                    v = None
                if v is None:
                    raise LoadError(f"the function '{body.name}' does not produce its output '{formal}'")
                at.scope.values[actual] = v

    # --- control flow -------------------------------------------------------------------------------------------------
    def _taken_branch(
        self, at: FileNode, attrs: Mapping[str, AttributeProto], operands: Sequence[Item | None]
    ) -> GraphProto | None:
        """The branch of an If that is the only one: the condition is a constant, or the other branch can't be meant.

        The latter: for the shapes that the file declares, the condition is known and the other branch is not valid.
        """
        builder = at.scope.builder
        cond = operands[0] if operands and isinstance(operands[0], Value) else None
        value = None if cond is None else builder.constant_of(cond)
        sure = value is not None
        if cond is not None and not sure:
            value = builder.known.get(cond)
        if value is None or value.size != 1 or not {"then_branch", "else_branch"} <= attrs.keys():
            return None
        taken, other = ("then_branch", "else_branch") if value.reshape(()) else ("else_branch", "then_branch")
        return attrs[taken].g if sure or not self._is_valid(at, other, attrs[other].g) else None

    def _is_valid(self, at: FileNode, key: str, branch: GraphProto) -> bool:
        before, doubts = len(self.problems.found), len(self.problems.warnings)
        self._subgraph(at, key, branch, ())
        valid = len(self.problems.found) == before
        del self.problems.found[before:], self.problems.warnings[doubts:]
        return valid

    def _put_in_place(self, at: FileNode, branch: GraphProto) -> None:
        """Convert a branch's nodes as part of the graph around it."""
        inner = Scope(at.scope.builder, outer=at.scope, prefix=f"{at.name}/")
        self._initializers(branch, inner, {})
        self._nodes(branch.node, inner, self._inside(at, "branch"))
        at.scope.values.update((name, v) for name, v in zip(at.outputs, self._items(branch, inner)) if name)

    def _gradient(self, at: FileNode, attrs: Mapping[str, Any], operands: Sequence[Item | None]) -> None:
        """Derivatives of the tensor that the attribute y names, by those that xs names, at the values of the operands."""
        scope = at.scope
        names = [*attrs.get("xs", ()), *attrs.get("zs", ())]
        try:
            found = [scope.find(n) for n in (attrs.get("y", ""), *names)]
        except KeyError as error:
            raise LoadError(f"no tensor is named {error} before it", hint=did_you_mean(error.args[0], scope)) from None
        tensors = [v for v in (*found, *operands) if isinstance(v, Value)]
        if len(operands) != len(names) or len(tensors) != 1 + 2 * len(names):
            raise LoadError(f"y, and {len(names)} tensors in xs and zs, do not fit {len(operands)} operands")
        b, at_operands = scope.builder, tensors[1 + len(names) :]
        b.prefix, b.source = f"{at.name}/", at.source
        nodes, y = substituted(b, list(b.nodes), tensors[0], dict(zip(tensors[1:], at_operands)))
        derivatives = gradients(b, nodes, y, at_operands[: len(attrs.get("xs", ()))])
        scope.values.update((name, v) for name, v in zip(at.outputs, derivatives) if name)

    def _map_items(self, at: FileNode, attrs: Mapping[str, AttributeProto], operands: Sequence[Item | None]) -> bool:
        """Convert the body of a SequenceMap once for each element, where their number is known and not large."""
        count = operands[0].count if operands and isinstance(operands[0], Listed) else None
        if count is None or count > _MOST_COPIES or "body" not in attrs:
            return False
        sequences = [v for v in operands if isinstance(v, SequenceValue) or (v is not None and is_object(v.type))]
        if not all(isinstance(v, Listed) and v.count == count for v in sequences):
            return False
        body, results = attrs["body"].g, []
        for k in range(count):
            inner = Scope(at.scope.builder, outer=at.scope, prefix=f"{at.name}/{k}/")
            given = [v.values[k] if isinstance(v, Listed) else v for v in operands]
            inner.values.update((info.name, v) for info, v in zip(body.input, given))
            self._initializers(body, inner, {})
            self._nodes(body.node, inner, self._inside(at, f"element {k}"))
            results.append(self._results(body, inner))
        if not count:
            return False
        at.scope.values.update((name, Listed(parts)) for name, parts in zip(at.outputs, zip(*results)) if name)
        return True

    @staticmethod
    def _inside(at: FileNode, key: str) -> Context:
        return replace(at.context, path=(*at.context.path, f"{at.proto.op_type} '{at.name}' {key}"))

    def _subgraphs(self, at: FileNode, use: Use) -> None:
        """Attributes that are graphs become Graphs; what they capture becomes operands at the end."""
        protos = {key: g for key, g in use.attrs.items() if isinstance(g, GraphProto)}
        if not protos:
            return
        if use.op == "Loop":
            use.inputs += [None] * (2 - len(use.inputs))
            use.attrs["n_states"] = len(use.inputs) - 2
        elif use.op == "Scan":
            use.attrs["n_states"] = len(use.inputs) - use.attrs.get("num_scan_inputs", 0)
        formal = self._formal_types(use)
        scopes, problems = {}, {}
        for key, g in protos.items():
            before = len(self.problems.found)
            opened = self._opened.setdefault((*at.context.path, at.name, key), {})
            types = self._with_open_dims(opened, formal)
            scopes[key] = self._subgraph(at, key, g, types)
            while self._opens_dims(opened, use, g, types, scopes[key][1]):
                del self.problems.found[before:]
                types = self._with_open_dims(opened, formal)
                scopes[key] = self._subgraph(at, key, g, types)
            problems[key] = self.problems.found[before:]
        impossible = self._impossible(problems) if use.op == "If" else None
        if impossible is None and any(problems.values()):
            raise CheckError([])  # reported already, at its place
        captured = list(dict.fromkeys(v for scope, _ in scopes.values() for v in scope.captures))
        for key, (scope, outputs) in scopes.items():
            extra = [scope.captures.get(v) or Value(v.name, v.type) for v in captured]
            inputs = (*scope.builder.inputs, *extra)
            names = tuple(o.name for o in protos[key].output)
            meta = {"output_types": self._output_types(protos[key])}
            graph = Graph(f"{at.name}/{key}", inputs, tuple(outputs), tuple(scope.builder.nodes), names, meta)
            use.attrs[key] = raising(graph, problems[key][0], graph) if key == impossible else graph
        use.inputs += captured

    def _impossible(self, problems: Mapping[str, Sequence[GraphcError]]) -> str | None:
        """The branch of an If that has no valid types, where the other one has: its problems are warnings."""
        failed = [key for key, found in problems.items() if found]
        if len(failed) != 1 or not all(isinstance(e, TypeRuleError) for e in problems[failed[0]]):
            return None
        found = problems[failed[0]]
        del self.problems.found[-len(found) :]
        self.problems.warnings += map(_where_taken, found)
        return failed[0]

    @staticmethod
    def _formal_types(use: Use) -> list[TensorType | None]:
        """Types that the operands give to a body's inputs, where the file declares none."""
        if use.op == "Loop":
            states = [v.type if v is not None else None for v in use.inputs[2:]]
            return [TensorType(np.int64, ()), TensorType(np.bool_, ()), *states]
        if use.op == "Scan":
            n, axes = use.attrs["n_states"], use.attrs.get("scan_input_axes", [])
            types = [v.type if v is not None else None for v in use.inputs]
            return [*types[:n], *(element_of(t, axes[i] if axes else 0) for i, t in enumerate(types[n:]))]
        return []

    @staticmethod
    def _with_open_dims(opened: OpenDims, formal: Sequence[TensorType | None]) -> list[TensorType | None]:
        """The formal types, with open dims where `_opens_dims` has found that an iteration may change a state."""
        types = list(formal)
        for k, dims in opened.items():
            t = types[k] if k < len(types) else None
            if t is not None and not is_object(t):
                types[k] = None if dims is None else t.with_shape([dims.get(i, d) for i, d in enumerate(t.shape)])
        return types

    @staticmethod
    def _opens_dims(
        opened: OpenDims,
        use: Use,
        proto: GraphProto,
        types: Sequence[TensorType | None],
        outputs: Sequence[Value],
    ) -> bool:
        """Do states have dims, or a rank, that an iteration may change, and that are not open yet? No decision may rest on those that
        a state begins with. opened: what was found is kept for the next time that this graph is read, as it is for each reading of the
        graphs around it."""
        first_in, first_out = {"Loop": (2, 1), "Scan": (0, 0)}.get(use.op, (len(types), 0))
        found = False
        for k, v in enumerate(outputs[first_out : first_out + use.attrs.get("n_states", 0)], first_in):
            if k >= min(len(types), len(proto.input)):
                break
            before, after = types[k], v.type
            if before is None or is_object(before) or before == after or declared_type(proto.input[k]):
                continue
            dims = opened.setdefault(k, {})
            if after is not None and (is_object(after) or after.rank != before.rank):
                opened[k], found = None, True
            elif dims is not None:
                now = [None] * before.rank if after is None else after.shape
                more = {i for i, (a, b) in enumerate(zip(before.shape, now)) if a != b} - dims.keys()
                dims.update((i, Sym(f"{v.name}.{i}")) for i in more)
                found = found or bool(more)
        return found

    @staticmethod
    def _output_types(proto: GraphProto) -> dict[str, TensorType]:
        """Types that a body declares for its results, of rank 0 where it gives no shape."""
        types = {}
        for info in proto.output:
            if info.type.HasField("tensor_type") and info.type.tensor_type.elem_type != TensorProto.UNDEFINED:
                dtype = dtype_of(info.type.tensor_type.elem_type)
                types[info.name] = tensor_type(info.type, info.name) or TensorType(dtype, ())
        return types

    def _subgraph(
        self, at: FileNode, key: str, proto: GraphProto, formal: Sequence[TensorType | None]
    ) -> tuple[Scope, list[Value]]:
        scope = Scope(KnowingBuilder(f"{at.name}/{key}"), outer=at.scope, prefix=at.scope.prefix)
        self._initializers(proto, scope, {})
        for i, info in enumerate(proto.input):
            declared = declared_type(info)
            t = declared or (formal[i] if i < len(formal) else None)
            scope.values[info.name] = formal_input = Value(scope.prefix + info.name, t)
            scope.builder.inputs.append(formal_input)
        self._nodes(proto.node, scope, self._inside(at, key))
        return scope, self._results(proto, scope)


def _where_taken(error: GraphcError) -> GraphcError:
    hint = f"{error.hint}; " if error.hint else ""
    warning = copy(error)
    warning.hint = f"{hint}it is an error only where this branch is taken"
    return warning


def _declared(proto: GraphProto) -> dict[str, TensorType]:
    """Types that the file declares for its results."""
    found = {}
    for info in proto.output:
        with suppress(GraphcError):  # of a dtype that is none, say: the operators tell
            t = declared_type(info)
            if t is not None:
                found[info.name] = t
    return found


_HINTS = {  # of domains whose operators have no meaning apart from the machine that wrote them
    "com.microsoft.nchwc": "ONNX Runtime saved this model with weights in blocks as wide as the registers of that machine, which "
    "the file does not tell: save it with graph_optimization_level ORT_ENABLE_EXTENDED, or use the model before"
}


def _unknown(proto: NodeProto, known: Iterable[str]) -> UnsupportedError:
    domain = f" of domain '{proto.domain}'" if proto.domain not in DEFAULT_DOMAINS else ""
    if proto.domain in _HINTS:
        return UnsupportedError(f"operator '{proto.op_type}'{domain} is not supported", hint=_HINTS[proto.domain])
    name = operator_name(proto)
    own = name.rpartition("::")[0]
    listed = f" {own}" if own and any(k.startswith(f"{own}::") for k in known) else ""
    hints = [f"`graphc operators{listed}` lists what is", "export with standard operators or as a model function"]
    beside = {k.rpartition("::")[2]: k for k in known if k.rpartition("::")[0] == own}
    if close := [beside[k] for k in get_close_matches(name.rpartition("::")[2], beside, 2, 0.8)]:
        hints.insert(0, f"did you mean {' or '.join(close)}?")
    elif own == "com.microsoft":
        hints.insert(0, "graphc has other operators of ONNX Runtime's own, and not this one")
    if own and not listed:
        hints.append("`--import FILE.py` brings operators of your own (docs/add-an-operator.md)")
    return UnsupportedError(f"operator '{proto.op_type}'{domain} is not supported", hint="; ".join(hints))
