"""Recurrent layers between transposes: which become batch first, and which must stay."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from passcheck import build, image, ints, left, refused, weights

import graphc
from graphc.graph import Builder, Value
from graphc.passes.batch_first import batch_first, in_order

BATCH, SEQ, INPUTS, HIDDEN = 3, 5, 6, 4
SWAP = (1, 0, 2)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def layer(b: Builder, x: Value, op: str = "LSTM", direction: str = "forward", **more) -> Value:
    """Y of a recurrent layer over x [seq, batch, inputs], or more results as `outputs` says."""
    rows, directions = GATES[op] * HIDDEN, 2 if direction == "bidirectional" else 1
    w, r = weights(b, directions, rows, x.shape[2]), weights(b, directions, rows, HIDDEN)
    return b.add(op, x, w, r, *more.pop("operands", ()), direction=direction, hidden_size=HIDDEN, **more)


def flat(b: Builder, y: Value) -> Value:
    """Y without directions, [seq, batch, features], as exporters write it."""
    if y.shape[1] > 1:
        y = b.add("Transpose", y, perm=[0, 2, 1, 3])
    return b.add("Reshape", y, ints(b, SEQ, BATCH, -1))


def around(make, x_shape=(BATCH, SEQ, INPUTS)):
    """Transpose, make(b, x), Transpose."""

    def net(b):
        x = b.add("Transpose", image(b, *x_shape), perm=SWAP)
        return b.add("Transpose", make(b, x), perm=SWAP)

    return build(net)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_between_transposes(op, direction):
    graph = around(lambda b, x: flat(b, layer(b, x, op, direction)))
    assert left(batch_first, graph) == [op, "Reshape"]


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_stacked(direction):
    def two(b, x):
        return flat(b, layer(b, flat(b, layer(b, x, "GRU", direction)), "LSTM", direction))

    assert left(batch_first, around(two)) == ["GRU", "Reshape", "LSTM", "Reshape"]


def test_initial_states_and_lengths():
    def make(b, x):
        state = [image(b, 1, BATCH, HIDDEN, name=name) for name in ("h", "c")]
        lengths = b.constant(np.array([5, 2, 4], np.int32))
        return flat(b, layer(b, x, operands=(None, lengths, *state)))

    assert left(batch_first, around(make)) == ["Transpose", "Transpose", "LSTM", "Reshape"]


def test_a_small_operand_is_transposed_instead_of_the_result():
    def net(b):
        return b.add("Transpose", flat(b, layer(b, image(b, SEQ, BATCH, 2))), perm=SWAP)

    assert left(batch_first, build(net)) == ["Transpose", "LSTM", "Reshape"]


def test_a_large_operand_is_not():
    def net(b):
        return b.add("Transpose", flat(b, layer(b, image(b, SEQ, BATCH, 9))), perm=SWAP)

    assert "larger than its result" in refused(batch_first, build(net))


@pytest.mark.parametrize("what", ["final state", "result", "order of directions", "order of axes"])
def test_what_must_stay(what):
    def net(b):
        x = b.add("Transpose", image(b, BATCH, SEQ, INPUTS), perm=SWAP)
        y, y_h, _ = layer(b, x, direction="bidirectional", outputs=3)
        steps = flat(b, y)
        if what == "order of directions":  # [seq, directions, batch] read as [seq, batch, directions]
            steps = b.add("Reshape", y, ints(b, SEQ, BATCH, -1))
        if what == "order of axes":
            return b.add("Transpose", steps, perm=(2, 0, 1))
        y = b.add("Transpose", steps, perm=SWAP)
        return {"final state": [y, y_h], "result": [y, steps]}.get(what, y)

    graph = build(net)
    assert left(batch_first, graph) == [n.op.name for n in graph.nodes]


def test_in_order_agrees_with_numpy():
    shapes = [(2, 3, 1, 4), (2, 3, 2, 2), (1, 4, 2, 3)]
    for shape, first in itertools.product(shapes, itertools.permutations(range(4))):
        a = np.arange(np.prod(shape)).reshape(shape)
        t = a.transpose(first)
        for middle in {(t.shape[0], t.shape[1], -1), (t.shape[0], -1, t.shape[3]), (2, -1, 2), (-1, 1, 6)}:
            if a.size % abs(np.prod(middle)):
                continue
            r = t.reshape(middle)
            for last in itertools.permutations(range(3)):
                same = np.array_equal(r.transpose(last).ravel(), a.ravel())
                assert in_order(shape, list(first), r.shape, list(last)) == same, (shape, first, r.shape, last)


@pytest.mark.parametrize("op", GATES)
def test_compiled(op):
    """In the whole pipeline no copies are left, and the results agree."""
    graph = around(lambda b, x: flat(b, layer(b, flat(b, layer(b, x, op)), op)))
    model = graphc.compile(graph, threads=2)
    x = np.random.default_rng(0).standard_normal((BATCH, SEQ, INPUTS)).astype(np.float32)
    got = model.run({"x": x})
    want = graphc.compile(graph, target="reference").run({"x": x})
    for name, y in want.items():
        np.testing.assert_allclose(got[name], y, rtol=0, atol=2e-6)
    assert not any("Transpose" in s.ops for s in model.plan().steps)
