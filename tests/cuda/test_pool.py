"""Pools on CUDA kernels, in checked runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from suite import OPS, as_inputs, check, host_reasons, randoms, results, use, uses_of

import graphc
from graphc.errors import TypeRuleError
from graphc.graph import Builder
from graphc.testing import use_of

TARGET = "cuda:emulate"
NAMES = ["MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, and accesses out of bounds, are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


@pytest.mark.parametrize("name", NAMES)
def test_every_case(name: str, checked: None):
    for one in uses_of(name):
        assert not host_reasons(check(one, TARGET), one), one


@pytest.mark.parametrize("name", NAMES)
def test_every_dtype(name: str):
    op = OPS[name]
    for dtype in op.samples.dtypes[1:]:
        for case in op.samples.cases[::7]:
            one = as_inputs(use_of(op, case, dtype, seed=1))
            assert not host_reasons(check(one, TARGET), one), one


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data(), st.sampled_from(["MaxPool", "AveragePool", "LpPool"]))
def test_geometries(checked: None, data: st.DataObject, name: str):
    """Of any rank; where there is no window, no model is compiled."""
    rank = data.draw(st.integers(1, 3))

    def draw(low: int, high: int, count: int = rank) -> tuple[int, ...]:
        return tuple(data.draw(st.integers(low, high)) for _ in range(count))

    attrs = {"kernel_shape": draw(1, 4), "strides": draw(1, 4), "dilations": draw(1, 2), "pads": draw(0, 2, 2 * rank)}
    attrs["ceil_mode"] = data.draw(st.booleans())
    if name == "AveragePool":
        attrs["count_include_pad"] = data.draw(st.booleans())
    if name == "LpPool":
        attrs["p"] = data.draw(st.integers(1, 3))
    outputs = data.draw(st.integers(1, 2)) if name == "MaxPool" else 1
    one = use(name, randoms(2, 3, *draw(2, 8)), n_outputs=outputs, **attrs)
    try:
        one.graph()
    except TypeRuleError:
        return
    check(one, TARGET)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "uint8"])
def test_maxima_of_ties_special_values_and_padding(dtype: str):
    """Of equals the first; NaN wins; windows of the lowest number alone, beside padding."""
    kind = np.dtype(dtype)
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 8, 9)).astype(kind)
    x[0, 0] = -np.inf if kind.kind == "f" else np.iinfo(kind).min
    x[0, 1, 4:6, 4:6] = 200 if kind.kind != "i" else -100  # the first bit of a byte is a sign, or not
    if kind.kind == "f":
        x[1, 1, 3, 4], x[1, 2, 0, 0], x[1, 0] = np.nan, np.inf, -np.inf
    attrs = {"kernel_shape": (3, 3), "strides": (2, 1), "pads": (1, 1, 1, 1)}
    for n_outputs, order in ((1, 0), (2, 0), (2, 1)):
        one = use("MaxPool", x, n_outputs=n_outputs, storage_order=order, **attrs)
        got = results(graphc.compile(one.graph(), target=TARGET), one)
        for y, w in zip(got, one.run()):
            np.testing.assert_array_equal(y, w)


@pytest.mark.parametrize("name", ["MaxPool", "AveragePool", "LpPool"])
def test_epilogues(name: str, checked: None):
    b = Builder("net")
    x, z = b.input("x", np.float32, (2, 3, 7, 8)), b.input("z", np.float32, (3, 1, 1))
    y = b.add("Tanh", b.add("Mul", b.add(name, x, kernel_shape=(2, 3), strides=(2, 2)), z))
    graph = b.build({"y": y})
    feeds = {"x": randoms(2, 3, 7, 8), "z": randoms(3, 1, 1, seed=1)}
    model, want = graphc.compile(graph, target=TARGET), graphc.compile(graph, target="reference").run(feeds)["y"]
    np.testing.assert_allclose(model.run(feeds)["y"], want, rtol=0, atol=1e-6)
    assert [s.ops for s in model.plan().steps] == [(name, "Mul", "Tanh")]
