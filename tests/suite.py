"""One use of an operator compiled for a target, against the reference in float64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

import graphc
from graphc import testing
from graphc.op import Op, all_ops
from graphc.testing import Use, cases, checking, use_of

OPS = {
    n: op for n, op in all_ops().items() if not op.objects or n == "Identity"
}  # the others: tests/ops/test_sequences.py


def as_inputs(use: Use) -> Use:
    """Only what the type rule needs as constants: what else a case gives as numbers is read at run time."""
    return replace(use, constants=frozenset(use.op.values) & use.constants)


def compiled(use: Use, target: str = "cpu", threads: int = 1, disabled: Sequence[str] = ()) -> graphc.Model:
    return graphc.compile(use.graph(), target=target, threads=threads, disabled=disabled)


def results(model: graphc.Model, use: Use) -> list[np.ndarray]:
    return list(model.run(dict(zip([s.name for s in model.inputs], use.inputs))).values())


def check(use: Use, target: str = "cpu", threads: int = 1, disabled: Sequence[str] = ()) -> graphc.Model:
    """Compile and run; values, dtypes and shapes must be those of the reference in float64."""
    return testing.check(use, (target,), folder=None, threads=threads, disabled=disabled)[0]


def host_reasons(model: graphc.Model, use: Use) -> set[str]:
    return checking.host_reasons(model)


def uses_of(name: str, dtypes: Iterable[str] | None = None) -> list[Use]:
    op = OPS[name]
    return [as_inputs(use_of(op, case, dtype)) for case in cases(op) for dtype in dtypes or op.samples.dtypes[:1]]


# --- uses of one operator ---
def use(name: str, *arrays: np.ndarray, constants: Sequence[int] = (), n_outputs: int = 1, **attrs) -> Use:
    op: Op = OPS[name]
    return Use(op, arrays, attrs, n_outputs, frozenset(constants))


def randoms(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).uniform(-2, 3, shape)
    return x.astype(dtype)


def axes(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def positions(high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-high, high, shape)
