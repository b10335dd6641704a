"""LSTM, GRU and RNN."""

from __future__ import annotations

import numpy as np

from ..draft import Draft, Tensor
from ..draws import is_float
from . import step

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}


@step(1)
def recurrent(d: Draft) -> tuple:
    """Both directions, lengths, initial states, peepholes, clipping, other activations."""
    op = d.draw.one_of("LSTM", "LSTM", "GRU", "GRU", "RNN")
    fits = [
        t for t in d.values if is_float(t.dtype) and t.rank == 3 and t.size > 0 and 2 not in t.open and t.shape[0] < 10
    ]
    if fits and d.draw.chance(0.7):
        x = d.draw.one_of(*fits)
    else:
        x = d.input("float32", (d.draw.one_of(1, 2, 5), d.draw.one_of(1, 2, 3), d.draw.one_of(1, 4, 8)))
    steps, batch, width = x.shape
    hidden = d.draw.one_of(1, 3, 4, 8, 16, 17)
    direction = d.draw.one_of(None, "forward", "reverse", "bidirectional")
    ways = 2 if direction == "bidirectional" else 1
    reach = hidden**-0.5

    def weights(*shape: int) -> Tensor:
        return d.weights(ways, *shape, dtype=x.dtype, low=-reach, high=reach, style="uniform")

    gates = GATES[op]
    w, r = weights(gates * hidden, width), weights(gates * hidden, hidden)
    b = weights(2 * gates * hidden) if d.draw.chance(0.6) else None
    batch_open = 1 in x.open
    lengths = None
    if d.draw.chance(0.25) and not x.open:
        lengths = d.operand(np.int32, (batch,), 0 if d.draw.chance(0.3) else 1, steps)
    states = []
    for _ in range(STATES[op]):
        given = d.draw.chance(0.35) and not batch_open
        states.append(d.operand(x.dtype, (ways, batch, hidden), -0.5, 0.5) if given else None)
    extra = [weights(3 * hidden)] if op == "LSTM" and d.draw.chance(0.2) else []
    attrs = {"hidden_size": hidden, "direction": direction, "clip": d.draw.one_of(None, None, None, 0.5)}
    if op == "GRU":
        attrs["linear_before_reset"] = d.draw.one_of(None, 0, 1)
    if op == "LSTM" and d.draw.chance(0.1):
        attrs["input_forget"] = 1
    if op == "RNN" and d.draw.chance(0.4):
        attrs["activations"] = [d.draw.one_of("Relu", "Sigmoid", "Tanh")] * ways
    wanted = [d.draw.chance(0.8) for _ in range(1 + STATES[op])]
    wanted[d.draw.count(0, STATES[op])] = True
    y, *last = d.node(op, x, w, r, b, lengths, *states, *extra, outputs=wanted, **attrs)
    if y is not None and ways == 1 and d.draw.chance(0.5):
        y = d.node("Squeeze", y, d.ints(1))
    return (y, *last)


@step(0.5)
def batch_first(d: Draft) -> Tensor:
    """A layer between two Transposes, as frameworks export it."""
    op = d.draw.one_of("LSTM", "GRU")
    x = d.pick(lambda t: is_float(t.dtype) and t.rank == 3 and t.size > 0 and 2 not in t.open and t.shape[1] < 10)
    hidden = d.draw.one_of(4, 8)
    y = d.node("Transpose", x, perm=[1, 0, 2])
    w = d.weights(1, GATES[op] * hidden, x.shape[2], dtype=x.dtype, low=-0.3, high=0.3)
    r = d.weights(1, GATES[op] * hidden, hidden, dtype=x.dtype, low=-0.3, high=0.3)
    y = d.node(op, y, w, r, hidden_size=hidden)
    return d.node("Transpose", d.node("Squeeze", y, d.ints(1)), perm=[1, 0, 2])
