"""The layers for sequences [batch, steps, features]: embedding, recurrent cells, attention."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from graphc.frontends.yaml_registry import LayerBuilder, layer
from graphc.graph import Value

Returned = Literal["all", "last", "states"]
Values = Value | tuple[Value, ...]


@layer
def embedding(c: LayerBuilder, ids: Value, *, vocab: int, dim: int) -> Value:
    """Rows of a table [vocab, dim], chosen by whole numbers."""
    if ids.dtype.kind not in "iu":
        raise c.fail(f"takes whole numbers, not {ids.type}", "declare the input with dtype: int64")
    return c.add("Gather", c.weight("weight", (vocab, dim), np.float32, "embedding"), ids, axis=0)


@layer
def lstm(
    c: LayerBuilder,
    *xs: Value,
    hidden: int,
    layers: int = 1,
    bidirectional: bool = False,
    return_: Returned = "all",
    biases: int = 2,
    peepholes: bool = False,
) -> Values:
    """Long short-term memory. return: all = [batch, steps, directions*hidden], last = the final state [batch, …],
    states = all, and the final h and c [batch, hidden]: `as: [y, h, c]`.
    `from: [x, h, c]` begins with that state; where x is one step, [batch, features], it gives `as: [h, c]` behind it.
    biases: 2 as in ONNX and PyTorch, 1 as in Keras, 0. Gates in ONNX's order: input, output, forget, cell.
    peepholes: gates see the cell, too (Gers, Schmidhuber 2000); l<i>.p [directions, 3*hidden], input, output, forget."""
    return _recurrent(c, xs, "LSTM", 4, hidden, layers, bidirectional, return_, biases, peepholes)


@layer
def gru(
    c: LayerBuilder,
    *xs: Value,
    hidden: int,
    layers: int = 1,
    bidirectional: bool = False,
    return_: Returned = "all",
    biases: int = 2,
    reset_after: bool = True,
) -> Values:
    """Gated recurrent unit. reset_after: the reset gate is applied after the product with the state, as in PyTorch,
    cuDNN and Keras. Gates in ONNX's order: update, reset, hidden. return: as of lstm, states = `as: [y, h]`.
    `from: [x, h]` begins with that state; where x is one step, [batch, features], it gives the h behind it."""
    return _recurrent(
        c, xs, "GRU", 3, hidden, layers, bidirectional, return_, biases, linear_before_reset=int(reset_after)
    )


@layer
def rnn(
    c: LayerBuilder,
    *xs: Value,
    hidden: int,
    layers: int = 1,
    bidirectional: bool = False,
    return_: Returned = "all",
    biases: int = 2,
    act: Literal["tanh", "relu"] = "tanh",
) -> Values:
    """Elman's recurrent network. `from: [x, h]` and return as of gru."""
    activations = [act.capitalize()] * (1 + bidirectional)
    return _recurrent(c, xs, "RNN", 1, hidden, layers, bidirectional, return_, biases, activations=activations)


def _recurrent(
    c: LayerBuilder,
    xs: tuple[Value, ...],
    op: str,
    gates: int,
    hidden: int,
    layers: int,
    bidirectional: bool,
    returned: Returned,
    biases: int,
    peepholes: bool = False,
    **attrs: Any,
) -> Values:
    """Weights of layer i: l<i>.w [directions, gates*hidden, features], l<i>.r [directions, gates*hidden, hidden],
    l<i>.b [directions, biases*gates*hidden]."""
    states = "hc" if op == "LSTM" else "h"
    c.operands(xs, 1, 1 + len(states), hint=f"give the steps, or a state, too: from: [x, {', '.join(states)}]")
    x, *begin = xs
    one = c.rank(x, *((2, 3) if begin else (3,)), hint="a recurrent layer reads [batch, steps, features]") == 2
    if not 1 <= layers <= 64 or biases not in (0, 1, 2):
        raise c.fail(f"takes 1 to 64 layers and 0, 1 or 2 biases, not {layers} and {biases}")
    if (begin or returned == "states") and (layers > 1 or bidirectional):
        raise c.fail("a state is that of one layer in one direction", "write a step for each layer")
    if one and returned != "all":
        raise c.fail("one step gives the state behind it", "leave `return` out")
    for name, v in zip(states, begin):
        if c.rank(v, 2, hint=f"{name} is [batch, {hidden}]") and v.shape[1] != hidden:
            raise c.fail(f"state {name} must be [batch, {hidden}], not {v.type}", f"hidden is {hidden}")
    n = 2 if bidirectional else 1
    direction = "bidirectional" if bidirectional else "forward"
    # ONNX's layout: [steps, batch, features]
    y = c.add("Unsqueeze", x, c.const([0])) if one else c.add("Transpose", x, perm=(1, 0, 2))
    first = [c.add("Unsqueeze", v, c.const([0])) for v in begin]
    for i in range(layers):
        w = c.weight(f"l{i}.w", (n, gates * hidden, c.fixed(y, 2, "the number of features")), x.dtype, "recurrent")
        r = c.weight(f"l{i}.r", (n, gates * hidden, hidden), x.dtype, "recurrent")
        b: list[Value | None] = [*_bias(c, f"l{i}.b", n, gates * hidden, biases, x.dtype)] or [None]
        optional = [*b, None, *(first or [None] * len(states))]  # behind the lengths of sequences
        if peepholes:
            optional.append(c.weight(f"l{i}.p", (n, 3 * hidden), x.dtype, "small"))
        while optional and optional[-1] is None:
            optional.pop()
        outputs = 1 + len(states)
        y, *last = c.add(op, y, w, r, *optional, outputs=outputs, hidden_size=hidden, direction=direction, **attrs)
        if returned == "last" and i == layers - 1:
            break
        if n == 1:  # [steps, 1, batch, hidden] -> [steps, batch, hidden]
            y = c.add("Squeeze", y, c.const([1]))
        else:
            y = c.add("Reshape", c.add("Transpose", y, perm=(0, 2, 1, 3)), c.const([0, 0, n * hidden]))
    if one or returned == "states":  # [1, batch, hidden] -> [batch, hidden]
        final = tuple(c.add("Squeeze", v, c.const([0])) for v in last)
        return final if one else (c.add("Transpose", y, perm=(1, 0, 2)), *final)
    if returned == "all":
        return c.add("Transpose", y, perm=(1, 0, 2))
    if n == 1:
        return c.add("Squeeze", last[0], c.const([0]))
    return c.add("Reshape", c.add("Transpose", last[0], perm=(1, 0, 2)), c.const([0, n * hidden]))


def _bias(c: LayerBuilder, name: str, n: int, size: int, biases: int, dtype: np.dtype) -> list[Value]:
    if not biases:
        return []
    b = c.weight(name, (n, biases * size), dtype, "small")
    return [b] if biases == 2 else [c.add("Concat", b, c.const(np.zeros((n, size)), dtype), axis=1)]


@layer
def attention(c: LayerBuilder, *xs: Value, heads: int, bias: bool = True, causal: bool = False) -> Value:
    """Multi-head attention, softmax(QKᵀ/√d)V (Vaswani et al. 2017, arXiv:1706.03762).

    Of the steps to each other, or of x to another sequence: `from: [x, memory]`. causal: no step sees those behind it.
    Weights: in.weight [3*features, features] (queries, keys, values), out.weight [features, features], and biases; with a memory
    query.weight [features, features] and memory.weight [2*features, features of the memory] (keys, values) for in."""
    c.operands(xs, 1, 2, hint="give one sequence, or two: from: [x, memory]")
    for v in xs:
        c.rank(v, 3, hint="attention reads [batch, steps, features]")
    x = xs[0]
    features = c.fixed(x, 2, "the number of features")
    if heads < 1 or features % heads:
        raise c.fail(f"{heads} heads do not divide {features} features")
    if len(xs) == 1:
        qkv = _linear(c, "in", x, 3 * features, bias)
        q, k, v = c.add("Split", qkv, outputs=3, axis=2, num_outputs=3)
    else:
        q = _linear(c, "query", x, features, bias)
        k, v = c.add("Split", _linear(c, "memory", xs[1], 2 * features, bias), outputs=2, axis=2, num_outputs=2)
    if causal:
        mixed = c.add("Attention", q, k, v, q_num_heads=heads, kv_num_heads=heads, is_causal=1)
    else:
        mixed = _mixed(c, q, k, v, heads, features)
    return _linear(c, "out", mixed, features, bias)


def _linear(c: LayerBuilder, name: str, x: Value, out: int, bias: bool) -> Value:
    """x times the weight `name`.weight, and its bias."""
    w = c.weight(f"{name}.weight", (out, c.fixed(x, 2, "the number of features")), x.dtype, "lecun")
    y = c.add("MatMul", x, c.add("Transpose", w, perm=(1, 0)))
    return c.add("Add", y, c.weight(f"{name}.bias", (out,), x.dtype, "small")) if bias else y


def _mixed(c: LayerBuilder, q: Value, k: Value, v: Value, heads: int, features: int) -> Value:
    """softmax(QKᵀ/√d)V of each head."""
    size = features // heads
    shape = c.const([0, 0, heads, size])
    # queries and values [batch, heads, steps, size], keys [batch, heads, size, steps]
    q, k, v = (c.add("Transpose", c.add("Reshape", p, shape), perm=m) for p, m in zip((q, k, v), _PERMS))
    scores = c.add("MatMul", c.add("Mul", q, c.const(1 / math.sqrt(size), q.dtype)), k)
    mixed = c.add("MatMul", c.add("Softmax", scores, axis=-1), v)
    return c.add("Reshape", c.add("Transpose", mixed, perm=(0, 2, 1, 3)), c.const([0, 0, features]))


_PERMS = ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))


@layer
def class_token(c: LayerBuilder, x: Value) -> Value:
    """Put a learned token before the steps, as in BERT and ViT (arXiv:2010.11929). Needs a fixed number of steps."""
    c.rank(x, 3)
    steps, features = c.fixed(x, 1, "the number of steps"), c.fixed(x, 2, "the number of features")
    token = c.weight("value", (1, 1, features), x.dtype, "small")
    longer = c.add("Pad", x, c.const([0, 1, 0, 0, 0, 0]))
    # a row of zeros and a token followed by zeros: their sum is the concatenation, for any batch
    return c.add("Add", longer, c.add("Pad", token, c.const([0, 0, 0, 0, steps, 0])))
