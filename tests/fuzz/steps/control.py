"""If, Loop and Scan, one inside another too, with values from outside read inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import GraphProto

from ..draft import Draft, Reject, Tensor
from ..draws import BOOL, I64, is_float
from . import step

SIMPLE = ("Relu", "Tanh", "Neg", "Abs", "Sigmoid", "Identity")
DEEPEST = 2  # subgraphs inside one another


def depth(d: Draft) -> int:
    return 0 if d.outer is None else 1 + depth(d.outer)


def few(d: Draft, x: Tensor) -> Tensor:
    """A few nodes whose result has x's shape; some read values from outside, some hold a subgraph."""
    for _ in range(d.draw.count(1, 3)):
        match d.draw.one_of("unary", "unary", "const", "const", "outer", "outer", "clip", "product", "control"):
            case "unary":
                x = d.node(d.draw.one_of(*SIMPLE), x)
            case "const":
                x = d.node(d.draw.one_of("Add", "Mul"), x, d.const(d.draw.one_of(0.5, 1.0, -0.25), x.dtype))
            case "outer":
                fits = [t for t in d.values if t.dtype == x.dtype and t.shapes() == x.shapes()] or [x]
                x = d.node(d.draw.one_of("Add", "Sub", "Max"), x, d.draw.one_of(*fits))
            case "product" if x.rank > 1 and 0 < x.shape[-1] < 20 and x.rank - 1 not in x.open:
                n = x.shape[-1]
                x = d.node("MatMul", x, d.weights(n, n, dtype=x.dtype, low=-1 / n, high=1 / n))
            case "control" if depth(d) < DEEPEST:
                x = d.draw.one_of(choice, repeated)(d, x)
            case _:
                x = d.node("Clip", x, d.const(-1, x.dtype), d.const(1, x.dtype))
    return x


def choice(d: Draft, x: Tensor) -> Tensor:
    """One of two computations of the same shape."""
    ways = [subgraph(d, lambda inner: [few(inner, x)]) for _ in range(2)]
    return d.node("If", condition(d), then_branch=ways[0], else_branch=ways[1])


def repeated(d: Draft, x: Tensor) -> Tensor:
    """The same computation a few times."""
    inner, _, go, state = loop_body(d, x)
    results = [inner.node("Identity", go), own(inner, few(inner, state))]
    return d.node("Loop", d.const(d.draw.count(1, 3), np.int64), d.const(True), x, body=inner.graph(results))


def condition(d: Draft) -> Tensor:
    """Known when compiling, from a shape, an input or computed."""
    match d.draw.one_of("const", "shape", "input", "computed", "computed"):
        case "const":
            return d.const(d.draw.one_of(True, False))
        case "shape":
            x = d.pick(lambda t: t.rank > 0)
            n = d.node("Gather", d.node("Shape", x), d.const(d.draw.count(0, x.rank - 1), np.int64), axis=0)
            return d.node(d.draw.one_of("Greater", "Equal"), n, d.const(d.draw.count(1, 4), np.int64))
        case "input" if d.outer is None:
            return d.input_of([np.array(d.draw.chance(0.5)) for _ in range(d.shared.worlds)], ())
        case _:
            x = d.pick(lambda t: t.size > 0 and t.dtype != BOOL)
            flat = d.node("Reshape", x, d.ints(-1))
            first = d.node("Squeeze", d.node("Slice", flat, d.ints(0), d.ints(1)), d.ints(0))
            return d.node("Greater", first, d.const(d.draw.one_of(0, 1), x.dtype))


def own(inner: Draft, t: Tensor) -> Tensor:
    """The value, as one that the subgraph makes."""
    return t if any(t.name in node.output for node in inner.nodes) else inner.node("Identity", t)


def subgraph(d: Draft, results: Callable[[Draft], list[Tensor]]) -> GraphProto:
    """A subgraph without formal inputs."""
    inner = d.child()
    made: list[Tensor] = []
    for t in results(inner):
        t = own(inner, t)
        made.append(inner.node("Identity", t) if t in made else t)
    return inner.graph(made, declare=d.draw.chance(0.5))


@step(1)
def if_(d: Draft) -> object:
    """Two branches of one dtype; often of one shape."""
    cond = condition(d)
    x = d.floats()
    n = d.draw.count(1, 2)

    def same_shape(inner: Draft) -> list[Tensor]:
        return [few(inner, x) for _ in range(n)]

    def other_shape(inner: Draft) -> list[Tensor]:
        return [inner.node("Unsqueeze", few(inner, x), inner.ints(0)) for _ in range(n)]

    def squeezed(inner: Draft) -> list[Tensor]:
        return [inner.node("Squeeze", x) for _ in range(n)]

    def outer_value(inner: Draft) -> list[Tensor]:
        return [x] * n

    ways = [d.draw.one_of(same_shape, other_shape, outer_value, squeezed) for _ in range(2)]
    if d.draw.chance(0.6):
        ways = [same_shape, d.draw.one_of(same_shape, outer_value)]
    then_, else_ = (subgraph(d, w) for w in ways)
    return d.node("If", cond, outputs=n, then_branch=then_, else_branch=else_)


def loop_body(d: Draft, x: Tensor) -> tuple[Draft, Tensor, Tensor, Tensor]:
    """A body with its formal inputs: iteration, condition, state."""
    inner, worlds = d.child(), range(d.shared.worlds)
    i = inner.formal(Tensor("", I64, tuple((np.array(0),) for _ in worlds)))
    go = inner.formal(Tensor("", BOOL, tuple((np.array(True),) for _ in worlds)))
    return inner, i, go, inner.formal(x)


@step(1)
def loop(d: Draft) -> object:
    """Any number of trips, none too; a state, collected values; a condition that may end it."""
    x = d.pick(lambda t: is_float(t.dtype) and t.size < 400)
    trips = d.draw.one_of(0, 1, 2, 3, 3, 5)
    if d.outer is None and d.draw.chance(0.4):
        limit = d.input_of([np.array(d.draw.one_of(0, trips), np.int64) for _ in range(d.shared.worlds)], ())
    else:
        limit = d.const(trips, np.int64)
    start = d.const(True) if d.draw.chance(0.7) else None
    inner, i, go, state = loop_body(d, x)
    after = few(inner, state)
    if d.draw.chance(0.3) and after.dtype.name == "float32":
        after = inner.node("Add", after, inner.node("Cast", i, to=1))
    if d.draw.chance(0.3):
        flag = inner.node("Less", i, inner.const(d.draw.count(0, 3), np.int64))
    else:
        flag = inner.node("Identity", go)
    results = [flag, own(inner, after)]
    collected = d.draw.count(0, 2)
    for _ in range(collected):
        row = own(inner, few(inner, state))
        results.append(row if row not in results else inner.node("Identity", row))
    body = inner.graph(results, declare=d.draw.chance(0.9))
    return d.node("Loop", limit, start, x, outputs=1 + collected, body=body)


@step(0.8)
def scan(d: Draft) -> object:
    """Along an axis, forwards or backwards."""
    x = d.pick(lambda t: is_float(t.dtype) and 0 < t.rank < 5 and 0 < t.size < 600)
    axis = d.axis(x, fixed=True) % x.rank
    if x.open:
        raise Reject("open")
    dims = x.shape[:axis] + x.shape[axis + 1 :]
    state = d.operand(x.dtype, dims, -1, 1)
    inner = d.child()
    s = inner.formal(state)
    row = inner.formal(Tensor("", x.dtype, tuple((np.take(w[0], 0, axis),) for w in x.worlds)))
    after = inner.node(d.draw.one_of("Add", "Max", "Sub"), s, row)
    after = inner.node("Mul", after, inner.const(0.5, x.dtype))
    out = inner.node(d.draw.one_of(*SIMPLE), after)
    body = inner.graph([after, out], declare=d.draw.chance(0.9))
    attrs = {}
    if axis or d.draw.chance(0.3):
        attrs["scan_input_axes"] = [axis]
    if d.draw.chance(0.3):
        attrs["scan_input_directions"] = [1]
    if d.draw.chance(0.3):
        attrs["scan_output_directions"] = [1]
    if d.draw.chance(0.3):
        attrs["scan_output_axes"] = [d.draw.count(0, len(dims))]
    return d.node("Scan", state, x, outputs=2, body=body, num_scan_inputs=1, **attrs)
