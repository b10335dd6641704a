"""Windowed operators on the CPU: every case on every instruction set, and feature maps that stay in channel blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from targets import require

import graphc
from graphc.backends.cpu.conv.conv_transpose import phases
from graphc.errors import TypeRuleError
from graphc.graph import Builder, Graph, Value
from graphc.interpret import run_graph
from graphc.op import all_ops, get_op
from graphc.testing import Use, use_of

TARGETS = ["cpu", "cpu:avx2", "cpu:portable"]
WINDOWED = [
    *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "MaxUnpool", "LRN", "Resize", "Upsample"),
    *(name for name in all_ops() if name.startswith("Global")),
    "ChannelShuffle",
]
F32 = np.dtype(np.float32)


def compiled(graph: Graph, target: str, threads: int) -> graphc.Model:
    require(target)
    return graphc.compile(graph, target=target, threads=threads)


def kernels(model: graphc.Model) -> list[str]:
    """Names of the kernels of a plan's steps, without what specialises them."""
    return [s.kernel.partition("_x")[0] for s in model.plan().steps]


def check(
    graph: Graph, feeds: Sequence[np.ndarray], want: Sequence[np.ndarray], target: str, tolerance: float
) -> graphc.Model:
    """One thread agrees with `want`, two give the same bits, and nothing runs on the host."""
    names = [v.name for v in graph.inputs]
    model, pair = (compiled(graph, target, n) for n in (1, 2))
    got, again = (list(m.run(dict(zip(names, feeds))).values()) for m in (model, pair))
    assert not [s.reason for s in model.plan().steps if s.host]
    for a, b, w in zip(got, again, want):
        assert a.shape == w.shape
        assert a.tobytes() == b.tobytes(), "two threads give other bits than one"
        if a.dtype.kind != "f":
            np.testing.assert_array_equal(a, w)
        else:
            scale = max(1.0, np.abs(w[np.isfinite(w)]).max(initial=0))
            np.testing.assert_allclose(a, w, rtol=0, atol=scale * (1e-12 if a.dtype == np.float64 else tolerance))
    return model


def check_use(use: Use, target: str) -> graphc.Model:
    wide = use.with_floats("float64")
    return check(use.graph(), use.inputs, run_graph(wide.graph(), wide.inputs), target, use.op.tolerance)


def known_parameters(use: Use) -> Use:
    """With all operands but the first as constants."""
    return replace(use, constants=use.constants | {i for i, a in enumerate(use.arrays) if i and a is not None})


# --- every case -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", WINDOWED)
def test_every_case(name: str, target: str):
    op = get_op(name)
    for case in op.samples.cases:
        check_use(known_parameters(use_of(op, case, "float32")), target)


@pytest.mark.parametrize("name", WINDOWED)
def test_every_case_in_every_other_dtype(name: str):
    op = get_op(name)
    for dtype, case in itertools.product(op.samples.dtypes[1:], op.samples.cases):
        check_use(use_of(op, case, dtype), "cpu")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_weights_that_are_computed_at_run_time(name: str, target: str):
    op = get_op(name)
    for case in op.samples.cases[::3]:
        check_use(use_of(op, case, "float32"), target)
    use = use_of(op, op.samples.cases[0], "float32")
    for constants in ({1}, {2}):  # the weights alone, the bias alone
        check_use(replace(use, constants=frozenset(constants)), target)


@pytest.mark.parametrize("name", ["Conv", "ConvTranspose", "MaxPool", "AveragePool"])
def test_nothing_in_the_batch(name: str):
    op = get_op(name)
    use = use_of(op, op.samples.cases[-1], "float32")
    empty = replace(use, arrays=(use.arrays[0][:0], *use.arrays[1:]))
    check_use(known_parameters(empty), "cpu")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_max_pool_of_nan_and_infinities(dtype: str, n_outputs: int):
    x = np.random.default_rng(0).normal(size=(1, 3, 9, 8)).astype(dtype)
    x[0, 0, 2, 3], x[0, 1, 4, 4], x[0, 2] = np.nan, np.inf, -np.inf
    attrs = {"kernel_shape": (3, 2), "strides": (2, 1)}
    use = Use(get_op("MaxPool"), (x,), attrs, n_outputs)
    model = compiled(use.graph(), "cpu", 1)
    for a, w in zip(model.run({"x0": x}).values(), use.run()):
        np.testing.assert_array_equal(a, w)


# --- transposed convolutions ------------------------------------------------------------------------------------------
axes = st.tuples(*(st.integers(1, n) for n in (6, 4, 4)), st.integers(0, 5), st.integers(1, 14), st.integers(1, 7))


@pytest.mark.parametrize("target", TARGETS)
def test_averages_of_whole_images_are_sums_of_sums(target: str):
    """Of nearly equal elements, whose sum in one go rounds the same way thousands of times. The tolerance is an eighth of a rounding
    for each row and column: not all of them go the same way."""
    b, shape = Builder("average"), (1, 32, 96, 96)
    x, w = b.input("x", "float32", shape), b.constant(np.ones((32, 1, 1, 1), np.float32))
    y = b.add("GlobalAveragePool", b.add("Conv", x, w, group=32))
    model = compiled(b.build({"y": y}), target, 1)
    a = (1.1 + np.random.default_rng(0).uniform(0, 1e-3, shape)).astype(np.float32)
    np.testing.assert_allclose(
        model.run({"x": a})["y"], a.mean((2, 3), np.float64, keepdims=True), rtol=(96 + 96) * 2**-24 / 8
    )
    assert "pool_average" in [s.kernel for s in model.plan().steps]


@settings(max_examples=200, deadline=None)
@given(axes)
def test_phases_hold_every_pair_of_input_and_tap_once(axis):
    """y[o] takes x[i] by tap k where o = i·stride - pad + k·dilation."""
    kernel, stride, dilation, pad, out, size = axis
    want = sorted(
        (i * stride - pad + k * dilation, i, k)
        for i, k in itertools.product(range(size), range(kernel))
        if 0 <= i * stride - pad + k * dilation < out
    )
    found, outputs = [], []
    for p in phases(kernel, stride, dilation, pad, out):
        outputs += [p.first + stride * n for n in range(p.count)]
        for n, t in itertools.product(range(p.count), range(p.taps)):
            i = n - p.pad + t * p.dilation
            if 0 <= i < size:
                found.append((p.first + stride * n, i, p.tap + (p.taps - 1 - t) * p.tap_step))
    assert sorted(found) == want
    assert sorted(outputs) == list(range(out))


@st.composite
def transposed_uses(draw: st.DrawFn) -> Use:
    rank = draw(st.integers(1, 2))

    def ints(low: int, high: int, count: int = rank):
        return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    groups = draw(st.sampled_from([1, 1, 2, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    x = rng.normal(size=(draw(st.integers(1, 2)), groups * draw(st.integers(1, 9)), *ints(1, 9))).astype(F32)
    w = rng.normal(size=(x.shape[1], draw(st.integers(1, 20)), *ints(1, 5))).astype(F32)
    attrs = {"strides": ints(1, 4), "dilations": ints(1, 3), "pads": ints(0, 3, 2 * rank), "group": groups}
    use = Use(get_op("ConvTranspose"), (x, w), attrs, 1, frozenset({1}))
    try:
        use.graph()
    except TypeRuleError:  # padding that leaves nothing
        assume(False)
    return use


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(transposed_uses())
def test_any_transposed_convolution(use: Use):
    check_use(use, "cpu")


# --- feature maps in channel blocks -----------------------------------------------------------------------------------
Net = Callable[[Builder, Value], "Value | list[Value]"]
NETS: dict[str, tuple[tuple[int, ...], Net]] = {}
OTHERWISE = {"channels are resized", "images and channels are sliced", "extrapolation"}  # need dense operands
VIEWS = {"split into blocks", "slice of blocks", "slice of images"}  # cost no step


def net(name: str, *shape: int) -> Callable[[Net], Net]:
    def register(make: Net) -> Net:
        NETS[name] = (shape or (2, 24, 9, 7)), make
        return make

    return register


def weights(b: Builder, *shape: int) -> Value:
    rng = np.random.default_rng([7, *shape])
    return b.constant(rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])), F32)


def conv(b: Builder, x: Value, channels: int, k: int = 1) -> Value:
    rank = x.type.rank - 2
    return b.add("Conv", x, weights(b, channels, x.shape[1], *[k] * rank), pads=[k // 2] * 2 * rank)


def ints(b: Builder, *numbers: int) -> Value:
    return b.constant(numbers, np.int64)


def between(
    name: str, op: str, *constants: Callable[[Builder], Value | None], shape=(2, 24, 9, 7), channels=40, **attrs
):
    """A net with the operator between two convolutions, of 40 channels: not a multiple of any block."""

    def make(b: Builder, x: Value) -> Value:
        y = b.add(op, conv(b, x, channels), *(c and c(b) for c in constants), **attrs)
        return conv(b, y, 24, 3)  # to fewer, pixels may lie in the lanes, from dense rows

    net(name, *shape)(make)


def floats(*numbers: float) -> Callable[[Builder], Value]:
    return lambda b: b.constant(numbers, F32)


def integers(*numbers: int) -> Callable[[Builder], Value]:
    return lambda b: ints(b, *numbers)


between("LRN of 5", "LRN", size=5, alpha=0.5, bias=2.0)
between("LRN of 4", "LRN", size=4, alpha=0.5, beta=0.6)
between("LRN of 13", "LRN", size=13, alpha=0.5, beta=1.0)
between("LRN of whole blocks", "LRN", size=5, alpha=0.5, beta=0.5, channels=48)
between("LRN, one axis", "LRN", size=3, alpha=0.3, shape=(1, 24, 15))
for mode, scales in itertools.product(
    ("nearest", "linear", "cubic"), ((1, 1, 2, 2), (1, 1, 1, 3), (1, 1, 2.5, 1), (1, 1, 0.6, 0.7))
):
    between(f"resize {mode} {scales}", "Resize", None, floats(*scales), mode=mode)
between("resize of corners", "Resize", None, None, integers(2, 40, 13, 31), mode="linear",
        coordinate_transformation_mode="align_corners")  # fmt: skip
between("resize with antialias", "Resize", None, floats(1, 1, 0.6, 0.7), mode="linear", antialias=True)
between("resize of volumes", "Resize", None, floats(1, 1, 2, 0.8, 1.5), mode="linear", shape=(1, 24, 4, 5, 6))
between("channels are resized", "Resize", None, floats(1, 2, 1, 2))
between("extrapolation", "Resize", floats(0, 0, 0.4, 0.6, 1, 1, 0.6, 1.7), None, integers(2, 40, 3, 6), mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=10.0)  # fmt: skip
for mode in ("constant", "edge", "reflect", "wrap"):
    between(f"pad {mode}", "Pad", integers(0, 0, 2, 1, 0, 0, 1, 3), floats(0.5), mode=mode)
between("pad that crops", "Pad", integers(0, 0, -2, 1, 0, 0, 1, -3))
between("slice of blocks", "Slice", integers(16), integers(48), integers(1), channels=64)
between("slice of channels", "Slice", integers(3), integers(39), integers(1))
between("slice of channels, backwards", "Slice", integers(-1), integers(-99), integers(1), integers(-1))
between("every third channel", "Slice", integers(0), integers(99), integers(1), integers(3))
between("slice of images", "Slice", integers(1), integers(2), integers(0))
between("slice of pixels", "Slice", integers(1, 0), integers(7, 99), integers(2, 3), integers(2, 3))
between("slice of pixels, backwards", "Slice", integers(-1), integers(-99), integers(3), integers(-1))
between("images and channels are sliced", "Slice", integers(1, 16), integers(2, 32), integers(0, 1))


@net("LRN behind values that padding does not keep at zero")
def _(b, x):
    return conv(b, b.add("LRN", b.add("Sigmoid", conv(b, x, 41)), size=5, alpha=0.5), 8, 3)


def split(b: Builder, x: Value, *sizes: int) -> list[Value]:
    parts = b.add("Split", conv(b, x, sum(sizes)), ints(b, *sizes), axis=1, outputs=len(sizes))
    return [conv(b, part, 8, 3) if i % 2 else b.add("Relu", part) for i, part in enumerate(parts)]


net("split into blocks")(lambda b, x: split(b, x, 16, 32, 8))
net("split inside blocks")(lambda b, x: split(b, x, 10, 33, 5))


@net("concat inside blocks")
def _(b, x):
    return conv(b, b.add("Concat", conv(b, x, 10), conv(b, x, 33, 3), conv(b, x, 16), axis=1), 8, 3)


@net("concat whose last part is no block")
def _(b, x):
    last = conv(b, x, 33, 3)
    wholes = [b.add("Concat", conv(b, x, n), last, axis=1) for n in (16, 32)]
    return [conv(b, whole, 8, 3) for whole in wholes]


def shuffled(b: Builder, x: Value, groups: int) -> Value:
    n, c, *space = x.shape
    apart = b.add("Reshape", x, ints(b, n, groups, c // groups, *space))
    return b.add("Reshape", b.add("Transpose", apart, perm=[0, 2, 1, *range(3, len(space) + 3)]), ints(b, n, c, *space))


for channels, groups in ((48, 2), (48, 3), (58, 2), (128, 32)):

    @net(f"shuffle of {channels} in {groups}")
    def _(b, x, channels=channels, groups=groups):
        return conv(b, shuffled(b, conv(b, x, channels), groups), 8, 3)


@net("a unit of ShuffleNet v2", 1, 58, 14, 14)
def _(b, x):
    x = conv(b, x, 58)
    left, right = b.add("Split", x, ints(b, 29, 29), axis=1, outputs=2)
    return conv(b, shuffled(b, b.add("Concat", left, b.add("Relu", conv(b, right, 29, 3)), axis=1), 2), 58)


@net("mean over space")
def _(b, x):
    y = b.add("Relu", conv(b, x, 40))
    return [b.add("ReduceMean", y, ints(b, 2, 3), keepdims=False), conv(b, b.add("ReduceMean", y, ints(b, -1, 2)), 8)]


@net("transposed convolution with an epilogue")
def _(b, x):
    skip = b.add("Resize", conv(b, x, 20), None, b.constant([1, 1, 2, 2], F32))
    y = b.add("ConvTranspose", conv(b, x, 32), weights(b, 32, 20, 4, 4), weights(b, 20), strides=[2, 2], pads=[1] * 4)
    return b.add("Relu", b.add("Add", y, skip))


@net("transposed convolution with an expression, taps that some phases lack")
def _(b, x):
    return b.add("Sigmoid", b.add("ConvTranspose", conv(b, x, 32), weights(b, 32, 20, 2, 1), strides=[3, 2]))


@net("grouped transposed convolution")
def _(b, x):
    y = b.add("ConvTranspose", conv(b, x, 32), weights(b, 32, 1, 4, 4), strides=[2, 2], pads=[1] * 4, group=32)
    return conv(b, y, 8)


def built(name: str) -> tuple[Graph, list[np.ndarray]]:
    shape, make = NETS[name]
    b = Builder(name)
    results = make(b, b.input("x", F32, shape))
    results = results if isinstance(results, list) else [results]
    return b.build({f"y{i}": v for i, v in enumerate(results)}), [
        np.random.default_rng(1).normal(size=shape).astype(F32)
    ]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETS)
def test_feature_maps_stay_in_blocks(name: str, target: str):
    graph, feeds = built(name)
    model = check(graph, feeds, run_graph(graph, feeds), target, 2e-5)
    reorders = sum(k in ("to_blocked", "to_dense") for k in kernels(model))
    ends = 1 + len(graph.outputs)
    assert reorders > ends if name in OTHERWISE else reorders <= ends


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_views_cost_no_step(name: str):
    graph, _ = built(name)
    ops = {op for s in compiled(graph, "cpu", 1).plan().steps for op in s.ops}
    assert ops <= {"Reorder", "Conv", "Relu", "Halo"}


def test_an_epilogue_is_part_of_every_phase():
    graph, _ = built("transposed convolution with an epilogue")
    steps = [s for s in compiled(graph, "cpu", 1).plan().steps if "ConvTranspose" in s.ops]
    assert len(steps) == 4
    assert all(s.ops == ("ConvTranspose", "Add", "Relu") for s in steps)
