"""Elementwise nodes in the input of a 1x1 convolution: computed with it, or its weights are scaled, or a step of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import require

import graphc
from graphc.graph import Builder, Graph, Value

TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]
F32 = np.float32


def array(*shape: int, seed: int = 0, positive: bool = False) -> np.ndarray:
    a = np.random.default_rng([seed, *shape]).standard_normal(shape).astype(F32)
    return np.abs(a) + F32(0.1) if positive else a


def blocked(b: Builder, n: int, channels: int, size: tuple[int, int], name: str = "x") -> Value:
    """A value that a convolution made and that is needed elsewhere, so that nothing fuses with its kernel."""
    x = b.input(name, F32, (n, channels, *size))
    return b.add("MaxPool", x, kernel_shape=[1, 1])


def batch_norm(b: Builder, x: Value) -> Value:
    c = x.shape[1]
    scale, shift = array(c, 1, 1, seed=1, positive=True), array(c, 1, 1, seed=2)
    return b.add("Add", b.add("Mul", x, b.constant(scale)), b.constant(shift))


def convolution(b: Builder, x: Value, out: int, **attrs) -> Value:
    kernel = attrs.get("kernel_shape", [1, 1])
    w = array(out, x.shape[1], *kernel, seed=3) / F32((x.shape[1] * np.prod(kernel)) ** 0.5)
    return b.add("Conv", x, b.constant(w), b.constant(array(out, seed=4)), **attrs)


def squeezed(b: Builder, x: Value) -> Value:
    return b.add("Sigmoid", convolution(b, b.add("GlobalAveragePool", x), x.shape[1]))


EXPRESSIONS = {
    "batch norm": lambda b, x, other, s: b.add("Relu", batch_norm(b, x)),
    "scale": lambda b, x, other, s: b.add("Mul", x, s),
    "scale first": lambda b, x, other, s: b.add("Mul", s, x),
    "sum": lambda b, x, other, s: b.add("Relu", b.add("Add", x, other)),
    "all": lambda b, x, other, s: b.add(
        "Clip", b.add("Add", b.add("Mul", x, s), other), *map(b.constant, (F32(-1), F32(2)))
    ),
    "costly": lambda b, x, other, s: b.add("Tanh", b.add("Neg", x)),
}


def network(kind: str, n: int, channels: int, out: int, size: tuple[int, int], residual: bool) -> Graph:
    b = Builder("network")
    x, other = blocked(b, n, channels, size), blocked(b, n, channels, size, "other")
    s = squeezed(b, x)
    y = convolution(b, EXPRESSIONS[kind](b, x, other, s), out)
    if residual:
        y = b.add("Relu", b.add("Add", y, blocked(b, n, out, size, "residual")))
    return b.build({"y": y})


def exact(kind: str, feeds: dict[str, np.ndarray], out: int, residual: bool) -> np.ndarray:
    """The same in float64, with nothing of graphc."""
    x, other = (feeds[k].astype(np.float64) for k in ("x", "other"))
    c = x.shape[1]

    def product(w: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.einsum("oi,nihw->nohw", w[:, :, 0, 0].astype(np.float64), v)

    def weights(o: int) -> np.ndarray:
        return array(o, c, 1, 1, seed=3) / F32(c**0.5)

    def bias(o: int) -> np.ndarray:
        return array(o, seed=4).astype(np.float64).reshape(-1, 1, 1)

    s = 1 / (1 + np.exp(-(product(weights(c), x.mean((2, 3), keepdims=True)) + bias(c))))
    mapped = {
        "batch norm": lambda: np.maximum(x * array(c, 1, 1, seed=1, positive=True) + array(c, 1, 1, seed=2), 0),
        "scale": lambda: x * s,
        "scale first": lambda: x * s,
        "sum": lambda: np.maximum(x + other, 0),
        "all": lambda: np.clip(x * s + other, -1, 2),
        "costly": lambda: np.tanh(-x),
    }[kind]()
    y = product(weights(out), mapped) + bias(out)
    return np.maximum(y + feeds["residual"], 0) if residual else y


def compiled(graph: Graph, target: str = "cpu", threads: int = 1):
    require(target)
    return graphc.compile(graph, target=target, threads=threads, cache=False)


def feeds_of(graph: Graph) -> dict[str, np.ndarray]:
    return {v.name: array(*v.shape, seed=10 + i) for i, v in enumerate(graph.inputs)}


def check(kind: str, n: int, channels: int, out: int, size: tuple[int, int], residual: bool, target: str) -> None:
    graph = network(kind, n, channels, out, size, residual)
    feeds = feeds_of(graph)
    results = [compiled(graph, target, threads).run(feeds)["y"] for threads in (1, 2, 3)]
    want = exact(kind, feeds, out, residual)
    scale = max(0.1, np.abs(want).max())  # the products are of this size or more, of which a lone sum may cancel
    np.testing.assert_allclose(results[0], want, rtol=0, atol=5e-6 * scale)
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", EXPRESSIONS)
@pytest.mark.parametrize("residual", [False, True])
def test_values_and_bits(kind: str, residual: bool, target: str):
    check(kind, 1, 48, 64, (14, 14), residual, target)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(sorted(EXPRESSIONS)),
    n=st.integers(1, 3),
    channels=st.integers(5, 70),
    out=st.integers(1, 90),
    size=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    residual=st.booleans(),
)
def test_any_shape(kind: str, n: int, channels: int, out: int, size: tuple[int, int], residual: bool):
    check(kind, n, channels, out, size, residual, "cpu")


GATES = {
    "Sigmoid": lambda b, x: b.add("Sigmoid", b.add("GlobalAveragePool", x)),
    "HardSigmoid of a convolution": lambda b, x: b.add(
        "HardSigmoid", convolution(b, b.add("GlobalAveragePool", x), x.shape[1])
    ),
    "affine": lambda b, x: batch_norm(b, b.add("GlobalAveragePool", x)),
    "Clip": lambda b, x: b.add("Clip", b.add("GlobalMaxPool", x), *map(b.constant, (F32(0), F32(1)))),
    "input": lambda b, x: b.input(f"gate{len(b.inputs)}", F32, (x.shape[0], x.shape[1], 1, 1)),
    "constant": lambda b, x: b.constant(array(x.shape[1], 1, 1, seed=7)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("n", [1, 2])
def test_gates_before_every_number_of_channels(n: int, target: str):
    """Channels below, at and above the vectors' length, in and out, in one graph; a part of the results goes on to a window,
    for which it has a halo."""
    b, outputs = Builder("network"), {}
    numbers = [1, 3, 5, 7, 8, 9, 15, 16, 17, 24, 40]
    pairs = dict.fromkeys((c, o) for c in numbers for o in (c, 8, 17))
    for i, (channels, out) in enumerate(pairs):
        for k, gate in enumerate(list(GATES)[i % 3 :: 3]):
            x = blocked(b, n, channels, (9, 8), f"x{len(b.inputs)}")
            s = GATES[gate](b, x)
            y = convolution(b, b.add("Mul", *((x, s) if k else (s, x))), out)
            if (i + k) % 2:
                w = b.constant(array(out, 1, 3, 3))
                y = b.add("Conv", y, w, group=out, pads=[1] * 4)
            outputs[f"{gate} {channels} {out}"] = y
    graph = b.build(outputs)
    feeds = feeds_of(graph)
    want = graphc.compile(graph, target="reference").run(feeds)
    for threads in (1, 2):
        got = compiled(graph, target, threads).run(feeds)
        for name, exact in want.items():
            np.testing.assert_allclose(got[name], exact, rtol=0, atol=5e-6 * np.abs(exact).max(), err_msg=name)


@pytest.mark.parametrize("kind", ["batch norm", "scale"])
def test_image_by_image(kind: str):
    n, channels, size = 4, 64, (56, 56)
    graph = network(kind, n, channels, 32, size, False)
    model, feeds = compiled(graph, threads=2), feeds_of(graph)
    runs = [s for s in model.plan().steps if s.algorithm == "depth-first"]
    assert runs and any("Conv" in label for s in runs for label, *_ in s.inside)
    want = exact(kind, feeds, 32, False)
    np.testing.assert_allclose(model.run(feeds)["y"], want, rtol=0, atol=5e-6 * np.abs(want).max())


def test_nan_and_infinity_go_through_as_in_a_step_of_its_own():
    graph = network("batch norm", 1, 32, 64, (14, 14), False)
    feeds = feeds_of(graph)
    feeds["x"][0, 3, 2, 5], feeds["x"][0, 4, 7, 7], feeds["x"][0, 4, 8, 8] = np.nan, np.inf, -np.inf
    y = compiled(graph).run(feeds)["y"]
    assert np.isnan(y[0, :, 2, 5]).all() and np.isinf(y[0, :, 7, 7]).all()
    assert np.isfinite(np.delete(y.reshape(64, -1), [2 * 14 + 5, 7 * 14 + 7], axis=1)).all()


# --- what fuses -------------------------------------------------------------------------------------------------------
def labels(graph: Graph, target: str = "cpu:avx2") -> list[str]:
    """Operators of each step that has some, and what it says of its input."""
    steps = [s for s in compiled(graph, target).plan().steps if s.ops[0] not in ("Reorder", "Halo", "Copy", "MaxPool")]
    return ["+".join(s.ops) + (" at once" if "as it is read" in s.reason else "") for s in steps]


def test_batch_norm_and_activation_are_computed_with_the_convolution():
    assert "Mul+Add+Relu+Conv+Add+Relu at once" in labels(network("batch norm", 1, 48, 64, (14, 14), True))


def test_a_scale_goes_into_the_weights_of_a_large_image():
    graph = network("scale", 1, 32, 16, (28, 28), False)
    assert labels(graph)[-2:] == ["Mul", "Conv"]
    (step,) = (s for s in compiled(graph).plan().steps if s.ops == ("Mul",))
    assert step.reason == "weights instead of pixels" and step.nbytes < 32 * 28 * 28 * 4


def test_a_scale_of_few_pixels_is_not_put_into_the_weights():
    steps = compiled(network("scale", 1, 32, 160, (7, 7), False)).plan().steps
    assert not any(s.reason == "weights instead of pixels" for s in steps)


def test_a_batch_has_a_scale_for_each_image():
    steps = compiled(network("scale", 2, 32, 16, (28, 28), False)).plan().steps
    assert not any(s.reason == "weights instead of pixels" for s in steps)


def test_without_assembly_it_is_a_step_of_its_own():
    assert "Mul+Add+Relu" in labels(network("batch norm", 1, 48, 64, (14, 14), False), "cpu:portable")


def test_costly_expressions_are_computed_in_a_step_of_their_own():
    assert labels(network("costly", 1, 48, 64, (14, 14), False))[-2:] == ["Neg+Tanh", "Conv"]


def test_explain_notes_the_prologue():
    notes = compiled(network("batch norm", 1, 48, 64, (14, 14), False)).plan().notes
    assert sum(n.applied and n.reason.startswith("prologue of Conv") for n in notes) == 3


@pytest.mark.parametrize("reader", ["result", "second convolution", "residual"])
def test_a_value_that_is_needed_elsewhere_is_a_step_of_its_own(reader: str):
    b = Builder("network")
    x = blocked(b, 1, 32, (14, 14))
    mapped = b.add("Relu", batch_norm(b, x))
    y = convolution(b, mapped, 32)
    if reader == "second convolution":
        y = b.add("Concat", y, convolution(b, mapped, 32, kernel_shape=[3, 3], pads=[1] * 4), axis=1)
    if reader == "residual":
        y = b.add("Add", y, mapped)
    graph = b.build({"y": y, "mapped": mapped} if reader == "result" else {"y": y})
    assert "Mul+Add+Relu" in labels(graph)
    assert any("also needed outside" in n.reason for n in compiled(graph).plan().notes if not n.applied)


@pytest.mark.parametrize(
    "attrs", [{"kernel_shape": [3, 3]}, {"strides": [2, 2]}, {"pads": [1] * 4}], ids=["3x3", "strides", "pads"]
)
def test_other_convolutions_have_no_prologue(attrs: dict):
    b = Builder("network")
    graph = b.build({"y": convolution(b, b.add("Relu", batch_norm(b, blocked(b, 1, 32, (14, 14)))), 32, **attrs)})
    assert "Mul+Add+Relu" in labels(graph)


def test_rows_with_a_halo_have_no_prologue():
    b = Builder("network")
    y = convolution(b, b.add("Relu", batch_norm(b, blocked(b, 1, 32, (14, 14)))), 32)
    w = b.constant(array(32, 1, 5, 5))
    graph = b.build({"y": b.add("Conv", y, w, group=32, pads=[2] * 4)})
    assert labels(graph) == ["Mul+Add+Relu", "Conv", "Conv"]
    feeds = feeds_of(graph)
    want = graphc.compile(graph, target="reference").run(feeds)["y"]
    np.testing.assert_allclose(compiled(graph).run(feeds)["y"], want, rtol=0, atol=1e-5 * np.abs(want).max())
