"""Operators that move, index and make data: every sample case against the ONNX reference implementation."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from graphc.dims import maximum
from graphc.errors import InputError, TypeRuleError
from graphc.graph import Builder, Node
from graphc.interpret import interpret, run_node
from graphc.op import Case, Const, Op, all_ops, get_op
from graphc.ops._taps import AxisScale, axis_taps, simplest_fraction
from graphc.types import Sym, dtype_name

FAMILIES = {
    "shape": "Identity Reshape Flatten Squeeze Unsqueeze Dropout Shape Size",
    "movement": "Transpose Expand Tile Concat Split Slice Pad Trilu CenterCropPad",
    "blocks": "DepthToSpace SpaceToDepth Col2Im",
    "index": "Gather GatherElements GatherND OneHot ReverseSequence Compress NonZero",
    "scatter": "Scatter ScatterElements ScatterND TensorScatter",
    "order": "CumSum CumProd TopK Unique",
    "resize": "Resize",
    "signal": "DFT STFT HannWindow HammingWindow BlackmanWindow MelWeightMatrix",
    "linalg": "Det",
    "strings": "StringConcat RegexFullMatch StringNormalizer StringSplit",
    "detect": "NonMaxSuppression RoiAlign GridSample AffineGrid",
    "source": "Constant ConstantOfShape Range EyeLike",
}
NEW_NAMES = {"Scatter": "ScatterElements"}  # operators that newer opsets call otherwise
BEYOND_ONNX = {("Pad", 3), ("Unique", 3)}  # the ONNX reference fails on these; tests of their own below
BEYOND_ONNX |= {("GridSample", 14), ("GridSample", 15)}  # it clamps the point, not each tap: see test_resampling
RANDOM = ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"]


def arrays_of(op: Op, case: Case, dtype: str, seed: int = 0) -> list[np.ndarray | None]:
    """Operands of a case: constants as they are, tensors drawn from the samples."""
    rng = np.random.default_rng(seed)
    out = []
    for spec in case.inputs:
        if spec is None:
            out.append(None)
        elif isinstance(spec, Const):
            out.append(np.asarray(spec.value, spec.dtype))
        else:
            d = np.dtype(spec.dtype or dtype)
            low = op.samples.low if spec.low is None else spec.low
            high = op.samples.high if spec.high is None else spec.high
            low = 0 if d.kind in "ub" else low
            out.append(np.asarray(rng.uniform(low, high, spec.shape)).round(0 if d.kind != "f" else 6).astype(d))
    return out


def node_of(op: str, case: Case, arrays, symbolic: bool = False) -> Node:
    """The node of a case. With `symbolic`, every operand whose value the type rule does not need has named dims."""
    b = Builder()
    values = []
    for i, (spec, a) in enumerate(zip(case.inputs, arrays)):
        if a is None:
            values.append(None)
        elif isinstance(spec, Const):
            values.append(b.constant(a))
        else:
            dims = [Sym(f"d{i}_{k}") for k in range(a.ndim)] if symbolic else a.shape
            values.append(b.input(f"x{i}", a.dtype, dims))
    b.add(op, *values, outputs=[f"y{i}" for i in range(case.n_outputs)], **case.attrs)
    return b.nodes[0]


def onnx_attr(value):
    if isinstance(value, np.ndarray):
        return numpy_helper.from_array(value)
    if isinstance(value, np.dtype):
        return helper.np_dtype_to_tensor_dtype(value)
    return int(value) if isinstance(value, bool) else value


def expected(op: str, node: Node, arrays) -> list[np.ndarray]:
    """Results of the ONNX reference implementation for the same node."""
    names = ["" if a is None else f"x{i}" for i, a in enumerate(arrays)]
    attrs = {k: onnx_attr(v) for k, v in node.attrs.items() if v is not None and not (isinstance(v, tuple) and not v)}
    outs = [f"y{i}" for i in range(len(node.outputs))]
    proto = helper.make_node(NEW_NAMES.get(op, op), names, outs, **attrs)
    infos = [helper.make_value_info(n, helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(a.dtype), a.shape))
             for n, a in zip(names, arrays) if n]  # fmt: skip
    graph = helper.make_graph([proto], "g", infos, [onnx.ValueInfoProto(name=o) for o in outs])
    opset = onnx.defs.onnx_opset_version()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return ReferenceEvaluator(model).run(None, {n: a for n, a in zip(names, arrays) if n})


def assert_close(actual: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    """Equal up to the operator's tolerance, relative to the largest magnitude; tolerance 0 is equality."""
    if tolerance == 0 or want.dtype.kind not in "fc":
        np.testing.assert_array_equal(actual, want)
    else:
        np.testing.assert_allclose(actual, want, rtol=0, atol=tolerance * np.abs(want).max(initial=1))


def all_cases():
    for name in " ".join(FAMILIES.values()).split():
        op = all_ops()[name]
        for i, case in enumerate(op.samples.cases):
            if (name, i) in BEYOND_ONNX:
                continue
            first_only = i > 0 or name == "AffineGrid"  # whose ONNX function is written for float32
            for dtype in op.samples.dtypes[:1] if first_only else op.samples.dtypes:
                yield pytest.param(name, case, dtype, id=f"{name}-{i}-{dtype}")


@pytest.mark.filterwarnings("ignore:Unknown local setting")
@pytest.mark.parametrize("name, case, dtype", list(all_cases()))
def test_case_agrees_with_onnx(name, case, dtype):
    arrays = arrays_of(all_ops()[name], case, dtype)
    node = node_of(name, case, arrays)
    actual = run_node(node, arrays)  # strict: inferred dtype and shape are the actual ones
    for value, a, e in zip(node.outputs, actual, expected(name, node, arrays)):
        e = np.asarray(e)
        assert value.type is not None
        assert (dtype_name(a.dtype), a.shape) == (dtype_name(e.dtype), e.shape)
        assert_close(a, e, all_ops()[name].tolerance)


# --- what the ONNX reference can't show -------------------------------------------------------------------------------
def run(op: str, *operands, n_outputs: int = 1, **attrs):
    """Results of one node whose operands are all constants."""
    b = Builder()
    values = [None if a is None else b.constant(a) for a in operands]
    b.add(op, *values, outputs=[f"y{i}" for i in range(n_outputs)], **attrs)
    results = run_node(b.nodes[0], [None if v is None else v.data for v in values])
    return results[0] if n_outputs == 1 else results


def test_negative_pads_crop():
    x = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(run("Pad", x, [-1, 2, 0, -1]), np.pad(x[1:, :-1], ((0, 0), (2, 0))))
    np.testing.assert_array_equal(run("Pad", x, [0, -2, 0, 1], mode="edge"), x[:, [2, 3, 3]])


def test_unique_in_order_of_appearance_along_an_axis():
    x = np.float32([[[3, 1], [1, 1], [3, 1], [0, 1]]] * 2)
    y, first, inverse, counts = run("Unique", x, axis=1, sorted=False, n_outputs=4)
    np.testing.assert_array_equal(y, x[:, [0, 1, 3]])
    assert (first.tolist(), inverse.tolist(), counts.tolist()) == ([0, 1, 3], [0, 1, 0, 2], [2, 1, 1])


def test_slice_clamps_a_negative_step_to_the_first_element():
    assert run("Slice", np.arange(5), [-10], [-(2**63)], [0], [-1]).tolist() == [0]


def test_max_roi_pool_by_hand():
    x = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6)
    rois = np.float32([[0, 1, 1, 4, 2], [0, -2.5, -3, 0, 0], [0, 9, 9, 9, 9]])
    y = run("MaxRoiPool", x, rois, pooled_shape=(1, 2))
    assert y.reshape(3, 2).tolist() == [[14, 16], [0, 0], [0, 0]]


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scale", [0.3, 0.7, 1.0, 2.5])
@pytest.mark.parametrize("flags", [{}, {"antialias": True}, {"exclude_outside": True}])
def test_taps_stay_within_the_axis_and_add_up_to_one(mode, scale, flags):
    taps = axis_taps(AxisScale(7, int(7 * scale), simplest_fraction(scale)), mode=mode, **flags)
    assert taps.indices.min() >= 0 and taps.indices.max() < 7
    np.testing.assert_allclose(taps.weights.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizing_by_one_changes_nothing(mode):
    x = np.random.default_rng(0).normal(size=(1, 2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(run("Resize", x, None, np.float32([1, 1, 1, 1]), mode=mode), x, atol=1e-6)


def test_upsample_is_resize_with_asymmetric_positions():
    x, scales = np.random.default_rng(1).normal(size=(1, 2, 3, 4)).astype(np.float32), np.float32([1, 1, 2, 1.5])
    np.testing.assert_array_equal(run("Upsample", x, scales), x[:, :, [0, 0, 1, 1, 2, 2]][..., [0, 0, 1, 2, 2, 3]])
    b = Builder()
    call_inputs = b.input("x", x.dtype, x.shape), b.constant(scales)
    b.add("Upsample", *call_inputs, mode="linear")
    expanded = b.nodes[0].op.expand(b, b.nodes[0].call)
    y = interpret(b.build({"y": expanded}), {"x": x})["y"]
    np.testing.assert_array_equal(y, run("Upsample", x, scales, mode="linear"))


def test_dropout_expands_to_identity_and_a_mask_of_ones():
    b = Builder()
    b.add("Dropout", b.input("x", "float32", (2, 3)), outputs=("y", "mask"))
    y, mask = b.nodes[0].op.expand(b, b.nodes[0].call)
    x = np.float32([[1, 2, 3], [4, 5, 6]])
    out = interpret(b.build({"y": y, "mask": mask}), {"x": x})
    np.testing.assert_array_equal(out["y"], x)
    assert out["mask"].dtype == bool and out["mask"].shape == (2, 3) and out["mask"].all()


@pytest.mark.parametrize("name", RANDOM)
def test_random_values_repeat_with_a_seed_and_have_the_inferred_type(name):
    op = get_op(name)
    assert not op.deterministic
    for case in op.samples.cases:
        arrays = arrays_of(op, case, "float32")
        node = node_of(name, Case(case.inputs, {**case.attrs, "seed": 5.0}), arrays)
        (a,), (b,) = run_node(node, arrays), run_node(node, arrays)
        np.testing.assert_array_equal(a, b)


def test_random_values_follow_their_distribution():
    normal = run("RandomNormal", shape=(20000,), mean=3.0, scale=0.5, seed=1.0)
    assert abs(normal.mean() - 3) < 0.02 and abs(normal.std() - 0.5) < 0.02
    uniform = run("RandomUniform", shape=(20000,), low=2.0, high=4.0, seed=1.0)
    assert uniform.min() >= 2 and uniform.max() < 4 and abs(uniform.mean() - 3) < 0.02
    assert abs(run("Bernoulli", np.full(20000, 0.3, np.float32), seed=1.0).mean() - 0.3) < 0.02
    draws = run("Multinomial", np.log(np.float32([[0.1, 0.2, 0.7]])), sample_size=20000, seed=1.0)
    np.testing.assert_allclose(np.bincount(draws[0]) / 20000, [0.1, 0.2, 0.7], atol=0.02)


# --- half precision and strings ---------------------------------------------------------------------------------------
def test_strings_move():
    x = np.array([["a", "bc"], ["d", ""]], object)
    assert run("Transpose", x).tolist() == [["a", "d"], ["bc", ""]]
    assert run("Gather", x, [-1], axis=0).tolist() == [["d", ""]]
    assert run("Pad", x, [0, 1, 0, 0]).tolist() == [["", "a", "bc"], ["", "d", ""]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    d = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x = np.arange(12).reshape(1, 1, 3, 4).astype(d)
    for op, operands, attrs in [
        ("Resize", (None, np.float32([1, 1, 2, 2])), {"mode": "linear"}),
        ("CumSum", (np.int64(3),), {}),
        ("ScatterND", (np.int64([[0, 0, 1]]), np.ones((1, 4), d)), {"reduction": "add"}),
        ("Trilu", (), {}),
        ("Pad", ([0, 0, 1, 0, 0, 0, 0, 2],), {"mode": "reflect"}),
    ]:
        narrow = run(op, x, *operands, **attrs)
        wide = [a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == d else a for a in (x, *operands)]
        assert narrow.dtype == d
        np.testing.assert_array_equal(narrow, run(op, *wide, **attrs).astype(d))


# --- symbolic dims ----------------------------------------------------------------------------------------------------
N, H = Sym("n"), Sym("h")


@pytest.mark.parametrize(
    "op, shape, operands, attrs, want",
    [
        ("Reshape", (N, 4, 6), ([0, -1],), {}, (N, 24)),
        ("Reshape", (N, 4, 6), ([-1, 24],), {}, (N, 24)),
        ("Reshape", (N, H, 6), ([0, 0, 2, 3],), {}, (N, H, 2, 3)),
        ("Reshape", (N, 3), ([-1],), {}, (3 * N,)),
        ("Flatten", (N, 4, 6), (), {}, (N, 24)),
        ("Squeeze", (N, 1, 6), ([1],), {}, (N, 6)),
        ("Unsqueeze", (N, 6), ([0, -1],), {}, (1, N, 6, 1)),
        ("Expand", (N, 1), ([1, 5],), {}, (N, 5)),
        ("Tile", (N, 2), ([1, 3],), {}, (N, 6)),
        ("Transpose", (N, 2, H), (), {}, (H, 2, N)),
        ("Slice", (N, 8), ([0], [2**63 - 1], [0]), {}, (N, 8)),
        ("Slice", (N, 8), ([1], [2**63 - 1], [0]), {}, (maximum(N - 1, 0), 8)),
        ("Slice", (N, 8), ([-1], [-(2**63)], [0], [-1]), {}, (N, 8)),
        ("Pad", (N, H), ([0, 1, 0, 2],), {}, (N, H + 3)),
        ("DepthToSpace", (N, 8, H, 3), (), {"blocksize": 2}, (N, 2, H * 2, 6)),
        ("SpaceToDepth", (N, 2, H, 4), (), {"blocksize": 2}, (N, 8, H // 2, 2)),
        ("Gather", (N, 8), ([0, 1],), {"axis": 1}, (N, 2)),
        ("Resize", (N, 3, H, 4), (None, np.float32([1, 1, 2, 2])), {}, (N, 3, H * 2, 8)),
        ("Resize", (N, 3, H, 4), (None, np.float32([1, 1, 0.5, 2])), {}, (N, 3, H // 2, 8)),
        ("Shape", (N, 3), (), {}, (2,)),
        ("TopK", (N, 9), ([4],), {}, (N, 4)),
        ("OneHot", (N, 2), (5, [0, 1]), {}, (N, 2, 5)),
    ],
)
def test_symbolic_dims(op, shape, operands, attrs, want):
    b = Builder()
    x = b.input("x", "int64" if op == "OneHot" else "float32", shape)
    b.add(op, x, *(None if a is None else b.constant(a) for a in operands), **attrs)
    assert b.nodes[0].output.shape == want


def test_symbolic_concat_and_split():
    b = Builder()
    x, y = b.input("x", "float32", (N, 3)), b.input("y", "float32", (N, 5))
    both = b.add("Concat", x, y, axis=1)
    assert both.shape == (N, 8)
    assert b.add("Concat", x, b.constant(np.zeros((2, 3), np.float32)), axis=0).shape == (N + 2, 3)
    assert [v.shape for v in b.add("Split", both, axis=1, num_outputs=3, outputs=3)] == [(N, 3), (N, 3), (N, 2)]
    assert b.add("Split", x, axis=0, num_outputs=2, outputs=2)[0].shape == ((N + 1) // 2, 3)


def test_results_whose_size_only_data_tells_have_a_dim_named_after_it():
    b = Builder()
    x = b.input("x", "float32", (N, 3))
    first, again = b.add("NonZero", x), b.add("NonZero", x)
    assert first.shape == again.shape == (2, Sym("NonZero(x)"))


def test_a_shape_that_data_decides_is_deferred():
    b = Builder()
    x, s = b.input("x", "float32", (N, 3)), b.input("s", "int64", (2,))
    for op in ("Reshape", "Expand", "Tile"):
        assert b.add(op, x, s).type is None


def test_a_mask_of_the_operands_shape_chooses_elements():
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    np.testing.assert_array_equal(run("Compress", x, x > 0), x[x > 0])
    with pytest.raises(TypeRuleError, match="condition must be a list of bools"):
        run("Compress", x, x > 0, axis=0)


# --- errors -----------------------------------------------------------------------------------------------------------
X = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    "op, operands, attrs, words",
    [
        ("Gather", (X, [3]), {"axis": 1}, "index 3 at [0] is out of range for axis 1"),
        ("GatherElements", (X, [[0, -3]]), {}, "index -3 at [0, 1] is out of range for axis 0"),
        ("GatherND", (X, [[0, 3]]), {}, "out of range for axis 1"),
        ("ScatterElements", (X, [[7]], X[:1, :1]), {}, "out of range for axis 0"),
        ("ScatterND", (X, [[0, 5]], X[0, :1]), {}, "out of range for axis 1"),
        ("TensorScatter", (X[..., None], X[:, :2, None], [0, 2]), {}, "write index 3"),
        ("ReverseSequence", (X, [1, 5, 0]), {}, "sequence length 5"),
        ("Compress", (X, np.array([False, False, True])), {"axis": 0}, "out of range for axis 0"),
        ("RoiAlign", (X[None, None], np.float32([[0, 0, 1, 1]]), [1]), {}, "batch index 1"),
        ("MaxRoiPool", (X[None, None], np.float32([[2, 0, 0, 1, 1]])), {"pooled_shape": (1, 1)}, "batch index 2"),
        ("GridSample", (X[None, None], np.full((1, 1, 1, 2), np.nan, np.float32)), {}, "NaN"),
    ],
)
def test_bad_positions_are_found_before_they_are_used(op, operands, attrs, words):
    with pytest.raises(InputError) as error:
        run(op, *operands, **attrs)
    assert words in str(error.value) and op in str(error.value)


@pytest.mark.parametrize(
    "op, operands, attrs, words",
    [
        ("Reshape", (X, [4, -1]), {}, "do not divide"),
        ("Reshape", (X, [-1, -1]), {}, "more than one -1"),
        ("Reshape", (X, [7]), {}, "7 elements"),
        ("Reshape", (X, [0, 0, 0]), {}, "only 2 dims"),
        ("Reshape", (X, [0, -1]), {"allowzero": True}, "-1 is not defined"),
        ("Flatten", (X,), {"axis": 3}, "axis 3"),
        ("Squeeze", (X, [0]), {}, "not 1"),
        ("Unsqueeze", (X, [0, 0]), {}, "twice"),
        ("Expand", (X, [4, 3]), {}, "broadcast"),
        ("Tile", (X, [2]), {}, "2 numbers"),
        ("Concat", (X, X[:, :2]), {"axis": 0}, "differ in dim 1"),
        ("Concat", (X, X.astype(np.float64)), {"axis": 0}, "dtype"),
        ("Split", (X, [1, 3]), {}, "add up"),
        ("Slice", (X, [0], [1], [0], [0]), {}, "step is 0"),
        ("Pad", (X, [1, 1]), {}, "4 numbers"),
        ("Pad", (X, [0, 0, 0, 0]), {"mode": "mirror"}, "mode"),
        ("Transpose", (X,), {"perm": (0, 0)}, "permutation"),
        ("DepthToSpace", (X,), {"blocksize": 2}, "[N, C, H, W]"),
        ("DepthToSpace", (np.zeros((1, 6, 2, 2)),), {"blocksize": 2}, "channels 6"),
        ("Gather", (X, [0.5]), {}, "int32 or int64"),
        ("ScatterND", (X, [[0]], X), {}, "differ in dim 0"),
        ("TopK", (X, [4]), {}, "k is 4"),
        ("Resize", (X,), {}, "scales or sizes"),
        ("Resize", (X, None, np.float32([1, -1])), {}, "positive"),
        ("Range", (0, 5, 0), {}, "delta is 0"),
        ("Trilu", (X[0],), {}, "matrix"),
        ("RegexFullMatch", (np.array(["a"], object),), {"pattern": "(a"}, "pattern"),
        ("StringConcat", (X, X), {}, "takes strings"),
        ("Det", (X,), {}, "differ in dim 1"),
        ("DFT", (X[..., None], None, np.int64(2)), {}, "last axis"),
        ("STFT", (np.zeros((1, 4, 1), np.float32), 1, None, 5), {}, "do not fit"),
        ("Col2Im", (np.zeros((1, 4, 5)), [3, 3], [2, 2]), {}, "do not cover"),
    ],
)
def test_type_errors_say_what_is_wrong(op, operands, attrs, words):
    with pytest.raises(TypeRuleError) as error:
        run(op, *operands, **attrs)
    assert words in str(error.value) and op in str(error.value)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizing_to_nothing(mode):
    x = np.ones((1, 2, 2, 4), np.float32)
    assert run("Resize", x, None, np.float32([1, 1, 0.4, 2]), mode=mode).shape == (1, 2, 0, 8)


@pytest.mark.parametrize("onesided", [True, False])
@pytest.mark.parametrize("batch, length, frame, step", [(2, 640, 64, 16), (1, 33, 8, 5), (3, 12, 12, 1)])
def test_stft_of_real_signals_without_a_last_dim(batch, length, frame, step, onesided):
    rng = np.random.default_rng(0)
    x, window = rng.normal(size=(batch, length)).astype(np.float32), rng.uniform(0.1, 1, frame).astype(np.float32)
    y = run("STFT", x, np.array(step), window, np.array(frame), onesided=onesided)
    frames = np.stack([x[:, i : i + frame] * window for i in range(0, length - frame + 1, step)], 1).astype(np.float64)
    want = (np.fft.rfft if onesided else np.fft.fft)(frames)
    np.testing.assert_allclose(y, np.stack([want.real, want.imag], -1), atol=1e-5 * np.abs(want).max())
    np.testing.assert_array_equal(
        y, run("STFT", x[..., None], np.array(step), window, np.array(frame), onesided=onesided)
    )
