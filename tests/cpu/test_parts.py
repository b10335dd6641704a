"""Each part of the CPU backend can be switched off, and `graphc compare` names the one that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blocked_nets import Net
from click.testing import CliRunner
from nets import F32, agree, convnet, recurrent, transformer, weights
from passcheck import feeds as feeds_of
from suite import check, uses_of
from test_cpu_ops import COMPILED

import graphc
from graphc import expr, frontends
from graphc.backends.cpu import options, stages
from graphc.backends.cpu.conv import conv
from graphc.backends.cpu.lower import groups
from graphc.backends.cpu.nested import depth_first
from graphc.backends.cpu.parts import PARTS
from graphc.backends.cpu.product import block_sparse, gemm
from graphc.cli import compare, main
from graphc.errors import GraphcError
from graphc.graph import Builder, Graph
from graphc.lower import fuse, memory
from graphc.lower.fuse import Group
from graphc.report import Plan

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "zoo"
NAMES = [p.name for p in PARTS]


def batches() -> Graph:
    """x [8, 16, 56, 56] -> y [8, 16, 3136], z alike: layers that a batch goes through depth first, and views of results."""
    b = Builder("batches")
    x = b.input("x", F32, (8, 16, 56, 56))
    shape = b.constant([8, 16, 3136], np.int64)
    for _ in range(3):
        x = b.add("Relu", b.add("Conv", x, weights(b, 16, 16, 3, 3), pads=[1] * 4))
    parts = [b.add("Conv", x, weights(b, 16, 16, 1, 1)) for _ in range(2)]
    last = b.add("Conv", b.add("Concat", *parts, axis=1), weights(b, 16, 32, 1, 1))
    return b.build(
        {"y": b.add("Reshape", b.add("Tanh", last), shape), "z": b.add("Reshape", b.add("Abs", last), shape)}
    )


def mapped() -> Graph:
    """x [1, 64, 20, 20] -> y [1, 32, 20, 20]: a 1x1 convolution with its input's elementwise nodes, and a kernel of two."""
    b = Builder("mapped")
    x = b.add("Exp", b.add("Sin", b.input("x", F32, (1, 64, 20, 20))))
    x = b.add("MaxPool", x, kernel_shape=[1, 1])
    scale = b.constant(np.random.default_rng(1).uniform(0.5, 1, (64, 1, 1)), F32)
    return b.build({"y": b.add("Conv", b.add("Relu", b.add("Mul", x, scale)), weights(b, 32, 64, 1, 1))})


def product() -> Graph:
    """x [128, 256] -> y [128, 256]."""
    b = Builder("product")
    return b.build({"y": b.add("MatMul", b.input("x", F32, (128, 256)), weights(b, 256, 256))})


def zeros() -> Graph:
    """x [20, 128] -> y [20, 64]: half of the weights are zero, in blocks."""
    b, rng = Builder("zeros"), np.random.default_rng(0)
    w = rng.standard_normal((128, 64)) * (rng.random((128, 4)) < 0.5).repeat(16, 1)
    return b.build({"y": b.add("MatMul", b.input("x", F32, (20, 128)), b.constant(w, F32))})


GRAPHS = [zeros, convnet, transformer, recurrent, batches, mapped, product]


def run(graph: Graph, disabled: Iterable[str]) -> dict[str, np.ndarray]:
    return graphc.compile(graph, threads=2, disabled=tuple(disabled)).run(feeds_of(graph))


def reference(graph: Graph) -> dict[str, np.ndarray]:
    return graphc.compile(graph, target="reference").run(feeds_of(graph))


# --- without a part, results are right --------------------------------------------------------------------------------
@pytest.mark.sample(40)
@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("off", [*([n] for n in NAMES), NAMES], ids=[*NAMES, "all"])
def test_graphs(make: Callable[[], Graph], off: list[str]):
    agree(run(make(), off), reference(make()))


def test_blocked_nets():
    for seed in range(12):
        graph = Net(seed, False).build()
        want = reference(graph)
        for off in (*([n] for n in NAMES), NAMES):
            agree(run(graph, off), want)


@pytest.mark.parametrize("name", ["lenet5", "squeezenet", "char_rnn", "transformer_encoder", "dcgan_generator"])
def test_examples(name: str):
    graph = frontends.load(EXAMPLES / f"{name}.yaml")
    feeds = feeds_of(graph)
    want = graphc.compile(graph, disabled=["winograd", "strassen"]).run(feeds)
    agree(graphc.compile(graph, disabled=NAMES).run(feeds), want)


@pytest.mark.sample(60)
@pytest.mark.parametrize("name", COMPILED)
def test_operators_with_everything_switched_off(name: str):
    for use in uses_of(name):
        check(use, disabled=NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_operators_without_each(name: str):
    for use in uses_of(name):
        for off in NAMES:
            check(use, disabled=[off])


# --- what each name does ----------------------------------------------------------------------------------------------
def plan_of(graph: Graph, *disabled: str) -> Plan:
    shapes = {n: a.shape for n, a in feeds_of(graph).items()}
    return graphc.compile(graph, threads=1, disabled=disabled).plan(shapes)


def test_each_name_switches_something_off():
    def algorithms(plan: Plan) -> set[str]:
        return {s.algorithm for s in plan.steps}

    def count(plan: Plan, op: str) -> int:
        return sum(op in s.ops for s in plan.steps)

    whole, deep = plan_of(batches()), plan_of(mapped())
    assert any(a.startswith("winograd") for s in whole.steps for a in (*algorithms(whole), *(i[2] for i in s.inside)))
    off = plan_of(batches(), "winograd")
    assert not any(a.startswith("winograd") for s in off.steps for a in (*algorithms(off), *(i[2] for i in s.inside)))
    assert algorithms(plan_of(product())) == {"", "strassen"}
    assert algorithms(plan_of(product(), "strassen")) == {"", "gemm"}
    assert algorithms(plan_of(zeros())) == {"block_sparse"}
    assert algorithms(plan_of(zeros(), "block_sparse")) == {"gemm"}
    assert "depth-first" in algorithms(whole) - algorithms(plan_of(batches(), "image_runs"))
    flat = plan_of(batches(), "image_runs")
    assert count(plan_of(batches(), "image_runs", "layout"), "Reorder") > count(flat, "Reorder")
    assert len(plan_of(batches(), "image_runs", "concat_in_place").steps) == len(flat.steps) + 2
    assert len(plan_of(batches(), "image_runs", "results_in_place").steps) == len(flat.steps) + 2
    assert any(len(s.nodes) > 1 for s in deep.steps)
    assert all(len(s.nodes) <= 1 for s in plan_of(mapped(), "fusion").steps)
    assert ("Mul", "Relu", "Conv") in {s.ops for s in deep.steps} - {
        s.ops for s in plan_of(mapped(), "prologues").steps
    }
    relus = {s.ops for s in plan_of(convnet()).steps} - {s.ops for s in plan_of(convnet(), "epilogues").steps}
    assert any("Conv" in ops and "Relu" in ops for ops in relus)
    shared, apart = plan_of(convnet()).memory, plan_of(convnet(), "arena_reuse").memory
    assert apart.arena == apart.total > shared.arena and apart.lower_bound == shared.lower_bound


def test_parts_belong_to_stages():
    names = [s.name for s in stages.STAGES]
    assert [p.stage for p in PARTS] == sorted((p.stage for p in PARTS), key=names.index)
    assert options.without(frozenset({"fusion", "fold_constants"})) == {"fusion", "epilogues", "prologues"}


def test_the_help_names_them_all():
    said = "".join(CliRunner().invoke(main, ["run", "--help"]).output.split())
    assert ",".join(NAMES) in said


def test_the_documentation_says_what_each_does():
    text = (EXAMPLES.parents[1] / "docs" / "how-it-works.md").read_text()
    assert all(f"| `{p.name}` | {p.stage} | {p.without}" in text for p in PARTS)


def test_a_wrong_name_lists_passes_and_parts():
    with pytest.raises(
        GraphcError, match="(?s)did you mean 'arena_reuse'.*passes: dead_code.*; parts of the backend: wino"
    ):
        graphc.compile(product(), disabled=["arena_use"])


# --- what is wrong is named -------------------------------------------------------------------------------------------
def compared(graph: Graph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *options: str) -> str:
    """What `graphc compare` says of a graph that differs."""
    monkeypatch.setattr(compare, "load_graph", lambda path, shapes, params: graph)
    path = tmp_path / "model.onnx"
    path.touch()
    result = CliRunner().invoke(main, ["compare", str(path), "--threads", "2", *options])
    assert result.exit_code == 1, result.output
    return result.output


def negated(lo, group: Group, *rest):
    """A group whose convolution has other weights."""
    x, w, *more = group.anchor.inputs
    anchor = replace(group.anchor, inputs=(x, replace(w, data=-w.data), *more))
    return lo, replace(group, nodes=(anchor, *group.nodes[1:]), anchor=anchor), *rest


def wrong_winograd(patch: Callable):
    patch(conv, "emit_winograd", lambda right: lambda *args: right(*negated(*args)))


def wrong_strassen(patch: Callable):
    def negative(right: Callable):
        def emit(lo, h, images, a, y, b, *rest):
            right(lo, h, images, a, y, replace(b, load=lambda: -b.load()), *rest)

        return emit

    patch(gemm, "emit_strassen", negative)


def wrong_zeros(patch: Callable):
    """The last panel's zeros are taken for those of all."""

    def moved(right: Callable):
        def used(matrix):
            return np.roll(right(matrix), 1, axis=1)

        return used

    patch(block_sparse, "_used", moved)


def wrong_layout(patch: Callable):
    def swapped(graph: Graph) -> Graph:
        nodes = tuple(
            replace(n, inputs=n.inputs[::-1]) if n.op.name == "Concat" and n.output.type.layout else n
            for n in graph.nodes
        )
        return replace(graph, nodes=nodes)

    patch(groups, "assign_layouts", lambda right: lambda graph, rules: swapped(right(graph, rules)))


def wrong_epilogues(patch: Callable):
    def forgotten(right: Callable):
        def grow(self, anchor):
            group = right(self, anchor)
            return replace(group, expression=expr.arg(0, F32), operands=()) if len(group.nodes) > 1 else group

        return grow

    patch(fuse._Fuser, "_grow", forgotten)


def wrong_prologues(patch: Callable):
    def forgotten(right: Callable):
        def take(self, groups, last, group):
            right(self, groups, last, group)
            before = groups[last].prologue
            if before is not None:
                doubled = expr.arg(0, F32) + expr.arg(0, F32) + before.expression
                groups[last] = replace(groups[last], prologue=replace(before, expression=doubled))

        return take

    patch(fuse._Fuser, "_take_prologue", forgotten)


def wrong_fusion(patch: Callable):
    def forgotten(right: Callable):
        def tree(self, root):
            group = right(self, root)
            return replace(group, expression=expr.arg(0, F32)) if len(group.nodes) > 1 else group

        return tree

    patch(fuse._Fuser, "_elementwise_tree", forgotten)


def exchange(lo, a, b) -> None:
    lo.storage[a], lo.storage[b] = lo.storage[b], lo.storage[a]


def wrong_results(patch: Callable):
    def exchanged(right: Callable):
        def place(lo, graph, groups, native, results, many):
            right(lo, graph, groups, native, results, many)
            if results and len(graph.outputs) == 2:
                exchange(lo, *graph.outputs)

        return place

    patch(stages, "place_externals", exchanged)


def wrong_concatenations(patch: Callable):
    def exchanged(right: Callable):
        def place(lo, groups: Sequence[Group], without=()):
            right(lo, groups, without)
            for group in groups:
                a, b = group.nodes[0].operands[:2] if group.nodes[0].op.name == "Concat" else (None, None)
                if a in lo.storage and b in lo.storage and lo.storage[a].ref.buffer is lo.storage[b].ref.buffer:
                    exchange(lo, a, b)

        return place

    patch(stages, "place_concatenations", exchanged)


def wrong_images(patch: Callable):
    """Each image reads the first of the inputs."""

    def first(right: Callable):
        def emit(lo, inner, count, outside, info):
            still = {b: replace(o, stride=0) if b.name.startswith("x") else o for b, o in outside.items()}
            right(lo, inner, count, still, info)

        return emit

    patch(depth_first, "emit_nested", first)


def wrong_memory(patch: Callable):
    """Two values that are needed at once share memory."""

    def shared(right: Callable):
        def plan(buffers, alignment, reuse=True):
            arena, offsets = right(buffers, alignment, reuse=reuse), []
            for b, offset in zip(buffers, arena.offsets):
                others = (
                    i for i, o in enumerate(buffers[: len(offsets)]) if o.nbytes == b.nbytes and o.last >= b.first
                )
                other = next(others, None) if reuse and "/" not in b.name else None
                offsets.append(offset if other is None else offsets[other])
            return replace(arena, offsets=tuple(offsets))

        return plan

    patch(memory, "plan", shared)


def plant(monkeypatch: pytest.MonkeyPatch, *faults: Callable) -> None:
    for fault in faults:
        fault(lambda where, name, change: monkeypatch.setattr(where, name, change(getattr(where, name))))


@pytest.mark.parametrize(
    ("part", "fault", "make"),
    [
        ("winograd", wrong_winograd, batches),
        ("strassen", wrong_strassen, product),
        ("block_sparse", wrong_zeros, zeros),
        ("layout", wrong_layout, batches),
        ("epilogues", wrong_epilogues, convnet),
        ("prologues", wrong_prologues, mapped),
        ("fusion", wrong_fusion, mapped),
        ("results_in_place", wrong_results, batches),
        ("concat_in_place", wrong_concatenations, batches),
        ("image_runs", wrong_images, batches),
        ("arena_reuse", wrong_memory, convnet),
    ],
)
def test_compare_names_the_part(part: str, fault: Callable, make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    plant(monkeypatch, fault)
    said = compared(make(), monkeypatch, tmp_path)
    stage = {p.name: p.stage for p in PARTS}[part]
    assert "first difference: " in said
    assert f"it agrees with --disable {part} (stage {stage})" in said


def test_compare_names_the_value_that_first_differs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Every node alone agrees, and so does the model up to the end of the first group that is wrong."""
    plant(monkeypatch, wrong_fusion)
    said = compared(mapped(), monkeypatch, tmp_path)
    assert "every node alone agrees" in said and "first difference: Exp" in said


def test_compare_names_a_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from graphc import pipeline

    def wrong(right: Callable):
        class Wrong:
            name = right.name

            def __call__(self, graph, log=None):
                swapped = tuple(replace(n, inputs=n.inputs[::-1]) if n.op.name == "Sub" else n for n in graph.nodes)
                return replace(graph, nodes=swapped)

        return Wrong()

    monkeypatch.setattr(pipeline, "SHAPE_FREE", (wrong(pipeline.merge_pads), *pipeline.SHAPE_FREE))
    b = Builder("difference")
    x, y = (b.input(n, F32, (2, 3)) for n in "xy")
    said = compared(b.build({"z": b.add("Sub", x, y)}), monkeypatch, tmp_path)
    assert "first difference: Sub" in said and "it agrees with --disable merge_pads (a pass)" in said
