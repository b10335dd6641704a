"""Convolutions and pools against other implementations; the geometry they share; errors."""

from __future__ import annotations

import numpy as np
import opcheck
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc
from graphc.dims import UNKNOWN
from graphc.errors import GraphcError, TypeRuleError
from graphc.graph import Builder
from graphc.op import Case, Deferred, Tensor, get_op
from graphc.ops._geometry import transposed_windows, window_view, windows
from graphc.ops.window import geometry
from graphc.types import Sym

CONVOLUTIONS = ("Conv", "ConvTranspose", "DeformConv")
GLOBAL_POOLS = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
POOLS = ("MaxPool", "AveragePool", "LpPool", *GLOBAL_POOLS)
H, W = Sym("h"), Sym("w")


def wrong_peers(name: str, case: Case) -> list[str]:
    """Peers that contradict the specification: see the reasons."""
    wrong = []
    if name == "ConvTranspose" and case.attrs.get("group", 1) > 1:
        wrong.append("onnx")  # adds the first group's bias to all groups
    if name in ("MaxPool", "AveragePool", "LpPool"):
        wrong.append("onnx")  # shifts the windows by half of what ceil_mode adds at the end; ignores some dilations
    if name == "GlobalMaxPool" and len(case.inputs[0].shape) != 4:
        wrong.append("onnx")  # reduces the wrong axes unless there are two in space
    if name == "MaxUnpool" and len(case.inputs) == 3:
        wrong.append("runtime")  # takes the indices in output_shape; ONNX in the shape that the attributes give
    return wrong


@pytest.mark.parametrize(("name", "case"), opcheck.cases("Conv", "ConvTranspose", *POOLS, "MaxUnpool"))
def test_agrees_with_peers(name, case):
    opcheck.against_peers(name, case, wrong=wrong_peers(name, case))


@pytest.mark.parametrize(
    ("name", "case"), [c for c in opcheck.cases("DeformConv") if len(c.values[1].inputs[0].shape) == 4]
)
def test_deformable_agrees_with_peers(name, case):
    opcheck.against_peers(name, case)


@pytest.mark.parametrize(("name", "case"), opcheck.cases("DeformConv"))
def test_deformable_by_whole_pixels_reads_shifted_input(name, case):
    """Offsets of 0 give the plain convolution, in any number of axes; so do masks of 1."""
    x, w, offset, b, mask = (*opcheck.operands(get_op(name), case), None, None)[:5]
    mask = None if mask is None else np.ones_like(mask)
    (actual,) = opcheck.reference(name, case, [x, w, np.zeros_like(offset), b, mask])
    attrs = {k: v for k, v in case.attrs.items() if k != "offset_group"}
    plain = Case((case.inputs[0], case.inputs[1], None if b is None else case.inputs[3]), attrs)
    opcheck.agree([actual], opcheck.reference("Conv", plain, [x, w, b]))


@pytest.mark.parametrize(("name", "case"), opcheck.cases(*CONVOLUTIONS, *POOLS))
def test_float64_and_narrow_floats(name, case):
    pytest.importorskip("ml_dtypes")
    narrow = opcheck.operands(get_op(name), case, "bfloat16")
    want = opcheck.reference(name, case, [None if a is None else a.astype(np.float64) for a in narrow])
    for dtype, tolerance in (("bfloat16", 8e-3), ("float16", 1e-3), ("float32", 1e-5)):
        arrays = [None if a is None else a.astype(dtype) for a in narrow]
        actual = opcheck.reference(name, case, arrays)
        opcheck.agree(actual[:1], [want[0].astype(dtype)], tolerance)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("name", "case"), opcheck.cases("MaxPool")[::5])
def test_maxpool_of_integers(name, case, dtype):
    arrays = opcheck.operands(get_op(name), case, dtype)
    actual = opcheck.reference(name, case, arrays)
    want = opcheck.reference(name, case, [arrays[0].astype(np.float64)])
    opcheck.agree(actual, [want[0].astype(dtype), *want[1:]])


def test_maxpool_keeps_nan():
    x = np.array([[[1, np.nan, 3, 0, 5, 2]]], np.float32)
    (y,) = opcheck.reference("MaxPool", Case((Tensor(x.shape),), {"kernel_shape": (2,), "strides": (2,)}), [x])
    np.testing.assert_array_equal(y, [[[np.nan, 3, 5]]])


@pytest.mark.parametrize(("name", "case"), opcheck.cases(*GLOBAL_POOLS))
def test_global_pools_expand(name, case):
    arrays = opcheck.operands(get_op(name), case)
    opcheck.agree(opcheck.expanded(name, case, arrays), opcheck.reference(name, case, arrays))


@pytest.mark.parametrize("case", [c.values[1] for c in opcheck.cases("Conv") if "auto_pad" not in c.values[1].attrs])
def test_transposed_convolution_is_the_adjoint(case):
    """<conv(x), y> = <x, conv_transpose(y)> with the output_padding that restores the size of x."""
    x, w, _ = (
        a.astype(np.float64) if a is not None else None for a in (*opcheck.operands(get_op("Conv"), case), None)[:3]
    )
    plain = Case(case.inputs[:2], case.attrs)
    (forward,) = opcheck.reference("Conv", plain, [x, w])
    y = np.random.default_rng(1).standard_normal(forward.shape)
    g = windows(x.shape[2:], w.shape[2:], **{k: v for k, v in case.attrs.items() if k != "group"})
    reached = [(o - 1) * s + e - b for o, s, e, b in zip(g.out_spatial, g.strides, g.extent, g.pads_begin)]
    extra = tuple(n + e - r for n, e, r in zip(x.shape[2:], g.pads_end, reached))
    back = Case((Tensor(y.shape), Tensor(w.shape)), {**case.attrs, "output_padding": extra})
    (backward,) = opcheck.reference("ConvTranspose", back, [y, w])
    assert backward.shape == x.shape
    np.testing.assert_allclose((forward * y).sum(), (x * backward).sum(), rtol=1e-9)


# --- geometry ---------------------------------------------------------------------------------------------------------
axes = st.tuples(st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))


@settings(max_examples=200, deadline=None)
@given(axes, st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_windows_are_those_that_fit(axis, begin, end, ceil_mode):
    size, k, s, d = axis
    extent = (k - 1) * d + 1
    if size + begin + end < extent or max(begin, end) >= extent:
        return
    starts = [p for p in range(0, size + begin + end, s) if p + extent <= size + begin + end]
    if ceil_mode and starts[-1] + extent < size + begin + end and starts[-1] + s < size + begin:
        starts.append(starts[-1] + s)
    g = windows((size,), (k,), strides=(s,), dilations=(d,), pads=(begin, end), ceil_mode=ceil_mode)
    assert g.out_spatial == (len(starts),)
    x = np.arange(1, size + 1)[None, None]
    padded = np.pad(x[0, 0], (begin, end + extent * s))
    want = [padded[p : p + extent : d] for p in starts]
    np.testing.assert_array_equal(window_view(x, g, 0)[0, 0], want)


@settings(max_examples=100, deadline=None)
@given(axes, st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
def test_same_padding_covers_the_input(axis, auto_pad):
    size, k, s, d = axis
    g = windows((size,), (k,), strides=(s,), dilations=(d,), auto_pad=auto_pad)
    (out,), (begin,), (end,), (extent,) = g.out_spatial, g.pads_begin, g.pads_end, g.extent
    assert out == -(-size // s)
    assert begin + end == max(0, (out - 1) * s + extent - size)
    assert begin - end in ((0, 1) if auto_pad == "SAME_LOWER" else (0, -1))


@settings(max_examples=100, deadline=None)
@given(axes, st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))
def test_transposed_pads_account_for_the_size(axis, begin, end, extra):
    size, k, s, d = axis
    full = (size - 1) * s + (k - 1) * d + 1
    if extra >= max(s, d) or full + extra - begin - end < 1:
        return
    g = transposed_windows((size,), (k,), strides=(s,), dilations=(d,), pads=(begin, end), output_padding=(extra,))
    assert g.out_spatial == (full + extra - begin - end,)
    assert g.out_spatial[0] == full - g.pads_begin[0] - g.pads_end[0]


def conv_type(x, w=(4, 3, 3, 3), name="Conv", **attrs):
    b = Builder()
    b.add(name, b.input("x", "float32", x), b.input("w", "float32", w), name="layer7", **attrs)
    return b.nodes[0]


def test_symbolic_spatial_dims():
    same = conv_type((2, 3, H, W), pads=(1, 1, 1, 1))
    assert same.output.shape == (2, 4, H, W)
    half = conv_type((2, 3, H, W), pads=(1, 1, 1, 1), strides=(2, 2)).output.shape
    assert half == (2, 4, (H + 1) // 2, (W + 1) // 2)
    auto = conv_type((2, 3, H, W), auto_pad="SAME_UPPER", strides=(2, 1))
    assert auto.output.shape == (2, 4, (H + 1) // 2, W)
    assert geometry(auto.call).pads_begin == (UNKNOWN, 1)
    assert conv_type((2, 3, H, W), (3, 4, 2, 2), "ConvTranspose", strides=(2, 2)).output.shape == (2, 4, H * 2, W * 2)


def test_symbolic_pool_and_global_pool():
    b = Builder()
    x = b.input("x", "float32", (Sym("n"), 3, H, 7))
    assert b.add("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2)).shape == (Sym("n"), 3, H // 2, 3)
    assert b.add("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2), ceil_mode=True).shape[2:] == (H // 2, 3)
    assert b.add("GlobalAveragePool", x).shape == (Sym("n"), 3, 1, 1)
    assert geometry(b.nodes[-1].call).kernel == (H, 7)


def test_kernel_of_unknown_size_is_deferred():
    node = conv_type((1, 3, 9, 9), (4, 3, H, 3))
    assert node.output.type is None
    with pytest.raises(Deferred):
        geometry(node.call)


@pytest.mark.parametrize(
    ("x", "w", "attrs", "words"),
    [
        ((1, 8, 9, 9), (4, 3, 3, 3), {}, ["8 channels", "take 3", "check the channels"]),
        ((1, 8, 9, 9), (4, 3, 3, 3), {"group": 2}, ["8 channels", "take 6", "group=2"]),
        ((1, 9, 9, 9), (4, 3, 3, 3), {"group": 3}, ["4 output channels", "3 groups"]),
        ((1, 8, 9, 9), (6, 3, 3, 3), {"group": 3}, ["8 input channels", "3 groups"]),
        ((1, 3, 9, 9), (4, 3, 3, 3), {"group": 0}, ["group is 0"]),
        ((1, 3, 9, 2), (4, 3, 3, 3), {}, ["axis 3", "size 2", "window of 3", "not be positive"]),
        ((1, 3, 5, 9), (4, 3, 3, 3), {"dilations": (3, 1)}, ["axis 2", "window of 7", "dilation 3"]),
        ((1, 3, 9), (4, 3, 3, 3), {}, ["1 spatial axes", "2"]),
        ((3, 9), (4, 3), {}, ["no spatial axis"]),
        ((1, 3, 9, 9), (4, 3, 3, 3), {"pads": (1, 1)}, ["pads (1, 1)", "give 4"]),
        ((1, 3, 9, 9), (4, 3, 3, 3), {"pads": (1, 1, 1, -1)}, ["below 0", "Slice"]),
        ((1, 3, 9, 9), (4, 3, 3, 3), {"strides": (0, 1)}, ["strides", "below 1"]),
        ((1, 3, 9, 9), (4, 3, 3, 3), {"kernel_shape": (5, 5)}, ["(5, 5)", "(3, 3)"]),
        ((1, 3, 9, 9), (4, 3, 3, 3), {"auto_pad": "SAME"}, ["auto_pad", "SAME_UPPER"]),
    ],
)
def test_conv_errors_name_the_numbers(x, w, attrs, words):
    with pytest.raises(TypeRuleError) as error:
        conv_type(x, w, **attrs)
    assert all(word in str(error.value) for word in ["Conv 'layer7'", *words]), str(error.value)


@pytest.mark.parametrize(
    ("x", "w", "attrs", "words"),
    [
        ((1, 4, 5, 5), (3, 2, 3, 3), {}, ["4 channels", "take 3", "(C, M/group, *kernel)"]),
        ((1, 3, 2, 2), (3, 2, 3, 3), {"pads": (2, 2, 2, 2)}, ["axis 2", "output size 0"]),
        ((1, 3, 5, 5), (3, 2, 3, 3), {"strides": (2, 2), "output_padding": (2, 0)}, ["output_padding 2", "stride 2"]),
    ],
)
def test_transposed_errors_name_the_numbers(x, w, attrs, words):
    with pytest.raises(TypeRuleError) as error:
        conv_type(x, w, "ConvTranspose", **attrs)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_bias_and_dtype_errors():
    b = Builder()
    x, w = b.input("x", "float32", (1, 3, 5, 5)), b.input("w", "float32", (4, 3, 3, 3))
    with pytest.raises(TypeRuleError, match=r"bias has shape \(3,\), not \(4,\)"):
        b.add("Conv", x, w, b.input("b", "float32", (3,)))
    with pytest.raises(TypeRuleError, match="'x' is float32, 'b' is float64"):
        b.add("Conv", x, w, b.input("wide", "float64", (4,)))
    with pytest.raises(TypeRuleError, match="'x' is int32"):
        b.add("Conv", b.input("i", "int32", (1, 3, 5, 5)), w)


@pytest.mark.parametrize(
    ("attrs", "words"),
    [
        ({}, ["kernel_shape", "missing"]),
        ({"kernel_shape": (3,)}, ["kernel_shape (3,)", "give 2"]),
        ({"kernel_shape": (9, 2)}, ["axis 2", "size 5", "window of 9"]),
        ({"kernel_shape": (2, 2), "pads": (2, 0, 0, 0)}, ["padding 2 + 0", "axis 2", "window of 2"]),
    ],
)
def test_pool_errors_name_the_numbers(attrs, words):
    b = Builder()
    with pytest.raises(TypeRuleError) as error:
        b.add("MaxPool", b.input("x", "float32", (1, 3, 5, 5)), **attrs)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_unpool_checks_its_indices():
    case = Case((Tensor((1, 1, 2)), Tensor((1, 1, 2), dtype="int64")), {"kernel_shape": (2,), "strides": (2,)})
    x = np.ones((1, 1, 2), np.float32)
    for bad in ([[[0, 4]]], [[[-1, 2]]]):
        with pytest.raises(GraphcError, match="do not lie in the 4 elements"):
            opcheck.reference("MaxUnpool", case, [x, np.array(bad)])


def test_unpool_counts_indices_in_the_natural_size():
    """As the standard's own test; ONNX Runtime counts them in output_shape."""
    x, index = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 2, 2), np.array([[[[5, 7], [13, 15]]]])
    want = np.zeros((5, 5), np.float32)
    want[1:4:2, 1:4:2] = [[1, 2], [3, 4]]
    b = Builder()
    operands = b.input("x", x.dtype, x.shape), b.input("index", index.dtype, index.shape), b.constant([1, 1, 5, 5])
    graph = b.build((b.add("MaxUnpool", *operands, kernel_shape=(2, 2), strides=(2, 2)),))
    for target in ("cpu", "reference"):
        (got,) = graphc.compile(graph, target=target).run({"x": x, "index": index}).values()
        np.testing.assert_array_equal(got[0, 0], want)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("kernel, stride", [(1, 2), (1, 3), (2, 4), (2, 5)])
def test_same_transposed_with_gaps_is_filled_with_zeros_at_the_end(auto_pad: str, kernel: int, stride: int):
    """As TensorFlow's conv1d_transpose with padding SAME."""
    x, w = np.array([[[1, 2, 3]]], np.float32), np.arange(1, kernel + 1, dtype=np.float32).reshape(1, 1, -1)
    want = np.zeros((3, stride), np.float32)
    want[:, :kernel] = x.reshape(3, 1) * w[0]
    b = Builder()
    graph = b.build(
        (b.add("ConvTranspose", b.input("x", x.dtype, x.shape), b.constant(w), strides=(stride,), auto_pad=auto_pad),)
    )
    for target in ("cpu", "reference"):
        np.testing.assert_array_equal(graphc.compile(graph, target=target)(x), want.reshape(1, 1, -1))


def test_flops():
    assert get_op("Conv").flops(conv_type((2, 6, 9, 9), (4, 3, 3, 3), group=2).call) == 2 * (2 * 4 * 7 * 7) * (3 * 9)
    node = conv_type((2, 6, 5, 5), (6, 2, 3, 3), "ConvTranspose", group=2)
    assert node.op.flops(node.call) == 2 * (2 * 6 * 5 * 5) * (2 * 9)
