"""Choices by measurement on a GPU, whose double says how long each kernel takes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from driver_double import State

import graphc
from graphc.backends import tuned
from graphc.backends.cuda import tune
from graphc.backends.cuda.lower import choices
from graphc.cli import main
from graphc.graph import Builder, Graph

ROOT = Path(__file__).parents[3]
YAML = """\
graphc: 1
inputs: {x: {shape: [batch, 64]}}
net: [{dense: 48}, relu, {dense: 64}]
"""


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No measurements are kept. Few candidates: kernels take seconds to compile, and run in the emulator."""
    monkeypatch.setattr(tuned, "own_root", lambda: tmp_path)
    monkeypatch.setattr(choices, "MOST", 2)
    monkeypatch.setattr(tune, "ROUNDS", 2)
    return tmp_path


def two_products() -> Graph:
    """The second one reads the first one's result, and adds x."""
    b, rng = Builder("net"), np.random.default_rng(0)
    x = b.input("x", np.float32, (40, 64))
    w, v = (b.constant(rng.uniform(-1, 1, s), np.float32) for s in ((64, 48), (48, 64)))
    return b.build({"y": b.add("Add", b.add("MatMul", b.add("Relu", b.add("MatMul", x, w)), v), x)})


@pytest.mark.parametrize("cores", [True, False])
def test_what_the_gpu_says_is_chosen_and_kept(gpu_double: State, empty: Path, cores: bool):
    gpu_double.takes = lambda kernel: 1e-3 if kernel.startswith("product_") == cores else 5e-3
    x = np.random.default_rng(1).standard_normal((40, 64)).astype(np.float32)
    want = graphc.compile(two_products(), target="reference").run({"x": x})["y"]
    for _ in range(2):
        gpu_double.launched.clear()
        model = graphc.compile(two_products(), target="cuda", tune=True)
        steps = [s for s in model.plan().steps if "MatMul" in s.ops]
        assert [s.algorithm.startswith("tiles of") for s in steps] == [cores] * 2, steps
        assert all("measured 100" in s.reason for s in steps), steps  # 1 ms, and what the launch takes
        measured = sum(gpu_double.launched.values())
        np.testing.assert_allclose(model.run({"x": x})["y"], want, rtol=0, atol=2e-6 * np.abs(want).max())
        del model
    assert measured == 0  # the second time


def test_on_the_command_line(late: State, tmp_path: Path):
    late.takes = lambda kernel: 1e-3 if kernel.startswith("product_") else 5e-3
    model = tmp_path / "tiny.yaml"
    model.write_text(YAML)
    options = [str(model), "--batch", "40", "--target", "cuda"]
    for command in ("explain", "check"):
        shown = CliRunner().invoke(main, [command, *options, "--tune"])
        assert shown.exit_code == 0 and "measured 100" in shown.output, shown.output
    text = " ".join(CliRunner().invoke(main, ["explain", *options]).output.split())
    assert re.search(r"H100 by\b.*\bthe model", text) and "measured" not in text, text  # a reason may go over lines


def test_the_benchmark_tunes(late: State, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from gpu_table import table
    from gpu_worker import Worker

    late.takes = lambda kernel: 5e-3 if kernel.startswith(("conv_", "product_")) else 1e-3
    name = "LeNet-5, batch 2, float32"
    found = Worker("cuda", ROOT, True).answer({"kind": "tuned", "name": name, "seconds": 0.001})
    assert found["tuned"]["seconds"] > 0 and found["changed"] > 0 and found["difference"] < 1e-5
    said = table([{"kind": "tuned", "name": name, **found}], [])
    assert f"{name}, tiles measured (`tune`): " in said and "of the model's choices" in said
