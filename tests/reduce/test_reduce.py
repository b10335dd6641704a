"""Cutting a failing model down: with faults that are planted in the process that tries the cases."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from own_ops import forgotten

from graphc.compiler import load
from graphc.errors import DeviceError, InputError
from graphc.graph import Builder, Graph
from graphc.interpret import interpret
from graphc.own import load_file
from graphc.reduce import Case, Trial, reduce
from graphc.reduce.case import Recording, only_results, recorded, resized
from graphc.reduce.delta import ddmin
from graphc.reduce.verdict import judged
from graphc.reduce.worker import Worker

F32 = np.float32
FAULTS = str(Path(__file__).with_name("faults.py"))
X = np.random.default_rng(0).uniform(-1, 1, (3, 8)).astype(F32)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch):
    """Operators with faults, here without, for the time of a test."""
    with forgotten():
        load_file(FAULTS)
        monkeypatch.setenv("REDUCING", "1")
        yield


def chain(*middle: tuple[str, dict], around: int = 6) -> Graph:
    """x [n, 8] -> y: elementwise nodes, these among them, and a dense layer."""
    b = Builder("chain")
    x = b.input("x", F32, ("n", 8))
    for k in range(around):
        x = b.add(("Tanh", "Sigmoid", "Neg")[k % 3], x)
    for name, attrs in middle:
        x = b.add(name, x, **attrs)
    y = b.add("Gemm", x, b.constant(np.linspace(-1, 1, 64).reshape(8, 8), F32))
    return b.build({"y": b.add("Tanh", y), "side": b.add("Exp", x)})


# --- parts ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("needed", [{3}, {0, 19}, {4, 5, 11}, set(range(0, 20, 3))])
def test_ddmin_finds_what_is_needed(needed: set[int]):
    asked = []

    def holds(part) -> bool:
        asked.append(tuple(part))
        return needed <= set(part)

    assert ddmin(range(20), holds) == sorted(needed)
    assert len(asked) < 20 * 20


def test_ddmin_of_any_condition_ends_with_a_part_of_which_nothing_can_be_left_out():
    rng = random.Random(0)
    for _ in range(50):
        groups = [set(rng.sample(range(12), rng.randint(1, 4))) for _ in range(3)]

        def holds(part, groups=groups) -> bool:
            return any(g <= set(part) for g in groups)

        found = ddmin(range(12), holds)
        assert holds(found) and not any(holds(p) for p in itertools.combinations(found, len(found) - 1))


def test_parts_give_what_the_whole_gives():
    case = Case(chain(("Relu", {})), {"x": X})
    recording, graph = Recording(case, recorded(case)), case.graph
    for first in range(len(graph.nodes)):
        for last in range(first + 1, len(graph.nodes) + 1):
            part = recording.part(graph.nodes[first:last])
            assert part is not None
            for name, found in interpret(part.graph, part.feeds).items():
                (value,) = [v for v in graph.values() if v.name == name]
                np.testing.assert_array_equal(found, recording._values[value])


def test_results_and_sizes():
    case = Case(chain(), {"x": X})
    side = only_results(case, [1])
    assert (
        side is not None
        and [n.op.name for n in side.graph.nodes[-2:]] == ["Neg", "Exp"]
        and len(side.graph.outputs) == 1
    )
    small = resized(case, 8, 2)
    assert small is not None and small.feeds["x"].shape == (3, 2) and small.elements == 10
    np.testing.assert_array_equal(small.feeds["x"], X[:, :2])
    b = Builder("fixed")
    shaped = b.build({"y": b.add("Reshape", b.input("x", F32, (3, 8)), b.constant([24], np.int64))})
    assert resized(Case(shaped, {"x": X}), 8, 2) is None


# --- whole searches -----------------------------------------------------------------------------------------------------
def test_a_difference_becomes_the_node_that_makes_it(faults):
    said: list[str] = []
    found = reduce(Case(chain(("Sigmoid", {}), ("PlantedWrong", {})), {"x": X}), say=said.append)
    assert [n.op.name for n in found.case.graph.nodes] == ["PlantedWrong"]
    assert found.verdict.kind == "difference" and found.case.elements == 1
    assert "difference: 'y' of Tanh" in said[0] or "differs by" in said[0]
    assert found.tried < 40


@pytest.mark.slow
def test_a_crash_ends_only_the_process_that_tries(faults):
    found = reduce(Case(chain(("PlantedHost", {"how": "crash"}), around=1), {"x": X}))
    assert [n.op.name for n in found.case.graph.nodes] == ["PlantedHost"]
    assert (found.verdict.kind, found.verdict.what) == ("crash", "SIGSEGV")


@pytest.mark.slow
def test_a_hang_is_ended_and_left_out_of_recordings(faults):
    case = Case(chain(("PlantedHost", {"how": "hang"}), around=1), {"x": X})
    with Worker(
        Trial(imports=(FAULTS,), limit=10.0)
    ) as worker:  # so long that a busy machine runs the other nodes, too
        assert worker.verdict(case).kind == "hang"
        assert len(worker.recording(case)._values) == 6  # the input and all nodes; of the one that hangs random numbers


def test_a_file_that_can_not_be_run_is_said(tmp_path: Path):
    (tmp_path / "wrong.py").write_text("1 / 0")
    with pytest.raises(InputError, match="wrong.py': ZeroDivisionError"):
        reduce(Case(chain(), {"x": X}), Trial(imports=(str(tmp_path / "wrong.py"),)))


def test_nothing_wrong_is_said():
    with pytest.raises(InputError, match="nothing is wrong with chain"):
        reduce(Case(chain(), {"x": X}))


@pytest.mark.slow
def test_a_faulty_pass_in_a_resnet_becomes_two_nodes(faults):
    graph = load("zoo:resnet18")
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 224, 224)).astype(F32)
    found = reduce(Case(graph, {"image": image}), Trial(imports=(FAULTS,)), seconds=120)
    assert [n.op.name for n in found.case.graph.nodes] == ["Add", "Relu"]
    assert found.verdict.kind == "difference" and found.case.elements < 5000  # of 11 million


def test_what_the_machine_lacks_is_no_fault_of_the_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    b = Builder()
    x = b.input("x", F32, (3, 8))
    case = Case(b.build({"y": b.add("Relu", x)}), {"x": X})
    with pytest.raises(DeviceError, match="for what this machine lacks, not for the model"):
        reduce(case, Trial({"target": "cuda"}))


def test_a_kernel_that_fails_on_a_gpu_is_a_fault_to_reduce(monkeypatch: pytest.MonkeyPatch):
    def failing(*given, **options):
        raise DeviceError("cuStreamSynchronize: an illegal memory access was encountered")

    monkeypatch.setattr("graphc.compile", failing)
    verdict = judged(Case(chain(), {"x": X}), Trial())
    assert verdict.kind == "error" and not verdict.of_machine
