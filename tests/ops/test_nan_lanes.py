"""NaN and infinities in every lane of a vector and of what is left behind the last one: rows of 1 to 33 elements, each element type.

`test_nan.py` has more uses of the operators, and `test_special_values.py` the bits of each result.
"""

from __future__ import annotations

import numpy as np
import pytest
from targets import offered

import graphc
from graphc.backends.reference import run
from graphc.graph import Builder, Graph, Value
from graphc.op import all_ops
from graphc.testing import broadcasts
from graphc.types import dtype_from_name

TARGETS = offered("cpu:avx512", "cpu:portable")  # cpu:avx2 differs from them in the width of its vectors only
DTYPES = ("float32", "float16", "bfloat16", "float64")
SIZES = range(1, 34)
ENDS = (1, 7, 8, 9, 16, 17, 33)  # around the ends of vectors
NUMBERS = (np.nan, 0.75, np.inf, -np.inf, -1.5)
CLOSE = {"float16": 4e-3, "bfloat16": 3e-2}  # a few of their steps; where else, float32's
OPS = all_ops()
FLOATS = [
    n
    for n, op in OPS.items()
    if op.elementwise and broadcasts(op) and np.dtype(op.samples.dtypes[0]).kind == "f" and op.min_inputs < 3
]
UNARY = [n for n in FLOATS if OPS[n].min_inputs == 1 and not OPS[n].variadic] + ["Clip"]


def agree(got: np.ndarray, want: np.ndarray, name: str, *where: object) -> None:
    """NaN and infinities at the same places, finite numbers close: beside a pole they are what the last digit makes of them."""
    relative = 1e-3 if name in ("Tan", "Reciprocal", "Log", "Div") else 0.0
    assert got.dtype == want.dtype and got.shape == want.shape
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, err_msg=f"{name} {where}")
        return
    tolerance = CLOSE.get(want.dtype.name, 1e-5)
    got, want = got.astype(np.float64), want.astype(np.float64)
    scale = np.abs(want[np.isfinite(want)]).max(initial=1)
    np.testing.assert_allclose(got, want, rtol=relative, atol=tolerance * scale, err_msg=f"{name} {where}")


def models(graph: Graph) -> dict[str, graphc.Model]:
    return {t: graphc.compile(graph, target=t, threads=1, winograd=0) for t in TARGETS}


def same(
    graph: Graph, compiled: dict[str, graphc.Model], feeds: dict[str, np.ndarray], name: str, *where: object
) -> None:
    with np.errstate(all="ignore"):
        want = run(graph, feeds)
    for target, model in compiled.items():
        for key, got in model.run(feeds).items():
            agree(got, want[key], name, target, *where)


@pytest.mark.sample(24)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*FLOATS, "Clip", "Where"])
def test_elementwise(name: str, dtype: str):
    """Every number in every lane, beside every other number in the second operand."""
    kind, b = dtype_from_name(dtype), Builder("lanes")
    count = 2 if name == "Where" else 1 if name == "Clip" else OPS[name].min_inputs + OPS[name].variadic
    x = [b.input(f"x{i}", kind, ("n",)) for i in range(count)]
    more = [b.constant(v, kind) for v in (-1, 1)] if name == "Clip" else []
    chosen = [b.input("c", "bool", ("n",))] if name == "Where" else []
    graph = b.build((b.add(name, *chosen, *x, *more),))
    compiled = models(graph)
    for n in SIZES:
        lanes = np.arange(n)
        for shift in range(len(NUMBERS)):
            places = [(lanes + shift) % len(NUMBERS), (lanes // len(NUMBERS) + shift) % len(NUMBERS)]
            feeds = {f"x{i}": np.array(NUMBERS, kind)[places[i]] for i in range(count)}
            same(graph, compiled, feeds | ({"c": lanes % 2 == 0} if chosen else {}), name, n, shift)


@pytest.mark.sample(24)
@pytest.mark.parametrize("before", ["MatMul", "Gemm", "Conv", "depthwise"])
@pytest.mark.parametrize("name", UNARY)
def test_behind_a_product(name: str, before: str):
    """Rows or pixels of NaN and infinities reach the activation that a product ends with; one weight of each column is 0."""
    rng = np.random.default_rng(0)
    for n in ENDS:
        b, f32 = Builder("epilogue"), np.dtype("float32")
        weights = rng.uniform(0.5, 1, (n, 3)).astype(f32)
        if before in ("MatMul", "Gemm"):
            x = b.input("x", f32, (len(NUMBERS), 3))
            bias = [b.constant(rng.uniform(-1, 1, n), f32)] if before == "Gemm" else []
            y = b.add(before, x, b.constant(weights.T.copy()), *bias)
            feed = rng.uniform(-1, 1, x.shape).astype(f32)
            feed[:, 1] = NUMBERS
        else:
            channels, wide = (n, 1) if before == "depthwise" else (3, 3)
            x = b.input("x", f32, (1, channels, len(NUMBERS), 4))
            kernel = b.constant(rng.uniform(0.5, 1, (n, 1 if before == "depthwise" else 3, wide, wide)), f32)
            y = b.add("Conv", x, kernel, group=n if before == "depthwise" else 1, pads=(wide // 2,) * 4)
            feed = rng.uniform(-1, 1, x.shape).astype(f32)
            feed[0, 0, :, 1] = NUMBERS
        bounds = [b.constant(v, f32) for v in (-1, 1)] if name == "Clip" else []
        graph = b.build((b.add(name, y, *bounds),))
        same(graph, models(graph), {"x": feed}, name, before, n)


def _rows(b: Builder, name: str, x: Value) -> Value:
    """The operator over the last axis of x [2, n]."""
    if name.startswith("Reduce"):
        return b.add(name, x, b.constant([1]), keepdims=True)
    if name.endswith("Pool"):
        return b.add(name, b.add("Unsqueeze", x, b.constant([0])), **_WINDOWS.get(name, {}))
    if name in ("LayerNormalization", "RMSNormalization"):
        ones = [b.input(f"s{i}", x.dtype, ("n",)) for i in range(2 if name == "LayerNormalization" else 1)]
        return b.add(name, x, *ones)
    if name in ("CumSum", "CumProd"):
        return b.add(name, x, b.constant(1))
    return b.add(name, x, **({} if name == "MeanVarianceNormalization" else {"axis": 1}))


_WINDOW = {"kernel_shape": (3,), "pads": (1, 1)}
_WINDOWS = {"MaxPool": _WINDOW, "AveragePool": _WINDOW, "LpPool": _WINDOW}
ROWS = [f"Reduce{n}" for n in ("Max", "Min", "Sum", "Prod", "Mean", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")]
ROWS += ["ArgMax", "ArgMin", "Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "LayerNormalization"]
ROWS += ["RMSNormalization", "CumSum", "CumProd"]
ROWS += ["MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"]


@pytest.mark.sample(20)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str, dtype: str):
    """One number at each place of a row that is otherwise finite, and two of them that contradict each other."""
    kind, b = dtype_from_name(dtype), Builder("rows")
    x = b.input("x", kind, (2, "n"))
    graph = b.build((_rows(b, name, x),))
    compiled = models(graph)
    rng = np.random.default_rng(0)
    for n in ENDS:
        scales = {v.name: np.ones(n, kind) for v in b.inputs[1:]}
        for i in range(n):
            for numbers in ((np.nan,), (np.inf,), (-np.inf,), (np.inf, -np.inf)):
                row = rng.uniform(0.5, 1.5, (2, n)).astype(kind)
                for j, number in enumerate(numbers):
                    row[0, (i + j) % n] = number
                same(graph, compiled, {"x": row, **scales}, name, n, i, numbers)
