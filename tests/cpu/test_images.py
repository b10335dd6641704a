"""Batches that run depth first, and pools of channel blocks."""

from __future__ import annotations

import numpy as np
import pytest
from targets import require

import graphc
from graphc.graph import Builder, Graph, Value

TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]
F32 = np.float32


def weights(b: Builder, *shape: int) -> Value:
    rng = np.random.default_rng([len(b.nodes), *shape])
    return b.constant(rng.standard_normal(shape) / np.prod(shape[1:]) ** 0.5, F32)


def network(n: int, size: int = 64, inner: bool = True) -> Graph:
    """Most of what runs depth first. inner: results from the middle, of a residual and of a concatenation, too."""
    b = Builder("network")
    x = b.input("x", F32, (n, 3, size, size))
    x = b.add("Relu", b.add("Conv", x, weights(b, 24, 3, 3, 3), weights(b, 24), pads=[1] * 4))
    y = b.add("Relu", b.add("Conv", x, weights(b, 24, 24, 3, 3), pads=[1] * 4))
    y = b.add("Conv", y, weights(b, 24, 1, 5, 5), pads=[2] * 4, group=24)
    middle = b.add("Relu", b.add("Add", x, b.add("Conv", y, weights(b, 24, 24, 1, 1))))
    scale = b.add("Sigmoid", b.add("Conv", b.add("GlobalAveragePool", middle), weights(b, 24, 24, 1, 1)))
    x = b.add("Mul", middle, scale)
    x = b.add("LRN", b.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), size=3)
    x = b.add(
        "Concat", b.add("Conv", x, weights(b, 32, 24, 1, 1)), b.add("AveragePool", x, kernel_shape=[1, 1]), axis=1
    )
    late = b.add("Relu", b.add("Conv", x, weights(b, 48, 56, 3, 3), strides=[2, 2]))
    flat = b.add("Flatten", b.add("GlobalMaxPool", late))
    y = b.add("Gemm", flat, weights(b, 48, 10))
    return b.build({"y": y, "middle": middle, "x": x} if inner else {"y": y})


def images_of(graph: Graph, feeds: dict[str, np.ndarray], target: str = "cpu", threads: int = 1):
    require(target)
    model = graphc.compile(graph, target=target, threads=threads)
    return model.run(feeds), model.plan()


def runs(plan) -> list:
    return [s for s in plan.steps if s.algorithm == "depth-first"]


def feeds_of(graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {v.name: rng.standard_normal(v.shape).astype(F32) for v in graph.inputs}


def assert_close(got: dict[str, np.ndarray], graph: Graph, feeds: dict[str, np.ndarray]) -> None:
    want = graphc.compile(graph, target="reference").run(feeds)
    for name, w in want.items():
        np.testing.assert_allclose(got[name], w, rtol=0, atol=2e-5 * np.abs(w).max(), err_msg=name)


@pytest.mark.parametrize("target", TARGETS)
def test_a_batch_agrees_with_the_reference(target: str):
    graph = network(4)
    feeds = feeds_of(graph)
    got, plan = images_of(graph, feeds, target)
    assert runs(plan), "nothing ran depth-first"
    assert_close(got, graph, feeds)


@pytest.mark.parametrize("n", [2, 5, 8, 13])
def test_every_number_of_threads_gives_the_same_bits(n: int):
    graph = network(n)
    feeds = feeds_of(graph)
    one, plan = images_of(graph, feeds)
    assert runs(plan)
    assert_close(one, graph, feeds)
    for threads in (2, 3, 8):
        for _ in range(3):
            many, _ = images_of(graph, feeds, threads=threads)
            assert all(many[k].tobytes() == a.tobytes() for k, a in one.items()), f"{threads} threads"


def test_images_that_are_left_over_are_shared_by_the_threads():
    graph = network(5)
    plan = images_of(graph, feeds_of(graph), threads=4)[1]
    (step,) = runs(plan)
    assert step.reason.startswith("4 samples")
    convolutions = [s for s in plan.steps if "Conv" in s.ops and s is not step]
    assert len(convolutions) >= sum(op == "Conv" for op in step.ops)
    few = images_of(network(3), feeds_of(network(3)), threads=4)[1]
    assert not runs(few)


def test_a_step_tells_what_is_inside():
    graph = network(4)
    (step,) = runs(images_of(graph, feeds_of(graph))[1])
    assert {n.name for n in graph.nodes if n.op.name == "Conv"} <= set(step.nodes)
    labels = [label for label, *_ in step.inside]
    assert any("Conv + Relu" in label for label in labels)
    assert "operators" in step.label


@pytest.mark.parametrize("n, size", [(1, 64), (4, 8)])
def test_what_stays_in_the_cache_anyway_is_not_cut(n: int, size: int):
    graph = network(n, size)
    got, plan = images_of(graph, feeds_of(graph))
    assert not runs(plan)
    assert_close(got, graph, feeds_of(graph))


def test_what_mixes_images_is_not_cut():
    """A mean over the batch, a constant that differs between images, and a concatenation of batches."""
    b = Builder("mixed")
    x = b.input("x", F32, (4, 16, 64, 64))
    x = b.add("Conv", x, weights(b, 16, 16, 3, 3), pads=[1] * 4)
    x = b.add("Conv", x, weights(b, 16, 16, 3, 3), pads=[1] * 4)
    x = b.add("Mul", x, b.constant(np.arange(4).reshape(4, 1, 1, 1), F32))
    mean = b.add("ReduceMean", x, b.constant([0], np.int64), keepdims=1)
    y = b.add("Concat", b.add("Sub", x, mean), x, axis=0)
    y = b.add("Conv", y, weights(b, 16, 16, 3, 3), pads=[1] * 4)
    graph = b.build({"y": b.add("Conv", y, weights(b, 16, 16, 3, 3), pads=[1] * 4)})
    got, plan = images_of(graph, feeds_of(graph))
    assert not any({"ReduceMean", "Mul", "Sub", "Concat"} & set(s.ops) for s in runs(plan))
    assert_close(got, graph, feeds_of(graph))


def test_heavy_layers_read_their_weights_once_a_batch():
    b = Builder("heavy")
    x = b.input("x", F32, (8, 512, 7, 7))
    for _ in range(3):
        x = b.add("Relu", b.add("Conv", x, weights(b, 512, 512, 3, 3), pads=[1] * 4))
    graph = b.build({"y": x})
    assert not runs(images_of(graph, feeds_of(graph))[1])


def test_memory_is_that_of_one_image():
    one, many = network(1, inner=False), network(16, inner=False)
    least, most = (images_of(g, feeds_of(g))[1].memory.arena for g in (one, many))
    assert most < 2 * least


# --- pools ------------------------------------------------------------------------------------------------------------
POOLS = [
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4},
    {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4},
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [5, 3], "strides": [1, 3], "pads": [2, 1, 2, 0]},
    {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [2, 2]},
    {"kernel_shape": [9, 9], "strides": [2, 2], "pads": [4] * 4},
    {"kernel_shape": [7, 7]},
]


def pooled(op: str, size: tuple[int, int], attrs: dict) -> Graph:
    """A pool of channel blocks: behind a convolution that changes nothing."""
    b = Builder("pooled")
    identity = b.constant(np.eye(20).reshape(20, 20, 1, 1), F32)
    x = b.add("Relu" if op == "relu" else "Identity", b.add("Conv", b.input("x", F32, (2, 20, *size)), identity))
    y = b.add(op, x, **attrs)
    return b.build({"y": b.add("Conv", y, identity) if op == "AveragePool" else y})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools(op: str, target: str):
    for attrs in POOLS:
        for size in ((13, 11), (9, 30), (7, 7)):
            kernel = attrs["kernel_shape"]
            if attrs.get("dilations") and op == "AveragePool":
                continue
            if any(k > s + 2 * attrs.get("pads", [0])[0] for k, s in zip(kernel, size)):
                continue
            graph = pooled(op, size, attrs)
            feeds = feeds_of(graph)
            got, _ = images_of(graph, feeds, target)
            again, _ = images_of(graph, feeds, target, threads=3)
            assert got["y"].tobytes() == again["y"].tobytes()
            assert_close(got, graph, feeds)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("special", [np.nan, -np.nan, np.inf, -np.inf])
def test_maximum_of_special_numbers(special: float, target: str):
    """A channel is one lane: NaN reaches its own windows and nothing else; infinities of both signs are no NaN."""
    b = Builder("special")
    x = b.input("x", F32, (1, 32, 12, 19))
    x = b.add("Sub", b.add("LRN", x, size=1, alpha=0.0), b.constant(np.zeros(1), F32))
    graph = b.build({"y": b.add("MaxPool", x, kernel_shape=[3, 3], strides=[1, 2], pads=[1] * 4)})
    a = np.random.default_rng(3).standard_normal((1, 32, 12, 19)).astype(F32)
    a[0, 3, 5, 7], a[0, 20, 0, 0], a[0, 20, 11, 18], a[0, 7, 4:9, 3:9] = special, special, -special, special
    got, plan = images_of(graph, {"x": a}, target)
    want = graphc.compile(graph, target="reference").run({"x": a})["y"]
    np.testing.assert_array_equal(got["y"], want)
    assert any(s.kernel == "pool_max" for s in plan.steps)
