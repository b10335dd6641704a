"""Every operator compiled for the CPU against its reference in float64; which operators still run on the host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import Use, broadcasts, cases, use_of, uses

import graphc
from graphc.errors import InputError, UnsupportedError
from graphc.graph import Builder
from graphc.interpret import run_graph
from graphc.op import Kind, Op, all_ops
from graphc.ops.precision import is_float

OPS = all_ops()

# Operators without a kernel: they run through their references, and plans say so.
HOST = frozenset({
    "AffineGrid", "Bernoulli", "Col2Im", "DFT", "DeformConv", "Det", "GridSample", "MaxRoiPool",
    "Multinomial", "NonMaxSuppression", "NonZero", "RandomNormalLike", "RandomUniformLike", "RegexFullMatch",
    "RoiAlign", "STFT", "StringConcat", "StringNormalizer", "StringSplit", "TensorScatter", "Unique",
})  # fmt: skip
HOST |= {"com.microsoft::DynamicQuantizeLSTM"} | {n for n, op in OPS.items() if op.kind is Kind.TABLE}
# Operators with kernels for a part of their samples, and why the rest runs on the host.
SOMETIMES_HOST = {
    "Compress": ("the shape of its result follows from data",),
    "DequantizeLinear": ("DequantizeLinear has no CPU kernel",),  # blocks of scales
    "Einsum": ("Einsum has no CPU kernel",),  # a diagonal
    "GRU": ("GRU has no float64 kernel",),
    "Gemm": tuple(f"Gemm has no {d} kernel" for d in ("float64", "int32", "int64", "uint32", "uint64")),
    "LSTM": ("LSTM has no float64 kernel",),
    "MatMul": ("it sums over nothing",),
    "QuantizeLinear": ("QuantizeLinear has no CPU kernel",),  # blocks of scales
    "RNN": ("RNN has no float64 kernel",),
    "com.microsoft::FusedGemm": ("Gemm has no float64 kernel",),
}
INTERNAL = frozenset({"Reorder"})  # made by the layout pass alone

COMPILED = sorted(n for n in OPS if n not in HOST | INTERNAL and OPS[n].kind is not Kind.CONTROL)
FLOAT64_TOLERANCE = 1e-9
NARROW = {"float16": 2**-9, "bfloat16": 2**-6}  # two ulps: a rounded operand, a rounded result
STATISTICAL = sorted(n for n in COMPILED if OPS[n].kind in (Kind.REDUCTION, Kind.NORMALIZE))


def as_inputs(use: Use) -> Use:
    """Only what the type rule needs as constants: what else a case gives as numbers is read at run time."""
    return replace(use, constants=frozenset(use.op.values) & use.constants)


def compiled(use: Use, target: str = "cpu", threads: int = 1, disabled: Sequence[str] = ()) -> graphc.Model:
    return graphc.compile(use.graph(), target=target, threads=threads, disabled=disabled)


def results(model: graphc.Model, use: Use) -> list[np.ndarray]:
    return list(model.run(dict(zip([s.name for s in model.inputs], use.inputs))).values())


def wide(use: Use) -> Use:
    """With float64 operands, for an exact answer; as it is where the operator is about the bits of a dtype."""
    bits = ("BitCast", "QuantizeLinear", "DynamicQuantizeLinear", "com.microsoft::DynamicQuantizeLSTM")
    return use if use.op.name in bits else use.with_floats("float64")


def tolerance(use: Use, dtype: np.dtype) -> float:
    """Relative to the largest magnitude, growing with the root of how many elements go into one."""
    if dtype == np.float64:
        base = FLOAT64_TOLERANCE
    else:
        base = max(use.op.tolerance, NARROW.get(dtype.name, 0.0))
    ins = max((a.size for a in use.arrays if a is not None), default=1)
    outs = max((v.type.size for v in use.graph().outputs), default=1) if use.graph().outputs[0].type.is_static else 1
    return base * max(1.0, (ins / max(outs, 1) / 64) ** 0.5)


def check(use: Use, target: str = "cpu", threads: int = 1, disabled: Sequence[str] = ()) -> graphc.Model:
    """Compile and run; values, dtypes and shapes must be those of the reference in float64."""
    graph, model = use.graph(), compiled(use, target, threads, disabled)
    want = run_graph(wide(use).graph(), wide(use).inputs, strict=False)
    got = results(model, use)
    assert len(got) == len(want)
    for a, w, v in zip(got, want, graph.outputs):
        assert a.dtype == v.dtype and a.shape == w.shape, use
        if v.type.is_static:
            assert a.shape == v.shape, use
        if not use.op.deterministic:
            continue
        if not is_float(a.dtype):
            np.testing.assert_array_equal(a, w, err_msg=f"{use} for {target}")
            continue
        a, w = a.astype(np.float64), np.asarray(w).astype(np.float64)
        scale = np.abs(w[np.isfinite(w)]).max(initial=1e-300)
        np.testing.assert_allclose(a, w, rtol=0, atol=tolerance(use, v.dtype) * scale, err_msg=f"{use} for {target}")
    return model


def host_reasons(model: graphc.Model, use: Use) -> set[str]:
    return {s.reason for s in model.plan().steps if s.host} if use.inputs else set()


def check_compiled(use: Use) -> None:
    """Right, and not on the host but for the reasons listed."""
    unexpected = host_reasons(check(use), use) - set(SOMETIMES_HOST.get(use.op.name, ()))
    assert not unexpected, f"{use} runs on the host: {unexpected}"


def uses_of(name: str, dtypes: Iterable[str] | None = None) -> list[Use]:
    op = OPS[name]
    return [as_inputs(use_of(op, case, dtype)) for case in cases(op) for dtype in dtypes or op.samples.dtypes[:1]]


# --- every operator ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", COMPILED)
def test_every_case_has_a_kernel_that_agrees_with_the_reference(name: str):
    for use in uses_of(name):
        check_compiled(use)


@pytest.mark.parametrize("name", COMPILED)
def test_every_dtype(name: str):
    op = OPS[name]
    for dtype in op.samples.dtypes[1:]:
        check_compiled(as_inputs(use_of(op, cases(op)[0], dtype, seed=1)))


@pytest.mark.parametrize("name", sorted(HOST))
def test_what_has_no_kernel_runs_on_the_host_and_says_so(name: str):
    op = OPS[name]
    use = as_inputs(use_of(op, cases(op)[0], op.samples.dtypes[0]))
    model = check(use)
    assert host_reasons(model, use), f"{name} has a kernel now: take it from the list"


@pytest.mark.parametrize("name", [n for n in COMPILED if broadcasts(OPS[n])])
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_elementwise_operators_broadcast_and_take_special_values(name: str, data):
    check(data.draw(uses(OPS[name]), "use"))


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", STATISTICAL)
def test_narrow_floats(name: str, dtype: str):
    if "float32" not in OPS[name].samples.dtypes:
        pytest.skip("takes no floats")
    for use in uses_of(name, ["float32"])[:3]:
        check(use.with_floats(dtype))


def test_compress_by_a_constant_has_a_kernel():
    for use in (use_of(OPS["Compress"], case, "float32") for case in cases(OPS["Compress"])):
        assert not host_reasons(check(use), use)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1), (1, 3), (1, 1)])
def test_gemm_of_any_constant_added_without_canonicalize(shape: tuple[int, ...]):
    """What the pass splits off when it runs: a kernel adds rows only."""
    b = Builder("gemm")
    x = b.input("x", np.float32, (2, 4))
    w, c = (b.constant(randoms(*s, seed=1)) for s in ((4, 3), shape))
    graph = b.build({"y": b.add("Gemm", x, w, c, alpha=-2.0, beta=0.5)})
    given = {"x": randoms(2, 4)}
    got = graphc.compile(graph, disabled=["canonicalize"]).run(given)["y"]
    np.testing.assert_allclose(got, -2 * given["x"] @ w.data + 0.5 * c.data, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_softmax_of_infinities(name: str, target: str):
    """As ONNX Runtime and onnx.reference have it: a row with an infinity, with nothing but minus infinity, or with a NaN is
    NaN; minus infinity in another row has the probability 0."""
    inf, nan = np.inf, np.nan
    x = np.array([[1, 2, inf], [1, -inf, 0], [-inf, -inf, -inf], [inf, inf, -inf], [nan, 1, 2]], np.float32)
    (y,) = results(compiled(use(name, x), target), use(name, x))
    row = np.array([1 / (1 + np.exp(-1)), 0, 1 / (1 + np.exp(1))])
    with np.errstate(divide="ignore"):
        want = np.log(row) if name == "LogSoftmax" else row
    np.testing.assert_allclose(y[1], want, rtol=1e-6)
    assert np.isnan(np.delete(y, 1, 0)).all()


# --- instruction sets -------------------------------------------------------------------------------------------------
ELSEWHERE = [
    *("Add", "Exp", "Log", "Tanh", "Sigmoid", "Erf", "Where", "Cast", "Mod", "Pow"),
    *("ReduceSum", "ReduceMax", "ReduceLogSumExp", "ArgMax", "CumSum", "TopK"),
    *("Softmax", "LayerNormalization", "InstanceNormalization", "LRN"),
    *("Gather", "ScatterND", "Pad", "Slice", "Transpose", "Resize", "OneHot"),
]


@pytest.mark.parametrize("target", ["cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_instruction_sets(name: str, target: str):
    for use in uses_of(name)[:4]:
        try:
            check(use, target)
        except UnsupportedError as error:
            pytest.skip(str(error))


# --- shapes that chunks, vectors and threads cut ----------------------------------------------------------------------
def use(name: str, *arrays: np.ndarray, constants: Sequence[int] = (), n_outputs: int = 1, **attrs) -> Use:
    op: Op = OPS[name]
    return Use(op, arrays, attrs, n_outputs, frozenset(constants))


def randoms(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).uniform(-2, 3, shape)
    return x.astype(dtype)


def axes(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def positions(high: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-high, high, shape)


UNEVEN = [
    *(use("ReduceSum", randoms(*s), axes(*a), constants=[1]) for s, a in [
        ((3, 70001), (1,)), ((70001, 3), (0,)), ((5000, 40), (0,)), ((3, 41, 67), (0, 2)), ((2, 3, 5, 7, 11), (0, 2, 4)),
        ((100003,), (0,)), ((9, 1100), (0,)), ((2, 2100, 33), (1,)),
    ]),
    *(use("ReduceMean", randoms(*s, dtype=d), axes(*a), constants=[1]) for s, a, d in [
        ((513, 130), (0,), "float64"), ((64, 49), (1,), "float16"), ((64, 49), (0,), "bfloat16"), ((40, 300), (1,), "uint8"),
    ]),
    *(use(n, randoms(*s), axis=a) for n in ("Softmax", "LogSoftmax", "ArgMax", "ArgMin", "Hardmax") for s, a in [
        ((37, 1001), 1), ((7, 33, 45), 1), ((1000, 5), 0), ((5, 17), 1),
    ]),
    *(use("TopK", randoms(*s), axes(k), constants=[1], n_outputs=2, axis=a, largest=g) for s, a, k, g in [
        ((9, 1003), 1, 20, True), ((300, 7), 0, 300, False), ((4, 50, 3), 1, 5, True),
    ]),
    *(use("CumSum", randoms(*s), np.array(a), constants=[1], reverse=r) for s, a, r in [((33, 300), 0, 1), ((5, 900), 1, 0)]),
    use("LayerNormalization", randoms(37, 259), randoms(259), randoms(259)),
    use("LayerNormalization", randoms(5, 6, 7, 8), randoms(6, 1, 8), randoms(7, 1), axis=1),
    use("GroupNormalization", randoms(3, 12, 9, 11), randoms(12), randoms(12), num_groups=3),
    use("GroupNormalization", randoms(50, 12), randoms(12), randoms(12), num_groups=4),
    use("InstanceNormalization", randoms(3, 5, 37, 3), randoms(5), randoms(5)),
    use("LRN", randoms(2, 23, 9, 7), size=5, alpha=0.1),
    use("Gather", randoms(50, 33), positions(50, 17, 3)),
    use("Gather", randoms(7, 50, 33), positions(50, 40), axis=1),
    use("GatherElements", randoms(30, 41), positions(30, 25, 41)),
    use("GatherND", randoms(6, 7, 8, 9), positions(6, 6, 31, 2), batch_dims=1),
    use("ScatterElements", randoms(30, 41), positions(30, 25, 41), randoms(25, 41), reduction="add"),
    use("ScatterElements", randoms(30, 41), positions(41, 30, 9), randoms(30, 9), axis=1),
    use("ScatterND", randoms(20, 33), positions(20, 400, 1), randoms(400, 33), reduction="add"),
    use("ScatterND", randoms(20, 33), positions(20, 40, 1), randoms(40, 33)),
    use("Pad", randoms(3, 40, 50), axes(0, 3, 30, 1, 0, 45), constants=[1], mode="reflect"),
    use("Pad", randoms(3, 40, 50), axes(0, 3, 30, 1, 0, 45), constants=[1], mode="wrap"),
    use("Transpose", randoms(37, 53), perm=(1, 0)),
    use("Transpose", randoms(3, 37, 5, 41), perm=(0, 2, 3, 1)),
    use("Transpose", randoms(300, 61, dtype="float64"), perm=(1, 0)),
    use("Tile", randoms(2, 3, 2, 3, 2), axes(2, 3, 2, 2, 3), constants=[1]),
    use("Expand", randoms(1, 37, 1), axes(4, 1, 29), constants=[1]),
    use("Resize", randoms(2, 3, 19, 23), None, np.array([1, 1, 2.3, 1.7], np.float32), constants=[2], mode="linear"),
    use("Resize", randoms(1, 3, 40, 50), None, np.array([1, 1, 0.3, 0.4], np.float32), constants=[2], mode="linear", antialias=True),
    use("Resize", (10 * randoms(1, 40, 50, 3)).astype(np.uint8), None, None, axes(1, 30, 65, 3), constants=[3], mode="cubic"),
    use("ReverseSequence", randoms(9, 40, 11), np.arange(40) % 10),
    use("Trilu", randoms(3, 35, 41), np.array(-3), constants=[1]),
]  # fmt: skip


@pytest.mark.parametrize("case", UNEVEN, ids=lambda u: f"{u.op.name}-{'x'.join(map(str, u.arrays[0].shape))}")
def test_uneven_shapes_and_any_number_of_threads(case: Use):
    one = check(case)
    assert not host_reasons(one, case)
    alone = results(one, case)
    for threads in (2, 3):
        for a, b in zip(alone, results(compiled(case, threads=threads), case)):
            assert a.tobytes() == b.tobytes(), f"{case}: {threads} threads give other bits than one"


def test_a_long_sum_keeps_its_accuracy():
    x = np.random.default_rng(0).uniform(0, 1, 3_000_001).astype(np.float32)
    (y,) = results(compiled(use("ReduceSum", x)), use("ReduceSum", x))
    assert abs(float(y[0]) / x.sum(dtype=np.float64) - 1) < 3e-7


def test_top_k_and_extremes_of_ties_and_nan():
    x = np.random.default_rng(3).integers(-2, 3, (6, 90)).astype(np.float32)
    x[1, 7] = x[1, 50] = x[4, 0] = np.nan
    x[2] = np.where(x[2] == 0, -0.0, x[2])
    for largest in (True, False):
        for axis in (0, 1):
            check(use("TopK", x, axes(5), constants=[1], n_outputs=2, axis=axis, largest=largest))
    for name in ("ArgMax", "ArgMin"):
        for axis in (0, 1):
            for last in (True, False):
                check(use(name, x, axis=axis, select_last_index=last))


# --- what costs nothing -----------------------------------------------------------------------------------------------
def test_contiguous_parts_are_views():
    b = Builder()
    x = b.input("x", "float32", (6, 4))
    y = b.add("Exp", x)
    first, second = b.add("Split", y, outputs=2)
    rows = b.add("Slice", second, b.constant([1]), b.constant([3]))
    graph = b.build({"a": b.add("Neg", first), "b": b.add("Abs", rows)})
    model = graphc.compile(graph, threads=1)
    assert sorted(op for s in model.plan().steps for op in s.ops) == ["Abs", "Exp", "Neg"]
    v = randoms(6, 4)
    got = model.run({"x": v})
    np.testing.assert_allclose(got["a"], -np.exp(v[:3]), rtol=1e-6)
    np.testing.assert_allclose(got["b"], np.exp(v[4:6]), rtol=1e-6)


# --- positions out of range -------------------------------------------------------------------------------------------
X = np.arange(12, dtype=np.float32).reshape(3, 4)
OUT_OF_RANGE = [
    (use("Gather", X, axes(0, 2, 3, 9)), "index 3 at [2] is out of range for axis 0", "-3 to 2"),
    (use("Gather", X, np.array([[-5]], np.int32), axis=1), "index -5 at [0, 0] is out of range for axis 1", "-4 to 3"),
    (use("GatherElements", X, np.array([[0, 1, -4, 0]])), "index -4 at [0, 2] is out of range for axis 0", "-3 to 2"),
    (use("GatherND", X, np.array([[2, 3], [0, 4]])), "index 4 at [1, 1] is out of range for axis 1", "-4 to 3"),
    (use("ScatterElements", X, np.array([[0, 7]]), X[:1, :2]), "index 7 at [0, 1] is out of range for axis 0", "-3 to 2"),
    (use("ScatterND", X, np.array([[2**40, 0]]), X[0, :1]), f"index {2**40} at [0, 0] is out of range for axis 0", "-3 to 2"),
    (use("ReverseSequence", X, axes(1, 5, 3, 0)), "sequence length 5 at [1] is out of range for axis 0", "0 to 3"),
    (
        use("MaxUnpool", X[None, None, :1, :1], np.array([[[[4]]]]), kernel_shape=(2, 2), strides=(2, 2)),
        "index 4 at [0, 0, 0, 0] is out of range for the flat result", "0 to 3",
    ),
]  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case, message, valid", OUT_OF_RANGE, ids=[case.op.name for case, _, _ in OUT_OF_RANGE])
def test_positions_out_of_range_are_errors_and_touch_nothing(case: Use, message: str, valid: str, threads: int):
    model = compiled(case, threads=threads)
    for _ in range(2):  # a report does not outlive its run
        with pytest.raises(InputError) as error:
            results(model, case)
        assert error.value.message == message
        assert valid in error.value.hint
        assert (error.value.op, error.value.node) == (case.op.name, "node")
    good = replace(case, arrays=(case.arrays[0], np.zeros_like(case.arrays[1]), *case.arrays[2:]))
    for a, w in zip(results(model, good), run_graph(good.graph(), good.inputs)):
        np.testing.assert_array_equal(a, w)
