"""Attention of several heads as one operator, made by passes/fuse_attention: it reads queries, keys and values where the
projections left them, and has no big intermediate result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphc.dtypes import is_narrow
from graphc.errors import InputError
from graphc.op import Attr, Call, Case, Const, Op, Samples, Tensor, register
from graphc.ops.attention import Window, emit_seen
from graphc.ops.contract import differ, require_dtype, require_same_dtype
from graphc.ops.precision import widen
from graphc.types import Dim, TensorType, prod

# axes of q, k, v and the result; heads and sequence lie between, in the order that `head_axes` tells
BATCH, SIZE = 0, 3


@dataclass(frozen=True)
class Heads:
    """Sizes of one use: `heads` queries' heads, `kv_heads` of keys and values."""

    batch: Dim
    heads: int
    kv_heads: int
    queries: Dim
    keys: Dim
    size: Dim
    v_size: Dim


def heads_of(call: Call) -> Heads:
    """Sizes of a use. Raises TypeRuleError where its operands do not fit each other."""
    q, k, v = (call.shape(i) for i in range(3))
    for i, (shape, count) in enumerate(zip((q, k, v), (call.attrs.heads, call.attrs.kv_heads, call.attrs.kv_heads))):
        name, axis, first = call.op.inputs[i], call.attrs.head_axes[i], call.attrs.first_heads[i]
        if len(shape) != 4:
            raise call.fail(
                f"'{name}' has shape {shape}", "it must have batch, heads and sequence in any order, and size"
            )
        if isinstance(shape[axis], int) and not 0 <= first <= shape[axis] - count:
            raise call.fail(f"heads {first} to {first + count} of '{name}' {shape} are not on its axis {axis}")
    if call.attrs.kv_heads < 1 or call.attrs.heads % call.attrs.kv_heads:
        raise call.fail(f"{call.attrs.heads} query heads do not divide into groups for {call.attrs.kv_heads} key heads")
    lengths = [shape[3 - axis] for shape, axis in zip((q, k, v), call.attrs.head_axes)]
    for a, b, what in ((lengths[1], lengths[2], "lengths of keys and values"), (q[SIZE], k[SIZE], "sizes of a head")):
        if differ(a, b):
            raise call.fail(f"{what} differ: {a} and {b}")
    if differ(q[BATCH], k[BATCH]) or differ(q[BATCH], v[BATCH]):
        raise call.fail(f"batches differ: {q[BATCH]}, {k[BATCH]} and {v[BATCH]}")
    return Heads(q[BATCH], call.attrs.heads, call.attrs.kv_heads, lengths[0], lengths[1], q[SIZE], v[SIZE])


def window_of(call: Call) -> Window:
    """Which keys its queries see; with lengths, where there are all of them."""
    s, attrs = heads_of(call), call.attrs
    start = s.keys - s.queries if attrs.at_end else 0
    return Window(attrs.before, attrs.after, start + attrs.offset)


def _infer(call: Call) -> list[TensorType]:
    if len(call.attrs.head_axes) != 4 or len(call.attrs.first_heads) != 3 or not set(call.attrs.head_axes) <= {1, 2}:
        raise call.fail(
            f"head_axes {call.attrs.head_axes} and first_heads {call.attrs.first_heads} are not four and three axes"
        )
    dtype = require_dtype(call, 0, ("float16", "bfloat16", "float32", "float64"))
    require_same_dtype(call, 0, *([3] if call.has(3) else []))
    require_same_dtype(call, 1, 2)
    if dtype != call.dtype(1) and not (dtype == np.float32 and is_narrow(call.dtype(1))):  # a narrow cache
        require_same_dtype(call, 0, 1)
    s = heads_of(call)
    if call.has(3):
        shape, scores = call.shape(3), (s.batch, s.heads, s.queries, s.keys)
        if len(shape) > 4 or any(d != 1 and differ(d, want) for d, want in zip(shape[::-1], scores[::-1])):
            raise call.fail(f"the mask has shape {shape}", f"it must broadcast to {scores}")
    if call.has(4) and (call.dtype(4) != np.int64 or call.rank(4) != 1 or differ(call.shape(4)[0], s.batch)):
        raise call.fail(f"the lengths are {call.type(4)}", f"they must be int64 [{s.batch}]")
    if call.has(4) and not call.attrs.at_end:
        raise call.fail("the first query stands at a key whatever the lengths are", "set at_end")
    middle = (s.heads, s.queries) if call.attrs.head_axes[3] == 1 else (s.queries, s.heads)
    return [TensorType(dtype, (s.batch, *middle, s.v_size))]


def _macs(call: Call) -> Dim:
    s = heads_of(call)
    return prod((s.batch, s.heads, s.queries, s.keys, s.size + s.v_size))


def _reference(
    q,
    k,
    v,
    mask=None,
    lengths=None,
    *,
    heads,
    kv_heads,
    scale,
    head_axes,
    first_heads,
    zeros,
    softcap,
    before,
    after,
    offset,
    at_end,
):
    def part(x, count, axis, first):
        x = x if axis == 1 else x.swapaxes(1, 2)
        return x[:, first : first + count]

    dtype, (q, k, v, mask) = q.dtype, map(widen, (q, k, v, mask))
    q, k, v = (
        part(x, n, axis, first)
        for x, n, axis, first in zip((q, k, v), (heads, kv_heads, kv_heads), head_axes, first_heads)
    )
    k, v = (np.repeat(x, heads // kv_heads, axis=1) for x in (k, v))
    scores = np.matmul(q, k.swapaxes(2, 3)) * q.dtype.type(scale)
    if softcap:
        scores = np.tanh(scores / q.dtype.type(softcap)) * q.dtype.type(softcap)
    if mask is not None:
        scores = scores + mask
    queries, keys = scores.shape[2:]
    if lengths is None:
        lengths = np.array([keys])
    elif lengths.size and not (lengths.min() >= 0 and lengths.max() <= keys):
        raise InputError(f"lengths from {lengths.min()} to {lengths.max()} are not between 0 and {keys} keys")
    lengths = lengths.reshape(-1, 1, 1, 1)
    window = Window(before, after, offset + (lengths - queries if at_end else 0))
    seen = window.seen(queries, keys) & (np.arange(keys) < lengths)
    scores = np.where(seen, scores, q.dtype.type(-np.inf))
    hidden = np.isneginf(scores).all(-1, keepdims=True) & zeros
    powers = np.exp(scores - np.where(hidden, 0, scores.max(-1, keepdims=True, initial=-np.inf))).astype(q.dtype)
    y = np.matmul(powers / np.where(hidden, 1, powers.sum(-1, keepdims=True)), v)
    return np.ascontiguousarray(y if head_axes[3] == 1 else y.swapaxes(1, 2), dtype)


def _expand(b, call: Call):
    """MatMul, Mul, Add, Softmax, MatMul, and what the attributes add."""
    s, dtype, lengths = heads_of(call), call.dtype(0), call.inputs[4] if call.has(4) else None

    def part(i, count, axis, first):
        x = call.inputs[i]
        if x.shape[axis] != count:
            bounds = [b.constant([n], np.int64) for n in (first, first + count, axis)]
            x = b.add("Slice", x, *bounds)
        return x if axis == 1 else b.add("Transpose", x, perm=(0, 2, 1, 3))

    counts = (s.heads, s.kv_heads, s.kv_heads)
    q, k, v = (part(i, *of) for i, of in enumerate(zip(counts, call.attrs.head_axes, call.attrs.first_heads)))
    k, v = (x if x.dtype == dtype else b.add("Cast", x, to=dtype) for x in (k, v))
    group = s.heads // s.kv_heads
    if group > 1:
        index = b.constant(np.repeat(np.arange(s.kv_heads), group), np.int64)
        k, v = (b.add("Gather", x, index, axis=1) for x in (k, v))
    scores = b.add("MatMul", q, b.add("Transpose", k, perm=(0, 1, 3, 2)))
    scores = b.add("Mul", scores, b.constant(call.attrs.scale, dtype))
    if call.attrs.softcap:
        cap = b.constant(call.attrs.softcap, dtype)
        scores = b.add("Mul", b.add("Tanh", b.add("Div", scores, cap)), cap)
    if call.has(3):
        scores = b.add("Add", scores, call.inputs[3])
    if (seen := emit_seen(b, window_of(call), s.queries, s.keys, lengths)) is not None:
        scores = b.add("Where", seen, scores, b.constant(-np.inf, dtype))
    weights = b.add("Softmax", scores, axis=-1)
    if call.attrs.zeros:
        top = b.add("ReduceMax", scores, b.constant([-1], np.int64), keepdims=True)
        hidden = b.add("Equal", top, b.constant(-np.inf, dtype))
        weights = b.add("Where", hidden, b.constant(0, dtype), weights)
    y = b.add("MatMul", weights, v)
    return y if call.attrs.head_axes[3] == 1 else b.add("Transpose", y, perm=(0, 2, 1, 3))


def _cases() -> tuple[Case, ...]:
    def case(*shapes, heads, kv_heads=None, lengths=None, **attrs):
        operands: list[Tensor | Const | None] = [Tensor(s) for s in shapes]
        if lengths is not None:
            operands += [None] * (4 - len(operands)) + [Const(lengths)]
        return Case(tuple(operands), {"heads": heads, "kv_heads": kv_heads or heads, "scale": 0.25, **attrs})

    q, kv, packed = (2, 3, 37, 20), (2, 3, 21, 20), (1, 18, 9, 16)
    side = {"head_axes": (2, 2, 2, 2)}
    return (
        case(q, kv, kv, heads=3),
        case(q, kv, (2, 3, 21, 35), heads=3, scale=1.0),
        case((2, 37, 3, 20), (2, 21, 3, 20), (2, 21, 3, 20), heads=3, **side),
        case(packed, packed, packed, heads=3, first_heads=(0, 3, 6), **side),
        case((1, 6, 5, 17), (1, 2, 50, 17), (1, 2, 50, 17), heads=6, kv_heads=2),
        case(q, kv, kv, (37, 21), heads=3),
        case(q, kv, kv, (2, 1, 1, 21), heads=3, head_axes=(1, 1, 1, 2)),
        case(q, kv, kv, (2, 3, 37, 1), heads=3, zeros=True),
        case((1, 1, 1, 4), (1, 1, 1, 4), (1, 1, 1, 3), heads=1),
        case((1, 2, 64, 64), (1, 2, 33, 64), (1, 2, 33, 64), heads=2, scale=-0.125),
        case((2, 6, 1, 64), (2, 2, 45, 64), (2, 2, 45, 64), heads=6, kv_heads=2),
        case((1, 10, 3, 20), (1, 2, 18, 20), (1, 2, 18, 35), (10, 3, 18), heads=10, kv_heads=2, softcap=1.5),
        case((1, 2, 8, 16), (1, 2, 40, 16), (1, 2, 40, 16), heads=2, after=0, at_end=True, zeros=True),
        case((1, 2, 40, 16), (1, 2, 40, 16), (1, 2, 40, 16), heads=2, after=0, zeros=True),
        case(
            (1, 2, 40, 16), (1, 2, 70, 16), (1, 2, 70, 16), (40, 70), heads=2, before=9, after=3, offset=-5, zeros=True
        ),
        case(q, kv, kv, heads=3, lengths=[20, 0], at_end=True, zeros=True),
        case((2, 6, 2, 20), kv, kv, (2, 21), heads=6, kv_heads=3, lengths=[3, 21], after=0, at_end=True, zeros=True),
        case((2, 4, 9, 8), (2, 2, 5, 8), (2, 2, 5, 8), heads=4, kv_heads=2, before=0, after=0, at_end=True, zeros=True),
    )


register(
    Op(
        "FusedAttention",
        (
            "q",
            "k",
            "v",
            "mask?",
            "lengths?",
        ),  # lengths [batch]: how many of the keys there are, as emit_lengths gives them
        _infer,
        _reference,
        {
            "heads": Attr(int),
            "kv_heads": Attr(int),
            "scale": Attr(float, 1.0),
            "head_axes": Attr("ints", (1, 1, 1, 1)),  # where the heads are: 1 or 2, of q, k, v and the result
            "first_heads": Attr("ints", (0, 0, 0)),  # of q, k and v, which may hold more heads than are used
            "zeros": Attr(bool, False),  # a query that sees no key (a row of -inf) gives zeros, not NaN
            "softcap": Attr(float, 0.0),  # scores s become softcap · tanh(s / softcap), before the mask; 0: they do not
            "before": Attr(int, -1),  # how many keys before its own position a query sees; -1: all
            "after": Attr(int, -1),  # the same behind it
            "offset": Attr(int, 0),  # the key at which the first query stands,
            "at_end": Attr(bool, False),  # counted from where the last query would stand at the last key
        },
        expand=_expand,
        macs=_macs,
        samples=Samples(("float32", "float16", "bfloat16"), low=-2.0, high=2.0, cases=_cases()),
        internal=True,
    )
)
