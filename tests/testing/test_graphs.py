"""Drawn graphs: valid, connected, computed alike; and how a difference is told."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, seed, settings
from own_ops import forgotten

import graphc
from graphc import own
from graphc.cli import main
from graphc.graph import Builder
from graphc.interpret import interpret
from graphc.testing import Net, agree, graphs

quick = settings(deadline=None, database=None, max_examples=25, suppress_health_check=[*HealthCheck])
FAULTY = """
from graphc import expr as e
from graphc.ops.elementwise import elementwise

elementwise("faulty::Steep", "x", lambda x: e.where(x > 2.5, x + 1, x), lambda x: x)
"""


def product(x: np.ndarray) -> Net:
    b = Builder("product")
    y = b.add("Relu", b.add("MatMul", b.input("x", "float32", x.shape), b.constant(np.eye(x.shape[1]), "float32")))
    return Net(b.build({"y": y}), {"x": x})


def test_graphs_are_valid_and_their_nodes_read_each_other():
    seen: Counter[str] = Counter()

    @seed(0)
    @quick
    @given(net=graphs(nodes=(2, 6)))
    def trial(net: Net) -> None:
        nodes = net.graph.nodes
        results = interpret(net.graph, net.feeds)
        assert all(np.isfinite(np.asarray(a, np.float64)).all() for a in results.values())
        assert len(nodes) <= 6
        made = {v for n in nodes for v in n.outputs}
        seen.update({"nodes": len(nodes), "edges": sum(v in made for n in nodes for v in n.operands)})
        seen.update({f"op {n.op.name}": 1 for n in nodes})

    trial()
    assert seen["edges"] > seen["nodes"] / 5
    assert len([key for key in seen if key.startswith("op ")]) > 20


def test_of_the_operators_and_in_the_number_that_are_asked_for():
    @settings(quick, max_examples=5)
    @given(net=graphs(ops=["Add", "Relu", "Softmax"], nodes=4))
    def trial(net: Net) -> None:
        assert len(net.graph.nodes) == 4
        assert {n.op.name for n in net.graph.nodes} <= {"Add", "Relu", "Softmax"}
        assert agree(net, against=("reference",), folder=None, threads=1) == ("reference",)

    trial()


@pytest.mark.slow
def test_random_graphs_agree():
    asked: Counter[tuple[str, ...]] = Counter()

    @seed(1)
    @settings(quick, max_examples=60)
    @given(net=graphs())
    def trial(net: Net) -> None:
        asked[agree(net, folder=None)] += 1

    trial()
    assert asked[("reference", "onnxruntime")] > 30


def test_agreement_with_others():
    net = product(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32))
    pytest.importorskip("onnxruntime")
    assert agree(net) == agree(net.graph) == ("reference", "onnxruntime")
    with pytest.raises(ValueError, match="'torch' is nothing to compare with; one of reference, onnxruntime"):
        agree(net, against=("torch",))
    assert agree(net, "reference", "cpu") == ("reference",)  # a name for several
    with pytest.raises(ValueError, match="feeds has no 'x': the inputs are x"):
        agree(net.graph, "reference", feeds={"z": np.zeros(3)})


def test_what_onnxruntime_does_not_take_is_not_compared_with_it():
    pytest.importorskip("onnxruntime")
    with forgotten():
        b = Builder("own")
        from graphc.ops.elementwise import elementwise

        elementwise("nobody::Same", "x", lambda x: x, lambda x: x)
        graph = b.build({"y": b.add("nobody::Same", b.input("x", "float32", (2,)))})
        assert agree(graph) == ("reference",)


def test_a_difference_is_told_with_a_command_that_shows_it(tmp_path: Path):
    (tmp_path / "faulty_ops.py").write_text(FAULTY)
    with forgotten():
        own.load_file(tmp_path / "faulty_ops.py")
        b = Builder("net")
        graph = b.build({"y": b.add("Neg", b.add("faulty::Steep", b.input("x", "float32", (3,))))})
        feeds = {"x": np.array([1, 3, 2], np.float32)}
        assert agree(graph, ("reference",), feeds={"x": np.zeros(3, np.float32)}, folder=None)
        with pytest.raises(AssertionError) as error:
            agree(graph, feeds=feeds, folder=tmp_path / "out")
        *_, told, again = str(error.value).splitlines()
        assert "cpu does not agree with reference" in str(error.value)
        assert "result y: error 3.33e-01 of its scale; 1 of 3 elements differ, most at [1]: -4.0 against -3.0" in told
        program, *args = shlex.split(again.partition("again: ")[2])
        assert program == "graphc"
    with forgotten():
        done = CliRunner().invoke(main, args)
        assert done.exit_code == 1
        assert "first difference: faulty::Steep" in done.output


def test_rounding_is_no_difference():
    """1e8 of a sum cancels: what is left is of the size of the rounding, and another order gives something else."""
    x = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32) * 1e8
    b = Builder("cancels")
    v = b.input("x", "float32", x.shape)
    graph = b.build({"y": b.add("Sub", b.add("ReduceSum", v, b.constant([1])), b.add("ReduceSum", b.add("MatMul", v, b.constant(np.eye(64), "float32")), b.constant([1])))})  # fmt: skip
    agree(graph, ("reference",), feeds={"x": x}, folder=None)
    wrong = b.build({"y": b.add("Floor", v)})
    assert graphc.compile(wrong, target="reference") and agree(wrong, ("reference",), feeds={"x": x}, folder=None)
