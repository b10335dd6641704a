"""RNN, GRU and LSTM on the CPU backend against the reference in float64: every domain case, target and way of giving weights."""

from __future__ import annotations

import numpy as np
import opcheck
import pytest

import graphc
from graphc.errors import InputError, UnsupportedError
from graphc.graph import Builder
from graphc.op import Case, Const, Tensor, get_op
from graphc.ops.recurrent import _ACTIVATIONS

NAMES = ("RNN", "GRU", "LSTM")
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
TARGETS = ("cpu", "cpu:avx2", "cpu:portable")


def compiled(name, case, arrays, fixed=(1, 2, 3, 7), results=None, **options):
    """(results of a compiled model, the model). fixed: operands that are constants; results: which outputs the graph has."""
    b, inputs, feeds = Builder("layer"), [], []
    for i, a in enumerate(arrays):
        if a is None:
            inputs.append(None)
        elif i in fixed:
            inputs.append(b.constant(a))
        else:
            inputs.append(b.input(f"x{i}", a.dtype, a.shape))
            feeds.append(a)
    b.add(name, *inputs, name="node", outputs=case.n_outputs, **case.attrs)
    values = b.nodes[-1].outputs
    graph = b.build({f"y{i}": values[i] for i in (range(len(values)) if results is None else results)})
    try:
        model = graphc.compile(graph, **options)
    except UnsupportedError as error:
        if "this CPU" in str(error):
            pytest.skip(str(error))
        raise
    assert not any(step.host for step in model.plan().steps), [s.reason for s in model.plan().steps]
    return list(model.run(dict(zip([v.name for v in graph.inputs], feeds))).values()), model


def wanted(name, case, arrays):
    return [a.astype(np.float32) for a in opcheck.reference(name, case, [opcheck.wider(a) for a in arrays])]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "case"), opcheck.cases(*NAMES))
def test_domain_case(name, case, target):
    arrays = opcheck.operands(get_op(name), case)
    want = wanted(name, case, arrays)
    actual, _ = compiled(name, case, arrays, target=target, threads=1)
    opcheck.agree(actual, want)
