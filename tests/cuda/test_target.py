"""The target 'cuda' as people meet it: what it says without a GPU, what it compiles ahead, what it keeps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from cuda.bindings import driver
from suite import randoms, use

import graphc
from graphc.backends.cuda.codegen import build, compiler
from graphc.backends.cuda.options import ARCHITECTURES
from graphc.backends.cuda.runtime.driver import driver as loaded
from graphc.backends.cuda.runtime.gpu import gpu
from graphc.cli import main
from graphc.errors import CheckError, InputError, UnsupportedError
from graphc.frontends.onnx_export import to_onnx
from graphc.graph import Builder

LENET = "examples/zoo/lenet5.yaml"


def host_node() -> graphc.Graph:
    """Det has no kernel anywhere."""
    b = Builder("host")
    x = b.input("x", np.float32, (2, 3, 3))
    return b.build([b.add("Relu", b.add("Det", x), name="after")])


# --- errors -----------------------------------------------------------------------------------------------------------
def no_driver(flags: int) -> None:
    raise RuntimeError("libcuda.so.1 is not there")


@pytest.mark.parametrize(
    ("found", "said"), [(no_driver, "no NVIDIA driver"), (lambda _: (driver.CUresult.CUDA_ERROR_NO_DEVICE,), "finds no GPU")]
)  # fmt: skip
def test_without_a_gpu_the_error_names_what_there_is(
    found: Callable, said: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    loaded.cache_clear()
    gpu.cache_clear()
    request.addfinalizer(loaded.cache_clear)
    monkeypatch.setattr(driver, "cuInit", found)
    with pytest.raises(UnsupportedError, match=said) as error:
        graphc.compile(LENET, target="cuda")
    assert all(text in str(error.value) for text in ("arch='sm_90'", "cuda:emulate", "target='cpu'"))


@pytest.mark.parametrize("arch", ["sm_70", "90", "sm_999", "sm_80a", "sm_90b", 90, ""])
def test_architectures_that_are_none(arch: object):
    with pytest.raises(InputError, match="arch must be the name"):
        graphc.compile(LENET, target="cuda", arch=arch)


def test_an_option_of_another_target_is_an_error():
    with pytest.raises(InputError, match="target 'cpu' has no option 'arch'"):
        graphc.compile(LENET, arch="sm_90")


def test_a_node_without_a_kernel_runs_on_the_cpu_only_if_that_is_allowed():
    x = {"x": np.random.default_rng(0).random((2, 3, 3), np.float32)}
    with pytest.raises(UnsupportedError, match="no CUDA kernel computes it: Det has no CUDA kernel") as error:
        graphc.compile(host_node(), target="cuda:emulate").run(x)
    assert "host=True" in str(error.value)
    model = graphc.compile(host_node(), target="cuda:emulate", host=True)
    np.testing.assert_allclose(list(model.run(x).values())[0], np.maximum(np.linalg.det(x["x"]), 0), rtol=1e-5)
    assert [s.kernel for s in model.plan().steps if s.host] != [] and len(model.plan().steps) == 2


def test_a_scalar_for_a_node_on_the_cpu():
    b = Builder("scalar")
    x = b.input("x", np.float32, ())
    graph = b.build([b.add("com.microsoft::MurmurHash3", b.add("Neg", x))])
    model = graphc.compile(graph, target="cuda:emulate", host=True)
    (y,) = model.run({"x": np.float32(2)}).values()
    assert any(s.host for s in model.plan().steps)
    np.testing.assert_array_equal(y, graphc.compile(graph, target="reference")(np.float32(2)))


def test_plans_say_which_shapes_they_are_for(monkeypatch: pytest.MonkeyPatch):
    plan = graphc.compile(LENET, target="cuda:emulate").plan({"image": (8, 1, 28, 28)}, many=True)
    assert plan.guards is not None and any("batch" in guard for guard in plan.guards)
    monkeypatch.setenv("GRAPHC_CHECK", "memory")
    plan = graphc.compile(LENET, target="cuda:emulate").plan({"image": (8, 1, 28, 28)}, many=True)
    assert plan.guards is None and plan.because == ("target 'cuda:emulate' has a plan for each",)


@pytest.mark.parametrize("mode", ["", "memory"])
def test_results_are_the_callers(mode: str, monkeypatch: pytest.MonkeyPatch):
    """Inputs, constants and one value under two names are results of their own, which may be written to."""
    monkeypatch.setenv("GRAPHC_CHECK", mode)
    b = Builder("given")
    x = b.input("x", np.float32, (3,))
    y = b.add("Relu", x)
    model = graphc.compile(
        b.build({"input": x, "constant": b.constant(np.ones(3, np.float32)), "one": y, "two": y}), target="cuda:emulate"
    )
    given = np.array([-1, 2, 3], np.float32)
    for _ in range(2):
        got = model.run({"x": given})
        want = {"input": given, "constant": np.ones(3), "one": [0, 2, 3], "two": [0, 2, 3]}
        for name, result in got.items():
            np.testing.assert_array_equal(result, want[name])
        for number, result in enumerate(got.values()):
            result[...] = 10 + number
        assert [r[0] for r in got.values()] == [10, 11, 12, 13] and given[0] == -1


def test_without_numba_cuda_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> str:
        raise compiler.PackageNotFoundError(name)

    monkeypatch.setattr(compiler, "version", missing)
    monkeypatch.setattr(build, "_emulated", {})
    compiler._numba_cuda.cache_clear()
    try:
        with pytest.raises(UnsupportedError, match="numba-cuda, which is not installed") as error:
            graphc.compile(use("Relu", randoms(3)).graph(), target="cuda:emulate", cache=False)(randoms(3))
        assert "pip install 'graphc[cuda]'" in str(error.value)
    finally:
        compiler._numba_cuda.cache_clear()


# --- ahead of time ----------------------------------------------------------------------------------------------------
def test_compiled_ahead_it_has_cubins_and_does_not_run():
    model = graphc.compile(LENET, target="cuda", arch="sm_80")
    plan = model.plan({"image": (1, 1, 28, 28)})
    assert all("registers" in s.reason and "spilled" not in s.reason for s in plan.steps)
    with pytest.raises(UnsupportedError, match="compiled for a GPU"):
        model(np.zeros((1, 1, 28, 28), np.float32))


def test_the_command_line_compiles_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    done = CliRunner().invoke(main, ["compile", LENET, "--batch", "1", "--target", "cuda", "--arch", "sm_90"])
    assert done.exit_code == 0 and "kernels" in done.output, done.output
    checked = CliRunner().invoke(main, ["explain", LENET, "--batch", "1", "--target", "cuda", "--arch", "sm_90"])
    assert checked.exit_code == 0 and "registers" in checked.output


# --- on disk ----------------------------------------------------------------------------------------------------------
SECOND = """
import builtins, sys, numpy as np
original = builtins.__import__
def refusing(name, *more, **named):
    if name.startswith("numba"):
        raise ImportError(name)
    return original(name, *more, **named)
if sys.argv[1] == "second":
    builtins.__import__ = refusing
import graphc
x = np.ones((1, 1, 28, 28), np.float32)
print(graphc.compile("examples/zoo/lenet5.yaml", target="cuda:emulate")(x).tobytes().hex())
"""


def test_a_second_process_needs_no_numba(tmp_path: Path):
    def run(which: str) -> str:
        command = [sys.executable, "-c", SECOND, which]
        env = {"GRAPHC_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path.cwd())}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout

    assert run("first") == run("second")
    assert list(tmp_path.rglob("*.ll"))  # sources that a person can read lie beside the code


@pytest.mark.parametrize("arch", [f"sm_{n}" for n in ARCHITECTURES])
def test_every_architecture_has_a_compiler(arch: str):
    plan = graphc.compile(use("Relu", randoms(3)).graph(), target="cuda", arch=arch).plan()
    assert "registers" in plan.steps[0].reason


@pytest.mark.parametrize("arch, hint", [("SM_90", "did you mean sm_90?"), ("90a", "did you mean sm_90a?"), ("sm_91", "there are: sm_80, ")])  # fmt: skip
def test_what_was_meant_by_an_architecture(arch: str, hint: str):
    with pytest.raises(InputError) as error:
        graphc.compile(LENET, target="cuda", arch=arch)
    assert hint in str(error.value)


def test_every_node_without_a_kernel_is_named(tmp_path: Path):
    b = Builder("two")
    x = b.input("x", np.float32, (2, 3, 3))
    graph = b.build([b.add("Det", x), b.add("Det", b.add("Neg", x))])
    with pytest.raises(CheckError) as error:
        graphc.compile(graph, target="cuda:emulate")
    assert [p.op for p in error.value.problems] == ["Det", "Det"]
    onnx.save(to_onnx(graph), tmp_path / "two.onnx")
    done = CliRunner().invoke(main, ["check", str(tmp_path / "two.onnx"), "--target", "cuda", "--arch", "sm_90"])
    assert done.exit_code == 3 and done.output.count("- ") == 2 and "2 problems" in done.output
