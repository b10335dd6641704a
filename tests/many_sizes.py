"""Uses of operators with sizes that stand for many: one plan for several shapes, against fresh plans for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from strategies import Use

import graphc
from graphc.executable import Executable
from graphc.graph import Builder, Graph
from graphc.model import Model

ALGORITHMS = ("winograd", "strassen")  # chosen for the example's sizes: they round in another way


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


def grown(use: Use, more: Mapping[int, int], seed: int) -> Use:
    """The same with inputs of other sizes, `more` for each size that there is; their elements are drawn from the given ones."""
    rng = np.random.default_rng(seed)
    arrays = []
    for i, a in enumerate(use.arrays):
        if a is None or i in use.constants or not a.ndim:
            arrays.append(a)
        else:
            arrays.append(rng.choice(a.reshape(-1), [n + more.get(n, 0) for n in a.shape]))
    return replace(use, arrays=tuple(arrays))


def for_many(model: Model, arrays: Sequence[np.ndarray]) -> Executable | None:
    """A plan for many shapes, these among them; None where there are no others. Raises what keeps it from that."""
    return model._source.bind_many(arrays, model._valued)


def fresh(use: Use, **options: object) -> list[np.ndarray]:
    """Results of a plan for these shapes alone."""
    return list(graphc.compile(use.graph(), **options).run(dict(zip(names_of(use), use.inputs))).values())


def names_of(use: Use) -> list[str]:
    return [f"x{i}" for i, a in enumerate(use.arrays) if a is not None and i not in use.constants]


def guards(executable: Executable) -> tuple[tuple[str, str], ...]:
    """Of a plan for many: each with who asked."""
    return executable._plan.assembled.binding.program.texts
