"""Convolutions on CUDA kernels, in checked runs: sizes around the edges of tiles, geometries, phases, epilogues."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from suite import check, host_reasons, randoms, use, uses_of

import graphc
from graphc.backends.cuda.conv import tensor_conv
from graphc.backends.cuda.product import tile
from graphc.errors import TypeRuleError
from graphc.graph import Builder, Value

TARGET = "cuda:emulate"
FEW = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, and accesses out of bounds, are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_every_case(name: str, checked: None):
    for one in uses_of(name):
        assert not host_reasons(check(one, TARGET), one), one


@pytest.mark.sample(1)
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_every_dtype(name: str, dtype: str):
    for one in uses_of(name, [dtype])[::3]:
        assert not host_reasons(check(one, TARGET), one), one


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_constant_weights(name: str, checked: None):
    for one in uses_of(name):
        weights = {1, 2} if len(one.arrays) > 2 and one.arrays[2] is not None else {1}
        check(use(name, *one.arrays, constants=sorted(weights), **one.attrs), TARGET)


def test_quantized_convolutions():
    for name in ("ConvInteger", "QLinearConv"):
        for one in uses_of(name)[:4]:
            assert not host_reasons(check(one, TARGET), one), one


# --- sizes and geometries ---------------------------------------------------------------------------------------------
def conv(shape: tuple[int, ...], outputs: int, kernel: tuple[int, ...], group: int = 1, **attrs) -> graphc.Model:
    x, w = randoms(*shape), randoms(outputs, shape[1] // group, *kernel, seed=1)
    return check(use("Conv", x, w, randoms(outputs, seed=2), group=group, **attrs), TARGET)


@FEW
@given(st.data())
def test_sizes_around_the_edges_of_tiles(checked: None, data: st.DataObject):
    inputs, outputs = (data.draw(st.sampled_from([1, 2, 5, 15, 16, 17, 31, 33, 64, 65])) for _ in range(2))
    size = data.draw(st.sampled_from([(1, 1), (1, 31), (3, 11), (4, 8), (7, 9), (8, 8), (5, 13), (2, 65)]))
    kernel = data.draw(st.sampled_from([(1, 1), (3, 3), (1, 4), (2, 1)]))
    pads = [data.draw(st.integers(k - 1, k)) for k in kernel] * 2
    conv((data.draw(st.integers(1, 3)), inputs, *size), outputs, kernel, pads=pads)


@pytest.mark.sample(1)
@pytest.mark.parametrize("size", [64, 70, 130])
def test_large_tiles(size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tile, "MULTIPROCESSORS", 1)
    monkeypatch.setattr(tensor_conv, "choices_of", lambda *_: [None])
    model = conv((1, 5, 12, 13), size, (3, 3), pads=[1] * 4)
    (step,) = model.plan().steps
    assert step.algorithm == f"tiles of {tile.MIDDLE if size == 64 else tile.TALL}"


@FEW
@given(st.data(), st.booleans())
def test_geometries(checked: None, data: st.DataObject, transposed: bool):
    """Strides, dilations, padding, groups of any rank; where there is no window, no model is compiled."""
    rank, group = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 1, 2, 3]))
    per_in, per_out = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))

    def draw(low: int, high: int, count: int = rank) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(count))

    kernel, spatial = draw(1, 4), draw(3, 9)
    attrs = {"strides": draw(1, 4), "dilations": draw(1, 3), "pads": draw(0, 3, 2 * rank), "group": group}
    x = randoms(data.draw(st.integers(1, 2)), per_in * group, *spatial)
    ends = (per_in * group, per_out) if transposed else (per_out * group, per_in)
    one = use("ConvTranspose" if transposed else "Conv", x, randoms(*ends, *kernel, seed=1), **attrs)
    try:
        one.graph()
    except TypeRuleError:
        return
    check(one, TARGET)


@pytest.mark.parametrize("group, outputs", [(6, 6), (6, 18), (2, 8)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 2)])
def test_groups(group: int, outputs: int, kernel: tuple[int, ...], checked: None):
    model = conv((2, 6, 9, 7), outputs, kernel, group, strides=(2, 1), pads=[1, 0, 0, 1])
    (step,) = model.plan().steps
    assert (step.algorithm == "depthwise") == (group == 6)


def test_pointwise_convolutions_are_products():
    assert conv((2, 20, 9, 5), 36, (1, 1)).plan().steps[0].kernel.startswith("product")
    assert conv((2, 20, 9, 5), 36, (1, 1), group=2).plan().steps[0].kernel.startswith("product")
    assert conv((1, 20, 1, 1), 36, (1, 1)).plan().steps[0].algorithm == "rows"
    assert conv((2, 20, 9, 5), 36, (1, 1), strides=(2, 2)).plan().steps[0].kernel.startswith("conv")


def test_padding_reads_nothing_of_other_images():
    """NaN in one channel of one image reaches the outputs of that image alone."""
    x, w = np.zeros((3, 2, 5, 5), np.float32), np.ones((4, 2, 3, 3), np.float32)
    x[1, 1, 0, 0] = np.nan
    graph = use("Conv", x, w, pads=[1] * 4).graph()
    (y,) = graphc.compile(graph, target=TARGET).run({"x0": x, "x1": w}).values()
    assert np.isfinite(y[[0, 2]]).all() and np.isnan(y[1, :, :2, :2]).all() and np.isfinite(y[1, :, 2:]).all()


@pytest.mark.parametrize("attrs", [{"strides": (3, 2)}, {"strides": (2, 3), "dilations": (3, 2)}, {"strides": (4, 4)}])
def test_phases_without_taps_have_the_bias(attrs: dict[str, tuple[int, ...]], checked: None):
    x, w, b = randoms(2, 4, 3, 5), randoms(4, 3, 2, 2, seed=1), randoms(6, seed=2)
    check(use("ConvTranspose", x, w, b, group=2, **attrs), TARGET)
    check(use("ConvTranspose", x, w, b, group=2, constants=[1, 2], **attrs), TARGET)


# --- epilogues --------------------------------------------------------------------------------------------------------
def number(b: Builder, *shape: int, name: str = "z") -> Value:
    return b.input(name, np.dtype(np.float32), shape)


EPILOGUES: Mapping[str, Callable[[Builder, Value], Value]] = {
    "a function": lambda b, y: b.add("Relu", y),
    "a residual": lambda b, y: b.add("Relu", b.add("Add", y, number(b, *y.shape))),
    "a channel's number": lambda b, y: b.add("Mul", y, number(b, y.shape[1], *[1] * (len(y.shape) - 2))),
    "an image's number": lambda b, y: b.add("Mul", y, number(b, y.shape[0], *[1] * (len(y.shape) - 1))),
    "a column's number": lambda b, y: b.add("Add", b.add("Sigmoid", y), number(b, y.shape[-1])),
    "several": lambda b, y: b.add("Mul", b.add("HardSwish", b.add("Add", y, number(b, *y.shape))), number(b, 1, name="v")),
}  # fmt: skip
CONVS: Mapping[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, object]]] = {
    "tiles": ("Conv", (2, 5, 8, 7), (18, 5, 3, 3), {"pads": [1] * 4}),
    "pointwise": ("Conv", (2, 5, 8, 7), (18, 5, 1, 1), {}),
    "groups": ("Conv", (2, 6, 8, 7), (8, 3, 3, 2), {"group": 2}),
    "depthwise": ("Conv", (2, 6, 8, 7), (6, 1, 3, 3), {"group": 6, "strides": (2, 1)}),
    "a row": ("Conv", (2, 6, 19), (8, 6, 3), {}),
    "a volume": ("Conv", (1, 2, 4, 5, 6), (3, 2, 2, 3, 3), {"pads": [1] * 6}),
    "transposed": ("ConvTranspose", (2, 4, 5, 3), (4, 3, 3, 3), {"strides": (2, 2), "pads": [1, 0, 0, 1]}),
    "transposed depthwise": ("ConvTranspose", (2, 4, 5, 3), (4, 1, 3, 2), {"strides": (2, 3), "group": 4}),
}  # fmt: skip


@pytest.mark.sample(8)
@pytest.mark.parametrize("kind", CONVS)
@pytest.mark.parametrize("ending", EPILOGUES)
def test_epilogues(ending: str, kind: str, checked: None):
    name, shape, weights, attrs = CONVS[kind]
    b = Builder("net")
    y = b.add(name, number(b, *shape, name="x"), b.constant(randoms(*weights)), **attrs)
    graph = b.build({"y": EPILOGUES[ending](b, y)})
    feeds = {v.name: randoms(*v.shape, seed=i) for i, v in enumerate(graph.inputs)}
    model, want = graphc.compile(graph, target=TARGET), graphc.compile(graph, target="reference").run(feeds)["y"]
    np.testing.assert_allclose(model.run(feeds)["y"], want, rtol=0, atol=2e-6 * np.abs(want).max())
    assert all(name in s.ops and len(s.ops) > 1 for s in model.plan().steps)
