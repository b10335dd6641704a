"""One plan for many sizes on CUDA: the operators, networks, sessions, against plans for each size and the CPU."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from many_sizes import alone, is_open, served
from nets import recurrent, transformer
from suite import OPS, uses_of
from zoo import feeds_of, network

import graphc
from graphc import classes
from graphc.backends.cuda.lower.registry import RULES, load_lowerings
from graphc.backends.cuda.runtime.states import StateMemory
from graphc.errors import UnsupportedError
from graphc.graph import Builder, Graph, Value
from graphc.session import Session

load_lowerings()
TARGET = "cuda:emulate"
F32 = np.float32
NAMES = sorted(n for n in OPS if n in RULES.operators() and any(map(is_open, uses_of(n))))
SAMPLE = {*random.Random(3).sample(NAMES, 12), "Gather", "MatMul", "MaxPool", "Resize", "Softmax"}
CHOSEN = {
    "Conv",
    "ConvTranspose",
    "FusedAttention",
    "Gemm",
    "MatMul",
}  # kernels for the example's sizes round in another way
# A width that is a number for good: of states, by which weights are packed; of groups of channels. Shapes that differ are refused.
LACKS = {"RNN", "LRN"}  # LRN: of the three uses drawn, all change the channels, which its kernel knows
REFUSED = ("no float64 kernel", "follows from data", "distinct rows have no kernel")


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a plan from standing for many sizes is an error."""
    monkeypatch.setattr(classes, "STRICT", True)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SAMPLE else pytest.mark.slow) for n in NAMES])
def test_every_operator(name: str):
    uses = [u for u in uses_of(name) if is_open(u)]
    if name in SAMPLE:
        uses = random.Random(1).sample(uses, min(3, len(uses)))
    found = []
    for use in uses:
        for shared in (True, False):
            try:
                found.append(served(use, shared, 2, Counter(), name not in CHOSEN, target=TARGET))
            except UnsupportedError as error:
                assert any(text in str(error) for text in REFUSED), use
    tried = [held for held in found if held is not None]
    assert not tried or any(tried) or name in LACKS, "one plan serves one shape only"


# --- networks -----------------------------------------------------------------------------------------------------------
BATCHES = [{"batch": n} for n in (1, 3, 2, 7, 33)]
SEQUENCES = [{"batch": b, "steps": n} for b, n in ((1, 8), (2, 9), (3, 31), (8, 5), (1, 40))]
IMAGES = [{"batch": b, "height": h, "width": w} for b, h, w in ((1, 64, 64), (1, 96, 64), (2, 64, 96), (1, 33, 70))]
WHOLE = [
    sizes for sizes in IMAGES if sizes["height"] % 32 == sizes["width"] % 32 == 0
]  # halves that are added to wholes
RUN = {"lenet5": BATCHES, "mlp": BATCHES, "lstm_classifier": SEQUENCES, "mobilenet_v2": IMAGES}
SLOW = {"vae_decoder": BATCHES, "gru_classifier": SEQUENCES, "squeezenet": IMAGES, "unet": WHOLE, "yolo_v3_tiny": WHOLE}


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", [*RUN, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_examples(name: str):
    graph, rng = network(name), np.random.default_rng(1)
    model = graphc.compile(graph, target=TARGET)
    for sizes in (RUN | SLOW)[name]:
        compare(model, graph, feeds_of(graph, sizes, rng))
    assert len(model._plans) <= 2 and 1 <= len(model._many) <= 4


@pytest.mark.parametrize("make, shape", [(transformer, (0, 1, 32)), (recurrent, (1, 0, 24))])
def test_sequences(make: Callable[[], Graph], shape: tuple[int, ...]):
    graph, rng = make(), np.random.default_rng(0)
    model = graphc.compile(graph, target=TARGET)
    for sizes in ((2, 9), (1, 17), (3, 40), (4, 5), (2, 64), (6, 33)):
        x = rng.standard_normal([d if d > 1 else sizes[d] for d in shape], F32)
        compare(model, graph, {"x": x})
    assert 1 <= len(model._many) <= 3


def test_a_detector():
    """What follows the boxes that are kept, whose number data decides, is one plan for many, too. NonMaxSuppression runs on the
    CPU."""
    b, rng = Builder("detector"), np.random.default_rng(0)

    def conv(x: Value, *shape: int, **attrs: Any) -> Value:
        return b.add("Conv", x, b.constant(rng.uniform(-0.3, 0.3, shape), F32), **attrs)

    def rows(x: Value, columns: int) -> Value:
        return b.add("Reshape", x, b.constant([0, columns, -1], np.int64))

    y = b.input("x", F32, ("n", 3, "h", "w"))
    for channels in (3, 16):
        y = b.add("Relu", conv(y, 16, channels, 3, 3, pads=[1] * 4, strides=[2, 2]))
    scores, boxes = rows(b.add("Sigmoid", conv(y, 2, 16, 1, 1)), 2), rows(conv(y, 4, 16, 1, 1), 4)
    boxes = b.add("Transpose", boxes, perm=(0, 2, 1))
    limits = [b.constant(np.int64(10)), b.constant(F32(0.5)), b.constant(F32(0.3))]
    kept = b.add("NonMaxSuppression", boxes, scores, *limits)
    found = b.add("GatherND", boxes, b.add("Gather", kept, b.constant([0, 2], np.int64), axis=1))
    graph = b.build({"boxes": b.add("Mul", found, b.constant(F32(2))), "kept": kept})

    model, on_cpu = graphc.compile(graph, target=TARGET, host=True), graphc.compile(graph)
    for n, h, w in ((1, 32, 32), (2, 40, 32), (1, 64, 50), (3, 33, 47), (2, 64, 64), (1, 100, 40)):
        x = {"x": rng.standard_normal((n, 3, h, w), F32)}
        got, want = model.run(x), on_cpu.run(x)
        for name, v in want.items():
            np.testing.assert_allclose(got[name], v, rtol=0, atol=1e-5)  # coordinates of at most 10
    assert len(model._plans) == 1 and 1 <= len(model._many) <= 2


def compare(model: graphc.Model, graph: Graph, feeds: dict[str, np.ndarray]) -> None:
    """With a plan for these shapes alone, whose tiles may be others, and with the CPU, whose Winograd transforms are up to 9e-6
    of the largest result off in U-Net's 23 convolutions (these kernels: 2e-6)."""
    got = model.run(feeds)
    for want, tolerance in ((alone(graph, feeds, target=TARGET), 1e-5), (graphc.compile(graph).run(feeds), 2e-5)):
        for name, w in want.items():
            assert got[name].shape == w.shape
            np.testing.assert_allclose(got[name], w, rtol=0, atol=tolerance * max(np.abs(w).max(), 1e-30))


@pytest.mark.parametrize(
    "name, most", [("lenet5", 2), ("mlp", 2), ("lstm_classifier", 4), ("transformer_encoder", 2), ("mobilenet_v2", 4)]
)
def test_dozens_of_shapes_need_a_few_plans(name: str, most: int):
    graph, rng = network(name), np.random.default_rng(1)
    names = {str(d) for v in graph.inputs for d in v.type.shape if not isinstance(d, int)}
    highest = {"batch": 9, "steps": 41} if "height" not in names else {"batch": 4}
    model = graphc.compile(graph, target=TARGET)
    for _ in range(36):
        sizes = {n: int(rng.integers(1, highest[n])) if n in highest else 16 * int(rng.integers(3, 16)) for n in names}
        model.plan({n: a.shape for n, a in feeds_of(graph, sizes, rng).items()})
    assert len(model._plans) <= 2 and 1 <= len(model._many) <= most


def test_a_plan_for_many_is_one_for_larger_images_too():
    """Its first kernels would be slow for these: they get others, once."""
    b = Builder("conv")
    x = b.input("x", F32, ("n", 16, "h", "w"))
    graph = b.build({"y": b.add("Conv", x, b.constant(np.ones((128, 16, 3, 3)), F32), pads=[1] * 4)})
    model = graphc.compile(graph, target=TARGET)
    for n, h, w in ((2, 20, 20), (2, 40, 40), (3, 50, 20), (2, 500, 500), (4, 300, 300)):
        model.plan({"x": (n, 16, h, w)}, many=True)
    assert [e.plan.guards for e in model._many] and len(model._many) == 2
    assert len({e.plan.steps[-1].algorithm for e in model._many}) == 2


def test_a_report_names_the_kernels_that_sizes_choose():
    """Rows of the batch in a block of threads."""
    b, rng = Builder("lstm"), np.random.default_rng(0)
    w, r = (b.constant(rng.standard_normal((1, 32, n)), F32) for n in (6, 8))
    x = b.input("x", F32, ("steps", "batch", 6))
    model = graphc.compile(b.build([b.add("LSTM", x, w, r, hidden_size=8, outputs=3)[0]]), target=TARGET)

    def kernel(model: graphc.Model, batch: int, many: bool) -> str:
        return model.plan({"x": (5, batch, 6)}, many=many).steps[-1].kernel

    named = {batch: kernel(model, batch, True) for batch in (60, 300, 600, 20)}
    for batch, name in named.items():
        assert name == kernel(graphc.compile(model._source.graph, target=TARGET), batch, False)
    assert len(set(named.values())) > 1 and len(model._many) == 1


# --- sessions -----------------------------------------------------------------------------------------------------------
HEADS, SIZE, WORDS = 2, 16, 50


def decoder() -> Graph:
    """ids [batch, new], two caches of [batch, heads, past, size] -> y, the caches with what is new at their ends."""
    b, rng = Builder("decoder"), np.random.default_rng(1)
    ids = b.input("ids", np.int64, ("batch", "new"))
    past = {n: b.input(f"past_{n}", F32, ("batch", HEADS, "past", SIZE)) for n in ("key", "value")}
    x = b.add("Gather", b.constant(rng.standard_normal((WORDS, HEADS * SIZE)), F32), ids)
    heads = b.add("Transpose", b.add("Reshape", x, b.constant([0, 0, HEADS, SIZE], np.int64)), perm=(0, 2, 1, 3))
    whole = {
        n: b.add("Concat", past[n], b.add("Mul", heads, b.constant(rng.standard_normal(SIZE), F32)), axis=2)
        for n in past
    }
    scores = b.add("MatMul", heads, b.add("Transpose", whole["key"], perm=(0, 1, 3, 2)))
    y = b.add("MatMul", b.add("Softmax", b.add("Mul", scores, b.constant(0.25, F32)), axis=-1), whole["value"])
    return b.build({"y": y, "present_key": whole["key"], "present_value": whole["value"]})


@pytest.fixture(scope="module")
def model() -> Iterator[graphc.Model]:
    yield graphc.compile(decoder(), target=TARGET)


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare positions hold what no state does."""
    empty = StateMemory.empty

    def marked(memory: StateMemory, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        made = empty(memory, shape, dtype)
        memory.write(made, 0, np.full(shape, np.nan, dtype))
        return made

    monkeypatch.setattr(StateMemory, "empty", marked)


@pytest.mark.parametrize("batch", [1, 3])
def test_states_grow_in_place(batch: int, model: graphc.Model, marked: None):
    """As on the CPU, through several capacities."""
    rng, on_cpu = np.random.default_rng(batch), graphc.compile(decoder()).session()
    session = model.session()
    for k, new in enumerate((5, 1, 1, 3, 1, 20, 1, 40, 1)):
        ids = rng.integers(0, WORDS, (batch, new))
        got, want = session.run({"ids": ids}), on_cpu.run({"ids": ids})
        np.testing.assert_allclose(got["y"], want["y"], rtol=0, atol=1e-5)  # means of numbers near 1
        for name, a in session.state.items():
            np.testing.assert_array_equal(a, on_cpu.state[name])
        assert in_place(session) == (k > 0)
    assert sum(len(p.plans) for p in model._growing.values()) <= 3 * batch


@pytest.mark.parametrize("of", ["past", "whole"])
def test_nodes_of_the_host_read_states_that_grow(of: str, marked: None):
    b = Builder("determinants")
    past, new = b.input("past", F32, ("n", 3)), b.input("new", F32, ("k", 3))
    whole = b.add("Concat", past, new, axis=0)
    read = past if of == "past" else whole
    spread = b.add("DFT", b.add("Unsqueeze", read, b.constant([0, 3], np.int64)))
    det = b.add("Det", b.add("MatMul", b.add("Transpose", read, perm=(1, 0)), read))
    graph = b.build({"det": det, "spread": spread, "whole": whole})
    states = {"past": "whole"}
    first = np.random.default_rng(0).uniform(-1, 1, (4, 3)).astype(F32)
    sessions = [
        graphc.compile(graph, target=t, **o).session(states, past=first)
        for t, o in ((TARGET, {"host": True}), ("cpu", {}))
    ]
    for seed in range(4):
        x = np.random.default_rng(seed + 1).uniform(-1, 1, (2, 3)).astype(F32)
        got, want = (s.run({"new": x}) for s in sessions)
        for name, a in want.items():
            np.testing.assert_allclose(
                got[name], a, rtol=1e-4, atol=1e-5
            )  # sums of up to 12 products of numbers near 1
        np.testing.assert_array_equal(sessions[0].state["past"], sessions[1].state["past"])
    assert in_place(sessions[0])


def in_place(session: Session) -> bool:
    return session._place is not None and session._place.room is not None
