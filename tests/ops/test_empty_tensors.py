"""Tensors with a dim of 0: every operator, through the registry, and the patterns that passes rewrite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from nets import agree, convnet, recurrent, transformer

import graphc
from graphc.errors import GraphcError, InputError, TypeRuleError
from graphc.graph import Builder, Graph
from graphc.interpret import interpret, run_graph
from graphc.op import Case, Const, Family, Op, Tensor, all_ops, get_op
from graphc.testing import Use, cases, use_of
from graphc.types import Sym

F32 = np.dtype("float32")
INTERNAL = ("Reorder",)
REFUSING = ("ImageDecoder",)  # a file of no bytes is no picture
OPERATORS = [
    n
    for n, op in all_ops().items()
    if not (op.holds_graphs or op.family is Family.TABLE)
    and n not in INTERNAL + REFUSING
    and any(c.inputs for c in cases(op))
]


# --- operators --------------------------------------------------------------------------------------------------------
def emptied(case: Case, size: int, only: int | None = None) -> Case:
    """The case with every dim of that size made 0 (of one operand `only`), in tensors and in constants' shapes."""
    inputs = list(case.inputs)
    for i, spec in enumerate(inputs):
        if only is not None and i != only:
            continue
        if isinstance(spec, Tensor):
            inputs[i] = replace(spec, shape=tuple(0 if d == size else d for d in spec.shape))
        elif isinstance(spec, Const):
            value = np.asarray(spec.value, spec.dtype)
            for axis, d in enumerate(value.shape):
                value = value.take([], axis) if d == size else value
            inputs[i] = Const(value, spec.dtype)
    return Case(tuple(inputs), case.attrs, case.n_outputs)


def empty_uses(op: Op) -> Iterator[Use]:
    """Uses with a dim of 0 that the type rule takes."""
    seen = set()
    for case in cases(op)[:3]:
        shapes = [np.shape(s.value) if isinstance(s, Const) else s.shape for s in case.inputs if s is not None]
        for size in sorted({d for shape in shapes for d in shape if d}):
            for only in (None, *range(len(case.inputs))):
                use = use_of(op, emptied(case, size, only), op.samples.dtypes[0])
                key = tuple(None if a is None else a.shape for a in use.arrays), repr(case.attrs)
                if key in seen or not any(a is not None and a.size == 0 for a in use.arrays):
                    continue
                seen.add(key)
                try:
                    use.graph()
                except GraphcError:
                    continue
                yield use


@pytest.mark.filterwarnings("ignore:Mean of empty", "ignore:Degrees of freedom", "ignore:invalid value")
@pytest.mark.parametrize("name", OPERATORS)
def test_kernel_and_reference_agree_on_nothing(name: str):
    for use in empty_uses(get_op(name)):
        try:
            want = use.run()
        except InputError:  # positions in a tensor of nothing
            want = None
        model = graphc.compile(use.graph(), threads=1)
        feeds = dict(zip([s.name for s in model.inputs], use.inputs))
        if want is None:
            with pytest.raises(InputError):
                model.run(feeds)
            continue
        for got, w in zip(model.run(feeds).values(), want):
            assert got.dtype == w.dtype and got.shape == w.shape, use
            if use.op.deterministic is False:
                continue
            if w.dtype.kind == "f":
                np.testing.assert_allclose(got, w, rtol=1e-4, atol=1e-4, err_msg=f"{use}")
            else:
                np.testing.assert_array_equal(got, w, f"{use}")


def result(name: str, *arrays: np.ndarray, constants: tuple[int, ...] = (), target: str = "cpu", **attrs) -> np.ndarray:
    b = Builder("empty")
    values = [b.constant(a) if i in constants else b.input(f"x{i}", a.dtype, a.shape) for i, a in enumerate(arrays)]
    g = b.build((b.add(name, *values, **attrs),))
    feeds = {f"x{i}": a for i, a in enumerate(arrays) if i not in constants}
    return next(iter(graphc.compile(g, target=target, threads=1).run(feeds).values()))


@pytest.mark.filterwarnings("ignore:Mean of empty", "ignore:invalid value")
@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_what_nothing_amounts_to(target: str):
    """The neutral element of what is combined; a mean of nothing is no number."""
    nothing, axis = np.zeros((2, 0), F32), np.array([1])
    for name, want in {
        "ReduceSum": 0, "ReduceProd": 1, "ReduceMax": -np.inf, "ReduceMin": np.inf, "ReduceMean": np.nan,
        "ReduceL2": 0, "ReduceSumSquare": 0, "ReduceLogSum": -np.inf, "ReduceLogSumExp": -np.inf,
    }.items():  # fmt: skip
        y = result(name, nothing, axis, constants=(1,), target=target, keepdims=False)
        np.testing.assert_array_equal(y, np.full(2, want, F32), name)
    for dtype in ("int32", "uint8", "int64"):
        empty, info = np.zeros((3, 0), dtype), np.iinfo(dtype)
        for name, want in (("ReduceMax", info.min), ("ReduceMin", info.max), ("ReduceSum", 0), ("ReduceProd", 1)):
            y = result(name, empty, axis, constants=(1,), target=target, keepdims=False)
            np.testing.assert_array_equal(y, np.full(3, want, dtype))
    np.testing.assert_array_equal(
        result("MatMul", np.ones((2, 0), F32), np.ones((0, 3), F32), target=target), np.zeros((2, 3))
    )
    y = result("Gemm", np.ones((2, 0), F32), np.ones((0, 3), F32), np.ones(3, F32), target=target)
    np.testing.assert_array_equal(y, np.ones((2, 3)))
    for attrs in ({}, {"isnan_only": True}, {"isinf_only": True}):
        assert result("com.microsoft::IsAllFinite", np.ones((0, 3), F32), target=target, **attrs)
    x, attrs = np.ones((1, 1, 0, 2), F32), {"strides": (2, 2), "output_padding": (1, 1)}
    y = result("ConvTranspose", x, np.ones((1, 1, 3, 3), F32), target=target, **attrs)
    np.testing.assert_array_equal(y, np.zeros((1, 1, 2, 6)))
    x, attrs = np.ones((2, 5, 0, 2), F32), {"inverse": True, "onesided": True}
    y = result("DFT", x, np.array(128), constants=(1,), target=target, **attrs)
    np.testing.assert_array_equal(y, np.zeros((2, 5, 128, 1)))
    y = result("GridSample", np.ones((1, 0, 3, 0), F32), np.ones((1, 2, 4, 2), F32), target=target)
    assert y.shape == (1, 0, 2, 4)
    x, w = np.ones((1, 0, 5, 5), F32), np.ones((4, 0, 3, 3), F32)
    np.testing.assert_array_equal(result("Conv", x, w, np.arange(4, dtype=F32), target=target)[0, :, 0, 0], range(4))
    for name, want in (("GlobalAveragePool", np.nan), ("GlobalMaxPool", -np.inf)):
        np.testing.assert_array_equal(
            result(name, np.ones((1, 2, 0, 3), F32), target=target), np.full((1, 2, 1, 1), want)
        )


@pytest.mark.filterwarnings("ignore:Mean of empty", "ignore:Degrees of freedom", "ignore:invalid value")
@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_rows_of_nothing_have_no_mean(target: str):
    b = Builder("rows")
    x, w = b.input("x", F32, (300, 0)), b.input("w", F32, (0,))
    m = graphc.compile(b.build(b.add("LayerNormalization", x, w, outputs=3)), target=target, threads=1)
    feeds = {"x": np.zeros((300, 0), F32), "w": np.zeros(0, F32)}
    _, mean, inverse = m.run(feeds).values()
    np.testing.assert_array_equal(mean, np.full((300, 1), np.nan))
    np.testing.assert_array_equal(inverse, np.full((300, 1), np.nan))


@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
def test_there_is_no_largest_of_nothing(name: str):
    with pytest.raises(GraphcError):
        result(name, np.zeros((2, 0), F32), axis=1)
    assert result(name, np.zeros((0, 2), F32), axis=1).shape == (0, 1)


@pytest.mark.parametrize(
    "name, arrays, attrs, words",
    [
        ("Conv", [np.ones((1, 2, 5), F32), np.ones((3, 2, 0), F32)], {}, "kernel"),
        ("GridSample", [np.ones((1, 2, 0, 3), F32), np.ones((1, 2, 2, 2), F32)], {}, "no pixels"),
        ("RoiAlign", [np.ones((1, 2, 3, 0), F32), np.ones((1, 4), F32), np.zeros(1, int)], {}, "no pixels"),
        ("Multinomial", [np.ones((2, 0), F32)], {}, "no classes"),
        ("Attention", [np.ones((2, 3, 4, 0), F32)] * 3, {}, "heads"),
        ("Attention", [np.ones((2, 3, 4, 8), F32), *[np.ones((2, 0, 4, 8), F32)] * 2], {}, "heads"),
        ("Attention", [np.ones((0, 3, 4, 8), F32), *[np.ones((2, 3, 4, 8), F32)] * 2], {}, "batch"),
        ("MatMulInteger", [np.ones((5, 7), "uint8"), np.ones((7, 3), "int8"), np.zeros(0, "uint8")], {}, "row"),
        (
            "MaxUnpool",
            [np.ones((1, 2, 0), F32), np.ones((1, 2, 0), int)],
            {"kernel_shape": [3], "strides": [2], "pads": [1, 1]},
            "below 0",
        ),
        ("com.microsoft::Attention", [np.ones((2, 3, 4), F32), np.ones((4, 0), F32)], {"num_heads": 2}, "2 heads"),
        ("com.microsoft::MultiHeadAttention", [np.ones((2, 3, 2, 3, 0), F32)], {"num_heads": 2}, "0 elements"),
        (
            "com.microsoft::MultiHeadAttention",
            [*[np.ones((2, 3, 4), F32)] * 3, np.ones(12, F32), np.ones((2, 1, 2, 2), "int32")],
            {"num_heads": 2},
            "2 positions, of which there are 3",
        ),
        ("com.microsoft::CausalConvWithState", [np.ones((2, 4, 6), F32), np.ones((4, 1, 0), F32)], {}, "weights"),
        (
            "com.microsoft::BifurcationDetector",
            [np.ones(6, int), np.ones(1, int), np.zeros(1, int), np.ones(8, int)],
            {},
            "8 tokens are predicted of 6",
        ),
        (
            "com.microsoft::GatherBlockQuantized",
            [np.ones((0, 16), "uint8"), np.zeros(2, int), np.ones((0, 2), F32)],
            {"block_size": 16},
            "nothing along axis 0",
        ),
        (
            "com.microsoft::MaxpoolWithMask",
            [np.ones((1, 2, 4), F32), np.ones((1, 0, 4), "int32")],
            {"kernel_shape": [2]},
            "mask",
        ),
        ("com.microsoft::Rfft", [np.ones((3, 0), F32)], {}, "no points"),
        ("com.microsoft::Irfft", [np.ones((3, 1, 2), F32)], {"signal_ndim": 1}, "one point"),
        (
            "ai.onnx.ml::FeatureVectorizer",
            [np.ones((2, 3), F32), np.ones((3, 3), F32)],
            {"inputdimensions": [3, 3]},
            "differ",
        ),
        ("LookUp", [np.ones(4, F32), np.ones(3, F32), np.ones(3, F32)], {}, "values"),
        ("TensorScatter", [np.ones((2, 4, 3), F32), np.ones((2, 2, 3), F32), np.zeros(0, int)], {}, "write_indices"),
    ],
)
def test_what_can_not_be_computed_is_refused_by_name(name: str, arrays: list[np.ndarray], attrs: dict, words: str):
    with pytest.raises(TypeRuleError, match=words):
        result(name, *arrays, **attrs)


def test_nothing_can_not_be_enlarged():
    x = np.ones((1, 1, 0, 4), F32)
    with pytest.raises(TypeRuleError, match="no elements"):
        result("Resize", x, np.zeros(0, F32), np.zeros(0, F32), np.array([1, 1, 3, 4]), constants=(1, 2, 3))
    for mode in ("half_pixel_symmetric", "half_pixel", "align_corners"):
        scales = np.array([1, 1, 2, 2], F32)
        y = result("Resize", x, np.zeros(0, F32), scales, constants=(1, 2), coordinate_transformation_mode=mode)
        assert y.shape == (1, 1, 0, 8)


# --- shapes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(
    "shape, perm", [((0, 3, 1, 1), (1, 2, 0, 3)), ((1, 4, 0), (1, 0, 2)), ((5, 0), (1, 0)), ((0,), (0,))]
)
def test_transposed(shape: tuple[int, ...], perm: tuple[int, ...], symbolic: bool):
    b = Builder("transpose")
    x = b.input("x", F32, [Sym(f"d{i}") for i in range(len(shape))] if symbolic else shape)
    y = b.add("Relu", b.add("Transpose", b.add("Neg", x), perm=perm))
    assert graphc.compile(b.build((y,)))(np.zeros(shape, F32)).shape == tuple(shape[p] for p in perm)


@pytest.mark.parametrize("shape, target, want", [
    ((0, 6, 4), (0, -1, 2), (0, 12, 2)), ((0, 8), (0, 2, -1), (0, 2, 4)), ((3, 0, 8), (0, 0, -1, 4), (3, 0, 2, 4)),
    ((0, 5), (-1, 5), (0, 5)), ((2, 0), (0, 0, -1), (2, 0, 1)),
])  # fmt: skip
def test_what_copied_dims_leave_over(shape: tuple[int, ...], target: tuple[int, ...], want: tuple[int, ...]):
    """As for any other batch, though 0 elements would divide in any way."""
    for t in ("cpu", "reference"):
        assert result("Reshape", np.zeros(shape, F32), np.array(target), constants=(1,), target=t).shape == want


def compare(g: Graph, feeds: dict[str, np.ndarray]) -> None:
    agree(graphc.compile(g, threads=2).run(feeds), interpret(g, feeds))


@pytest.mark.parametrize("shape", [(0, 5, 32), (3, 0, 32), (0, 0, 32)])
def test_a_transformer_of_nothing(shape: tuple[int, ...]):
    compare(transformer(), {"x": np.ones(shape, F32)})


@pytest.mark.parametrize("shape", [(0, 2, 24), (5, 0, 24), (0, 0, 24)])
def test_a_recurrent_net_of_nothing(shape: tuple[int, ...]):
    compare(recurrent(), {"x": np.ones(shape, F32)})


def test_a_convolutional_net_of_nothing():
    compare(convnet(), {"x": np.ones((0, 3, 28, 28), F32)})


# --- recurrent layers -------------------------------------------------------------------------------------------------
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("seq, batch", [(0, 2), (3, 0), (0, 0)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("name", GATES)
def test_a_layer_of_no_steps_keeps_its_state(name: str, direction: str, seq: int, batch: int):
    rng, hidden, d = np.random.default_rng(0), 5, 1 + (direction == "bidirectional")
    for layout in (0, 1):
        for lens in (False, True):
            b = Builder("layer")
            weights = [b.constant(rng.normal(size=(d, GATES[name] * hidden, n)), F32) for n in (4, hidden)]
            shape = (batch, seq, 4) if layout else (seq, batch, 4)
            state = rng.normal(size=(batch, d, hidden) if layout else (d, batch, hidden)).astype(F32)
            feeds = {"x": np.ones(shape, F32), "h": state}
            x, h = (b.input(n, F32, a.shape) for n, a in feeds.items())
            lengths = b.constant(np.full(batch, seq), np.int32) if lens else None
            n_outputs = 3 if name == "LSTM" else 2
            attrs = {"direction": direction, "layout": layout, "hidden_size": hidden}
            y, *last = b.add(name, x, *weights, None, lengths, h, outputs=n_outputs, **attrs)
            g = b.build((y, *last))
            for target in ("cpu", "reference"):
                got = list(graphc.compile(g, target=target).run(feeds).values())
                assert got[0].shape == ((batch, seq, d, hidden) if layout else (seq, d, batch, hidden))
                np.testing.assert_array_equal(got[1], state)
                if name == "LSTM":
                    np.testing.assert_array_equal(got[2], np.zeros_like(state))


@pytest.mark.parametrize("seq, batch", [(0, 2), (3, 0), (4, 2)])
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("name", GATES)
def test_a_layer_between_transpositions(name: str, symbolic: bool, seq: int, batch: int):
    """As exporters write what was batch first: the pass that turns it divides by the dims."""
    rng, hidden = np.random.default_rng(0), 5
    for d in (1, 2):
        b = Builder("layer")
        x = rng.normal(size=(batch, seq, 4)).astype(F32)
        v = b.input("x", F32, (Sym("n"), Sym("t"), 4) if symbolic else x.shape)
        weights = [b.constant(rng.normal(size=(d, GATES[name] * hidden, n)), F32) for n in (4, hidden)]
        attrs = {"direction": "bidirectional" if d == 2 else "forward", "hidden_size": hidden}
        y, *_ = b.add(name, b.add("Transpose", v, perm=(1, 0, 2)), *weights, outputs=2, **attrs)
        if d == 1:
            y = b.add("Squeeze", y, b.constant([1], np.int64))
        else:
            y = b.add("Reshape", b.add("Transpose", y, perm=(0, 2, 1, 3)), b.constant([0, 0, -1], np.int64))
        g = b.build((b.add("Transpose", y, perm=(1, 0, 2)),))
        (want,) = run_graph(g, [x])
        np.testing.assert_allclose(graphc.compile(g)(x), want, atol=1e-5)
