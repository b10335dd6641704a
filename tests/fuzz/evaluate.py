"""One ONNX node on given operands: its exact result, and the perturbed ones.

The operators' NumPy references compute it, in float64 whatever the dtypes are, and once more in the dtypes themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, OperatorSetIdProto, defs, helper, numpy_helper, shape_inference

from graphc import frontends
from graphc.graph import Graph
from graphc.interpret import run_graph, run_node

from . import exact
from .draws import Draw, integer_range, is_float

PAIRS = 2  # perturbed computations: each once up and once down
IR_VERSION = 10
ML = "ai.onnx.ml"


class Reject(Exception):
    """The node is not for this model: not valid, not defined, too large, or its result depends on rounding."""


class Refused(Reject):
    """graphc's front end or reference raised an error. model, feeds: the node alone, to see what others say."""

    def __init__(self, model: ModelProto, feeds: dict[str, np.ndarray], text: str) -> None:
        super().__init__(text)
        self.model, self.feeds, self.text = model, feeds, text


@dataclass(eq=False)
class Tensor:
    """A value of a model. `worlds`: for each binding of the model's open dims, the exact result and the perturbed ones (none
    where every engine must get the same). Floats are kept as float64.

    signed: the signs of zeros are decided. operand: computed from inputs, not known when compiling.
    """

    name: str
    dtype: np.dtype
    worlds: tuple[tuple[np.ndarray, ...], ...]
    constant: np.ndarray | None = None
    signed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.worlds[0][0].shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self.worlds[0][0].size

    @property
    def value(self) -> np.ndarray:
        return self.worlds[0][0]

    @property
    def certain(self) -> bool:
        return all(len(w) == 1 for w in self.worlds)

    @property
    def open(self) -> frozenset[int]:
        """Axes whose size depends on the binding of the open dims."""
        shapes = [w[0].shape for w in self.worlds]
        return frozenset(i for i in range(self.rank) if len({s[i] for s in shapes}) > 1)

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(w[0].shape for w in self.worlds)

    def native(self, world: int) -> np.ndarray:
        """The exact result, rounded to the dtype."""
        with np.errstate(all="ignore"):
            return np.asarray(self.worlds[world][0], self.dtype)

    def bound(self, world: int) -> np.ndarray | float:
        """How far off a result may be, an element each."""
        base, *moved = self.worlds[world]
        if not moved or not base.size:
            return 0.0
        with np.errstate(all="ignore"):
            spread = np.max([np.abs(m - base) for m in moved], axis=0)
        spread = np.where(np.isfinite(spread), spread, 0.0)
        typical = np.sqrt(np.mean(spread**2))
        finite = np.where(np.isfinite(base), np.abs(base), 0.0)
        name = self.dtype.name
        return 2 * np.maximum(spread, typical / 4) + 2 * exact.UNIT[name] * finite + exact.TINY[name]


@dataclass(frozen=True)
class Unit:
    """What is evaluated at once: a node, or a few between which pass values that are no tensors. outputs: the tensors' names.
    Nodes of a unit of several move elements, whatever a loop among them computes."""

    nodes: tuple[NodeProto, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, nodes: NodeProto | Sequence[NodeProto], outputs: Sequence[str] = ()) -> Unit:
        if isinstance(nodes, NodeProto):
            return cls((nodes,), tuple(n for n in nodes.output if n))
        return cls(tuple(nodes), tuple(outputs))

    @cached_property
    def op(self) -> str:
        """The operator whose rounding counts."""
        names = [full_name(node) for node in self.nodes]
        return names[0] if len(names) == 1 else "Loop" if "Loop" in names else "Identity"

    @property
    def reads(self) -> list[str]:
        """Names of its operands."""
        made = {n for node in self.nodes for n in node.output}
        return list(dict.fromkeys(n for node in self.nodes for n in read_names(node) if n not in made))


def full_name(node: NodeProto) -> str:
    """The operator, with its domain in front where that is not ONNX's own."""
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def imports(nodes: Iterable[NodeProto], opset: int) -> list[OperatorSetIdProto]:
    """Versions of ONNX's operators and of the other domains that the nodes are of."""
    versions = {"": opset, ML: 5 if opset in (21, 23, 25) else 3}
    domains = dict.fromkeys(["", *(n.domain for n in nodes)])
    return [helper.make_opsetid(d, versions.get(d, 1)) for d in domains]


def known(name: str, array: np.ndarray, worlds: int, constant: bool = True) -> Tensor:
    """A value that is the same in all worlds."""
    wide = exact.widened(array)
    return Tensor(name, array.dtype, ((wide,),) * worlds, array if constant else None, signed=True)


def value_info(name: str, dtype: np.dtype, shape: Sequence | None):
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)


def read_names(node: NodeProto) -> list[str]:
    """Names that a node reads: operands, and what its subgraphs take from outside."""
    names = dict.fromkeys(n for n in node.input if n)
    for a in node.attribute:
        if a.HasField("g"):
            names.update(dict.fromkeys(captured_names(a.g)))
    return list(names)


def captured_names(graph: GraphProto) -> list[str]:
    inside = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    captured: dict[str, None] = {}
    for node in graph.node:
        captured.update(dict.fromkeys(n for n in read_names(node) if n not in inside))
        inside.update(node.output)
    captured.update(dict.fromkeys(o.name for o in graph.output if o.name not in inside))
    return list(captured)


def model_of(unit: Unit, operands: Mapping[str, Tensor], world: int, opset: int) -> ModelProto:
    """A model of that unit. Constants stay constants."""
    inputs = [value_info(n, t.dtype, t.worlds[world][0].shape) for n, t in operands.items() if t.constant is None]
    constants = [numpy_helper.from_array(t.constant, n) for n, t in operands.items() if t.constant is not None]
    outputs = [helper.make_empty_tensor_value_info(n) for n in unit.outputs]
    graph = helper.make_graph(unit.nodes, "node", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=imports(unit.nodes, opset), ir_version=IR_VERSION)


def evaluate(
    nodes: NodeProto | Unit, operands: Mapping[str, Tensor], worlds: int, opset: int, noise: Draw
) -> list[Tensor]:
    """The results of a node (those with a name) or of a unit. Raises Reject."""
    unit = nodes if isinstance(nodes, Unit) else Unit.of(nodes)
    exactly = _may_be_exact(unit, list(operands.values()))
    found = [_in_world(unit, operands, w, opset, noise, exactly) for w in range(worlds)]
    tensors = []
    signed = (
        unit.op in exact.MOVES | exact.SIGNED_SUMS
        and _reduction(unit) not in ("max", "min")  # of 0.0 and -0.0 either is the larger one
        and all(t.signed for t in operands.values())
    )
    for i, name in enumerate(unit.outputs):
        dtypes = {results[i][0] for results in found}
        if len(dtypes) != 1 or len({results[i][1][0].ndim for results in found}) != 1:
            raise Reject("another dtype or rank for other sizes")
        tensors.append(Tensor(name, dtypes.pop(), tuple(results[i][1] for results in found), signed=signed))
    return tensors


Result = tuple[np.dtype, tuple[np.ndarray, ...]]


def _may_be_exact(unit: Unit, operands: Sequence[Tensor]) -> bool:
    """Does every engine compute the same from what it gets, rounding or not?"""
    op = unit.op
    if op in exact.MOVES | exact.SELECTS:
        return _reduction(unit) in ("none", "max", "min")
    if op in exact.SUMS:
        return all(t.certain and exact.is_coarse(t.dtype, *(w[0] for w in t.worlds)) for t in operands)
    return False


def _reduction(unit: Unit) -> str:
    return next((a.s.decode() for node in unit.nodes for a in node.attribute if a.name == "reduction"), "none")


def _in_world(
    unit: Unit, operands: Mapping[str, Tensor], world: int, opset: int, noise: Draw, exactly: bool
) -> list[Result]:
    model = model_of(unit, operands, world, opset)
    feeds = {n: t.native(world) for n, t in operands.items() if t.constant is None}
    _check_valid(model)
    try:
        graph = frontends.load(model)
        native = run_graph(graph, [feeds[v.name] for v in graph.inputs])
    except Exception as error:  # whatever it is: others are asked
        raise Refused(model, feeds, f"{type(error).__name__}: {error}") from error
    samples = {n: t.worlds[world] for n, t in operands.items()}
    base = _run_wide(graph, {n: s[0] for n, s in samples.items()})
    _check_range(unit.nodes[0], native, samples)
    _check_ties(unit.nodes[0], operands, samples)
    _check_defined(unit.nodes[0], native, base, {n: s[0] for n, s in samples.items()})
    certain = all(len(s) == 1 for s in samples.values())
    exactly_done = exactly and certain and all(exact.same(exact.widened(n), b) for n, b in zip(native, base))
    sums = unit.op in exact.SUMS
    coarse = not sums or all(exact.is_coarse(n.dtype, b) for n, b in zip(native, base))
    if exactly_done and coarse:
        return [(n.dtype, (b,)) for n, b in zip(native, base)]
    moved = [
        m
        for pair in range(PAIRS)
        for m in _perturbed(unit, graph, operands, samples, native, noise, 2 * pair + 1, exactly and not sums)
    ]
    if unit.op in exact.ROUND_WITHIN:
        moved.append([exact.widened(n) for n in native])
    return [_joined(n, b, [m[i] for m in moved]) for i, (n, b) in enumerate(zip(native, base))]


def _check_valid(model: ModelProto) -> None:
    """Raises Reject for what ONNX does not allow: graphc takes some of it, others do not."""
    versions = {o.domain: o.version for o in model.opset_import}
    for node in model.graph.node:
        version = versions[node.domain]
        if node.domain not in ("", ML):
            continue
        if not defs.has(node.op_type, version, node.domain):
            raise Reject("not in this opset")
        schema = defs.get_schema(node.op_type, version, node.domain)
        if schema.deprecated or any(a.name not in schema.attributes for a in node.attribute):
            raise Reject("not in this opset")
        if any(not n and f.option == f.option.Single for n, f in zip(node.input, schema.inputs)):
            raise Reject("an operand that must be there")
    try:
        shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:  # its errors are of many kinds
        raise Reject(f"not valid ONNX: {error}") from None


def _perturbed(
    unit: Unit,
    graph: Graph,
    operands: Mapping[str, Tensor],
    samples: Mapping[str, tuple[np.ndarray, ...]],
    native: Sequence[np.ndarray],
    noise: Draw,
    first: int,
    exactly: bool,
) -> Iterator[list[np.ndarray]]:
    """The results with rounding errors of random signs, and with the opposite ones."""
    op = unit.op
    smallest = exact.unit_of(op, [t.dtype for t in operands.values()] + [n.dtype for n in native])
    effort = 0.0 if exactly else exact.MARGIN * smallest * exact.effort_of(op, [s[0] for s in samples.values()], native)
    own = 0.0 if exactly else exact.MARGIN * smallest
    absolute = own * exact.ABSOLUTE * exact.is_among(op, exact.WITH_ABSOLUTE)
    largest, together = exact.is_among(op, exact.OVER_LARGEST), op in exact.LONG_SUMS
    constants = op in exact.EFFORT and op not in exact.EXACT_CONSTANTS
    signs = {n: noise.signs(s[0].shape, together) for n, s in samples.items()}
    after = [noise.signs(n.shape) for n in native]
    for i, sign in ((first, 1.0), (first + 1, -1.0)):
        feeds = {}
        for n, s in samples.items():
            x = s[i] if len(s) > 1 else s[0]
            moves = effort and x.dtype.kind == "f" and (operands[n].constant is None or constants)
            feeds[n] = exact.nudged(x, sign * effort, largest, signs[n]) if moves else x
        yield [
            exact.nudged(r, sign * own, False, a) + sign * absolute * a
            if is_float(n.dtype) and r.shape == a.shape
            else r
            for r, a, n in zip(_run_wide(graph, feeds), after, native)
        ]


def _run_wide(graph: Graph, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The graph's results with float64 in place of every float."""
    env = {v: feeds[v.name] for v in graph.inputs}
    for node in graph.nodes:
        operands = []
        for i, v in enumerate(node.inputs):
            if v is not None and v.is_const:
                operands.append(v.data if i in node.op.values else feeds.get(v.name, exact.widened(v.data)))
            else:
                operands.append(None if v is None else env[v])
        try:
            results = run_node(node, operands, strict=False)
        except Exception as error:  # what works in float32 may fail here: an operator that must have float32
            raise Reject(f"not in float64: {error}") from error
        env.update((v, exact.widened(r)) for v, r in zip(node.outputs, results))
    return [exact.widened(v.data) if v.is_const else env[v] for v in graph.outputs]


def _check_range(node: NodeProto, native: Sequence[np.ndarray], samples: Mapping[str, tuple[np.ndarray, ...]]) -> None:
    """Raises Reject for a cast of a float that the integer can't hold: not defined."""
    if node.op_type in ("Cast", "CastLike") and (info := integer_range(native[0].dtype)):
        for x in samples[node.input[0]]:
            if x.dtype.kind == "f" and not ((x > info[0] - 1.0) & (x < info[1] + 1.0)).all():
                raise Reject("out of range")


def _check_ties(node: NodeProto, operands: Mapping[str, Tensor], samples: Mapping[str, tuple[np.ndarray, ...]]) -> None:
    """Raises Reject for an Equal of numbers that rounding makes equal: moved by anything else they are not."""
    if node.op_type == "Equal" and is_float(operands[node.input[0]].dtype):
        x, y = (samples[i][0] for i in node.input)
        unit = exact.UNIT[operands[node.input[0]].dtype.name]
        if ((x != y) & (np.abs(x - y) <= 4 * unit * np.maximum(np.abs(x), np.abs(y)))).any():
            raise Reject("rounding decides")


def _check_defined(
    node: NodeProto, native: Sequence[np.ndarray], wide: Sequence[np.ndarray], operands: Mapping[str, np.ndarray]
) -> None:
    """Raises Reject where the result leaves the dtype's range, or is NaN or infinite though no operand is; and where
    their spreading depends on the algorithm."""
    special = {n for n, a in operands.items() if a.dtype.kind in "fV" and not np.isfinite(a.astype(np.float64)).all()}
    weights = node.input[1:] if node.op_type in exact.SPREADS_PADDED else ()
    if special and node.op_type in exact.SPREADS or special.intersection(weights):
        raise Reject("NaN or infinite operands")
    for n, w in zip(native, wide):
        if n.shape != w.shape:
            raise Reject("the shape follows from rounding")
        if n.dtype == bool and (n != w).any():
            raise Reject("rounding decides")
        if not is_float(n.dtype):
            continue
        finite = np.isfinite(w)
        if not special and not finite.all():
            raise Reject("not finite")
        if np.abs(w, where=finite, out=np.zeros(w.shape)).max(initial=0) > exact.LARGEST[n.dtype.name]:
            raise Reject("too large")
        if not exact.same(np.where(np.isfinite(exact.widened(n)), 0.0, exact.widened(n)), np.where(finite, 0.0, w)):
            raise Reject("NaN or infinite in one precision only")


def _joined(native: np.ndarray, base: np.ndarray, moved: Sequence[np.ndarray]) -> Result:
    """The result and its perturbed forms. Raises Reject where they differ by more than rounding explains."""
    if any(m.shape != base.shape for m in moved):
        raise Reject("the shape follows from rounding")
    if not is_float(native.dtype):
        if not all(exact.same(m, native) for m in (base, *moved)):
            raise Reject("an integer follows from rounding")
        return native.dtype, (native,)
    finite = np.isfinite(base)
    largest = np.abs(base, where=finite, out=np.zeros(base.shape)).max(initial=0)
    for m in moved:
        if not exact.same(np.where(np.isfinite(m), 0.0, m), np.where(finite, 0.0, base)):
            raise Reject("NaN or infinite by rounding")
        off = np.abs(np.where(finite, m, 0.0) - np.where(finite, base, 0.0)).max(initial=0)
        if off > exact.CHAOTIC[native.dtype.name] * max(largest, 1e-3):
            raise Reject("ill-conditioned")
    return native.dtype, (base, *moved)
