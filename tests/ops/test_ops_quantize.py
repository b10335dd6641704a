"""Quantization and integer products against other implementations and their expansions; small dtypes; errors."""

from __future__ import annotations

import numpy as np
import opcheck
import pytest
from fuzz.peers import runtime_saturates
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import require

import graphc
from graphc.dtypes import int_range
from graphc.errors import TypeRuleError
from graphc.graph import Builder
from graphc.op import Case, Const, Tensor, get_op

ml_dtypes = pytest.importorskip("ml_dtypes")
LINEAR = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
PRODUCTS = ("MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")


def by_row(name: str, case: Case) -> bool:
    """Zero points by row of the left operand, which no peer takes as the specification has them."""
    zero = {"MatMulInteger": 2, "QLinearMatMul": 2}.get(name)
    return zero is not None and len(case.inputs) > zero and np.size(case.inputs[zero].value) > 1


def wrong_peers(name: str, case: Case) -> list[str]:
    if name == "DynamicQuantizeLinear" and case.inputs[0].high == 0:
        return ["onnx"]  # divides by the range of an input of zeros
    return ["runtime"] if name in PRODUCTS and runtime_saturates() else []


@pytest.mark.parametrize(("name", "case"), [c for c in opcheck.cases(*LINEAR, *PRODUCTS) if not by_row(*c.values)])
def test_agrees_with_peers(name, case):
    opcheck.against_peers(name, case, wrong=wrong_peers(name, case))


@pytest.mark.parametrize(("name", "case"), opcheck.cases(*LINEAR, *PRODUCTS))
def test_expansion_is_exact(name, case):
    arrays = opcheck.operands(get_op(name), case)
    actual = opcheck.expanded(name, case, arrays)
    assert actual is not None
    opcheck.agree(actual, opcheck.reference(name, case, arrays), 1e-7)


@pytest.mark.parametrize(("name", "case"), [c for c in opcheck.cases(*PRODUCTS) if by_row(*c.values)])
def test_zero_points_by_row(name, case):
    """Each matrix of the batch and each row alone, with its own scale and zero point, in Python integers."""
    arrays = opcheck.operands(get_op(name), case)
    (actual,) = opcheck.reference(name, case, arrays)
    if name == "MatMulInteger":
        a, b, a_zero, b_zero = (x.astype(object) for x in arrays)
        want = np.matmul(a - (a_zero[:, None] if a_zero.ndim == 1 else a_zero), b - b_zero)
    else:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = arrays
        total = np.matmul((a.astype(int) - a_zero[:, None]), b.astype(int) - b_zero)
        real = total * (a_scale[:, None].astype(float) * b_scale / y_scale)
        want = np.clip(np.rint(real) + y_zero, *int_range(y_zero.dtype))
    np.testing.assert_array_equal(actual, want.astype(actual.dtype))


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int2", "uint2", "int8", "uint16"])
def test_small_integers_round_half_to_even_and_saturate(dtype):
    target = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x = np.array([-1e6, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1e6], np.float32)
    case = Case((Tensor(x.shape), Const(1.0, "float32")), {"output_dtype": target})
    (q,) = opcheck.reference("QuantizeLinear", case, [x, np.ones((), np.float32)])
    low, high = int_range(target)
    assert q.dtype == target
    np.testing.assert_array_equal(q.astype(int), np.clip([low, -2, -2, 0, 0, 2, 2, high], low, high))
    back = Case((Tensor(x.shape), Const(0.5, "float32")))
    (y,) = opcheck.reference("DequantizeLinear", back, [q, np.array(0.5, np.float32)])
    np.testing.assert_array_equal(y, 0.5 * q.astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [("float8_e4m3fn", 448), ("float8_e4m3fnuz", 240), ("float8_e5m2", 57344), ("float8_e5m2fnuz", 57344), ("float4_e2m1fn", 6)],
)  # fmt: skip
def test_small_floats_saturate(dtype, largest):
    target, x = np.dtype(getattr(ml_dtypes, dtype)), np.array([0.3, -1, 2, 1e9, -1e9], np.float32)
    scale = np.ones((), np.float32)
    case = Case((Tensor(x.shape), Const(1.0, "float32")), {"output_dtype": target})
    (q,) = opcheck.reference("QuantizeLinear", case, [x, scale])
    np.testing.assert_array_equal(q[:3], x[:3].astype(target))
    np.testing.assert_array_equal(q[3:].astype(np.float32), [largest, -largest])
    if dtype.startswith("float8"):
        loose = Case(case.inputs, {**case.attrs, "saturate": False})
        assert not np.isfinite(opcheck.reference("QuantizeLinear", loose, [x, scale])[0][3:].astype(np.float32)).any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(2, 3, 5), (4, 7)]), st.integers(0, 1), st.integers(1, 4))
def test_blocks_repeat_their_scale(seed, shape, axis, block):
    """A blocked scale is the same as one scale per element."""
    rng = np.random.default_rng(seed)
    blocks = [-(-n // block) if k == axis else n for k, n in enumerate(shape)]
    scale = 2.0 ** rng.integers(-3, 3, blocks).astype(np.float32)
    zero, x = rng.integers(-9, 9, blocks, np.int8), rng.uniform(-9, 9, shape).astype(np.float32)
    case = Case((Tensor(shape), Tensor(scale.shape), Tensor(zero.shape)), {"axis": axis, "block_size": block})
    (q,) = opcheck.reference("QuantizeLinear", case, [x, scale, zero])
    where = tuple(i // block if k == axis else i for k, i in enumerate(np.indices(shape)))
    np.testing.assert_array_equal(q, np.clip(np.rint(x / scale[where]) + zero[where], -128, 127))
    (y,) = opcheck.reference("DequantizeLinear", case, [q, scale, zero])
    np.testing.assert_array_equal(y, (q.astype(np.float32) - zero[where]) * scale[where])


def test_the_scale_decides_the_precision():
    x, scale = np.array([10.0], np.float32), np.array(3.0, np.float16)
    case = Case((Tensor((1,)), Const(3.0, "float16")), {"output_dtype": "int8"})
    assert opcheck.reference("QuantizeLinear", case, [x, scale])[0] == 3
    (y,) = opcheck.reference("DequantizeLinear", Case(case.inputs), [np.array([3], np.int8), scale])
    assert y.dtype == np.float16
    (y,) = opcheck.reference("DequantizeLinear", Case(case.inputs, {"output_dtype": "float32"}), [np.int8([3]), scale])
    assert y.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "operands", "attrs", "words"),
    [
        ("QuantizeLinear", [("float32", (2, 4)), ("float32", (3,))], {}, ["3 entries", "axis 1", "has 4"]),
        ("QuantizeLinear", [("float32", (2, 4)), ("float32", (2, 2))], {}, ["(2, 2)", "block_size"]),
        ("QuantizeLinear", [("float32", (2, 5)), ("float32", (2, 2))], {"block_size": 2}, ["(2, 2)", "(2, 3)"]),
        ("QuantizeLinear", [("float32", (2, 4)), ("float32", ()), ("int32", ())], {}, ["int32", "uint8"]),
        ("QuantizeLinear", [("float32", (2, 4)), ("float32", ()), ("int8", (4,))], {}, ["zero point", "same shape"]),
        ("QuantizeLinear", [("float32", (2, 4)), ("float32", ()), ("int8", ())], {"output_dtype": "uint8"}, ["uint8", "int8"]),
        ("DequantizeLinear", [("int8", (2, 4)), ("float32", ()), ("uint8", ())], {}, ["int8", "uint8", "Cast"]),
        ("DequantizeLinear", [("float32", (2, 4)), ("float32", ())], {}, ["'x' is float32"]),
        ("MatMulInteger", [("int8", (2, 4)), ("int8", (3, 5))], {}, ["4 columns", "3 rows"]),
        ("MatMulInteger", [("int8", (2, 4)), ("int8", (4, 5)), ("uint8", ())], {}, ["a_zero_point", "uint8"]),
        ("ConvInteger", [("uint8", (1, 3, 5, 5)), ("uint8", (4, 2, 3, 3))], {}, ["3 channels", "take 2"]),
    ],
)  # fmt: skip
def test_errors(name, operands, attrs, words):
    b = Builder()
    with pytest.raises(TypeRuleError) as error:
        b.add(name, *(b.input(f"x{i}", *o) for i, o in enumerate(operands)), name="layer7", **attrs)
    assert all(word in str(error.value) for word in [f"{name} 'layer7'", *words]), str(error.value)


def test_exact_convolution_of_many_channels():
    """More products than float32 sums exactly: the expansion must still be exact."""
    x = np.full((1, 300, 3, 3), 255, np.uint8)
    w = np.full((2, 300, 3, 3), 255, np.uint8)
    w[1, 0, 0, 0] = 254
    case = Case((Tensor(x.shape), Tensor(w.shape)))
    want = [np.array([[[[2700 * 255 * 255]], [[2700 * 255 * 255 - 255]]]], np.int32)]
    opcheck.agree(opcheck.reference("ConvInteger", case, [x, w]), want)
    opcheck.agree(opcheck.expanded("ConvInteger", case, [x, w]), want)


@pytest.mark.parametrize("target", ["cpu:avx512", "cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize(
    ("x", "w"),
    [
        ((1, 16, 28, 28), (16, 16, 3, 3)),
        ((2, 16, 9, 14), (32, 16, 3, 3)),
        ((1, 256, 20, 20), (256, 256, 1, 1)),
        ((1, 200, 5, 6), (16, 200, 3, 3)),
    ],
    ids=["winograd", "a batch", "strassen", "several parts"],
)
def test_integer_convolutions_are_exact_where_others_are_not(x, w, target):
    """Of sizes for which float convolutions go by Winograd's or Strassen's algorithm."""
    require(target)
    rng = np.random.default_rng(0)
    pads = [w[2] // 2] * 4
    image, filters = rng.integers(0, 256, x, np.uint8), rng.integers(0, 256, w, np.uint8)
    b = Builder("integers")
    v = b.input("x", np.uint8, x)
    y = b.add("ConvInteger", v, b.constant(filters), b.constant(np.uint8(100)), b.constant(np.uint8(7)), pads=pads)
    graph = b.build({"y": y})
    want = graphc.compile(graph, target="reference").run({"x": image})["y"]
    model = graphc.compile(graph, target=target)
    np.testing.assert_array_equal(model.run({"x": image})["y"], want)
    assert all(v.dtype != np.float64 for v in model.graph.values()) and not _in_loops(model)


def _in_loops(model: graphc.Model) -> bool:
    return any(s.algorithm == "loops" for s in model.plan().steps)


def test_sums_over_large_weights_are_constants():
    """Four bytes for each of theirs are more than constants are folded to."""
    b, rng = Builder("vocabulary"), np.random.default_rng(0)
    x, w = b.input("x", np.uint8, (2, 512)), rng.integers(0, 256, (512, 9000), np.uint8)
    graph = b.build({"y": b.add("MatMulInteger", x, b.constant(w), b.constant(np.uint8(9)), b.constant(np.uint8(130)))})
    model = graphc.compile(graph)
    assert not any("ReduceSum" in s.ops and s.nbytes > w.nbytes for s in model.plan().steps)
    data = rng.integers(0, 256, (2, 512), np.uint8)
    want = (data.astype(np.int64) - 9) @ (w.astype(np.int64) - 130)
    np.testing.assert_array_equal(model(data), want)


@pytest.mark.parametrize("target", ["cpu", "cpu:avx2", "cpu:portable", "reference"])
def test_sums_beyond_int32_wrap(target: str):
    """Everywhere alike, modulo 2^32."""
    require(target) if target != "reference" else None
    b, depth = Builder("deep"), 33_100
    x, w = np.zeros((2, depth), np.uint8), np.full((depth, 3), 255, np.uint8)
    y = b.add("MatMulInteger", b.input("x", np.uint8, x.shape), b.constant(w), b.constant(np.uint8(255)))
    image = b.input("i", np.uint8, (1, depth, 1, 1))
    z = b.add("ConvInteger", image, b.constant(w.T[..., None, None].copy()), b.constant(np.uint8(255)))
    found = graphc.compile(b.build({"y": y, "z": z}), target=target).run({"x": x, "i": x[:1, :, None, None]})
    want = (-255 * 255 * depth + 2**31) % 2**32 - 2**31
    assert (found["y"] == want).all() and (found["z"] == want).all()
