"""Backends are found by the target's name, also those that others bring; each parses its options."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
from nets import convnet

import graphc
from graphc import backends
from graphc.backend import Capabilities, Request, Stage
from graphc.backends.cpu.options import CpuOptions
from graphc.backends.reference import ReferenceBackend, ReferenceExecutable
from graphc.errors import InputError, UnsupportedError
from graphc.graph import Builder, Graph
from graphc.types import is_static


@dataclass(frozen=True)
class Options:
    """Of the toy: how often it adds its noise."""

    variant: str
    noise: float

    @classmethod
    def parse(cls, request: Request) -> Options:
        given = {k: v for k, v in request.options.items() if k == "noise"}
        return cls(request.variant, float(given.get("noise", 0)))


class Noisy(ReferenceExecutable):
    noise = 0.0

    def run(self, arrays, out=None):
        return [r + r.dtype.type(self.noise) for r in super().run(arrays, out)]


class Toy(ReferenceBackend):
    """The reference, with a number added to each result, and a stage of its own."""

    target = "toy"

    def __init__(self, options: Options) -> None:
        self.options = options

    def stages(self) -> tuple[Stage, ...]:
        return (Stage("count", lambda d: d.append(len(d[0].nodes)), lambda d: f"{d[1]} nodes", lambda d: None),)

    def draft(self, graph: Graph) -> list:
        return [graph]

    def executable(self, graph, passes, key):
        made = Noisy(graph, passes)
        made.noise = self.options.noise
        return made


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed distribution would bring it."""
    module = ModuleType("toy_backend")
    module.TARGETS, module.open_backend = ("toy", "toy:loud"), lambda request: Toy(Options.parse(request))
    monkeypatch.setitem(sys.modules, "toy_backend", module)
    monkeypatch.setattr(backends, "_added", lambda: {"toy": "toy_backend"})


def test_a_backend_of_another_distribution(toy: None):
    assert backends.targets()[-2:] == ("toy", "toy:loud")
    x = np.random.default_rng(0).random((1, 3, 28, 28), np.float32)
    want = graphc.compile(convnet(), target="reference")(x)
    np.testing.assert_array_equal(graphc.compile(convnet(), target="toy")(x), want)
    from graphc.compiler import compile as with_options

    np.testing.assert_allclose(with_options(convnet(), target="toy", noise=2.0)(x), want + 2, rtol=1e-6)


@pytest.mark.parametrize("static", [False, True])
def test_shapes_that_data_decides_are_cut_off_for_who_needs_static_ones(
    toy: None, monkeypatch: pytest.MonkeyPatch, static: bool
):
    planned: list[Graph] = []
    plan = Toy.executable
    monkeypatch.setattr(Toy, "capabilities", Capabilities(needs_static_shapes=static))
    monkeypatch.setattr(Toy, "executable", lambda self, g, passes, key: planned.append(g) or plan(self, g, passes, key))
    b = Builder("counts")
    positions = b.add("NonZero", b.add("Relu", b.input("x", "float32", (6,))))
    graph = b.build({"y": b.add("Add", positions, positions)})
    np.testing.assert_array_equal(graphc.compile(graph, target="toy")(np.float32([1, -1, 2, 0, 0, 3])), [[0, 4, 10]])
    assert all(is_static(v.shape) for g in planned for n in g.nodes for v in n.outputs if n.op.name == "Add") == static


def test_the_command_line_knows_it(toy: None, tmp_path, capsys: pytest.CaptureFixture):
    from graphc.cli.app import main

    path = tmp_path / "net.yaml"
    path.write_text("graphc: 1\ninputs: {x: [2, 3]}\nnet: [{dense: 4}, relu]\n")
    with pytest.raises(SystemExit) as end:
        main(["compile", str(path), "--target", "toy", "--stop-after", "count"])
    assert end.value.code in (0, None) and "2 nodes" in capsys.readouterr().out


def test_targets_are_found_by_name():
    assert backends.targets() == (
        "cpu", "cpu:avx512", "cpu:avx2", "cpu:portable", "cuda", "cuda:emulate", "reference",
    )  # fmt: skip
    for wrong in ("cuda:sm_9", "cpus", "reference:1"):
        with pytest.raises(UnsupportedError, match="unknown target"):
            backends.open_backend(wrong, Request())


def test_options_of_the_cpu():
    o = CpuOptions.parse(Request("portable", {"threads": np.int64(3), "winograd": 4, "tune": True}, ("strassen",)))
    assert o == CpuOptions("portable", 3, 4, True, frozenset({"strassen"}))
    assert CpuOptions.parse(Request()).threads >= 1
    for options in ({"threads": 0}, {"threads": 1.5}, {"winograd": 3}, {"winograd": True}, {"tune": 1}, {"speed": 9}):
        with pytest.raises(InputError, match=next(iter(options))):
            CpuOptions.parse(Request(options=options))
