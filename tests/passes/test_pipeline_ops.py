"""Every operator's sample cases through the whole pipeline: no pass may break, or change, what it does not know."""

import numpy as np
import pytest
from opcheck import operands
from passcheck import same_arrays

import graphc
from graphc.graph import Builder, Graph
from graphc.interpret import run_graph
from graphc.op import Case, Const, Op, all_ops, get_op
from graphc.pipeline import BOUND, SHAPE_FREE, bound, run

WITH_CASES = [name for name, op in all_ops().items() if op.samples.cases and op.deterministic]
WITHOUT = sorted({p.name for p in (*SHAPE_FREE, *BOUND)})
PIPELINE = (*SHAPE_FREE, *bound(frozenset()))


def one_node(op: Op, case: Case, arrays: list[np.ndarray | None], constant_from: int) -> tuple[Graph, list[np.ndarray]]:
    """The case as a graph of one node, operands from that index on as constants; and the arrays of the others."""
    b, inputs, feed = Builder("case"), [], []
    for i, (spec, a) in enumerate(zip(case.inputs, arrays)):
        if a is None:
            inputs.append(None)
        elif isinstance(spec, Const) or i in op.values or i >= constant_from:
            inputs.append(b.constant(a, a.dtype))
        else:
            inputs.append(b.input(f"x{i}", a.dtype, a.shape))
            feed.append(a)
    b.add(op.name, *inputs, name="node", outputs=case.n_outputs, **case.attrs)
    return b.build({f"y{i}": v for i, v in enumerate(b.nodes[0].outputs)}), feed


@pytest.mark.parametrize("constant_from", [99, 1, 0], ids=["inputs", "constant parameters", "constants"])
@pytest.mark.parametrize("name", WITH_CASES)
def test_the_pipeline_keeps_the_meaning(name, constant_from):
    op = get_op(name)
    for case in op.samples.cases:
        arrays = operands(op, case)
        graph, feed = one_node(op, case, arrays, constant_from)
        after = run(graph, PIPELINE, verify=True)
        for before, now in zip(run_graph(graph, feed), run_graph(after, feed)):
            same_arrays(before, now, f"{name} {case}")
        if constant_from == 0:
            assert after.nodes == (), f"{name} {case} does not fold"


@pytest.mark.sample(12)
@pytest.mark.parametrize("name", [name for name in WITH_CASES if not get_op(name).internal])
def test_every_operator_is_planned_without_passes(name):
    """Whoever leaves all of them out gets slow code, and no refusal: what an attribute says is not only read by passes."""
    op = get_op(name)
    for case in op.samples.cases:
        graph, _ = one_node(op, case, operands(op, case), 99)
        graphc.compile(graph, disabled=WITHOUT).plan()
