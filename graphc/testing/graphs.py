"""A Hypothesis strategy of graphs, made node by node of uses of operators, on values that the nodes before have computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from graphc.errors import GraphcError
from graphc.graph import Builder, Graph, Value
from graphc.interpret import run_node
from graphc.op import Case, Op, Tensor, all_ops, get_op
from graphc.testing.strategies import described_uses, is_valid, resized
from graphc.testing.uses import Use, bounds, broadcasts, use_of

MOST = 5000  # elements of a value


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

    def fitting(self, fits: Callable[[np.ndarray], bool]) -> list[Value]:
        """Values that fit, the newest first: a graph of a few nodes is rather a chain then."""
        return [v for v, a in reversed(self.arrays.items()) if fits(a)]

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
        op = draw(st.sampled_from(pool), "operator")
        taken = tuple(d for d in dtypes if d in op.samples.dtypes) or op.samples.dtypes[:1]
        _add(draft, draw, op, taken)
    b = draft.builder
    if not b.nodes:
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


def _add(draft: _Draft, draw: st.DrawFn, op: Op, dtypes: Sequence[str]) -> None:
    """A node that reads values which are there, if the operator is defined on them; one that reads none, else."""
    case, use = draw(described_uses(op, special=False, dtypes=dtypes))
    found = _on_a_value(draft, draw, op, case, use)
    if found is None or not _try(draft, draw, *found):
        _try(draft, draw, case, use, {})


def _on_a_value(
    draft: _Draft, draw: st.DrawFn, op: Op, case: Case, use: Use
) -> tuple[Case, Use, dict[int, Value]] | None:
    """The use with its first operand a value that is there, and others of the sizes that follow."""
    first = next((i for i, spec in enumerate(case.inputs) if isinstance(spec, Tensor) and i not in use.constants), None)
    if first is None:
        return None
    spec, array = case.inputs[first], use.arrays[first]
    assert isinstance(spec, Tensor) and array is not None
    anywhere = broadcasts(op)
    values = draft.fitting(lambda a: (anywhere or a.ndim == array.ndim) and _takes(op, first, spec, array, a))
    if not values or not draw(st.booleans(), "reads a value"):
        return None
    value = draw(st.sampled_from(values[:4]), "value")
    if anywhere:
        case = Case(tuple(Tensor(value.shape) for _ in case.inputs))
    else:
        sizes = dict(zip(spec.shape, value.shape))
        case = resized(case, sizes)
        if case.inputs[first] != replace(spec, shape=value.shape) or not is_valid(op, case):
            return None
    made = use_of(op, case, array.dtype.name if spec.dtype is None else op.samples.dtypes[0], coarse=True)
    return case, made, {first: value}


def _takes(op: Op, i: int, spec: Tensor, like: np.ndarray, a: np.ndarray) -> bool:
    """Is the operator defined on this array, as its operand i?"""
    if a.dtype != like.dtype or a.dtype.kind in "OUS":
        return False
    if a.dtype.kind == "b" or not a.size:
        return True
    low, high = bounds(op, i, spec, a.dtype)
    return bool(low <= a.min() and a.max() <= high)


def _try(draft: _Draft, draw: st.DrawFn, case: Case, use: Use, values: dict[int, Value]) -> bool:
    """Add the node, unless it gives what is not finite or too large. values: operands that are there; others are, too, by chance."""
    b, op = draft.builder, use.op
    before = len(b.nodes), len(b.inputs), dict(draft.arrays), dict(draft.feeds)
    operands: list[Value | None] = []
    for i, (spec, array) in enumerate(zip(case.inputs, use.arrays)):
        value = values.get(i)
        if value is None and isinstance(spec, Tensor) and array is not None and i not in use.constants:
            same = draft.fitting(lambda a: a.shape == array.shape and _takes(op, i, spec, array, a))  # noqa: B023
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
