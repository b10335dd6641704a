"""Derivatives of a part of a graph, by reverse mode: nodes that compute them are added to a builder.

What each operator hands back to its operands is a rule here; one without a rule is differentiated as the operators that it
stands for. Where a derivative does not exist it is what PyTorch takes: 0 of Relu and Abs at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.dtypes import is_float
from graphc.errors import UnsupportedError
from graphc.graph import Builder, Node, Value
from graphc.types import Dim

Rule = Callable[["_Use", Value], "Sequence[Value | None]"]
_RULES: dict[str, Rule] = {}


def gradients(b: Builder, nodes: Sequence[Node], y: Value, xs: Sequence[Value]) -> list[Value]:
    """Of each x: the derivative of the sum of y's elements, in x's shape. nodes: in order, those that make y of xs among them.

    Raises UnsupportedError that names the first operator on the way without a derivative.
    """
    if not is_float(y.dtype) or not all(is_float(x.dtype) for x in xs):
        raise UnsupportedError(
            f"the derivative of {y.dtype} by {', '.join(str(x.dtype) for x in xs)}", hint="of floats only"
        )
    depends = _depending(nodes, xs)
    grads = {y: b.add("Expand", b.constant(1, y.dtype), b.add("Shape", y), types=[y.type])}
    for node in reversed(_simple(b, nodes, y, depends)):
        given = [grads.get(v) for v in node.outputs]
        if all(g is None for g in given):
            continue
        if given[0] is None or any(g is not None for g in given[1:]):
            raise _unsupported(node, "only the first result is differentiated")
        for v, part in zip(node.inputs, _RULES[node.op.name](_Use(b, node), given[0])):
            if v is not None and part is not None and v in depends:
                part = _summed_to(b, part, v, node)
                grads[v] = part if v not in grads else b.add("Add", grads[v], part)
    return [grads[x] if x in grads else b.add("Mul", x, b.constant(0, x.dtype)) for x in xs]


def substituted(b: Builder, nodes: Sequence[Node], y: Value, values: Mapping[Value, Value]) -> tuple[list[Node], Value]:
    """The nodes that make y, and y, of other values in the place of some."""
    if all(old is new for old, new in values.items()):
        return list(nodes), y
    made, done = dict(values), []
    depends = _depending(nodes, list(values))
    for node in nodes:
        if depends.isdisjoint(node.outputs):
            done.append(node)
            continue
        inputs = [made.get(v, v) for v in node.inputs]
        b.add(node.op, *inputs, outputs=len(node.outputs), source=node.source, **node.attrs)
        done.append(b.nodes[-1])
        made.update(zip(node.outputs, b.nodes[-1].outputs))
    return done, made.get(y, y)


def _depending(nodes: Sequence[Node], xs: Sequence[Value]) -> set[Value]:
    found = set(xs)
    for node in nodes:
        if not found.isdisjoint(node.operands):
            found.update(v for v in node.outputs if v not in found)
    return found


def _simple(b: Builder, nodes: Sequence[Node], y: Value, depends: set[Value]) -> list[Node]:
    """The nodes between, those without a rule as what they stand for; `depends` takes the values that come up."""
    wanted, kept = {y}, []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs) and not depends.isdisjoint(node.outputs):
            kept.append(node)
            wanted.update(node.operands)
    found: list[Node] = []
    for node in reversed(kept):
        found += _taken_apart(b, node, depends)
    return found


def _taken_apart(b: Builder, node: Node, depends: set[Value]) -> list[Node]:
    if node.op.name in _RULES:
        return [node]
    before = len(b.nodes)
    made = None if node.op.expand is None else node.op.expand(b, node.call)
    if made is None:
        raise _unsupported(node, "no derivative is known of it")
    results = made if isinstance(made, (tuple, list)) else (made,)
    inner = list(b.nodes[before:])
    for one in inner:
        if not depends.isdisjoint(one.operands):
            depends.update(one.outputs)
    simple = [part for one in inner for part in _taken_apart(b, one, depends)]
    for old, new in zip(node.outputs, results):  # the results keep the values that others read
        simple = [replace(one, outputs=tuple(old if v is new else v for v in one.outputs)) for one in simple]
        simple = [replace(one, inputs=tuple(old if v is new else v for v in one.inputs)) for one in simple]
    return simple


def _unsupported(node: Node, why: str) -> UnsupportedError:
    hint = f"there are rules for {', '.join(sorted(_RULES))}, and what stands for these"
    return UnsupportedError(
        f"the derivative of {node.op.name} '{node.name}': {why}", hint=hint, node=node.name, source=node.source
    )


def _summed_to(b: Builder, part: Value, v: Value, node: Node) -> Value:
    """The derivative of what was broadcast: summed over the axes along which it was repeated."""
    want, have = v.shape, part.shape
    lead = len(have) - len(want)
    axes = [*range(lead)]
    for axis, (d, e) in enumerate(zip(want, have[lead:]), lead):
        if d != e and d == 1:
            axes.append(axis)
        elif d != e and e != 1 and not _equal_when_run(d, e):
            raise _unsupported(node, f"whether '{v.name}' of shape {want} is repeated is not known")
    if not axes:
        return part
    total = b.add("ReduceSum", part, b.constant(axes, np.int64), keepdims=True)
    return b.add("Reshape", total, b.add("Shape", v), allowzero=1, types=[v.type])


def _equal_when_run(d: Dim, e: Dim) -> bool:
    """An int against a name: the name is that size, or the result would be 1."""
    return isinstance(e, int) != isinstance(d, int) and isinstance(d, int)


class _Use:
    """A node that is differentiated, and arithmetic. Numbers become constants of the result's dtype."""

    def __init__(self, b: Builder, node: Node) -> None:
        self.b, self.node, self.attrs = b, node, node.attrs
        self.y = node.output

    def __getitem__(self, i: int) -> Value:
        return self.node.inputs[i]

    def __call__(self, op: str, *operands: Any, **attrs: Any) -> Value:
        dtype = self.y.dtype
        values = [v if v is None or isinstance(v, Value) else self.b.constant(v, dtype) for v in operands]
        return self.b.add(op, *values, **attrs)

    def ints(self, *values: int) -> Value:
        return self.b.constant(list(values), np.int64)

    def shaped(self, g: Value, like: Value) -> Value:
        return self.b.add("Reshape", g, self.b.add("Shape", like), allowzero=1, types=[like.type])

    def swapped(self, v: Value) -> Value:
        order = [*range(len(v.shape) - 2), len(v.shape) - 1, len(v.shape) - 2]
        return self.b.add("Transpose", v, perm=order)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return add


# --- arithmetic ---------------------------------------------------------------------------------------------------------
_RULES |= {
    "Add": lambda u, g: (g, g),
    "Sub": lambda u, g: (g, u("Neg", g)),
    "Mul": lambda u, g: (u("Mul", g, u[1]), u("Mul", g, u[0])),
    "Div": lambda u, g: (u("Div", g, u[1]), u("Neg", u("Div", u("Mul", g, u.y), u[1]))),
    "Neg": lambda u, g: (u("Neg", g),),
    "Identity": lambda u, g: (g,),
    "Exp": lambda u, g: (u("Mul", g, u.y),),
    "Log": lambda u, g: (u("Div", g, u[0]),),
    "Sqrt": lambda u, g: (u("Div", g, u("Mul", u.y, 2)),),
    "Reciprocal": lambda u, g: (u("Neg", u("Mul", g, u("Mul", u.y, u.y))),),
    "Sin": lambda u, g: (u("Mul", g, u("Cos", u[0])),),
    "Cos": lambda u, g: (u("Neg", u("Mul", g, u("Sin", u[0]))),),
    "Tanh": lambda u, g: (u("Mul", g, u("Sub", 1, u("Mul", u.y, u.y))),),
    "Sigmoid": lambda u, g: (u("Mul", g, u("Mul", u.y, u("Sub", 1, u.y))),),
    "Softplus": lambda u, g: (u("Mul", g, u("Sigmoid", u[0])),),
    "Erf": lambda u, g: (u("Mul", g, u("Mul", u("Exp", u("Neg", u("Mul", u[0], u[0]))), 2 / math.sqrt(math.pi))),),
    "Relu": lambda u, g: (u("Where", u("Greater", u[0], 0), g, 0),),
    "Abs": lambda u, g: (u("Mul", g, u("Sign", u[0])),),
    "Sum": lambda u, g: [g] * len(u.node.inputs),
    "Where": lambda u, g: (None, u("Where", u[0], g, 0), u("Where", u[0], 0, g)),
}


@_rule("Pow")
def _pow(u: _Use, g: Value) -> Sequence[Value | None]:
    """Of the base; of the exponent too, where that is of its dtype: 0 where the base is 0, as in PyTorch."""
    x, n = u[0], u[1]
    exponent = n if n.dtype == x.dtype else u.b.add("Cast", n, to=x.dtype)
    slope = u("Mul", exponent, u("Pow", x, u("Sub", exponent, 1)))
    of_base = u("Mul", g, u("Where", u("Equal", exponent, 0), 0, slope))
    zero = u("Equal", x, 0)
    log = u("Where", zero, 0, u("Log", u("Where", zero, 1, x)))
    return of_base, u("Mul", g, u("Mul", u.y, log)) if n.dtype == x.dtype else None


@_rule("Cast")
def _cast(u: _Use, g: Value) -> Sequence[Value | None]:
    return (u.b.add("Cast", g, to=u[0].dtype) if is_float(u[0].dtype) else None,)


# --- products -----------------------------------------------------------------------------------------------------------
@_rule("MatMul")
def _matmul(u: _Use, g: Value) -> Sequence[Value | None]:
    """Batches are summed afterwards, as what is broadcast is. A vector is a matrix of one row or column."""
    a, c = u[0], u[1]
    row, column = len(a.shape) == 1, len(c.shape) == 1
    left = u("Unsqueeze", a, u.ints(0)) if row else a
    right = u("Unsqueeze", c, u.ints(1)) if column else c
    if column:
        g = u("Unsqueeze", g, u.ints(-1))
    if row:
        g = u("Unsqueeze", g, u.ints(-2))
    of_left, of_right = u("MatMul", g, u.swapped(right)), u("MatMul", u.swapped(left), g)
    if row:
        of_left = u("Squeeze", of_left, u.ints(-2))
    if column:
        of_right = u("Squeeze", of_right, u.ints(-1))
    return of_left, of_right


@_rule("Gemm")
def _gemm(u: _Use, g: Value) -> Sequence[Value | None]:
    """Y = alpha A' B' + beta C."""
    scaled = u("Mul", g, u.attrs["alpha"])
    a, c = (u.swapped(v) if u.attrs[key] else v for v, key in ((u[0], "transA"), (u[1], "transB")))
    of_a, of_b = u("MatMul", scaled, u.swapped(c)), u("MatMul", u.swapped(a), scaled)
    of_a, of_b = (u.swapped(v) if u.attrs[key] else v for v, key in ((of_a, "transA"), (of_b, "transB")))
    return (of_a, of_b, u("Mul", g, u.attrs["beta"]) if len(u.node.inputs) > 2 else None)


# --- shapes and sums ----------------------------------------------------------------------------------------------------
@_rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshaped(u: _Use, g: Value) -> Sequence[Value | None]:
    return (u.shaped(g, u[0]),)


@_rule("Expand")
def _expanded(u: _Use, g: Value) -> Sequence[Value | None]:
    return (g,)


@_rule("Transpose")
def _transposed(u: _Use, g: Value) -> Sequence[Value | None]:
    order = u.attrs["perm"] or range(len(g.shape))[::-1]
    return (u.b.add("Transpose", g, perm=np.argsort(order).tolist()),)


@_rule("ReduceSum", "ReduceMean")
def _reduced(u: _Use, g: Value) -> Sequence[Value | None]:
    x, rank = u[0], len(u[0].shape)
    given = u.node.call.ints(1) if u.node.call.has(1) else []
    axes = sorted(a % rank for a in given) or ([] if u.attrs["noop_with_empty_axes"] else [*range(rank)])
    if not u.attrs["keepdims"] and axes:
        g = u("Unsqueeze", g, u.ints(*axes))
    whole = u("Expand", g, u.b.add("Shape", x), types=[x.type])
    if u.node.op.name == "ReduceMean":
        count = u.b.add("Div", u.b.add("Size", x), u.b.add("Size", u.y))
        whole = u("Div", whole, u.b.add("Cast", count, to=x.dtype))
    return (whole,)


def differentiable() -> Collection[str]:
    """Operators that have a rule."""
    return _RULES.keys()
