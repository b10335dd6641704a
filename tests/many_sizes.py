"""Uses of operators with sizes that stand for many: one plan for several shapes, against fresh plans for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import graphc
from graphc.errors import InputError, TypeRuleError
from graphc.executable import Executable
from graphc.graph import Builder, Graph
from graphc.model import Model
from graphc.testing import Use

ALGORITHMS = ("winograd", "strassen", "image_runs")  # chosen for the example's sizes: they round in another way


def open_graph(use: Use, shared: bool) -> Graph:
    """The use's graph with a name for each dim of its inputs. shared: one name for dims of one size."""
    b = Builder(use.op.name)
    operands = []
    for i, a in enumerate(use.arrays):
        if a is None or i in use.constants:
            operands.append(None if a is None else b.constant(a))
        else:
            names = [f"d{n}" if shared else f"x{i}_{axis}" for axis, n in enumerate(a.shape)]
            operands.append(b.input(f"x{i}", a.dtype, names))
    names = [f"y{i}" for i in range(use.n_outputs)]
    outputs = b.add(use.op, *operands, name="node", outputs=names, **use.attrs)
    return b.build((outputs,) if use.n_outputs == 1 else outputs)


def is_open(use: Use) -> bool:
    """Is a dim of its inputs above 1?"""
    return any(n > 1 for a in use.inputs for n in a.shape)


def other_sizes(use: Use, count: int, most: int = 19, seed: int = 0) -> Iterator[Use]:
    """The same with inputs of other sizes, up to so many more, equal ones of the same, and elements drawn from the given ones.
    Shapes that the operator does not take are left out."""
    rng = np.random.default_rng(seed)
    sizes = sorted({n for a in use.inputs for n in a.shape if n > 1})
    for _ in range(count):
        more = {n: int(rng.integers(2 - n if rng.random() < 0.3 else 1, most + 1)) for n in sizes}
        other = grown(use, more, rng)
        try:
            other.graph()
        except TypeRuleError:
            continue
        yield other


def grown(use: Use, more: Mapping[int, int], rng: np.random.Generator) -> Use:
    arrays = []
    for i, a in enumerate(use.arrays):
        if a is None or i in use.constants or not a.ndim:
            arrays.append(a)
        else:
            shape = [n + more.get(n, 0) for n in a.shape]
            arrays.append(rng.choice(a.reshape(-1), shape) if a.size else np.zeros(shape, a.dtype))
    return replace(use, arrays=tuple(arrays))


def inputs_of(use: Use) -> list[np.ndarray]:
    """As executables take them."""
    return [np.asarray(a, order="C") for a in use.inputs]


def for_many(model: Model, arrays: Sequence[np.ndarray]) -> Executable:
    """A plan for many shapes, these among them. Raises what keeps it from that."""
    found = model._source.bind_many(arrays, model._valued)
    assert found is not None
    return found


def fresh(use: Use, **options: Any) -> list[np.ndarray] | None:
    """Results of a plan for these shapes alone; None where the operator does not take them."""
    names = [f"x{i}" for i, a in enumerate(use.arrays) if a is not None and i not in use.constants]
    try:
        return list(graphc.compile(use.graph(), **options).run(dict(zip(names, use.inputs))).values())
    except (TypeRuleError, InputError):
        return None


def alone(graph: Graph, feeds: Mapping[str, np.ndarray], **options: Any) -> dict[str, np.ndarray]:
    """Results of a plan for the feeds' shapes alone, whatever plans are on disk."""
    model = graphc.compile(graph, **options)
    model.prepare({name: a.shape for name, a in feeds.items()})
    return model.run(feeds)


def guards(executable: Executable) -> list[str]:
    """Of a plan for many that is one program."""
    return [text for text, _ in executable._plan.assembled.binding.program.texts if text]


def same(got: list[np.ndarray], want: list[np.ndarray], use: Use, exact: bool = True) -> None:
    assert len(got) == len(want)
    for a, w in zip(got, want):
        assert (a.dtype, a.shape) == (w.dtype, w.shape), use
        if use.op.deterministic and not exact:
            np.testing.assert_allclose(a, w, rtol=1e-5, atol=1e-5, err_msg=str(use))  # of a few sums of numbers near 1
        elif use.op.deterministic:
            assert a.dtype.kind == "O" or a.tobytes() == w.tobytes() or np.array_equal(a, w, equal_nan=True), use
            assert a.dtype.kind != "O" or np.array_equal(a, w), use


def served(use: Use, shared: bool, others: int, tally: Counter[str], exact: bool = True, **options: Any) -> int | None:
    """For how many of the other shapes the plan is, for which it gives what plans for each give: a few that are near, where it
    is for none of those that are far. None where the operator does not take dims with these names."""
    try:
        model = graphc.compile(open_graph(use, shared), **options)
    except TypeRuleError:
        tally["names are refused"] += 1
        return None
    many = for_many(model, inputs_of(use))
    tally["rest planned for data" if not hasattr(many, "plan") else "planned whole"] += 1
    want = fresh(use, **options)
    assert want is not None
    same(many.run(inputs_of(use)), want, use, exact)
    held = tried = 0
    for most in (19, 2):
        for other in other_sizes(use, others, most):
            want = fresh(other, **options)
            if want is None:
                tally["other shape refused"] += 1
                continue
            tried += 1
            if many.holds(inputs_of(other)):
                held += 1
                same(many.run(inputs_of(other)), want, other, exact)
        if held or not tried:
            break
    tally["other shape served"] += held
    tally["other shape not served"] += tried - held
    return held if tried else None
