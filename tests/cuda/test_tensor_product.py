"""Products on tensor cores, in checked runs: sizes around the edges of tiles, where operands lie, digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphc
from graphc.backends.cuda.codegen.figures import card_of
from graphc.backends.cuda.lower import lowering
from graphc.backends.cuda.options import CudaOptions
from graphc.backends.cuda.product import costs, feeding, tensor, tile
from graphc.backends.cuda.product.tensor_kernels import TOGETHER
from graphc.cli import main
from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.report import StepInfo
from graphc.types import dtype_from_name

TARGET = "cuda:emulate"
FLOATS = ["float16", "bfloat16", "float32"]
H100 = card_of((9, 0))
SHARE = 1 / H100.multiprocessors
TINY = replace(
    H100, multiprocessors=1, float32_per_clock=1, memory=SHARE * H100.memory, cache=SHARE * H100.cache
)  # fmt: skip
EVERY_TILE = [
    (dtype, number)
    for dtype, tiles in (("float16", tile.WARPS_HALF), ("bfloat16", tile.WARPS_HALF), ("float32", tile.WARPS_FLOAT))
    for number in range(len(tiles))
]
DIGITS = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 3e-6, "float64": 1e-12}
EDGES = [5, 8, 16, 31, 32, 33, 48, 63, 64, 65, 66, 96, 100, 127, 128, 129, 136]
FEW = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Races, copies that nobody waits for, and accesses out of bounds are errors. Small products fill the GPU."""
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    monkeypatch.setattr(lowering, "card_of", lambda arch: TINY)
    monkeypatch.setattr(costs, "GAIN", float("inf"))  # steps are dealt where a test says so


def only(monkeypatch: pytest.MonkeyPatch, dtype: str, number: int) -> str:
    """The one tile that there is now. Gives how steps say so."""
    found = (tile.WARPS_FLOAT if dtype == "float32" else tile.WARPS_HALF)[number]
    monkeypatch.setattr(tensor, "warp_tiles", lambda item, products: (found,))
    return f"tensor cores, 3xTF32, tiles of {found}" if dtype == "float32" else f"tensor cores, tiles of {found}"


def product(
    m: int,
    k: int,
    n: int,
    dtype: str,
    right: str = "constant",
    batch: tuple[int, ...] = (),
    turned: bool = False,
    numbers: tuple[np.ndarray, np.ndarray] | None = None,
    arch: str = "sm_90",
) -> str:
    """The algorithm of relu(x @ w + row), which was compared with the reference. right: 'constant', 'made' (by a step) or 'given'.
    turned: the columns of the right operand lie in one piece. numbers: x and w."""
    kind, rng = dtype_from_name(dtype), np.random.default_rng([m, k, n])
    x, w = numbers or (rng.uniform(-1, 1, (*batch, m, k)), rng.uniform(-1, 1, (*batch, k, n)))
    x, w, row = x.astype(kind), w.astype(kind), rng.uniform(-1, 1, n).astype(kind)
    lies = np.ascontiguousarray(w.swapaxes(-1, -2)) if turned else w
    b = Builder("net")
    left = b.input("x", kind, x.shape)
    weights: Value = b.constant(lies) if right == "constant" else b.input("w", kind, lies.shape)
    if right != "given":
        left, x = b.add("Abs", left), np.abs(x)
    if right == "made":
        weights, w = b.add("Neg", weights), -w
    y = b.add("Gemm", left, weights, transB=True) if turned else b.add("MatMul", left, weights)
    graph = b.build({"y": b.add("Relu", b.add("Add", y, b.constant(row)))})
    model = graphc.compile(graph, target=TARGET, arch=arch)
    got = model.run({"x": x} if right == "constant" else {"x": x, "w": lies})["y"].astype(np.float64)
    want = np.maximum(x.astype(np.float64) @ w.astype(np.float64) + row.astype(np.float64), 0)
    np.testing.assert_allclose(got, want, rtol=0, atol=DIGITS[dtype] * np.abs(want).max(initial=1))
    step, *sums = (s for s in model.plan().steps if {"MatMul", "Gemm"} & set(s.ops))
    assert [s.algorithm for s in sums] == ["sums of parts"] * ("parts" in step.algorithm or "dealt" in step.algorithm)
    return step.algorithm


@FEW
@given(st.sampled_from(EDGES), st.sampled_from(EDGES), st.sampled_from(EDGES), st.sampled_from(EVERY_TILE), st.data())
def test_sizes_around_the_edges_of_tiles(
    monkeypatch: pytest.MonkeyPatch, m: int, k: int, n: int, which: tuple[str, int], data: st.DataObject
):
    dtype, number = which
    only(monkeypatch, dtype, number)
    right = data.draw(st.sampled_from(["constant", "made"]))
    product(m, k, n, dtype, right, turned=data.draw(st.booleans()))


@pytest.mark.sample(3)
@pytest.mark.parametrize("right", ["constant", "made"])
@pytest.mark.parametrize("dtype, number", EVERY_TILE)
def test_every_pipeline(monkeypatch: pytest.MonkeyPatch, dtype: str, number: int, right: str):
    """Depths of one step, of fewer and of more than there are stages."""
    how = only(monkeypatch, dtype, number)
    for k in (8, 32, 40, 96, 200):
        assert product(70, k, 130, dtype, right) == how


@pytest.mark.sample(1)
@pytest.mark.parametrize("parts", [1, 2])
def test_every_tile_is_some_blocks(monkeypatch: pytest.MonkeyPatch, parts: int):
    """Bands of rows of tiles, of which the last is lower."""
    how = only(monkeypatch, "float16", 3)
    in_parts(monkeypatch, parts)
    assert tile.WARPS_HALF[3].m * TOGETHER < 300
    assert product(300, 40, 260, "float16", "made").startswith(how)
    assert product(270, 40, 20, "float16", batch=(2,)).startswith(how)


@pytest.mark.sample(1)
@pytest.mark.parametrize("k, n", [(34, 66), (36, 68), (40, 72)])
def test_copies_of_all_widths(k: int, n: int):
    """Rows that begin at multiples of 4, 8 and 16 bytes."""
    assert product(50, k, n, "float16", "made").startswith("tensor")
    assert product(50, k, n, "float16", "made", turned=True).startswith("tensor")
    assert product(50, k // 2, n // 2, "float32", "made").startswith("tensor")


def test_odd_places_are_copied_or_left_to_other_kernels(monkeypatch: pytest.MonkeyPatch):
    assert product(50, 37, 64, "float16").startswith("tensor")  # rows at odd addresses
    monkeypatch.setattr(feeding, "copied", lambda card, nbytes: 1.0)
    assert product(50, 37, 64, "float16").startswith("tiles")
    assert product(50, 40, 64, "float16", "given").startswith("tensor")  # those at odd addresses are copied first
    assert product(50, 37, 64, "float32", "given").startswith("tensor")
    assert product(50, 40, 64, "float64").startswith("tiles")
    assert product(3, 40, 64, "float16") == "rows"


@pytest.mark.sample(1)
@pytest.mark.parametrize("dtype", FLOATS)
def test_batches(dtype: str):
    assert product(40, 24, 56, dtype, "made", batch=(2, 3)).startswith("tensor")


def test_few_columns_are_few_rows():
    assert product(70, 40, 10, "float16").startswith("tensor")
    assert product(70, 40, 10, "float16", "made", turned=True).startswith("tensor")


def test_float32_keeps_its_digits():
    """Sums of numbers of many sizes, and ones that tf32 has no digits for."""
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, (40, 256)) * 2.0 ** rng.integers(-20, 20, (40, 1))
    w = rng.uniform(-1, 1, (256, 48))
    assert product(40, 256, 48, "float32", numbers=(x, w)).startswith("tensor")
    ones = np.full((40, 32), 1 + 2.0**-20), np.full((32, 48), 1 - 2.0**-18)
    assert product(40, 32, 48, "float32", numbers=ones).startswith("tensor")


@pytest.mark.sample(1)
@pytest.mark.parametrize("dtype", FLOATS)
def test_infinities_and_nan(dtype: str):
    x, w = np.random.default_rng(0).uniform(0.5, 1, (40, 32)), np.random.default_rng(1).uniform(0.5, 1, (32, 48))
    x[3, 4], x[7, 8] = np.inf, np.nan
    b = Builder("net")
    kind = dtype_from_name(dtype)
    graph = b.build({"y": b.add("MatMul", b.add("Abs", b.input("x", kind, x.shape)), b.constant(w.astype(kind)))})
    y = graphc.compile(graph, target=TARGET).run({"x": x.astype(kind)})["y"].astype(np.float64)
    assert np.isposinf(y[3]).all() and np.isnan(y[7]).all() and np.isfinite(np.delete(y, [3, 7], 0)).all()


# --- tf32 -------------------------------------------------------------------------------------------------------------
HALF = 2.0**-11  # what rounding to tf32 changes at most, as a part of the number
FLOAT = 2.0**-23  # the same of a sum in float32 that tensor cores cut


def error_of(precision: str, x: np.ndarray, w: np.ndarray, arch: str = "sm_90") -> tuple[np.ndarray, str]:
    """Of x @ w: errors as parts of what the terms' sizes sum to, and the algorithm."""
    b = Builder("net")
    graph = b.build({"y": b.add("MatMul", b.input("x", np.float32, x.shape), b.constant(w))})
    model = graphc.compile(graph, target=TARGET, precision=precision, arch=arch)
    error = model.run({"x": x})["y"] - x.astype(np.float64) @ w.astype(np.float64)
    return np.abs(error) / (np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64)), model.plan().steps[
        0
    ].algorithm


@pytest.mark.parametrize("k", [8, 100, 260])
def test_tf32_rounds_operands_and_sums_in_float32(k: int):
    """Each operand is rounded once to 11 digits, each sum once to float32. Of three products, the first digits are cut: what is
    left is less than 2 * HALF of the number, and rounded; the product of what is left of both is no part of the sum."""
    rng = np.random.default_rng(k)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((70, k), (k, 66)))
    one, how = error_of("tf32", x, w)
    assert how.startswith("tensor cores, TF32") and one.max() <= 2 * HALF + HALF**2 + k * FLOAT
    three, how = error_of("float32", x, w)
    assert how.startswith("tensor cores, 3xTF32") and three.max() <= 2 * (2 * HALF) ** 2 + k * FLOAT
    assert one.max() > 20 * three.max()  # so it was one product


def test_tf32_leaves_other_dtypes_as_they_are():
    assert product(40, 40, 40, "float16").startswith("tensor cores, tiles")


@pytest.mark.parametrize("precision", ["float64", "TF32", 32, None])
def test_a_precision_that_is_none(precision: object):
    b = Builder("net")
    graph = b.build({"y": b.add("Relu", b.input("x", np.float32, (3,)))})
    options = {"precision": precision or ""}
    with pytest.raises(InputError, match="precision must be 'float32' or 'tf32'"):
        graphc.compile(graph, target=TARGET, **options)
    with pytest.raises(InputError, match="precision must be 'float32', 'bf16', 'bf16-weights', not 'tf32'"):
        graphc.compile(graph, precision="tf32")


def test_precisions_are_plans_of_their_own():
    one, three = (CudaOptions(False, precision=p).identity() for p in ("tf32", "float32"))
    assert one != three


def test_the_command_line_takes_a_precision():
    command = ["explain", "examples/zoo/lenet5.yaml", "--batch", "64", "--target", "cuda:emulate", "--precision"]
    done = CliRunner().invoke(main, [*command, "tf32"])
    assert done.exit_code == 0 and "tensor cores, TF32" in done.output, done.output
    refused = CliRunner().invoke(main, [*command, "half"])
    assert refused.exit_code == 2 and "'half' is not one of" in refused.output


# --- sums in parts ----------------------------------------------------------------------------------------------------
def in_parts(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    monkeypatch.setattr(costs, "SPLITS", (parts,))
    monkeypatch.setattr(costs, "LEAST", 1)


@pytest.mark.sample(8)
@pytest.mark.parametrize("right", ["constant", "made"])
@pytest.mark.parametrize("k", [96, 100, 264, 520])
@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_in_parts(monkeypatch: pytest.MonkeyPatch, dtype: str, k: int, right: str):
    """Depths that parts divide, and others: the last part is shorter. The ending happens once."""
    in_parts(monkeypatch, 3)
    assert product(40, k, 72, dtype, right).endswith("sums in 3 parts")
    assert product(40, k, 70, dtype, "constant", turned=True).endswith("sums in 3 parts")


def test_more_parts_than_there_is_depth(monkeypatch: pytest.MonkeyPatch):
    in_parts(monkeypatch, 8)
    assert product(40, 80, 72, "float16").endswith("sums in 8 parts")


@pytest.mark.parametrize("dtype", FLOATS)
def test_batches_in_parts(monkeypatch: pytest.MonkeyPatch, dtype: str):
    in_parts(monkeypatch, 2)
    assert product(40, 72, 56, dtype, "made", batch=(2, 3)).endswith("sums in 2 parts")


def test_parts_are_summed_in_one_order(monkeypatch: pytest.MonkeyPatch):
    """As many sums of float32, of which the order would show."""
    in_parts(monkeypatch, 4)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((40, 512), (512, 48)))
    b = Builder("net")
    model = graphc.compile(b.build([b.add("MatMul", b.input("x", np.float32, x.shape), b.constant(w))]), target=TARGET)
    first, *others = (model.run({"x": x}) for _ in range(3))
    assert all((a == b).all() for o in others for a, b in zip(first.values(), o.values()))


def test_a_gpu_that_is_not_full_gets_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lowering, "card_of", lambda arch: H100)
    assert "parts" in product(64, 2048, 64, "float16")
    assert "parts" not in product(64, 128, 64, "float16")


# --- endings in runs --------------------------------------------------------------------------------------------------
@pytest.mark.sample(8)
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("n, counts", [(72, {2: 8, 4: 4}), (68, {2: 4, 4: 4}), (66, {2: 2, 4: 2}), (65, {2: 1, 4: 1})])
@pytest.mark.parametrize("dtype", FLOATS)
def test_endings_in_runs(monkeypatch: pytest.MonkeyPatch, dtype: str, n: int, counts: dict[int, int], parts: int):
    """Operands in rows, the same for a row, broadcast, and in an array of the caller's."""
    in_parts(monkeypatch, parts)
    kind, rng = dtype_from_name(dtype), np.random.default_rng(n)
    x, w, rows, down, row, given = (
        rng.uniform(0.5, 1, s).astype(kind) for s in ((40, 64), (64, n), (40, n), (40, 1), (n,), (40, n))
    )
    b = Builder("net")
    y = b.add("MatMul", b.add("Abs", b.input("x", kind, x.shape)), b.constant(w))
    y = b.add("Add", b.add("Mul", y, b.add("Abs", b.input("rows", kind, rows.shape))), b.constant(down))
    y = b.add("Sub", b.add("Mul", y, b.constant(row)), b.input("given", kind, given.shape))
    graph = b.build({"y": b.add("CumSum", y, b.constant(np.array(0)))})  # which is no part of it
    model = graphc.compile(graph, target=TARGET)
    got = model.run({"x": x, "rows": rows, "given": given})["y"].astype(np.float64)
    x, w, rows, down, row, given = (v.astype(np.float64) for v in (x, w, rows, down, row, given))
    want = np.cumsum(((x @ w) * rows + down) * row - given, 0)
    np.testing.assert_allclose(got, want, rtol=4 * DIGITS[dtype], atol=0)
    *_, step = (s for s in model.plan().steps if "MatMul" in s.ops)
    count = counts[kind.itemsize]
    assert f"_{count}rsrr" in step.kernel


# --- groups of warps --------------------------------------------------------------------------------------------------
HALVES = ["float16", "bfloat16"]
# beside each, those of the other dtype would do the same
OF_GROUPS = [*zip(HALVES * 3, range(len(tile.GROUPS))), ("float16", 1), ("float32", 0)]


def groups(monkeypatch: pytest.MonkeyPatch, number: int, dtype: str = "float16") -> str:
    """The one tile that there is now. Gives how steps say so."""
    found = (tile.GROUPS_FLOAT if dtype == "float32" else tile.GROUPS)[number : number + 1]
    monkeypatch.setattr(tensor, "groups_of", lambda lo, m, item: found)
    monkeypatch.setattr(tensor, "warp_tiles", lambda item, products: ())
    return f"tensor cores{', 3xTF32' * (dtype == 'float32')}, wgmma, tiles of {found[0]}"


@pytest.mark.sample(1)
@pytest.mark.parametrize("dtype, number", OF_GROUPS)
def test_pipelines_of_groups(monkeypatch: pytest.MonkeyPatch, dtype: str, number: int):
    """Depths of one step, of fewer and of more than there are stages."""
    how = groups(monkeypatch, number, dtype)
    for k in (16, 64, 72, 200, 328):
        assert product(70, k, 130, dtype, arch="sm_90a") == how
    if dtype == "float32":  # which lies down the sum, at multiples of 16 bytes
        assert product(130, 104, 264, dtype, "made", turned=True, arch="sm_90a") == how
        return
    for turned in (False, True):
        assert product(130, 104, 264, dtype, "made", turned=turned, arch="sm_90a") == how
        assert product(70, 202, 130, dtype, "made", turned=turned, arch="sm_90a") == how  # copies of 4 bytes


@FEW
@given(
    st.sampled_from(EDGES),
    st.sampled_from(EDGES),
    st.sampled_from([*EDGES, 255, 256, 258]),
    st.sampled_from(OF_GROUPS),
    st.data(),
)
def test_sizes_around_the_edges_of_tiles_of_groups(
    monkeypatch: pytest.MonkeyPatch, m: int, k: int, n: int, which: tuple[str, int], data: st.DataObject
):
    dtype, number = which
    groups(monkeypatch, number, dtype)
    turned, right = dtype == "float32", data.draw(st.sampled_from(("constant", "made")))
    product(m, -(-k // 4) * 4 if turned else k, n, dtype, right, turned=turned, arch="sm_90a")


@pytest.mark.sample(1)
@pytest.mark.parametrize("dtype", HALVES)
def test_groups_sum_in_parts_and_batches(monkeypatch: pytest.MonkeyPatch, dtype: str):
    how = groups(monkeypatch, 1)
    in_parts(monkeypatch, 3)
    for right in ("constant", "made"):
        assert product(40, 264, 72, dtype, right, arch="sm_90a") == f"{how}, sums in 3 parts"
        assert product(40, 264, 72, dtype, right, (2, 3), arch="sm_90a") == f"{how}, sums in 3 parts"


@pytest.mark.sample(1)
@pytest.mark.parametrize("k", [32, 100])
def test_groups_have_the_digits_of_other_tiles(monkeypatch: pytest.MonkeyPatch, k: int):
    """As `test_tf32_rounds_operands_and_sums_in_float32`."""
    rng = np.random.default_rng(k)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((70, k), (k, 66)))
    monkeypatch.setattr(tensor, "groups_of", lambda lo, m, item: tile.GROUPS_TF32[-1:])
    monkeypatch.setattr(tensor, "warp_tiles", lambda item, products: ())
    one, how = error_of("tf32", x, w, "sm_90a")
    assert how.startswith("tensor cores, TF32, wgmma") and one.max() <= 2 * HALF + HALF**2 + k * FLOAT
    groups(monkeypatch, 0, "float32")
    three, how = error_of("float32", x, w, "sm_90a")
    assert how.startswith("tensor cores, 3xTF32, wgmma") and three.max() <= 2 * (2 * HALF) ** 2 + k * FLOAT
    assert one.max() > 20 * three.max()


def test_infinities_in_groups(monkeypatch: pytest.MonkeyPatch):
    groups(monkeypatch, 1)
    x = np.random.default_rng(0).uniform(0.5, 1, (40, 32))
    x[3, 4], x[7, 8] = np.inf, np.nan
    b = Builder("net")
    w = b.constant(np.ones((32, 48), np.float16))
    graph = b.build({"y": b.add("MatMul", b.add("Abs", b.input("x", np.float16, x.shape)), w)})
    y = graphc.compile(graph, target=TARGET, arch="sm_90a").run({"x": x.astype(np.float16)})["y"]
    assert np.isposinf(y[3]).all() and np.isnan(y[7]).all() and np.isfinite(np.delete(y, [3, 7], 0)).all()


def test_only_what_has_groups_uses_them():
    """sm_90a; float32 lies down the sum, in pieces of 16 bytes."""
    sizes = 256, 256, 512
    assert "wgmma" in product(*sizes, "float16", arch="sm_90a")
    assert "wgmma" not in product(*sizes, "float16", arch="sm_90")
    assert "wgmma" in product(*sizes, "float16", "made", arch="sm_90a")
    assert "wgmma" in product(*sizes, "float32", arch="sm_90a")
    assert "wgmma" in product(*sizes, "float32", "made", turned=True, arch="sm_90a")
    assert "wgmma" not in product(*sizes, "float32", "made", arch="sm_90a")
    assert "wgmma" not in product(256, 258, 512, "float32", "made", turned=True, arch="sm_90a")
    assert "wgmma" not in product(*sizes, "float32", arch="sm_90")


# --- operands that are copied first ---------------------------------------------------------------------------------------
COPIES = {"left": "rows in one piece, for tensor cores", "right": "columns in one piece, for tensor cores"}


def fed_product(
    m: int,
    k: int,
    n: int,
    dtype: str,
    arch: str,
    left: bool = False,
    right: bool = False,
    batch: tuple[tuple[int, ...], ...] = ((), ()),
) -> tuple[str, list[str]]:
    """The algorithm of a product of two operands that are made, which was compared with NumPy, and which ones were copied.
    left: do the columns of the left one lie in one piece? right: those of the right one? batch: dims of each."""
    kind, rng = dtype_from_name(dtype), np.random.default_rng([m, k, n])
    x, w = (rng.uniform(-1, 1, (*of, *dims)).astype(kind) for of, dims in zip(batch, ((m, k), (k, n))))
    lies = [a.swapaxes(-1, -2) if turned else a for a, turned in ((x, left), (w, right))]
    b = Builder("net")
    a, c = (b.add("Neg", b.input(name, kind, v.shape)) for name, v in zip("xw", lies))
    if left or right:
        y = b.add("Gemm", a, c, transA=left, transB=right)
    else:
        y = b.add("MatMul", a, c)
    model = graphc.compile(b.build({"y": b.add("Relu", y)}), target=TARGET, arch=arch)
    got = model.run({name: np.ascontiguousarray(v) for name, v in zip("xw", lies)})["y"].astype(np.float64)
    want = np.maximum(x.astype(np.float64) @ w.astype(np.float64), 0)
    np.testing.assert_allclose(got, want, rtol=0, atol=DIGITS[dtype] * np.abs(want).max(initial=1))
    steps = model.plan().steps
    copies = [side for side, why in COPIES.items() for s in steps if s.ops == ("Copy",) and s.reason == why]
    step = next(s for s in steps if {"MatMul", "Gemm"} & set(s.ops))
    names = {(): None, ("left",): "left operand", ("right",): "right operand", ("left", "right"): "both operands"}
    said = names[tuple(copies)]
    assert (f"; {said} copied first; " in step.reason) if said else "copied" not in step.reason
    return step.algorithm, copies


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies take no time."""
    monkeypatch.setattr(feeding, "copied", lambda card, nbytes: 0.0)


@pytest.mark.sample(3)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("m, k, n", [(64, 64, 64), (70, 72, 130), (65, 37, 34)])
def test_left_operands_are_turned(free: None, dtype: str, m: int, k: int, n: int):
    how, copies = fed_product(m, k, n, dtype, "sm_90", left=True)
    assert how.startswith("tensor cores") and copies == ["left"]
    how, copies = fed_product(m, k, n, dtype, "sm_90", left=True, right=True)
    odd = k * dtype_from_name(dtype).itemsize % 4 != 0
    assert how.startswith("tensor cores") and copies == ["left", "right"][: 1 + odd]


def test_groups_read_what_was_copied(free: None, monkeypatch: pytest.MonkeyPatch):
    how = groups(monkeypatch, 1)
    assert fed_product(66, 72, 130, "float16", "sm_90a", left=True) == (how, ["left"])
    assert fed_product(66, 73, 131, "float16", "sm_90a") == (how, ["left", "right"])


@pytest.mark.sample(2)
@pytest.mark.parametrize("dims", [((2, 3), (2, 3)), ((2, 1), (1, 3)), ((), (3,)), ((3,), ()), ((2, 1, 2), (3, 1))])
def test_batches_are_copied_once_each(free: None, dims: tuple[tuple[int, ...], ...]):
    """Of lines at odd addresses. An operand that many products share is copied once."""
    how, copies = fed_product(40, 41, 51, "float16", "sm_90", batch=dims)
    assert how.startswith("tensor cores") and copies == ["left", "right"]


def test_parts_of_sums_of_what_was_copied(free: None, monkeypatch: pytest.MonkeyPatch):
    in_parts(monkeypatch, 3)
    how, copies = fed_product(40, 264, 72, "float16", "sm_90", left=True)
    assert how.endswith("sums in 3 parts") and copies == ["left"]


@pytest.mark.parametrize("dtype", FLOATS)
def test_copies_that_cost_too_much_are_not_made(monkeypatch: pytest.MonkeyPatch, dtype: str):
    monkeypatch.setattr(feeding, "copied", lambda card, nbytes: 1.0)
    assert fed_product(64, 64, 64, dtype, "sm_90", left=True) == ("tiles of 32x32x16", [])


def plan_of(monkeypatch: pytest.MonkeyPatch, x: Value, w: Value, b: Builder, left: bool) -> list[StepInfo]:
    """The steps of a product of float16 on an H100."""
    monkeypatch.setenv("GRAPHC_CHECK", "")
    monkeypatch.setattr(lowering, "card_of", lambda arch: H100)
    y = b.add("Gemm", x, w, transA=True) if left else b.add("MatMul", x, w)
    return list(graphc.compile(b.build({"y": y}), target=TARGET, arch="sm_90a").plan().steps)


def test_large_products_use_groups_as_they_are(monkeypatch: pytest.MonkeyPatch):
    b = Builder("net")
    x, w = (b.input(name, np.float16, (8192, 8192)) for name in "xw")
    (step,) = plan_of(monkeypatch, x, w, b, False)
    assert step.algorithm == "tensor cores, wgmma, tiles of 128x256"


@pytest.mark.parametrize("size, copied", [(4096, True), (1024, True), (16, False)])
def test_large_transposed_products_are_worth_a_copy(monkeypatch: pytest.MonkeyPatch, size: int, copied: bool):
    """By the model."""
    b = Builder("net")
    x, w = (b.input(name, np.float16, (size, size)) for name in "xw")
    *copies, step = (s for s in plan_of(monkeypatch, x, w, b, True) if s.algorithm != "sums of parts")
    assert [s.kernel for s in copies] == ["copy_tiles"] * copied
    assert ("wgmma" in step.algorithm) == copied and ("left operand copied first" in step.reason) == copied


def test_constants_are_packed_not_copied(monkeypatch: pytest.MonkeyPatch):
    """On either side, transposed or with lines at odd addresses."""
    for left in (False, True):
        b, rng = Builder("net"), np.random.default_rng(0)
        w, x = rng.uniform(-1, 1, (65, 70)).astype(np.float16), rng.uniform(-1, 1, (65, 48)).astype(np.float16)
        constant = b.constant(w if left else np.ascontiguousarray(w.T))
        y = b.add("Gemm", constant, b.add("Neg", b.input("x", np.float16, x.shape)), transA=left)
        model = graphc.compile(b.build({"y": y}), target=TARGET, arch="sm_90")
        got = model.run({"x": x})["y"].astype(np.float64)
        np.testing.assert_allclose(got, -w.T.astype(np.float64) @ x, rtol=0, atol=0.05)
        _, step = model.plan().steps
        assert step.algorithm.startswith("tensor cores") and "copied" not in step.reason


# --- steps dealt to blocks --------------------------------------------------------------------------------------------
def deal(monkeypatch: pytest.MonkeyPatch, found: tile.WarpTile, blocks: int) -> None:
    """The steps of all tiles to so many blocks."""
    choice = costs.Choice(found, 1, 0, 0, 0, blocks)
    monkeypatch.setattr(tensor, "ranked", lambda *_, **named: [choice])


SMALL_TILES = {"float16": tile.WARPS_HALF[2], "bfloat16": tile.WARPS_HALF[3], "float32": tile.WARPS_FLOAT[1]}


@pytest.mark.sample(4)
@pytest.mark.parametrize("blocks", [1, 2, 5, 7])
@pytest.mark.parametrize("dtype", FLOATS)
def test_dealt_steps(monkeypatch: pytest.MonkeyPatch, dtype: str, blocks: int):
    """6 tiles of 4 steps, of which the last is not whole: tiles of one block, of two and of more; blocks with several pieces, whole
    tiles before them."""
    found = SMALL_TILES[dtype]
    deal(monkeypatch, found, blocks)
    for right in ("constant", "made"):
        how = product(2 * found.m + 3, 120, found.n + 10, dtype, right)
        assert how.endswith(f"tiles of {found} dealt to {blocks} blocks"), how
    product(found.m - 5, 120, 2 * found.n, dtype, "made", turned=True)


@pytest.mark.sample(1)
@pytest.mark.parametrize("dtype", FLOATS)
def test_dealt_steps_of_batches(monkeypatch: pytest.MonkeyPatch, dtype: str):
    deal(monkeypatch, SMALL_TILES[dtype], 5)
    assert "dealt" in product(40, 136, 56, dtype, "made", batch=(2, 3))


@FEW
@given(st.sampled_from(EDGES), st.integers(1, 12), st.sampled_from(EDGES), st.integers(1, 9))
def test_dealt_steps_around_the_edges(monkeypatch: pytest.MonkeyPatch, m: int, steps: int, n: int, blocks: int):
    """As many steps as blocks, fewer, more."""
    deal(monkeypatch, tile.WARPS_HALF[2], blocks)
    product(m, 32 * steps - 8, n, "float16", "made")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "dtype, group, across",
    [("float16", tile.GROUPS[1], True), ("float16", tile.GROUPS[1], False), ("float32", tile.GROUPS_FLOAT[0], False)],
)
def test_groups_are_dealt_steps(monkeypatch: pytest.MonkeyPatch, dtype: str, group: tile.WarpTile, across: bool):
    deal(monkeypatch, group, 3)
    assert "wgmma" in product(130, 264, 130, dtype, "made", turned=not across, arch="sm_90a")


def test_dealt_steps_are_summed_in_one_order(monkeypatch: pytest.MonkeyPatch):
    deal(monkeypatch, tile.WARPS_FLOAT[1], 5)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((100, 512), (512, 48)))
    b = Builder("net")
    model = graphc.compile(b.build([b.add("MatMul", b.input("x", np.float32, x.shape), b.constant(w))]), target=TARGET)
    first, *others = (model.run({"x": x}) for _ in range(3))
    assert all((a == b).all() for o in others for a, b in zip(first.values(), o.values()))
    np.testing.assert_allclose(*first.values(), x.astype(np.float64) @ w, rtol=0, atol=1e-4)


def test_one_plan_deals_the_steps_of_many_sizes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "")
    deal(monkeypatch, tile.WARPS_HALF[2], 5)
    b, rng = Builder("net"), np.random.default_rng(0)
    w = rng.uniform(-1, 1, (160, 72)).astype(np.float16)
    model = graphc.compile(
        b.build([b.add("MatMul", b.input("x", np.float16, ("n", 160)), b.constant(w))]), target=TARGET
    )
    for n in (100, 64, 300, 1000, 70):
        x = rng.uniform(-1, 1, (n, 160)).astype(np.float16)
        (y,) = model.run({"x": x}).values()
        np.testing.assert_allclose(y, x.astype(np.float64) @ w.astype(np.float64), rtol=0, atol=0.05)
    plan = model.plan({"x": (100, 160)}, many=True)
    assert plan.guards is not None and "dealt to 5 blocks" in plan.steps[0].algorithm
