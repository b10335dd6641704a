"""Every operator compiled for the CPU against its reference in float64; which operators still run on the host."""

from __future__ import annotations

import numpy as np
import pytest
from suite import OPS, as_inputs, axes, check, compiled, host_reasons, positions, randoms, results, use, uses_of

import graphc
from graphc.errors import UnsupportedError
from graphc.graph import Builder
from graphc.op import Family
from graphc.testing import Use, cases, use_of
from graphc.testing.checking import NARROW

# Operators without a kernel: they run through their references, and plans say so.
HOST = frozenset({
    "RegexFullMatch",
    "StringConcat", "StringNormalizer", "StringSplit",
})  # fmt: skip
HOST |= {f"com.microsoft::{n}" for n in (
    "BifurcationDetector", "DynamicTimeWarping", "Inverse", "MaxpoolWithMask", "MurmurHash3", "Tokenizer", "Unique",
)}  # fmt: skip
HOST |= {n for n, op in OPS.items() if op.family is Family.TABLE}
# Operators with kernels for a part of their samples, and why the rest runs on the host.
SOMETIMES_HOST = {
    "ImageDecoder": ("the shape of its result follows from data",),
    "GRU": ("GRU has no float64 kernel",),
    "LSTM": ("LSTM has no float64 kernel",),
    "MaxRoiPool": ("MaxRoiPool has no float64 kernel",),
    "RNN": ("RNN has no float64 kernel",),
    "com.microsoft::DynamicQuantizeLSTM": ("com.microsoft::DynamicQuantizeLSTM has no CPU kernel",),  # a clip
} | {
    f"ai.onnx.ml::{name}": ("dtype object has no machine code", f"ai.onnx.ml::{name} has no CPU kernel")  # strings
    for name in ("LabelEncoder", "LinearClassifier", "OneHotEncoder", "SVMClassifier", "TreeEnsembleClassifier")
}
INTERNAL = frozenset({"Reorder", "Raise"})  # made by the layout pass alone; an error in the place of a branch

COMPILED = sorted(n for n in OPS if n not in HOST | INTERNAL and not OPS[n].holds_graphs)
STATISTICAL = sorted(n for n in COMPILED if OPS[n].family in (Family.REDUCTION, Family.NORMALIZE))


def check_compiled(use: Use) -> None:
    """Right, and not on the host but for the reasons listed."""
    unexpected = host_reasons(check(use), use) - set(SOMETIMES_HOST.get(use.op.name, ()))
    assert not unexpected, f"{use} runs on the host: {unexpected}"


# --- every operator ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", COMPILED)
def test_every_case_has_a_kernel_that_agrees_with_the_reference(name: str):
    for one in uses_of(name):
        check_compiled(one)


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


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", STATISTICAL)
def test_narrow_floats(name: str, dtype: str):
    if "float32" not in OPS[name].samples.dtypes:
        pytest.skip("takes no floats")
    for one in uses_of(name, ["float32"])[:3]:
        check(one.with_floats(dtype))


def test_compress_by_a_constant_has_a_kernel():
    for one in (use_of(OPS["Compress"], case, "float32") for case in cases(OPS["Compress"])):
        assert not host_reasons(check(one), one)


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


# --- instruction sets -------------------------------------------------------------------------------------------------
ELSEWHERE = [
    *("Add", "Exp", "Log", "Tanh", "Sigmoid", "Erf", "Where", "Cast", "Mod", "Pow"),
    *("ReduceSum", "ReduceMax", "ReduceLogSumExp", "ArgMax", "CumSum", "TopK"),
    *("Softmax", "LayerNormalization", "InstanceNormalization", "LRN"),
    *("Gather", "ScatterND", "Pad", "Slice", "Transpose", "Resize", "OneHot"),
]


@pytest.mark.sample(30)
@pytest.mark.parametrize("target", ["cpu:avx2", "cpu:portable"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_instruction_sets(name: str, target: str):
    for one in uses_of(name)[:4]:
        try:
            check(one, target)
        except UnsupportedError as error:
            pytest.skip(str(error))


# --- shapes that chunks, vectors and threads cut ----------------------------------------------------------------------
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
