"""Every operator with sizes that stand for many: one plan for several shapes gives, bit for bit, what plans for each give."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from many_sizes import ALGORITHMS, for_many, fresh, inputs_of, is_open, open_graph, other_sizes
from strategies import Use
from suite import OPS, uses_of

import graphc
from graphc.errors import TypeRuleError

INTERNAL = ("Reorder",)
USES = {name: [u for u in uses_of(name) if is_open(u)] for name in sorted(OPS) if name not in INTERNAL}
NAMES = [name for name, uses in USES.items() if uses]
SAMPLE = {*random.Random(7).sample(NAMES, 24), "Conv", "Gemm", "MatMul", "Softmax", "LayerNormalization", "Concat"}
# Operators of which one plan serves one shape only: type rules that want a number, and tables of positions.
LACKS: set[str] = set()


@pytest.fixture(scope="module")
def tally() -> Iterator[Counter[str]]:
    """What became of shapes, shown by -s."""
    count: Counter[str] = Counter()
    yield count
    print(f"\n{dict(count)}")


def same(got: list[np.ndarray], want: list[np.ndarray], use: Use) -> None:
    assert len(got) == len(want)
    for a, w in zip(got, want):
        assert (a.dtype, a.shape) == (w.dtype, w.shape), use
        if use.op.deterministic:
            assert a.dtype.kind == "O" or a.tobytes() == w.tobytes() or np.array_equal(a, w, equal_nan=True), use
            assert a.dtype.kind != "O" or np.array_equal(a, w), use


def check(use: Use, shared: bool, others: int, tally: Counter[str], threads: int = 1) -> int | None:
    """For how many of the other shapes the plan is. None where the operator does not take dims with these names."""
    options = {"threads": threads, "disabled": ALGORITHMS}
    try:
        model = graphc.compile(open_graph(use, shared), **options)
    except TypeRuleError:
        tally["names are refused"] += 1
        return None
    many = for_many(model, inputs_of(use))
    tally["rest planned for data" if not hasattr(many, "plan") else "planned whole"] += 1
    want = fresh(use, **options)
    assert want is not None
    same(many.run(inputs_of(use)), want, use)
    held = tried = 0
    for other in other_sizes(use, others):
        want = fresh(other, **options)
        if want is None:
            tally["other shape refused"] += 1
            continue
        tried += 1
        if many.holds(inputs_of(other)):
            held += 1
            same(many.run(inputs_of(other)), want, other)
    tally["other shape served"] += held
    tally["other shape not served"] += tried - held
    return held if tried else None


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SAMPLE else pytest.mark.slow) for n in NAMES])
def test_every_operator(name: str, tally: Counter[str]):
    uses = USES[name] if name not in SAMPLE else random.Random(1).sample(USES[name], min(3, len(USES[name])))
    found = [check(use, shared, 2, tally) for use in uses for shared in (True, False)]
    tried = [held for held in found if held is not None]
    assert not tried or any(tried) or name in LACKS, "one plan serves one shape only"
