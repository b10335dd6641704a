"""Every operator with sizes that stand for many: one plan for several shapes gives, bit for bit, what plans for each give."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from many_sizes import ALGORITHMS, alone, is_open, served
from suite import OPS, uses_of

import graphc
from graphc import classes
from graphc.graph import Builder, Graph

INTERNAL = ("Reorder",)
USES = {name: [u for u in uses_of(name) if is_open(u)] for name in sorted(OPS) if name not in INTERNAL}
NAMES = [name for name, uses in USES.items() if uses]
SAMPLE = {*random.Random(7).sample(NAMES, 24), "Conv", "Gemm", "MatMul", "Softmax", "LayerNormalization", "Concat"}
# Operators whose samples have a width that is a number for good: of heads, by whose root scores are scaled; of states, by which
# weights are packed; of windows, by whose length signals are transformed; of kernels, where the weights are no constants.
LACKS = {"Attention", "RNN", "STFT", "ai.onnx.ml::FeatureVectorizer", "com.ms.internal.nhwc::Conv"} | {
    f"com.microsoft::{name}"  # expansions that count in numbers
    for name in (
        "EmbedLayerNormalization", "GatherBlockQuantized", "MoE", "MultiHeadAttention", "NGramRepeatBlock",
        "QEmbedLayerNormalization", "QLinearConv", "Rfft", "RotaryEmbedding",
    )
}  # fmt: skip
OPTIONS = {"threads": 1, "disabled": ALGORITHMS}


@pytest.fixture(scope="module")
def tally() -> Iterator[Counter[str]]:
    """What became of shapes, shown by -s."""
    count: Counter[str] = Counter()
    yield count
    print(f"\n{dict(count)}")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SAMPLE else pytest.mark.slow) for n in NAMES])
def test_every_operator(name: str, tally: Counter[str]):
    uses = USES[name] if name not in SAMPLE else random.Random(1).sample(USES[name], min(3, len(USES[name])))
    found = [served(use, shared, 2, tally, **OPTIONS) for use in uses for shared in (True, False)]
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
