"""The pipeline as a whole: whatever passes run, the graph means the same."""

import pytest
from hypothesis import given, settings
from passcheck import bound, same_results
from random_graphs import graphs

from graphc.errors import GraphcError
from graphc.graph import Builder, Graph
from graphc.passes.log import Log
from graphc.pipeline import BOUND, SHAPE_FREE, run
from graphc.pipeline import bound as bound_passes
from graphc.verify import BrokenInvariant

NAMES = sorted({p.name for p in (*SHAPE_FREE, *BOUND)})


@settings(max_examples=25, deadline=None)
@given(graphs(symbolic=False))
def test_all_passes(graph):
    same_results(graph, run(graph, (*SHAPE_FREE, *BOUND), verify=True))


@settings(max_examples=25, deadline=None)
@given(graphs(symbolic=True))
def test_all_passes_on_both_sides_of_binding(graph):
    free = run(graph, SHAPE_FREE, verify=True)
    same_results(graph, free)
    same_results(graph, run(bound(free), BOUND, verify=True))


@settings(max_examples=15, deadline=None)
@given(graphs())
def test_with_decomposition(graph):
    same_results(graph, run(bound(graph), (*SHAPE_FREE, *bound_passes({"Gemm"})), verify=True))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None)
@given(graph=graphs(symbolic=False))
def test_each_pass_alone(name, graph):
    same_results(graph, run(graph, SHAPE_FREE + BOUND, disabled=set(NAMES) - {name}, verify=True))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None)
@given(graph=graphs(symbolic=False))
def test_all_passes_but_one(name, graph):
    same_results(graph, run(graph, SHAPE_FREE + BOUND, disabled={name}, verify=True))


@settings(max_examples=10, deadline=None)
@given(graphs(symbolic=False))
def test_a_second_run_finds_nothing_to_do(graph):
    once = run(graph, SHAPE_FREE + BOUND)
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
    assert seen == ["dead_code", "fold_constants", "inline_branches", "canonicalize"]
    assert len(run(small(), SHAPE_FREE, stop_after=4).nodes) == 2
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
