"""Kernels with more operands than most: tables of addresses are as long as their operands are many."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from targets import require

import graphc
from graphc.backends.cpu.conv.conv_row_block import MAX_EPILOGUE_OPERANDS, MAX_SOURCES
from graphc.backends.cpu.sizes import padded
from graphc.backends.cpu.verbs.blend_block import BlendElements, BlendRows
from graphc.graph import Builder, Graph, Value
from graphc.lower import fuse

F32 = np.float32
EXACT = {
    "Sum": lambda a: reduce(np.add, a),
    "Mean": lambda a: reduce(np.add, a) / len(a),
    "Max": lambda a: reduce(np.maximum, a),
    "Min": lambda a: reduce(np.minimum, a),
}


def feeds_of(graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {v.name: rng.standard_normal(v.shape).astype(F32) for v in graph.inputs}


def check(graph: Graph, want: np.ndarray, threads: int, target: str = "cpu") -> None:
    """Results are those wanted, run after run."""
    require(target)
    model, feeds = graphc.compile(graph, target=target, threads=threads), feeds_of(graph)
    for _ in range(20):
        np.testing.assert_allclose(model.run(feeds)["y"], want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [8, 31, 32, 33, 63, 64, 100])
@pytest.mark.parametrize("op", EXACT)
def test_elementwise(op: str, count: int, threads: int):
    """Rows that several threads share, operands that are broadcast along them or across them."""
    b = Builder("many")
    shapes = [(220, 300), (300,), (220, 1), (1, 300)]
    operands = [b.input(f"x{i}", F32, shapes[i % 4] if i else shapes[0]) for i in range(count)]
    graph = b.build({"y": b.add(op, *operands)})
    arrays = [a.astype(np.float64) for a in feeds_of(graph).values()]
    check(graph, EXACT[op]([np.broadcast_to(a, shapes[0]) for a in arrays]), threads)


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("count", [9, 10, 11, 12, 40])
def test_before_a_convolution(count: int, target: str):
    """What a 1x1 convolution computes as it reads it has at most MAX_SOURCES operands; more are a step of their own."""
    assert count > MAX_SOURCES
    b = Builder("prologue")
    xs = [b.add("MaxPool", b.input(f"x{i}", F32, (1, 32, 9, 8)), kernel_shape=[1, 1]) for i in range(count)]
    w = np.random.default_rng(4).standard_normal((64, 32, 1, 1)).astype(F32)
    graph = b.build({"y": b.add("Conv", b.add("Sum", *xs), b.constant(w))})
    total = sum(a.astype(np.float64) for a in feeds_of(graph).values())
    check(graph, np.einsum("oi,nihw->nohw", w[:, :, 0, 0], total), 2, target)


@pytest.mark.parametrize("kind", ["matrix", "image", "depthwise", "winograd"])
def test_behind_an_anchor(kind: str):
    """As many operands as fusion takes into one kernel, and more."""
    for count in (7, 8, 9, 33):
        b = Builder("epilogue")
        size = (12, 40) if kind == "matrix" else (1, 64, 12, 12)
        rng = np.random.default_rng(5)
        x = b.input("x", F32, size)
        if kind == "matrix":
            y = b.add("MatMul", x, b.constant(rng.standard_normal((40, 40)).astype(F32)))
        else:
            group = 64 if kind == "depthwise" else 1
            kernel = 1 if kind == "image" else 3
            w = rng.standard_normal((64, 64 // group, kernel, kernel)).astype(F32)
            y = b.add("Conv", x, b.constant(w / 8), pads=[kernel // 2] * 4, group=group)
        for i in range(count):
            other: Value = b.input(f"x{i}", F32, size)
            other = other if kind == "matrix" else b.add("MaxPool", other, kernel_shape=[1, 1])
            y = b.add("Sub" if i % 2 else "Add", y, other)
        graph = b.build({"y": y})
        want = graphc.compile(graph, target="reference").run(feeds_of(graph))["y"]
        check(graph, want, 2)


@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_more_operands_than_a_kernel_has_room_for_are_refused(op: str, monkeypatch: pytest.MonkeyPatch):
    """Should fusion ever take more."""
    monkeypatch.setattr(fuse, "MAX_OPERANDS", MAX_EPILOGUE_OPERANDS + 1)
    b = Builder("epilogue")
    size, kernel = ((12, 16), (16, 16)) if op == "MatMul" else ((1, 16, 5, 5), (16, 16, 1, 1))
    y = b.add(op, b.input("x", F32, size), b.constant(np.ones(kernel), F32))
    for i in range(MAX_EPILOGUE_OPERANDS + 1):
        other = b.input(f"x{i}", F32, size)
        y = b.add("Sub", y, other if op == "MatMul" else b.add("MaxPool", other, kernel_shape=[1, 1]))
    with pytest.raises(
        AssertionError, match=f"has {MAX_EPILOGUE_OPERANDS + 1} operands, kernels have room for {MAX_EPILOGUE_OPERANDS}"
    ):
        graphc.compile(b.build({"y": y}), cache=False)


@pytest.mark.parametrize("count", [3, 17, 130])
def test_concatenation(count: int):
    """Channels from many operands, which begin inside blocks."""
    b = Builder("concatenation")
    parts = [b.add("MaxPool", b.input(f"x{i}", F32, (2, 3, 5, 4)), kernel_shape=[1, 1]) for i in range(count)]
    graph = b.build({"y": b.add("MaxPool", b.add("Concat", *parts, axis=1), kernel_shape=[1, 1])})
    check(graph, np.concatenate(list(feeds_of(graph).values()), 1), 2)


def test_a_record_of_fixed_size_refuses_more_words():
    assert padded([1, 2], 4) == [1, 2, 0, 0]
    with pytest.raises(AssertionError, match="2 words can't hold 3"):
        padded([1, 2, 3], 2)


def test_rows_beyond_the_reach_of_an_offset(monkeypatch: pytest.MonkeyPatch):
    """Offsets within a row are int32: longer rows are interpolated element by element."""
    from graphc.backends.cpu.verbs import passes

    b = Builder("resize")
    x = b.input("x", F32, (3, 40, 2))
    graph = b.build({"y": b.add("Resize", x, None, b.constant([1, 1.7, 1], F32), mode="linear")})
    feeds = feeds_of(graph)
    want = graphc.compile(graph, target="reference").run(feeds)["y"]
    kernels = []
    for kind in (BlendElements, BlendRows):
        monkeypatch.setattr(passes, kind.__name__, lambda *params, kind=kind: kernels.append(kind) or kind(*params))
    for reach, kernel in ((passes.REACH, BlendElements), (40 * 2 * 4 - 1, BlendRows)):
        monkeypatch.setattr(passes, "REACH", reach)
        got = graphc.compile(graph, cache=False).run(feeds)["y"]
        assert kernel in kernels
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * np.abs(want).max())
        kernels.clear()
