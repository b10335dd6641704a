"""NaN and infinities at every kind of place: lanes, tails, corners of windows. Each target gives what the reference gives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import opcheck
import pytest
from targets import offered

import graphc
from graphc.graph import Builder, Graph
from graphc.interpret import run_graph
from graphc.op import Case, Const, Tensor, get_op

TARGETS = offered("cpu:avx512", "cpu:portable")  # cpu:avx2 differs from them in the lanes of a vector only
PLACED = [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf], [np.nan, -np.inf], [np.inf, np.nan]]
FILLED = [np.nan, np.inf, -np.inf]
WIDE, TALL, MIDDLE = (3, 37), (37, 19), (2, 19, 3)  # the last axis of WIDE, the first of TALL, the middle one of MIDDLE


def _of(shapes: Sequence, *attrs: dict, n_outputs: int = 1) -> list[Case]:
    """Every attributes with every list of operands, of which one that is a shape is a random one."""
    operands = [[Tensor(s) if isinstance(s, tuple) else s for s in given] for given in shapes]
    return [Case(tuple(o), a, n_outputs) for o in operands for a in attrs or ({},)]


def _along(*attrs: dict) -> list[Case]:
    return [Case((Tensor(s),), {"axis": a, **more}) for s, a in ((WIDE, 1), (TALL, 0), (MIDDLE, 1)) for more in attrs]


_REDUCED = [
    (WIDE, Const([1])),
    (TALL, Const([0])),
    (MIDDLE, Const([1])),
    ((3, 19, 21), Const([0, 2])),
    ((40,), Const([0])),
]
_POOLED = [
    Case((Tensor((1, 2, 6, 19)),), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
    Case((Tensor((1, 18, 4, 5)),), {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}),
    Case((Tensor((2, 3, 23)),), {"kernel_shape": (4,), "strides": (3,), "pads": (2, 1), "ceil_mode": True}),
    Case((Tensor((1, 2, 7, 9)),), {"kernel_shape": (2, 2), "dilations": (2, 2)}),
]
_TOP = [{"largest": True}, {"largest": False}, {"largest": True, "sorted": False}]
_SPACE = [((1, 3, 5, 7),), ((2, 17, 3),)]
_CLIP = [((19,), Const(low, "float32"), Const(high, "float32")) for low, high in ((-1, 1), (0, np.inf), (-np.inf, 0))]
CASES: dict[str, list[Case]] = {
    **{f"Reduce{n}": _of(_REDUCED) for n in ("Max", "Min", "Sum")},
    **{f"Reduce{n}": _of(_REDUCED[:2]) for n in ("Prod", "Mean", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")},
    **{n: _along({}, {"select_last_index": True}) for n in ("ArgMax", "ArgMin")},
    **{n: _along({}) for n in ("Softmax", "LogSoftmax", "Hardmax", "LpNormalization")},
    "TopK": _of([(WIDE, Const([5])), ((2, 18), Const([18]))], *_TOP, n_outputs=2),
    "CumSum": _of([(WIDE, Const(1)), (TALL, Const(0))], {}, {"reverse": True}, {"exclusive": True}),
    "MaxPool": _POOLED + [Case(c.inputs, c.attrs, 2) for c in _POOLED],
    "AveragePool": _POOLED[1:] + [Case(_POOLED[0].inputs, {**_POOLED[0].attrs, "count_include_pad": True})],
    "LpPool": _POOLED[:2] + [Case(_POOLED[2].inputs, {**_POOLED[2].attrs, "p": 1})],
    **{n: _of(_SPACE) for n in ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")},
    "LRN": _of([((1, 7, 3, 3),), ((2, 19, 5),)], {"size": 3}),
    "Clip": _of(_CLIP),
    "LayerNormalization": _of([(WIDE, (37,), (37,))]),
    "RMSNormalization": _of([(WIDE, (37,))]),
    "InstanceNormalization": _of([((2, 3, 19), (3,), (3,))]),
    "GroupNormalization": _of([((2, 4, 9), (4,), (4,))], {"num_groups": 2}),
    "MeanVarianceNormalization": _of([((2, 3, 4, 5),)]),
    "Attention": _of([((1, 2, 5, 4), (1, 2, 6, 4), (1, 2, 6, 4))]),
    "ScatterElements": _of([((5, 19), Const([[1] * 19, [1] * 19]), (2, 19))], {"reduction": "max"}, {"reduction": "min"}),
    "GridSample": _of([((1, 2, 5, 7), Const([[[[-1.0, 0.3], [0.2, 1.0], [3.0, 0.0]]]], "float32"))]),
    "Unique": _of([((12,),)], n_outputs=4),
}  # fmt: skip


def places(size: int) -> list[int]:
    """The first and last elements, the middle, and those around a vector's end."""
    return sorted({i % size for i in (0, 1, 15, 16, 17, size // 2, size - 2, size - 1)})


def spoilt(x: np.ndarray):
    """Copies of x with special numbers in it, each with what they are."""
    for i, numbers in itertools.product(places(x.size), PLACED):
        y = x.copy()
        y.flat[[(i + j) % x.size for j in range(len(numbers))]] = numbers
        yield f"{numbers} at {i}", y
    for number in FILLED:
        yield f"all {number}", np.full_like(x, number)


def agree(got: np.ndarray, want: np.ndarray, *where: object) -> None:
    """NaN and infinities at the same places; finite numbers close, whatever the sign of zeros."""
    if got.tobytes() != want.tobytes():
        scale = np.abs(want[np.isfinite(want)]).max(initial=1) if want.dtype.kind == "f" else 0
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * scale, err_msg=", ".join(map(str, where)))


@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_with_the_reference(name: str):
    for case in CASES[name]:
        arrays = opcheck.operands(get_op(name), case)
        b, node = opcheck.build(name, case, arrays)
        names = tuple(f"y{i}" for i in range(case.n_outputs))
        graph = Graph("nan", tuple(b.inputs), node.outputs[: case.n_outputs], tuple(b.nodes), names)
        models = {t: graphc.compile(graph, target=t, threads=1) for t in TARGETS}
        feeds = {v.name: arrays[int(v.name[1:])] for v in b.inputs}
        for key, x in feeds.items():
            for what, y in spoilt(x):
                changed = {**feeds, key: y}
                with np.errstate(all="ignore"):
                    want = run_graph(graph, list(changed.values()))
                for target, model in models.items():
                    for result, expected in zip(model.run(changed).values(), want):
                        agree(result, expected, target, what, key, case)


LAST = ["MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Relu", "HardSwish", "Clip"]


@pytest.mark.parametrize("last", LAST)
def test_fused_steps_and_blocked_layouts(last: str):
    rng = np.random.default_rng(0)
    b = Builder("fused")
    x = b.input("x", "float32", (1, 16, 9, 9))
    y = b.add("Conv", x, b.constant(rng.standard_normal((20, 16, 3, 3)).astype("float32")), pads=(1, 1, 1, 1))
    window = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)} if last in LAST[:2] else {}
    bounds = [b.constant(v, "float32") for v in (0, 6)] if last == "Clip" else []
    graph = b.build((b.add(last, y, *bounds, **window),))
    models = {t: graphc.compile(graph, target=t, threads=1, winograd=0) for t in (*TARGETS, *offered("cpu:avx2"))}
    for what, a in spoilt(rng.standard_normal((1, 16, 9, 9)).astype("float32")):
        with np.errstate(all="ignore"):
            (want,) = run_graph(graph, [a])
        for target, model in models.items():
            agree(model(a), want, target, what)


# --- what was decided -------------------------------------------------------------------------------------------------
def results(name: str, *operands: np.ndarray | None, n_outputs: int = 1, **attrs) -> list[list[np.ndarray]]:
    """Of the CPU and of the reference. Operands that the operator reads when compiling are constants."""
    b = Builder("decided")
    values, feeds = [], {}
    for i, a in enumerate(operands):
        if a is None or i in get_op(name).values:
            values.append(None if a is None else b.constant(a))
        else:
            values.append(b.input(f"x{i}", a.dtype, a.shape))
            feeds[f"x{i}"] = a
    made = b.add(name, *values, outputs=n_outputs, **attrs)
    graph = b.build(tuple(made) if n_outputs > 1 else (made,))
    return [list(graphc.compile(graph, target=t).run(feeds).values()) for t in ("cpu", "reference")]


X = np.array([[2, np.nan, 5, np.nan, -np.inf, np.inf, 1]], "float32")
nan, inf = np.nan, np.inf


@pytest.mark.parametrize("name", ["ReduceMax", "ReduceMin", "ReduceLogSumExp"])
def test_an_extreme_of_nan_is_nan(name: str):
    """As in NumPy and PyTorch. In ONNX Runtime 1.32 its place decides."""
    for (got,) in results(name, X, np.array([1]), keepdims=False):
        np.testing.assert_array_equal(got, np.array([nan], "float32"))


def test_nan_is_the_largest_and_the_smallest_to_argmax_and_argmin():
    for name, last in itertools.product(("ArgMax", "ArgMin"), (False, True)):
        for (got,) in results(name, X, axis=1, select_last_index=last, keepdims=False):
            np.testing.assert_array_equal(got, [3 if last else 1])


def test_nan_is_the_largest_to_topk_and_unique():
    """As in PyTorch and NumPy; TopK of ONNX Runtime 1.32 as well."""
    for largest, want in ((True, [1, 3, 5, 2, 0, 6, 4]), (False, [4, 6, 0, 2, 5, 1, 3])):
        for values, indices in results("TopK", X, np.array([7]), n_outputs=2, largest=largest):
            np.testing.assert_array_equal(indices, [want])
            np.testing.assert_array_equal(values, X[:, want])


def test_max_pool_names_the_first_nan_and_never_padding():
    for x, value, index in (
        (X[None, :, :3], [nan, nan, nan], [1, 1, 1]),
        (np.full((1, 1, 3), -inf, "float32"), [-inf] * 3, [0, 0, 1]),
        (np.full((1, 1, 3), -128, "int8"), [-128] * 3, [0, 0, 1]),
    ):
        for y, indices in results("MaxPool", x, n_outputs=2, kernel_shape=(3,), pads=(1, 1)):
            np.testing.assert_array_equal(y, [[value]])
            np.testing.assert_array_equal(indices, [[index]])


def test_padding_of_grid_sample_is_zero_beside_an_infinite_pixel():
    x, grid = np.full((1, 1, 2, 2), inf, "float32"), np.array([[[[-1, -1], [3, 3]]]], "float32")
    for (got,) in results("GridSample", x, grid):
        np.testing.assert_array_equal(got.ravel(), [inf, 0])


def test_running_sums_keep_the_sign_of_a_first_zero():
    """As in NumPy and ONNX Runtime 1.32."""
    x = np.array([[-0.0, -0.0, 1]], "float32")
    for (got,) in results("CumSum", x, np.array(1)):
        assert np.signbit(got).tolist() == [[True, True, False]]


def test_attention_hides_rows_that_a_mask_hides_only():
    """Scores of -inf without a mask are a Softmax of -inf."""
    q, k = np.ones((1, 1, 1, 2), "float32"), np.full((1, 1, 3, 2), -inf, "float32")
    v = np.ones((1, 1, 3, 2), "float32")
    for (got,) in results("Attention", q, k, v):
        assert np.isnan(got).all()
    for (got,) in results("Attention", q, v, v, np.zeros((1, 3), bool)):
        np.testing.assert_array_equal(got, np.zeros((1, 1, 1, 2)))
