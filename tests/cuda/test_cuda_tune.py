"""Choices by measurement, on a device whose times come from a table: what is chosen, kept, read again. Nothing is compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controls import loop
from suite import randoms

import graphc
from graphc.backends import tuned
from graphc.backends.cuda import tune
from graphc.backends.cuda.codegen import cubin
from graphc.backends.cuda.lower.choices import MOST
from graphc.backends.cuda.options import CudaOptions
from graphc.backends.cuda.runtime.emulated import EmulatedDevice
from graphc.documents import read_document, write_document
from graphc.errors import InputError, OutOfMemoryError, UnsupportedError
from graphc.graph import Builder, Graph, Value
from graphc.lower.kernel import Kernel
from graphc.report import StepInfo
from graphc.types import dtype_from_name


@dataclass
class Table:
    """seconds: of a kernel. absent: has it no machine code? measured: kernels, each time."""

    seconds: Callable[[Kernel], float] = lambda kernel: 1e-3
    absent: Callable[[Kernel], bool] = lambda kernel: False
    measured: list[Kernel] = field(default_factory=list)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Table:
    """That of the emulator, which may be tuned now, with an empty cache of measurements."""
    found = Table()
    parse = CudaOptions.parse

    def tunable(request: Any) -> CudaOptions:
        options = dict(request.options)
        return replace(parse(replace(request, options=options | {"tune": False})), tune=options.get("tune", False))

    def function(device: EmulatedDevice, kernel: Kernel, cache: bool) -> Kernel:
        if found.absent(kernel):
            raise UnsupportedError("numba-cuda is not installed")
        return kernel

    def seconds(device: EmulatedDevice, launches: list, stream: object, rounds: int, before: Callable) -> float:
        found.measured += [launch.function for launch in launches]
        before()
        return sum(found.seconds(launch.function) for launch in launches)

    monkeypatch.setattr(CudaOptions, "parse", tunable)
    monkeypatch.setattr(EmulatedDevice, "function", function)
    monkeypatch.setattr(EmulatedDevice, "seconds", seconds)
    monkeypatch.setattr(tuned, "own_root", lambda: tmp_path)
    monkeypatch.setattr(tune, "ROUNDS", 2)
    return found


def product(m: int = 96, n: int = 256, k: int = 512, dtype: str = "float16", seed: int = 0, relu: bool = True) -> Graph:
    b, kind = Builder("net"), dtype_from_name(dtype)
    y = b.add("MatMul", b.input("x", kind, (m, k)), b.constant(randoms(k, n, seed=seed).astype(kind)))
    return b.build({"y": b.add("Relu", y) if relu else y})


def compiled(graph: Graph, **options: Any) -> graphc.Model:
    return graphc.compile(graph, target="cuda:emulate", **({"tune": True, "arch": "sm_90a"} | options))


def steps_of(model: graphc.Model) -> list[StepInfo]:
    return [s for s in model.plan().steps if {"MatMul", "Gemm", "Conv"} & set(s.ops)]


def tile_is(kernel: Kernel, m: int, n: int) -> bool:
    tile = getattr(kernel, "tile", None)
    return tile is not None and (tile.m, tile.n) == (m, n)


def fast(m: int, n: int) -> Callable[[Kernel], float]:
    """One tile, whatever the model says, with sums in parts or without."""
    return lambda kernel: 1e-5 if tile_is(kernel, m, n) else 1e-9 if "sum" in kernel.name else 2e-5


# --- what is chosen -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tile", [(128, 128), (64, 64), (32, 128)])
def test_the_fastest_is_chosen_and_kept(table: Table, tmp_path: Path, tile: tuple[int, int]):
    table.seconds = fast(*tile)
    step, *sums = steps_of(compiled(product()))
    assert f"tiles of {tile[0]}x{tile[1]}" in step.algorithm
    assert "measured 10.0 µs, the model's choice" in step.reason
    assert len(list((tmp_path / "tuned").iterdir())) == 1 and table.measured
    table.measured.clear()
    again, *_ = steps_of(compiled(product()))
    assert (again.algorithm, again.reason) == (step.algorithm, step.reason) and not table.measured
    compiled(product(seed=5))  # another model with the same layer
    assert not table.measured


def test_where_the_model_is_right_it_says_so(table: Table):
    model = steps_of(compiled(product(), tune=False))[0]
    assert "by the model" in model.reason
    table.seconds = lambda kernel: 1e-5 if str(kernel) == model.kernel else 3e-5
    step, *_ = steps_of(compiled(product()))
    assert step.algorithm == model.algorithm
    assert "measured" in step.reason and "the model's choice, others from" in step.reason


def test_the_steps_of_a_candidate_are_measured_together(table: Table):
    """Parts of sums and what adds them up: many parts are no faster than their second kernel."""
    table.seconds = lambda kernel: 1e-3 if kernel.name == "part_sums" else 1e-5
    assert all("parts" not in s.algorithm for s in steps_of(compiled(product(512, 512, 1024), arch="sm_90")))
    assert any("parts" in s.algorithm for s in steps_of(compiled(product(512, 512, 1024), arch="sm_90", tune=False)))


def test_candidates_are_several_tiles_and_few(table: Table):
    compiled(product(512, 512, 1024))
    kernels = {k for k in table.measured if k.name == "tensor_product"}
    assert len({(k.tile.m, k.tile.n, k.tile.group) for k in kernels}) > 2  # type: ignore[attr-defined]
    assert len(kernels) <= MOST


@pytest.mark.parametrize("cores", [True, False])
def test_float32_may_run_on_cuda_cores(table: Table, cores: bool):
    table.seconds = lambda kernel: 1e-5 if (kernel.name == "product") == cores else 2e-5
    step = steps_of(compiled(product(256, 256, 256, "float32")))[0]
    assert step.algorithm.startswith("tiles of" if cores else "tensor cores") and "measured 10.0 µs" in step.reason


def test_copies_of_operands_are_counted(table: Table):
    """A transposed left operand: tensor cores want a copy of it, which is part of what is measured."""
    b = Builder("net")
    x, w = b.input("x", np.float32, (1024, 2048)), b.input("w", np.float32, (1024, 2048))
    graph = b.build({"y": b.add("Gemm", b.add("Abs", x), w, transA=True)})
    table.seconds = lambda kernel: 1e-3 if "copy" in kernel.name else 1e-6 if "tensor" in kernel.name else 1e-4
    step = steps_of(compiled(graph))[-1]
    assert step.algorithm.startswith("tiles of"), step
    assert any("copy" in k.name for k in table.measured)


def test_steps_may_be_dealt_to_blocks(table: Table):
    b = Builder("net")
    x, w = b.input("x", np.float16, (512, 4096)), b.input("w", np.float16, (4096, 4096))
    graph = b.build([b.add("MatMul", x, w)])
    for dealt in (False, True):
        table.seconds = lambda kernel, dealt=dealt: {dealt: 1e-5, None: 1e-9}.get(getattr(kernel, "dealt", None), 2e-5)
        table.measured.clear()
        step, *_ = steps_of(compiled(graph, arch="sm_80", cache=False))
        assert ("dealt to" in step.algorithm) == dealt and "measured" in step.reason
        assert {k.dealt for k in table.measured if k.name == "tensor_product"} == {True, False}  # type: ignore[attr-defined]


def convolution(dtype: str = "float16", channels: int = 64) -> Graph:
    b, kind = Builder("net"), dtype_from_name(dtype)
    x = b.input("x", kind, (1, channels, 14, 14))
    w = b.constant(randoms(64, channels, 3, 3).astype(kind))
    return b.build({"y": b.add("Relu", b.add("Conv", b.add("Abs", x), w, pads=(1, 1, 1, 1)))})


@pytest.mark.parametrize("tile", [(128, 64), (64, 64), (128, 32)])
def test_convolutions(table: Table, tile: tuple[int, int]):
    table.seconds = fast(*tile)
    step, *_ = steps_of(compiled(convolution()))
    assert f"tiles of {tile[0]}x{tile[1]}" in step.algorithm and "measured" in step.reason
    table.measured.clear()
    assert steps_of(compiled(convolution()))[0].algorithm == step.algorithm and not table.measured


def test_a_convolution_on_cuda_cores_needs_no_copy(table: Table):
    table.seconds = lambda kernel: 1e-6 if kernel.name == "conv" else 1e-4
    steps = compiled(convolution("float32", channels=3)).plan().steps
    assert any(s.kernel.startswith("conv_") and "measured 1.0 µs" in s.reason for s in steps)


def test_products_in_loops(table: Table):
    """Their steps are tried outside of the loop."""

    def make(h: Builder, turn: Value, going: Value, x: Value) -> list[Value]:
        return [going, h.add("MatMul", x, h.constant(randoms(64, 64).astype(np.float16)))]

    b = Builder("net")
    graph = b.build(loop(b, b.constant(np.array(3)), None, [b.input("x", np.float16, (64, 64))], [], make, 1)[:1])
    table.seconds = fast(32, 128)
    steps = [s for s in compiled(graph).plan().steps if "MatMul" in s.ops]
    assert any("tiles of 32x128" in s.algorithm and "measured" in s.reason for s in steps)


# --- what is kept -------------------------------------------------------------------------------------------------------
def test_sizes_endings_digits_and_architectures_are_measured_apart(table: Table, tmp_path: Path):
    for graph, options in (
        (product(), {}), (product(relu=False), {}), (product(k=256), {}), (product(dtype="bfloat16"), {}),
        (product(dtype="float32"), {}), (product(dtype="float32"), {"precision": "tf32"}), (product(), {"arch": "sm_90"}),
    ):  # fmt: skip
        table.measured.clear()
        compiled(graph, **options)
        assert table.measured, (graph, options)
    assert len(list((tmp_path / "tuned").iterdir())) == 7


def test_one_layer_twice_is_measured_once(table: Table, tmp_path: Path):
    b = Builder("net")
    x = b.input("x", np.float16, (96, 256))
    for seed in range(3):
        x = b.add("Relu", b.add("MatMul", x, b.constant(randoms(256, 256, seed=seed).astype(np.float16))))
    model = compiled(b.build([x]))
    assert all("measured" in s.reason for s in steps_of(model) if s.algorithm != "sums of parts")
    assert len(list((tmp_path / "tuned").iterdir())) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"nothing"),
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: write_document(path, {"layer": "another", "seconds": {}}),
        lambda path: write_document(path, [1, 2]),
        lambda path: changed(path, lambda times: dict.fromkeys(times, "fast")),
        lambda path: changed(path, lambda times: dict.fromkeys(times, -1.0)),
    ],
)
def test_a_damaged_or_foreign_file_is_measured_anew(table: Table, tmp_path: Path, damage: Callable[[Path], None]):
    table.seconds = fast(64, 64)
    compiled(product())
    (path,) = (tmp_path / "tuned").iterdir()
    damage(path)
    count = len(table.measured)
    assert "tiles of 64x64" in steps_of(compiled(product()))[0].algorithm
    assert len(table.measured) == 2 * count
    compiled(product())
    assert len(table.measured) == 2 * count  # it was written again


def changed(path: Path, change: Callable[[dict], dict]) -> None:
    document = read_document(path)
    assert document is not None
    write_document(path, document | {"seconds": change(document["seconds"])})


def test_only_what_is_not_known_is_measured(table: Table, tmp_path: Path):
    """As where another process has kept fewer candidates."""
    compiled(product())
    (path,) = (tmp_path / "tuned").iterdir()
    count, gone = len(table.measured), []

    def without_last(times: dict) -> dict:
        gone.append(times.popitem())
        return times

    changed(path, without_last)
    table.measured.clear()
    compiled(product())
    assert 0 < len(table.measured) < count and len(set(table.measured)) <= 2
    assert gone[0][0] in (read_document(path) or {})["seconds"]


def test_without_a_cache_nothing_is_kept(table: Table, tmp_path: Path):
    for _ in range(2):
        table.measured.clear()
        compiled(product(), cache=False)
        assert table.measured
    assert not (tmp_path / "tuned").exists()


# --- limits -------------------------------------------------------------------------------------------------------------
def test_time_is_bounded(table: Table, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tune, "TOTAL_SECONDS", -1.0)
    assert "by the model" in steps_of(compiled(product()))[0].reason and not table.measured


def test_candidates_without_machine_code_are_left_out(table: Table):
    """On a machine without compilers, of what was compiled elsewhere."""
    model = steps_of(compiled(product(), tune=False))[0]
    table.absent = lambda kernel: tile_is(kernel, 128, 128)
    table.seconds = lambda kernel: 2e-5 if str(kernel) == model.kernel else 1e-5
    step = steps_of(compiled(product()))[0]
    assert "128x128" not in step.algorithm and "without machine code here" in step.reason


def test_without_any_machine_code_the_error_is_that_of_the_model(table: Table):
    table.absent = lambda kernel: True
    with pytest.raises(UnsupportedError, match="numba-cuda is not installed"):
        compiled(product())


def test_where_memory_is_full_the_model_chooses(table: Table, monkeypatch: pytest.MonkeyPatch):
    def full(device: EmulatedDevice, nbytes: int) -> int:
        raise OutOfMemoryError("the GPU's memory is full")

    monkeypatch.setattr(EmulatedDevice, "allocate", full)
    monkeypatch.setattr(EmulatedDevice, "allocate_result", full)
    b = Builder("net")
    x, y = b.input("x", np.float16, (96, 512)), b.input("y", np.float16, (512, 256))
    assert "by the model" in steps_of(compiled(b.build([b.add("MatMul", x, y)])))[0].reason


def test_a_tuned_plan_is_for_its_shapes_alone(table: Table):
    b = Builder("net")
    x = b.input("x", np.float16, ("n", 512))
    graph = b.build([b.add("MatMul", x, b.constant(randoms(512, 256).astype(np.float16)))])
    assert compiled(graph).plan({"x": (96, 512)}, many=True).guards is None
    assert compiled(graph, tune=False).plan({"x": (96, 512)}, many=True).guards is not None


def test_progress_is_told(table: Table):
    stages: list[tuple[str, int, int]] = []
    compiled(product(), progress=lambda *report: stages.append(report))
    assert ("tuning", 0, 1) in stages and ("tuning", 1, 1) in stages


# --- other targets ------------------------------------------------------------------------------------------------------
def test_the_emulator_can_not_be_tuned():
    with pytest.raises(
        UnsupportedError, match="'cuda:emulate' can't be tuned: times of the emulator say nothing"
    ) as error:
        graphc.compile(product(), target="cuda:emulate", tune=True)
    assert "on a GPU" in str(error.value)
    with pytest.raises(InputError, match="tune must be True or False"):
        compiled(product(), tune=1)


def test_ahead_candidates_are_compiled(monkeypatch: pytest.MonkeyPatch):
    made: list[Kernel] = []

    def compile_one(kernel: Kernel, arch: object, cache: bool = True) -> cubin.Cubin:
        made.append(kernel)
        return cubin.Cubin(b"", "entry", 128, 0, 32, 0, 0, 0)

    monkeypatch.setattr(cubin, "cubin_of", compile_one)
    for on in (False, True):
        made.clear()
        step, *_ = steps_of(graphc.compile(product(), target="cuda", arch="sm_90a", tune=on))
        assert "by the model" in step.reason
    assert len({k.tile for k in made if k.name == "tensor_product"}) > 2  # type: ignore[attr-defined]
