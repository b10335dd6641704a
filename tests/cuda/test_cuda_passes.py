"""Passes along rows and down columns, and weighted sums: operators, and the verbs alone against loops in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import loops_kernels
import numpy as np
import pytest
from one_verb import INFO, run
from suite import OPS, axes, check, compiled, host_reasons, randoms, results, use, uses_of

from graphc import expr as e
from graphc.backends.cuda.verbs.passes import COLUMN_PART, ROW_PART, WIDE
from graphc.dtypes import is_float
from graphc.expr import Expr
from graphc.lower.kernel import Pass, Passes
from graphc.lower.limits import PASS_DIMS, PASS_RECORDS
from graphc.lower.storage import Ref
from graphc.lower.verbs import Along, Blend
from graphc.ops._taps import Taps

TARGET = "cuda:emulate"
REDUCTIONS = sorted(n for n, op in OPS.items() if op.reduction is not None)
NORMS = [
    "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "LpNormalization", "LRN",
    "ReduceLogSumExp", "Resize", "RMSNormalization", "Softmax",
]  # fmt: skip
LENGTHS = (1, 31, 32, 33, 127, 128, 129, 1000, 5000)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, and accesses out of bounds, are errors."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")


# --- operators ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*REDUCTIONS, *NORMS])
def test_every_case(name: str, checked: None):
    for one in uses_of(name):
        assert not host_reasons(check(one, TARGET), one), one


@pytest.mark.parametrize("name", ["ReduceSum", "ReduceMax", "Softmax", "LogSoftmax"])
def test_lengths(name: str, checked: None):
    """Along rows and down columns: of parts of a warp, of warps, of blocks."""
    for length in LENGTHS:
        wide = 130 if length < 200 else 3
        for shape, axis in (((3, length), 1), ((2, length, 5), 1), ((length, wide), 0), ((length,), 0)):
            check(_along(name, randoms(*shape, seed=length), axis), TARGET)


def test_segments_of_rows(checked: None):
    for each, space in ((1, 7), (3, 1), (2, 49), (5, 33), (3, 400)):
        x, one = randoms(2, 4 * each, space), randoms(4 * each)
        check(use("GroupNormalization", x, one, -one, num_groups=4), TARGET)


@pytest.mark.parametrize("name", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2"])
@pytest.mark.parametrize("axis", [0, 1])
def test_long_axes_in_parts(name: str, axis: int):
    for length in (4 * (ROW_PART if axis else COLUMN_PART) - 1, 4 * (ROW_PART if axis else COLUMN_PART) + 77):
        x = randoms(*((2, length) if axis else (length, 6)), seed=length)
        one = use(name, x, axes(axis), constants=[1])
        (got,) = results(compiled(one, TARGET), one)
        np.testing.assert_allclose(got, np.array(one.run()[0]), rtol=2e-6, atol=1e-6 * np.abs(x).sum(axis).max())
        check(one, TARGET)


def test_a_row_with_a_large_block():
    check(use("Softmax", randoms(2, WIDE + 3)), TARGET)


@pytest.mark.parametrize(
    "name, total", [("ReduceSum", 0), ("ReduceProd", 1), ("ReduceMax", -np.inf), ("ReduceMin", np.inf)]
)
def test_empty_axes(name: str, total: float, checked: None):
    for shape, axis in (((3, 0), 1), ((2, 0, 5), 1)):
        one = use(name, np.zeros(shape, np.float32), axes(axis), constants=[1], keepdims=0)
        (got,) = results(compiled(one, TARGET), one)
        np.testing.assert_array_equal(got, np.full(np.delete(shape, axis), total, np.float32))


@pytest.mark.parametrize(
    "dtype, axis",
    [("int8", 1), ("int64", 0), ("uint64", 1), ("bool", 0), ("float16", 1), ("bfloat16", 0), ("float64", 1)],
)
def test_extremes_and_what_wraps_around(dtype: str, axis: int):
    rng = np.random.default_rng(3)
    for name in ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd"):
        if dtype not in OPS[name].samples.dtypes:
            continue
        kind = np.dtype(dtype)
        if kind == np.bool_:
            x = rng.random((70, 67)) < 0.1
        elif is_float(kind):
            x = rng.choice([-1, -0.0, 0.0, 1, 2], (70, 67)).astype(kind)
            x[5], x[:, 7] = np.inf, -np.inf
            x[3, 3] = np.nan
        else:
            info = np.iinfo(kind)
            x = rng.integers(info.min, info.max, (70, 67), kind, endpoint=True)
            x[4, 9], x[9, 4] = info.min, info.max
        one = use(name, x, axes(axis), constants=[1])
        (got,) = results(compiled(one, TARGET), one)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(got, one.run()[0], err_msg=f"{name} of {dtype}")


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_softmax_of_infinities(name: str):
    inf, nan = np.inf, np.nan
    x = np.array([[1, 2, inf], [1, -inf, 0], [-inf, -inf, -inf], [inf, inf, -inf], [nan, 1, 2]], np.float32)
    row = np.array([1 / (1 + np.exp(-1)), 0, 1 / (1 + np.exp(1))])
    with np.errstate(divide="ignore"):
        want = np.log(row) if name == "LogSoftmax" else row
    for array, axis in ((x, 1), (x.T, 0)):
        one = use(name, np.ascontiguousarray(array), axis=axis)
        y = results(compiled(one, TARGET), one)[0]
        y = y if axis else y.T
        np.testing.assert_allclose(y[1], want, rtol=1e-6)
        assert np.isnan(np.delete(y, 1, 0)).all()


def test_sums_are_the_same_in_every_run():
    one = use("ReduceSum", randoms(5000, 3), axes(0), constants=[1])
    model = compiled(one, TARGET)
    first = results(model, one)[0].tobytes()
    assert all(results(model, one)[0].tobytes() == first for _ in range(3))


def _along(name: str, x: np.ndarray, axis: int):
    return use(name, x, axes(axis), constants=[1]) if name.startswith("Reduce") else use(name, x, axis=axis)


# --- the verbs alone ------------------------------------------------------------------------------------------------------
F, D = np.dtype(np.float32), np.dtype(np.float64)


COMBINED = [
    ("add", "int8"), ("mul", "uint8"), ("mul", "int64"), ("max", "uint64"), ("min", "int64"), ("and", "int32"), ("or", "uint16"),
    ("and", "bool"), ("or", "bool"), ("add", "bool"), ("max", "bool"), ("min", "bool"),
]  # fmt: skip


@pytest.mark.parametrize("combine, dtype", COMBINED)
def test_what_combines(combine: str, dtype: str):
    kind, rng = np.dtype(dtype), np.random.default_rng(1)
    total = e.arg(1, kind)
    p = Passes("v", (dtype,), (Pass(combine, e.arg(0, kind), total),), (("s", total),))
    x = (
        rng.integers(0, 256, (3, 70, kind.itemsize), np.uint8).view(kind)[..., 0]
        if kind.kind != "b"
        else rng.random((3, 70)) < 0.9
    )
    item = kind.itemsize
    _compare(False, p, [3], 1, 70, [x, np.zeros(3, kind)], [Along(0, [70 * item]), Along(0, [item])])
    _compare(True, p, [1], 3, 70, [x, np.zeros(70, kind)], [Along(0, [0], 70 * item), Along(0, [0])])


def _address(a: np.ndarray) -> int:
    return a.ctypes.data


def _compare(
    down: bool,
    p: Passes,
    dims: Sequence[int],
    m: int,
    n: int,
    arrays: Sequence[np.ndarray | int],
    walks: Sequence[Along],
) -> None:
    """The verb, checked, against loops. arrays: operands (or counts), then results. walks: whose refs are not looked at."""
    count = len(p.kinds)
    memory = [a for a in arrays if not isinstance(a, int)]
    written = [a.copy() for a in arrays[count:]]

    def emit(lo, *refs: Ref) -> None:
        each = iter(refs)
        given = [Along(a if isinstance(a, int) else next(each), w.strides, w.step) for a, w in zip(arrays, walks)]
        (lo.column_passes if down else lo.row_passes)(p, dims, given, m, n, INFO)

    inputs = [a for a in arrays[:count] if not isinstance(a, int)]
    got = run(emit, inputs, memory[len(inputs) :])
    addresses = [a if isinstance(a, int) else _address(a) for a in [*arrays[:count], *written]]
    steps = tuple(w.step for w in walks)
    loops_kernels.run_passes(down, p, tuple(dims), m, n, [tuple(w.strides) for w in walks], steps, *addresses)
    for a, w in zip(got, written):
        if is_float(a.dtype):
            np.testing.assert_allclose(a, w, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(a, w)


def _dense(dims: Sequence[int], item: int) -> list[int]:
    return [item * prod(dims[i + 1 :]) for i in range(len(dims))]


@pytest.mark.parametrize("down", [False, True])
def test_as_many_loops_and_operands_as_there_may_be(down: bool):
    """Loops that do not merge; results per element and numbers; a number per segment or step, and a count."""
    dims, m, n = [2, 3, 1, 2, 2, 3][:PASS_DIMS], 3, 5
    full = [*dims, m, n]
    rng, strides = np.random.default_rng(0), _dense(full, 4)
    kinds = "v" * (PASS_RECORDS - 6) + "sc"
    arrays: list[np.ndarray | int] = []
    walks: list[Along] = []
    for i, kind in enumerate(kinds):
        if kind == "c":
            arrays.append(m * n)
            walks.append(Along(0, [0] * len(dims)))
            continue
        kept = [d if (i + j) % 3 else 1 for j, d in enumerate(dims)]  # it is the same along the other loops
        shape = [*kept, m, n] if kind == "v" else [*kept, m]
        arrays.append(rng.standard_normal(shape).astype(F))
        by = _dense(shape, 4)
        step = by[len(dims)] if kind == "v" else 4
        walks.append(Along(0, [b if k > 1 else 0 for b, k in zip(by, kept)], step))
    *values, scale, length = [e.arg(i, F) for i in range(len(kinds))]
    total, spread = e.arg(len(kinds), F), e.arg(len(kinds) + 1, F)
    mixed = values[0]
    for i, v in enumerate(values[1:]):
        mixed = mixed + v * (0.1 * (i + 1))
    passes = (
        Pass("add", mixed * scale, total / length),
        Pass("max", e.absolute(mixed - total), spread + 1.0),
    )
    outputs: tuple[tuple[str, Expr], ...] = (
        ("v", (mixed - total) / spread * scale), ("v", values[1] + total), ("s", total), ("s", spread),
    )  # fmt: skip
    p = Passes(kinds, (F.name,) * len(kinds), passes, outputs)
    per_element = Along(0, strides[: len(dims)], strides[len(dims)])
    per_row = [*dims, n] if down else dims
    per_number = Along(0, _dense(per_row, 4)[: len(dims)])
    arrays += [np.zeros(full, F)] * 2 + [np.zeros(per_row, F)] * 2
    _compare(down, p, dims, m, n, arrays, [*walks, per_element, per_element, per_number, per_number])


@pytest.mark.sample(4)
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("m, n", [(1, 1), (1, 40), (40, 1), (7, 33), (33, 40), (3, 129)])
def test_segments_kept_elements_and_mixed_dtypes(down: bool, m: int, n: int):
    """What the first pass keeps is read by the second, in float64; a result is float16, a number int8."""
    dims, half = [3], np.dtype(np.float16)
    x = np.random.default_rng(m).uniform(-1, 1, (3, m, n)).astype(F)
    v, kept, low = e.arg(0, F), e.arg(1, D), e.arg(2, D)
    wide = e.cast(v, D)
    passes = Pass("min", wide * wide, low, keep=True), Pass("and", e.absolute(kept) < 2.0, e.arg(3, bool))
    outputs = ("v", kept), ("v", e.cast(wide - low, half)), ("s", e.cast(e.cast(e.arg(3, bool), D) * 7.0, np.int8))
    p = Passes("vv", (F.name, D.name), passes, outputs)
    square, numbers = np.zeros((3, m, n), D), np.zeros((3, n) if down else 3, np.int8)
    rows = Along(0, [8 * m * n], 8 * n)
    walks = [Along(0, [4 * m * n], 4 * n), rows, rows, Along(0, [2 * m * n], 2 * n), Along(0, [n if down else 1])]

    def emit(lo, a: Ref, *to: Ref) -> None:
        refs = a, to[0], *to
        given = [Along(r, w.strides, w.step) for r, w in zip(refs, walks)]
        (lo.column_passes if down else lo.row_passes)(p, dims, given, m, n, INFO)

    results = [square, np.zeros((3, m, n), half), numbers]
    got = run(emit, [x], results)
    refs = [_address(a) for a in (x, square, *results)]
    loops_kernels.run_passes(
        down, p, dims, m, n, [tuple(w.strides) for w in walks], tuple(w.step for w in walks), *refs
    )
    for a, w in zip(got, results):
        np.testing.assert_allclose(a.astype(D), w.astype(D), rtol=1e-3 if a.dtype == half else 1e-12)


@pytest.mark.sample(6)
@pytest.mark.parametrize("dtype, wide", [("float32", F), ("float16", F), ("uint8", F), ("float64", D), ("int64", D)])
@pytest.mark.parametrize("around", [(3, 40, 1), (2, 7, 5), (1, 3, 130), (129, 1, 1)])
def test_blend(dtype: str, wide: np.dtype, around: tuple[int, int, int]):
    rng, (outer, size, inner), n, kind = np.random.default_rng(1), around, 11, np.dtype(dtype)
    x = (100 * rng.random(around)).astype(kind)
    taps = Taps(rng.integers(0, size, (n, 3)), rng.standard_normal((n, 3)), np.zeros(n, bool))
    term: Callable[..., Expr] = e.cast(e.arg(0, kind), wide)
    finish = e.cast(e.clamp(e.arg(0, wide), -200.0, 200.0), wide)
    y = np.zeros((outer, n, inner), wide)
    (got,) = run(lambda lo, a, b: lo.blend(Blend(a, b, kind, around, taps, term, finish), "y", INFO), [x], [y])
    want = np.einsum("okti,kt->oki", x.astype(D)[:, taps.indices], taps.weights)
    np.testing.assert_allclose(got, np.clip(want, -200, 200), rtol=0, atol=1e-4 if wide == F else 1e-12)
