"""How much the reference's results move when the numbers that it computes with move by rounding."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.cli.difference import error_of, unit
from graphc.dtypes import is_float, is_integer
from graphc.graph import Graph, Node, Value
from graphc.interpret import run_node
from graphc.objects import ObjectType, boxed, given_back, unbox
from graphc.types import TensorType

UNITS = 8  # in the last place, by which numbers are moved: sums in another order
TRIALS = 3
BFLOAT16 = 2.0**-8  # a step of bfloat16, over a number
SECONDS = 60  # after which no further trial of a whole graph begins
OWN = 3  # times what the reference moves by: a difference up to that is explained


def alone(node: Node, operands: Sequence[np.ndarray | None]) -> tuple[Any, ...]:
    """What the reference makes of these operands, as callers get it."""
    return tuple(given_back(unbox(a)) for a in run_node(node, operands))


def as_operand(value: Any, t: TensorType | None) -> np.ndarray:
    """What callers get as nodes take it."""
    if not isinstance(t, ObjectType):
        return np.asarray(value)
    return boxed(_typed(value, t))


def _typed(value: Any, t: Any) -> Any:
    """Values of maps in their dtype: callers get Python's numbers."""
    if isinstance(value, list):
        return [_typed(item, t.of) for item in value]
    if isinstance(value, dict):
        return {key: np.asarray(item, t.of.dtype) for key, item in value.items()}
    return value


def excused(
    node: Node,
    index: int,
    actual: Any,
    operands: Sequence[np.ndarray | None],
    tolerance: float,
    rounding: float = 0.0,
) -> bool:
    """May a result differ so from what the reference makes of the same operands?

    Integers and booleans: where each element lies within what the reference gives if an operand moves by the tolerance: a
    number that lies so near to halfway between two steps goes to either. Others: if the reference moves by a third as much
    at least when its operands move by `UNITS`, or the rounding.
    """
    expected = alone(node, operands)[index]
    if not isinstance(expected, np.ndarray) or not (expected.dtype.kind == "b" or is_integer(expected.dtype)):
        rng = np.random.default_rng(0)
        noisy = (alone(node, [moved(a, rng, rounding) for a in operands])[index] for _ in range(TRIALS))
        return error_of(actual, expected) <= OWN * max(error_of(a, expected) for a in noisy)
    low = high = expected.astype(np.float64)
    for other in _shifted(operands, tolerance):
        result = alone(node, other)[index]
        if result.shape == low.shape:
            low, high = np.minimum(low, result.astype(np.float64)), np.maximum(high, result.astype(np.float64))
    wide = actual.astype(np.float64)
    return actual.shape == low.shape and bool(((low <= wide) & (wide <= high)).all())


def _shifted(operands: Sequence[np.ndarray | None], share: float) -> Iterator[list[np.ndarray | None]]:
    """The operands with one of the floats moved up, or down, by this share of its largest magnitude."""
    for k, a in enumerate(operands):
        if a is None or not is_float(a.dtype) or not a.size:
            continue
        wide = a.astype(np.float64)
        step = share * np.abs(wide[np.isfinite(wide)]).max(initial=0)
        for by in (step, -step):
            yield [*operands[:k], np.where(wide == 0, wide, wide + by).astype(a.dtype), *operands[k + 1 :]]


def moved(a: Any, rng: np.random.Generator, rounding: float = 0.0) -> Any:
    """Floats, each times 1 plus up to `UNITS` of its type, or the rounding that a caller asked for, if that is more; anything else as
    it is. Zeros and infinities stay."""
    if not isinstance(a, np.ndarray) or not (is_float(a.dtype) and a.dtype.itemsize > 1):
        return a
    wide = a.astype(np.float64)
    most = max(UNITS * unit(a.dtype), rounding)
    return (wide * (1 + most * rng.uniform(-1, 1, wide.shape))).astype(a.dtype)


def drift(
    graph: Graph,
    feeds: Mapping[str, Any],
    expected: Mapping[Value, Any],
    say: Callable[[str], None],
    rounding: float = 0.0,
) -> dict[Value, float]:
    """By how much the results of all nodes move, over their scale, when the inputs and every result move by `UNITS`, or the rounding.

    expected: without that. What follows from shapes and constants alone stays as it is.
    """
    found = dict.fromkeys(expected, 0.0)
    begin = time.monotonic()
    for trial in range(TRIALS):
        if time.monotonic() - begin > SECONDS:
            break
        say(f"how much does rounding change? NumPy, with other rounding ({trial + 1} of {TRIALS})")
        for value, array in _noisy(graph, feeds, np.random.default_rng(trial), rounding):
            if value in found:
                found[value] = max(found[value], error_of(given_back(unbox(array)), expected[value]))
    return found


def _noisy(
    graph: Graph, feeds: Mapping[str, Any], rng: np.random.Generator, rounding: float
) -> Iterator[tuple[Value, np.ndarray]]:
    last_use = {v: i for i, node in enumerate(graph.nodes) for v in node.operands}
    env: dict[Value, np.ndarray] = {v: moved(as_operand(feeds[v.name], v.type), rng, rounding) for v in graph.inputs}
    data = set(graph.inputs)
    for i, node in enumerate(graph.nodes):
        results = run_node(node, [None if v is None else v.data if v.is_const else env[v] for v in node.inputs])
        follows = node.op.name not in ("Shape", "Size") and not data.isdisjoint(node.operands)
        for value, array in zip(node.outputs, results):
            env[value] = moved(array, rng, rounding) if follows else array
            yield value, env[value]
        data.update(node.outputs if follows else ())
        for v in [v for v in set(node.operands) if last_use[v] == i]:
            env.pop(v, None)
