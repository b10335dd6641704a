"""The pipeline as a whole: whatever passes run, the graph means the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from fuzz.case import Case
from fuzz.compare import difference
from fuzz.generate import generate
from fuzz.shrink import reduced

from graphc import frontends
from graphc.bind import bind
from graphc.errors import GraphcError
from graphc.graph import Builder, Graph
from graphc.interpret import interpret
from graphc.passes.log import Log
from graphc.pipeline import BOUND, SHAPE_FREE, run
from graphc.pipeline import bound as bound_passes
from graphc.verify import BrokenInvariant

NAMES = sorted({p.name for p in (*SHAPE_FREE, *BOUND)})
MODELS = range(40)
FEW = range(40, 52)


@cache
def model(i: int) -> tuple[Case, Graph]:
    """A random model, and its graph."""
    case = generate(1, i)
    case = reduced(case, case.model.graph.node, case.outputs) or case  # inputs without defaults
    return case, frontends.load(case.model)


def sized(graph: Graph, i: int) -> Graph:
    """With the model's first sizes in the place of its open dims."""
    feeds = model(i)[0].feeds[0]
    return bind(graph, {v.name: v.type.with_shape(feeds[v.name].shape) for v in graph.inputs}, {})


def check(i: int, passes: Callable[[Graph], Graph], bound: bool = True, signs: bool = True) -> None:
    """The model after the passes gives its expected results. bound: the passes see its first sizes, not its open dims. signs:
    zeros keep theirs."""
    case, graph = model(i)
    results = interpret(passes(sized(graph, i) if bound else graph), case.feeds[0])
    for name in case.outputs:
        assert difference(case.tensors[name], 0, results[name], signs=signs)[0] == "", name


@pytest.mark.parametrize("i", MODELS)
def test_all_passes(i):
    check(i, lambda g: run(g, (*SHAPE_FREE, *BOUND), verify=True))


@pytest.mark.parametrize("i", MODELS)
def test_all_passes_of_open_dims(i):
    check(i, lambda g: run(g, SHAPE_FREE, verify=True), bound=False)


@pytest.mark.parametrize("i", MODELS)
def test_all_passes_on_both_sides_of_binding(i):
    check(i, lambda g: run(sized(run(g, SHAPE_FREE, verify=True), i), BOUND, verify=True), bound=False)


@pytest.mark.parametrize("i", MODELS)
def test_with_decomposition(i):
    # signs: what an operator stands for may add zeros of another sign (a norm of zeros)
    check(i, lambda g: run(g, (*SHAPE_FREE, *bound_passes({"Gemm"})), verify=True), signs=False)


@pytest.mark.parametrize("name", NAMES)
def test_each_pass_alone(name):
    for i in FEW:
        check(i, lambda g: run(g, SHAPE_FREE + BOUND, disabled=set(NAMES) - {name}, verify=True))


@pytest.mark.parametrize("name", NAMES)
def test_all_passes_but_one(name):
    for i in FEW:
        check(i, lambda g: run(g, SHAPE_FREE + BOUND, disabled={name}, verify=True))


@pytest.mark.parametrize("i", MODELS)
def test_a_second_run_finds_nothing_to_do(i):
    once = run(sized(model(i)[1], i), SHAPE_FREE + BOUND)
    log = Log()
    twice = run(once, SHAPE_FREE + BOUND, log=log)
    assert len(twice.nodes) == len(once.nodes), log.applied()


def test_a_backend_sees_no_composite_that_it_has_no_kernel_for():
    b = Builder()
    w = b.constant([1, 2, 3], "float32")
    graph = b.build([b.add("Softmax", b.add("LayerNormalization", b.input("x", "float32", (2, 3)), w))])
    left = {n.op.name for n in run(graph, bound_passes({"Softmax", "ReduceMean"}), verify=True).nodes}
    assert "Softmax" in left
    assert "LayerNormalization" not in left


# --- the driver of the passes -----------------------------------------------------------------------------------------
def small() -> Graph:
    b = Builder("small")
    x = b.input("x", "float32", (2, 3))
    return b.build({"y": b.add("Relu", b.add("Identity", x, name="same"), name="relu")})


def test_stop_after():
    seen = []
    run(small(), SHAPE_FREE, stop_after="canonicalize", on_pass=lambda p, before, after: seen.append(p.name))
    names = [p.name for p in SHAPE_FREE]
    assert seen == names[: names.index("canonicalize") + 1] and 1 < len(seen) < len(names)
    assert len(run(small(), SHAPE_FREE, stop_after=len(seen)).nodes) == 2
    assert len(run(small(), SHAPE_FREE).nodes) == 1


def test_stop_after_an_unknown_pass_lists_the_known_ones():
    with pytest.raises(GraphcError, match="(?s)no pass is named 'fuse'.*canonicalize"):
        run(small(), SHAPE_FREE, stop_after="fuse")


def test_disabled():
    assert len(run(small(), SHAPE_FREE, disabled={"identities"}).nodes) == 2


def test_on_pass_sees_both_graphs():
    counts = {}
    run(
        small(),
        SHAPE_FREE,
        on_pass=lambda p, before, after: counts.update({p.name: (len(before.nodes), len(after.nodes))}),
    )
    assert counts["identities"] == (2, 1)


def test_the_verifier_names_the_pass():
    class Breaks:
        name = "breaks"

        def __call__(self, graph, log=None):
            return Graph(graph.name, graph.inputs, graph.outputs, (), graph.output_names)

    with pytest.raises(BrokenInvariant, match="after pass 'breaks'"):
        run(small(), [Breaks()], verify=True)


def test_without_anything_to_do_the_graph_is_returned_itself():
    b = Builder()
    graph = b.build([b.add("Relu", b.input("x", "float32", (3,)))])
    assert run(graph, SHAPE_FREE + BOUND) is graph
