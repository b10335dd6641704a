"""What plans tell of element types: of what each step multiplies and moves, and of the weights as they lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import graphc
from graphc.backends.cpu.roofline import multiplies_alone, roofline
from graphc.backends.cpu.target import detect
from graphc.backends.cpu.tile.dot import BYTES, DOTS, FMA
from graphc.cli import main
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder, Value
from graphc.report import MemoryReport, Roofline, StepInfo, type_of

RNG = np.random.default_rng(0)
BLOCK = 32
K, N = 64, 48


def product(dtype: str, rows: int) -> Callable[[Builder], Value]:
    """By constant weights [64, 48], computed in float32 or wider."""

    def add(b: Builder) -> Value:
        w = b.constant(RNG.standard_normal((K, N)).astype(np.dtype(dtype)))
        x = b.input("x", dtype, (rows, K))
        return b.add("MatMul", x, w)

    return add


def bytes_product(b: Builder) -> Value:
    return b.add("MatMulInteger", b.input("x", "uint8", (7, K)), b.constant(RNG.integers(-9, 9, (K, N), np.int8)))


def four_bits(b: Builder) -> Value:
    x = b.input("x", "float32", (1, K))
    codes = b.constant(RNG.integers(0, 255, (N, K // BLOCK, BLOCK // 2), np.uint8))
    scale = b.constant(RNG.random((N, K // BLOCK), np.float32))
    return b.add("com.microsoft::MatMulNBits", x, codes, scale, K=K, N=N, bits=4, block_size=BLOCK)


def conv(group: int) -> Callable[[Builder], Value]:
    def add(b: Builder) -> Value:
        w = b.constant(RNG.integers(-9, 9, (32, 32 // group, 3, 3), np.int8))
        return b.add("ConvInteger", b.input("x", "uint8", (1, 32, 9, 9)), w, group=group)

    return add


CASES: dict[str, tuple[Callable[[Builder], Value], str, int]] = {
    "float32": (product("float32", 5), "float32", 4 * (5 * K + K * N + 5 * N)),
    "float64": (product("float64", 5), "float64", 8 * (5 * K + K * N + 5 * N)),
    "one row by float16": (product("float16", 1), "float32 x float16", 4 * K + 2 * K * N + 2 * N),
    "bytes": (bytes_product, "uint8 x int8", 7 * K + K * N + 4 * 7 * N),
    "4 bits": (four_bits, "float32 x uint4", 4 * K + K * N // 2 + 4 * N * K // BLOCK + 4 * N),
    "a convolution of bytes": (conv(1), "uint8 x int8", 32 * 81 + 32 * 32 * 9 + 4 * 32 * 49),
    "each channel of bytes": (conv(32), "float32", 32 * 81 + 4 * 32 * 9 + 4 * 32 * 49),
}


def compiled(add: Callable[[Builder], Value], **options: object) -> graphc.Model:
    b = Builder("net")
    y = add(b)
    return graphc.compile(b.build({"y": y}), **options)


@pytest.mark.parametrize("name", CASES)
def test_types_and_bytes_of_products(name: str):
    """As they lie in memory: each operand, the weights and the result once."""
    add, want, nbytes = CASES[name]
    if "float16" in name and not detect().converts_half:
        pytest.skip("there are no instructions for float16")
    steps = compiled(add).plan().steps
    products = [s for s in steps if any(op in ("MatMul", "MatMulBytes", "BlockProduct", "ConvBytes") for op in s.ops)]
    step, *moves = products
    assert step.type == want
    rounded = 2 * N if "float16" in name else 0  # the result is float16, or float32 where another step rounds it
    assert nbytes <= step.nbytes <= nbytes + rounded + 4 * 128  # with a number per channel and such
    result = 4 * 32 * 49  # of the convolutions, whose channels become the outer ones
    assert all((s.nbytes, s.flops) == (2 * result, 0) for s in moves) and len(moves) == (
        "channel" in name or "conv" in name
    )


@pytest.mark.parametrize(
    ("precision", "rows", "want"), [("bf16", 5, "bfloat16"), ("bf16-weights", 1, "float32 x bfloat16")]
)
def test_types_of_products_that_are_rounded_on_request(precision: str, rows: int, want: str):
    if not detect().dots_bfloat16:
        pytest.skip("there are no products of bfloat16")
    plan = compiled(product("float32", rows), precision=precision).plan()
    assert plan.steps[-1].type == want
    assert (
        4 * rows * K + 2 * K * N + 4 * rows * N
        <= plan.steps[-1].nbytes
        < 4 * rows * K + 2 * K * N + 4 * rows * N + 4 * 128
    )
    assert plan.memory.by_type[0][0] == "bfloat16" and plan.memory.ratio < 0.6


def test_steps_without_products_have_the_type_of_their_result():
    def add(b: Builder) -> Value:
        return b.add("Softmax", b.add("Cast", b.input("x", "int8", (3, 50)), to="float32"))

    assert {s.type for s in compiled(add).plan().steps} == {"float32"}
    assert {s.type for s in compiled(lambda b: b.add("Neg", b.input("x", "int16", (5,)))).plan().steps} == {"int16"}


def test_a_step_that_runs_others_has_the_type_of_most_of_their_arithmetic():
    made = [
        StepInfo(i, (), (), "", type=t, flops=n) for i, (t, n) in enumerate([("a", 5), ("b", 7), ("a", 3), ("", 0)])
    ]
    assert type_of(made) == "a" and type_of(made[1:]) == "b" and type_of([]) == ""


# --- the roofline -----------------------------------------------------------------------------------------------------
def test_a_step_is_measured_by_what_it_multiplies():
    limits = Roofline({"float32": 100.0, "uint8 x int8": 400.0}, ((10, 1.0),))

    def seconds(kind: str) -> float:
        return limits.seconds(StepInfo(0, (), (), "", flops=1000, nbytes=1, type=kind))

    assert seconds("uint8 x int8") == seconds("int8 x uint4") == 2.5  # rows of bytes by weights that become bytes
    assert seconds("float32") == seconds("float32 x float16") == seconds("float32 x uint4") == seconds("") == 10
    assert (
        seconds("float64") == 20 and seconds("int16") == seconds("int8") == 10
    )  # what is no product is computed as float32
    said = limits.about(2)
    assert "(float32)" in said and "(uint8 x int8)" in said


@pytest.mark.parametrize("isa", ["portable", "avx2", None])
def test_each_inner_step_has_a_peak(isa: str | None):
    """An instruction with four times as many products has a higher one. Measured again where others use the machine meanwhile."""
    try:
        target = detect(isa)
    except graphc.errors.UnsupportedError as error:
        pytest.skip(str(error))
    native = "+avx512vnni" in target.features.split(",") and target.isa == "avx512"
    more_at_least = 2 if native else 0.2
    for _ in range(5):
        peaks = roofline.__wrapped__(target, 1).peaks
        more = peaks[BYTES.types] / peaks[FMA.types]
        if more_at_least < more < 8:
            break
    assert {*peaks} == {d.types for d in DOTS.values() if multiplies_alone(d, target)} >= {FMA.types, BYTES.types}
    assert more_at_least < more < 8


# --- weights ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "kind", "ratio"),
    [
        ("float32", "float32", 1),
        ("bytes", "int8", 0.25),
        ("4 bits", "uint4", 0.15),
        ("one row by float16", "float16", 0.5),
    ],
)
def test_weights_by_type(name: str, kind: str, ratio: float):
    """Packed for N columns, which fill vectors; beside them are numbers per column, and scales."""
    if kind == "float16" and not detect().converts_half:
        pytest.skip("there are no instructions for float16")
    memory = compiled(CASES[name][0]).plan().memory
    assert sum(n for _, n in memory.by_type) == memory.weights
    found = dict(memory.by_type)
    item = {"float32": 4, "int8": 1, "uint4": 0.5, "float16": 2}[kind]
    assert item * K * N <= found[kind] < 2 * item * K * N
    assert ratio <= memory.ratio < ratio + 0.15


def test_what_is_told_of_no_weights_and_of_several_types():
    assert MemoryReport(0, 0, 0, 0).about_weights == "none" and MemoryReport(0, 0, 0, 0).ratio == 0
    memory = MemoryReport(0, 0, 0, 3 << 10, by_type=(("uint4", 2 << 10), ("float32", 1 << 10)))
    assert memory.ratio == 3 / 17  # 4096 and 256 numbers
    assert memory.about_weights == "3.0 KiB, 0.18 of what float32 takes: 2.0 KiB uint4, 1.0 KiB float32"


@pytest.mark.parametrize("name", ["bytes", "4 bits", "one row by float16"])
def test_kept_plans_tell_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A plan that is read, and one whose weights are found packed."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    b = Builder("net")
    y = CASES[name][0](b)
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(b.build({"y": y})).SerializeToString())

    def told() -> tuple:
        plan = graphc.compile(str(path)).plan()
        return plan.memory.weights, plan.memory.by_type, [(s.type, s.nbytes) for s in plan.steps]

    first, read = told(), told()
    kept = list((tmp_path / "cache").rglob("plan-*.json"))
    assert kept and list((tmp_path / "cache").rglob("weights-*.bin"))
    for plan in kept:
        plan.unlink()
    assert first == read == told()


def test_the_command_line_tells_types(tmp_path: Path):
    b = Builder("net")
    y = bytes_product(b)
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(b.build({"y": y})).SerializeToString())
    explained = CliRunner().invoke(main, ["explain", str(path)])
    assert explained.exit_code == 0, explained.output
    assert (
        "uint8 x int8" in explained.output
        and "of what float32 takes: " in explained.output
        and "bytes" in explained.output
    )
    trace = tmp_path / "trace.json"
    timed = CliRunner().invoke(main, ["bench", str(path), "--rounds", "2", "--profile", "--trace", str(trace)])
    assert timed.exit_code == 0, timed.output
    assert "(uint8 x int8)" in timed.output and '"type": "uint8 x int8"' in trace.read_text()
