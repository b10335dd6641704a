"""Every operator with sizes that stand for many: one plan for several shapes gives, bit for bit, what plans for each give."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from many_sizes import ALGORITHMS, alone, for_many, fresh, inputs_of, is_open, open_graph, other_sizes
from strategies import Use
from suite import OPS, uses_of

import graphc
from graphc import classes
from graphc.errors import TypeRuleError
from graphc.graph import Builder, Graph

INTERNAL = ("Reorder",)
USES = {name: [u for u in uses_of(name) if is_open(u)] for name in sorted(OPS) if name not in INTERNAL}
NAMES = [name for name, uses in USES.items() if uses]
SAMPLE = {*random.Random(7).sample(NAMES, 24), "Conv", "Gemm", "MatMul", "Softmax", "LayerNormalization", "Concat"}
# Operators whose samples have a width that is a number for good: of heads, by whose root scores are scaled; of states, by which
# weights are packed.
LACKS = {"Attention", "RNN"}


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


def layers(kind: str) -> Graph:
    """Layers whose algorithm depends on sizes: by Winograd, Strassen and so on where that is faster."""
    b, rng = Builder(kind), np.random.default_rng(0)
    if kind == "images":
        x = y = b.input("x", "float32", ("n", 32, "h", "w"))
        for _ in range(2):
            y = b.add("Conv", y, b.constant(rng.uniform(-0.1, 0.1, (32, 32, 3, 3)), "float32"), pads=[1] * 4)
        return b.build({"y": b.add("Add", x, y)})
    x = b.input("x", "float32", ("n", 320))
    return b.build({"y": b.add("MatMul", x, b.constant(rng.uniform(-0.1, 0.1, (320, 320)), "float32"))})


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "kind, shapes",
    [
        ("images", [(1, 32, 40, 40), (1, 32, 36, 50), (2, 32, 9, 7), (1, 32, 70, 33), (3, 32, 64, 96), (1, 32, 3, 3)]),
        ("rows", [(8, 320), (200, 320), (9, 320), (97, 320), (1000, 320), (95, 320), (3, 320), (513, 320)]),
    ],
)
def test_algorithms_for_the_example_are_right_for_other_sizes(
    kind: str, shapes: list[tuple[int, ...]], threads: int, monkeypatch: pytest.MonkeyPatch
):
    """They may be others than those that a plan for the shape alone takes: equal but for rounding."""
    monkeypatch.setattr(classes, "STRICT", True)
    graph = layers(kind)
    model = graphc.compile(graph, threads=threads)
    for shape in shapes:
        x = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
        want = alone(graph, {"x": x}, threads=threads)["y"]
        np.testing.assert_allclose(model(x), want, rtol=0, atol=1e-5 * np.abs(want).max())
    assert 1 <= len(model._many) < len(shapes) - 1
