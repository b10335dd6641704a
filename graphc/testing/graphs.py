"""A Hypothesis strategy of graphs, made node by node of uses of operators, on values that the nodes before have computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from graphc.errors import GraphcError
from graphc.graph import Builder, Graph, Value
from graphc.interpret import run_node
from graphc.op import Case, Op, Samples, Tensor, all_ops, get_op
from graphc.testing.strategies import described_uses, is_valid, resized
from graphc.testing.uses import Use, bounds, broadcasts, cases, use_of

MOST = 5000  # elements of a value
WIDE = 30  # what operators that have no range of their own take


@dataclass(frozen=True)
class Net:
    """A graph, and inputs on which each of its nodes is defined."""

    graph: Graph
    feeds: Mapping[str, np.ndarray]

    def __repr__(self) -> str:
        feeds = (f"  {n}: {a.ravel().tolist()}" for n, a in self.feeds.items() if a.size < 40)
        return "\n".join([str(self.graph), *feeds])


@dataclass
class _Draft:
    """Nodes so far, what they compute, and the inputs."""

    builder: Builder = field(default_factory=lambda: Builder("drawn"))
    arrays: dict[Value, np.ndarray] = field(default_factory=dict)
    feeds: dict[str, np.ndarray] = field(default_factory=dict)

    def input(self, array: np.ndarray) -> Value:
        value = self.builder.input(f"x{len(self.feeds)}", array.dtype, array.shape)
        self.feeds[value.name] = self.arrays[value] = array
        return value


@st.composite
def graphs(
    draw: st.DrawFn,
    ops: Collection[str] | None = None,
    nodes: int | tuple[int, int] = (1, 6),
    dtypes: Sequence[str] = ("float32",),
) -> Net:
    """Valid graphs with inputs for them. Each node reads what is there where its operator takes that, as the samples of its record
    tell, and new inputs and constants else. Results are what no node reads.

    ops: names of operators [default: all whose results follow from their operands]. nodes: how many, or at least and at most. dtypes:
    of operands that a sample gives none. Raises UnsupportedError for an unknown operator.
    """
    pool = [get_op(name) for name in ops] if ops is not None else [get_op(name) for name in _usual()]
    least, most = (nodes, nodes) if isinstance(nodes, int) else nodes
    draft = _Draft()
    for _ in range(draw(st.integers(least, most), "nodes")):
        _add(draft, draw, pool, dtypes)
    b = draft.builder
    if len(b.nodes) < least:  # what gives numbers that are not finite is left out
        reject()
    read = {v for node in b.nodes for v in node.operands}
    results = [v for node in b.nodes for v in node.outputs if v not in read]
    return Net(b.build({f"y{i}": v for i, v in enumerate(results)}), draft.feeds)


@lru_cache(maxsize=1)
def _usual() -> tuple[str, ...]:
    """Operators of tensors whose results follow from their operands, and that have samples."""
    return tuple(
        name
        for name, op in all_ops().items()
        if op.deterministic is True
        and not (op.internal or op.objects or op.holds_graphs)
        and not {"object", "string"} & {*op.samples.dtypes}
        and (op.samples.cases or broadcasts(op))
    )


def _add(draft: _Draft, draw: st.DrawFn, pool: Sequence[Op], dtypes: Sequence[str]) -> None:
    """A node that reads a value which is there, if an operator is defined on one; else one that reads none."""
    value, made = None, [v for node in draft.builder.nodes for v in node.outputs]
    if made and draw(st.integers(0, 9), "reads a value") > 0:
        value = draw(st.sampled_from(made[:-4:-1]))
        pool = [op for op in pool if any(_reads(op, c, draft.arrays[value]) for c in cases(op))] or pool
    op = draw(st.sampled_from(pool), "operator")
    taken = [d for d in dtypes if d in op.samples.dtypes] or op.samples.dtypes[:1]
    if value is None:
        _try(draft, draw, *draw(described_uses(op, False, taken)), {})
        return
    array = draft.arrays[value]
    if array.dtype.name in op.samples.dtypes:
        taken = [array.dtype.name]
    case, use = draw(described_uses(op, False, taken, chosen=lambda case: _reads(op, case, array)))
    found = _on_a_value(op, case, use, value, array)
    if found is None or not _try(draft, draw, *found):
        _try(draft, draw, case, use, {})


def _first(op: Op, case: Case) -> tuple[int, Tensor] | None:
    """The first operand that others may compute, and its number."""
    tensors = ((i, spec) for i, spec in enumerate(case.inputs) if isinstance(spec, Tensor) and i not in op.values)
    return next(tensors, None)


def _reads(op: Op, case: Case, array: np.ndarray) -> bool:
    """May the first operand of the case be this array, with other sizes if need be?"""
    first = _first(op, case)
    if first is None or not (broadcasts(op) or len(first[1].shape) == array.ndim):
        return False
    i, spec = first
    fits = array.dtype.name == spec.dtype if spec.dtype else array.dtype.name in op.samples.dtypes
    return fits and _takes(op, i, spec, array)


def _on_a_value(
    op: Op, case: Case, use: Use, value: Value, array: np.ndarray
) -> tuple[Case, Use, dict[int, Value]] | None:
    """The use with its first operand a value that is there, and others of the sizes that follow; None where the operator does not
    take it."""
    first = _first(op, case)
    if first is None:
        return None
    i, spec = first
    if broadcasts(op):
        case = Case(tuple(Tensor(array.shape) for _ in case.inputs))
    elif len(spec.shape) != array.ndim:
        return None
    else:
        case = resized(case, dict(zip(spec.shape, array.shape)))
        if case.inputs[i] != replace(spec, shape=array.shape) or not is_valid(op, case):
            return None
    given = use.arrays[i]
    if given is None or given.dtype != array.dtype or not _takes(op, i, spec, array):
        return None
    return (
        case,
        use_of(op, case, array.dtype.name if spec.dtype is None else op.samples.dtypes[0], coarse=True),
        {i: value},
    )


def _takes(op: Op, i: int, spec: Tensor, a: np.ndarray) -> bool:
    """Is the operator defined on these elements, as its operand i?"""
    if a.dtype.kind in "bOUS" or not a.size:
        return a.dtype.kind not in "OUS"
    low, high = bounds(op, i, spec, a.dtype)
    if (low, high) == (Samples.low, Samples.high):  # nobody has stated a range
        low, high = -WIDE, WIDE
    return bool(low <= a.min() and a.max() <= high)


def _try(draft: _Draft, draw: st.DrawFn, case: Case, use: Use, values: dict[int, Value]) -> bool:
    """Add the node, unless it gives what is not finite or too large. values: operands that are there; others are, too, by chance."""
    b, op = draft.builder, use.op
    before = len(b.nodes), len(b.inputs), dict(draft.arrays), dict(draft.feeds)
    operands: list[Value | None] = []
    for i, (spec, array) in enumerate(zip(case.inputs, use.arrays)):
        value = values.get(i)
        if value is None and isinstance(spec, Tensor) and array is not None and i not in use.constants:
            same = [
                v
                for v, a in reversed(draft.arrays.items())
                if a.dtype == array.dtype and a.shape == array.shape and _takes(op, i, spec, a)
            ]
            value = draw(st.sampled_from([None, *same[:3]]), "operand")
        if value is None and array is not None:
            constant = i in use.constants or (i > 0 and draw(st.booleans(), "constant"))
            value = b.constant(array) if constant else draft.input(array)
        operands.append(value)
    try:
        made = b.add(op, *operands, outputs=use.n_outputs, **use.attrs)
        arrays = [None if v is None else v.data if v.is_const else draft.arrays[v] for v in operands]
        with np.errstate(all="ignore"):
            results = run_node(b.nodes[-1], arrays)
        good = all(a.size <= MOST and np.isfinite(a.astype(np.float64)).all() for a in results)
    except (GraphcError, TypeError, ValueError):
        good = False
    if good:
        draft.arrays.update(zip(made if isinstance(made, tuple) else (made,), results))
        return True
    del b.nodes[before[0] :], b.inputs[before[1] :]
    draft.arrays, draft.feeds = before[2:]
    return False
