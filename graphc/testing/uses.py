"""Uses of operators: an operator, arrays, attributes. Records describe valid ones as data (`samples`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes  # noqa: F401  (NumPy knows the names of bfloat16 and its like once this is imported)
import numpy as np

from graphc.dtypes import is_float
from graphc.errors import TypeRuleError
from graphc.graph import Builder, Graph, make_node
from graphc.graph import Value as GraphValue
from graphc.interpret import run_graph
from graphc.op import Case, Const, Op, Tensor, get_op
from graphc.types import TensorType

WORDS = ("", "a", "abc", "graph", "ümlaut")
BROADCAST_SHAPES = (((2, 3), (2, 3)), ((4, 1), (1, 5)), ((2, 3, 4), (4,)), ((3,), ()), ((), ()), ((0, 3), (1, 1)))


@dataclass(frozen=True)
class Use:
    """An operator applied to arrays. `constants`: operands whose values are known when compiling."""

    op: Op
    arrays: tuple[np.ndarray | None, ...]
    attrs: Mapping[str, Any]
    n_outputs: int = 1
    constants: frozenset[int] = frozenset()

    @staticmethod
    def of(
        op: str,
        arrays: Iterable[Any],
        attrs: Mapping[str, Any] | None = None,
        *,
        n_outputs: int = 1,
        constants: Iterable[int] = (),
    ) -> Use:
        """The use of an operator that is given by its name. Raises UnsupportedError where there is none."""
        operands = tuple(None if a is None else np.asarray(a) for a in arrays)
        return Use(get_op(op), operands, attrs or {}, n_outputs, frozenset(constants))

    def operands(self, b: Builder) -> list[GraphValue | None]:
        """The operands in a builder: inputs x0, x1 … and constants."""
        return [self._operand(b, i, a) for i, a in enumerate(self.arrays)]

    def _operand(self, b: Builder, i: int, array: np.ndarray | None) -> GraphValue | None:
        if array is None:
            return None
        return b.constant(array) if i in self.constants else b.input(f"x{i}", array.dtype, array.shape)

    def graph(self) -> Graph:
        """A graph of the one node, with inferred types."""
        b = Builder(self.op.name)
        names = [f"y{i}" for i in range(self.n_outputs)]
        outputs = b.add(self.op, *self.operands(b), name="node", outputs=names, **self.attrs)
        return b.build((outputs,) if self.n_outputs == 1 else outputs)

    @property
    def inputs(self) -> list[np.ndarray]:
        """The arrays for the graph's inputs, in order."""
        return [a for i, a in enumerate(self.arrays) if a is not None and i not in self.constants]

    def run(self) -> list[np.ndarray]:
        """Results of the operator's reference, checked against the inferred dtypes and shapes."""
        return run_graph(self.graph(), self.inputs)

    def with_floats(self, dtype: str) -> Use:
        """The same use with all floating-point operands in one dtype."""
        arrays = (a.astype(dtype) if a is not None and is_float(a.dtype) else a for a in self.arrays)
        return replace(self, arrays=tuple(arrays))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def __repr__(self) -> str:
        shown = ["-" if a is None else str(TensorType(a.dtype, a.shape)) for a in self.arrays]
        values = [
            f"\n  operand {i}: {a.ravel().tolist()}" for i, a in enumerate(self.arrays) if a is not None and a.size < 40
        ]
        attrs = "".join(f", {k}={v!r}" for k, v in self.attrs.items())
        return f"{self.op.name}({', '.join(shown)}{attrs}){''.join(values)}"


def broadcasts(op: Op) -> bool:
    """Does it take any operands of one dtype whose shapes broadcast, without further attributes?"""
    if not op.elementwise:
        return False
    dtype, shapes = np.dtype(op.samples.dtypes[0]), ((2, 1), (1, 3), (2, 3))
    operands = [GraphValue(f"x{i}", TensorType(dtype, shapes[i])) for i in range(least_operands(op))]
    try:
        (y,) = make_node(op, operands).outputs
    except TypeRuleError:
        return False
    return len(operands) == 1 or y.shape == (2, 3)


def least_operands(op: Op, extra: int = 1) -> int:
    """Number of operands to draw: optional ones are left to the cases."""
    return op.min_inputs + (extra if op.variadic else 0)


def cases(op: Op) -> tuple[Case, ...]:
    """The samples' cases, and for operators that broadcast the shapes that matter."""
    if not broadcasts(op):
        return op.samples.cases
    arity = least_operands(op)
    shapes = [tuple(pair[i % 2] for i in range(arity)) for pair in BROADCAST_SHAPES]
    return tuple(Case(tuple(map(Tensor, s))) for s in dict.fromkeys(shapes)) + op.samples.cases


def use_of(op: Op, case: Case, dtype: str, seed: int = 0, coarse: bool = False, special: bool = False) -> Use:
    """The use that a case describes, with random operands; `dtype` for those that do not name theirs.

    `coarse` draws multiples of 0.5, so that there are ties and halves; `special` mixes in the samples' special values.
    """
    rng = np.random.default_rng(seed)
    arrays = tuple(_array(op, i, spec, dtype, rng, coarse, special) for i, spec in enumerate(case.inputs))
    constants = {i for i, spec in enumerate(case.inputs) if isinstance(spec, Const)}
    given = {i for i in op.values if i < len(arrays) and arrays[i] is not None}
    return Use(op, arrays, case.attrs, case.n_outputs, frozenset(constants | given))


def _array(
    op: Op, i: int, spec: Tensor | Const | None, dtype: str, rng: np.random.Generator, coarse: bool, special: bool
) -> np.ndarray | None:
    if spec is None:
        return None
    if isinstance(spec, Const):
        return np.asarray(spec.value, spec.dtype)
    kind = np.dtype(object if (spec.dtype or dtype) == "string" else spec.dtype or dtype)
    if kind.kind == "b":
        return rng.random(spec.shape) < 0.5
    if kind.kind in "OUS":
        return rng.choice(np.array(WORDS, object), spec.shape)
    low, high = bounds(op, i, spec, kind)
    if not is_float(kind):
        return rng.integers(int(low), int(high), spec.shape, kind, endpoint=True)
    x = rng.uniform(low, high, spec.shape)
    if coarse:
        x = np.clip(np.round(2 * x) / 2, low, high)
    if special and op.samples.special:
        x = np.where(rng.random(spec.shape) < 0.3, rng.choice([*op.samples.special, 0.0, -0.0], spec.shape), x)
    return x.astype(kind)


def bounds(op: Op, i: int, spec: Tensor, kind: np.dtype) -> tuple[float, float]:
    """Between which elements of operand i lie. Of integers they are whole, and of the dtype."""
    low, high = _bound(op.samples.low, i, spec.low), _bound(op.samples.high, i, spec.high)
    if is_float(kind):
        return low, high
    info = np.iinfo(kind)
    low = max(math.ceil(low), info.min)
    return low, max(low, min(math.floor(high), info.max))


def _bound(of_domain: float | Sequence[float], i: int, of_tensor: float | None) -> float:
    if of_tensor is not None:
        return of_tensor
    return of_domain[min(i, len(of_domain) - 1)] if isinstance(of_domain, Sequence) else of_domain
