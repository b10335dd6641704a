"""Attention of com.microsoft, which projects its input itself, and QAttention, the same on 8-bit numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import FLOAT_NAMES, operand_name, require_dtype, require_same_dtype
from graphc.ops.contrib.attention import Sizes, expect, macs, require_added, scale_of, split
from graphc.ops.contrib.attention_masks import add, emit_mask, mask_reference, require_mask
from graphc.ops.contrib.attention_scores import attend, columns, emit_heads, flat, heads_of
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import FLOAT32, widen
from graphc.types import Dim, MaybeNone, Shape, TensorType

INT64 = np.dtype(np.int64)


def _hidden_sizes(call: Call, width: Dim) -> tuple[Dim, Dim, Dim]:
    """Columns of queries, keys and values. Raises TypeRuleError."""
    given = call.attrs.get("qkv_hidden_sizes")
    if not given:
        if isinstance(width, int) and width % 3:
            raise call.fail(f"the weights' {width} columns are not thirds", "set qkv_hidden_sizes")
        return width // 3, width // 3, width // 3
    if len(given) != 3 or given[0] != given[1]:
        raise call.fail(f"qkv_hidden_sizes is {list(given)}", "three numbers, the first two the same")
    return given


def _packed_sizes(call: Call, mask: int, past: int) -> Sizes:
    """Of a use whose input and weights come first. Raises TypeRuleError."""
    x, w, heads = call.shape(0), call.shape(1), call.attrs.num_heads
    if len(x) != 3:
        raise call.fail(f"'{operand_name(call, 0)}' has shape {x}", "give [batch, sequence, inputs]")
    if len(w) != 2:
        raise call.fail(f"'{operand_name(call, 1)}' has shape {w}", "give [inputs, columns]")
    expect(call, 1, (x[2], w[1]))
    expect(call, 2, (w[1],))
    q, _, v = _hidden_sizes(call, w[1])
    if isinstance(w[1], int) and 2 * q + v != w[1]:
        raise call.fail(f"qkv_hidden_sizes {list(call.attrs.qkv_hidden_sizes)} are not the weights' {w[1]} columns")
    size, v_size = split(call, q, heads, "query"), split(call, v, heads, "value")
    before: Dim = 0
    if call.has(past):
        if call.rank(past) != 5:
            raise call.fail(f"'past' has shape {call.shape(past)}", "give [2, batch, heads, sequence, size]")
        before = call.shape(past)[3]
        expect(call, past, (2, x[0], heads, before, size))
        expect(call, past, (2, x[0], heads, before, v_size))
    s = Sizes(x[0], heads, x[1], x[1], before, size, v_size)
    require_mask(call, mask, s.batch, s.past, s.queries, s.total)
    return s


def _results(call: Call, s: Sizes, dtype: np.dtype) -> list[TensorType]:
    if call.n_outputs > 1 and isinstance(s.size, int) and isinstance(s.v_size, int) and s.size != s.v_size:
        raise call.fail("keys and values in one result have heads of one size", "leave 'present' out")
    y: Shape = (s.batch, s.queries, s.heads * s.v_size)
    return [TensorType(dtype, y), TensorType(dtype, (2, s.batch, s.heads, s.total, s.size))]


def _attend(q, k, v, past, mask, added, attrs) -> tuple[np.ndarray, np.ndarray | None]:
    """Of projected queries, keys and values."""
    q, k, v = (heads_of(x, attrs["num_heads"]) for x in (q, k, v))
    before = 0 if past is None else past.shape[3]
    if past is not None:
        k, v = np.concatenate([past[0], k], 2), np.concatenate([past[1], v], 2)
    (batch, _, queries, size), total = q.shape, k.shape[2]
    numbers = np.zeros((1, 1, 1, 1)) if added is None else added
    if mask is not None:
        numbers = numbers + mask_reference(mask, batch, before, queries, total, attrs["mask_filter_value"])
    seen = None
    if attrs["unidirectional"]:
        seen = np.arange(total) <= np.arange(queries)[:, None] + before
    y = flat(attend(q, k, v, scale_of(attrs, size), added=numbers, seen=seen).y)
    return y, np.stack([k, v]) if k.shape == v.shape else None


def _emit(
    b: Builder, call: Call, s: Sizes, projected: Value, past: Value | None, mask: Value | None, added: Value | None
) -> tuple[Value, ...]:
    q, k, v = columns(b, projected, *(s.heads * n for n in (s.size, s.size, s.v_size)))
    numbers = None
    if mask is not None:
        hidden = call.attrs.mask_filter_value
        numbers = emit_mask(b, mask, s.batch, s.past, s.queries, s.total, hidden, projected.dtype)
    lengths, present = None, []
    if past is not None or call.n_outputs > 1:
        new = [b.add("Unsqueeze", emit_heads(b, x, s.heads), b.constant([0], np.int64)) for x in (k, v)]
        caches = b.add("Concat", *new, axis=0)
        if past is not None:
            caches = b.add("Concat", past, caches, axis=3)
        present = [caches]
    if past is not None:
        axis = b.constant([0], np.int64)
        k, v = (
            b.add("Squeeze", b.add("Slice", caches, *(b.constant([n], np.int64) for n in (i, i + 1)), axis), axis)
            for i in range(2)
        )
        if call.attrs.unidirectional:  # the last query stands at the last key
            lengths = b.add("Expand", b.constant(s.total, np.int64), b.constant([s.batch], np.int64))
    heads: dict[str, Any] = {"q_num_heads": s.heads, "kv_num_heads": s.heads, "scale": call.attrs.scale or None}
    operands = (q, k, v, add(b, numbers, added), None, None, lengths)
    y = b.add("Attention", *operands, is_causal=call.attrs.unidirectional, **heads)
    return y, *present


# --- Attention --------------------------------------------------------------------------------------------------------
def _infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, 0, 1, 2, 4, 5)
    for name in ("do_rotary", "past_present_share_buffer"):
        if call.attrs[name]:
            raise call.fail(f"{name} is not supported", "use GroupQueryAttention, or keep past and present apart")
    if call.has(6):
        raise call.fail("past_sequence_length is for a buffer that past and present share", "leave it out")
    s = _packed_sizes(call, 3, 4)
    require_added(call, 5, s.scores)
    return _results(call, s, dtype)


def _reference(x, w, bias=None, mask=None, past=None, added=None, length=None, **attrs):
    dtype, (x, w, bias, past, added) = x.dtype, map(widen, (x, w, bias, past, added))
    projected = x @ w + (0 if bias is None else bias)
    q, k, v = np.split(projected, np.cumsum(_parts(attrs.get("qkv_hidden_sizes"), w.shape[1]))[:2], axis=-1)
    y, present = _attend(q, k, v, past, mask, added, attrs)
    return y.astype(dtype), present if present is None else present.astype(dtype)


def _parts(sizes: Sequence[int] | MaybeNone, width: int) -> Sequence[int]:
    return sizes or [width // 3] * 3


@where_static
def _expand(b: Builder, call: Call) -> tuple[Value, ...]:
    s = _packed_sizes(call, 3, 4)
    projected = b.add("MatMul", *call.inputs[:2])
    if call.has(2):
        projected = b.add("Add", projected, call.inputs[2])
    mask, past, added = (call.given(i) for i in (3, 4, 5))
    return _emit(b, call, s, projected, past, mask, added)


_ATTRS: dict[str, Any] = {
    "num_heads": Attr(int),
    "unidirectional": Attr(bool, False),
    "mask_filter_value": Attr(float, -10000.0, settled=True),
    "scale": Attr(float, 0.0),
    "do_rotary": Attr(bool, False),
    "past_present_share_buffer": Attr(bool, False),
}
_X, _W, _B, _TWO = Tensor((2, 4, 6)), Tensor((6, 48)), Tensor((48,)), {"num_heads": 2}
_PAST = Tensor((2, 2, 2, 3, 8))


def _flags(*shape: int) -> Const:
    return Const((np.random.default_rng(3).random(shape) < 0.7) | (np.eye(shape[-2], shape[-1]) > 0), "int32")


contrib(
    "Attention",
    "input weights bias? mask_index? past? attention_bias? past_sequence_length?",
    _infer,
    _reference,
    _expand,
    [
        Case((_X, _W, _B), _TWO, 2),
        Case((_X, _W, _B, Const([3, 4], "int32")), _TWO),
        Case((_X, _W, _B, Const([3, 4, 1, 2], "int32")), {**_TWO, "scale": 0.2}),
        Case((_X, _W, None, _flags(2, 4)), {**_TWO, "unidirectional": True}),
        Case((_X, _W, _B, _flags(2, 4, 7), _PAST), {**_TWO, "unidirectional": True, "mask_filter_value": -5.0}, 2),
        Case((_X, _W, _B, _flags(2, 1, 9, 9), _PAST, Tensor((2, 1, 4, 7))), _TWO, 2),
        Case((_X, Tensor((6, 56)), Tensor((56,))), {**_TWO, "qkv_hidden_sizes": (16, 16, 24)}),
    ],
    _ATTRS | {"qkv_hidden_sizes": Attr("ints", ()), "rotary_embedding_dim": Attr(int, 0, settled=True)},
    ("output", "present"),
    macs=lambda call: macs(_packed_sizes(call, 3, 4)),
)


# --- QAttention -------------------------------------------------------------------------------------------------------
def _quantized_infer(call: Call) -> list[TensorType]:
    for i in (0, 1):
        require_dtype(call, i, ("int8", "uint8"))
    dtype = require_dtype(call, 2, FLOAT_NAMES)
    require_same_dtype(call, 2, 3, 4, 8)
    require_same_dtype(call, 0, 6)
    require_same_dtype(call, 1, 7)
    for name in ("do_rotary", "past_present_share_buffer"):
        if call.attrs[name]:
            raise call.fail(f"{name} is not supported", "keep past and present apart")
    width = call.shape(1)[-1]
    for i, shapes in ((3, ((), (1,))), (6, ((), (1,))), (4, ((), (1,), (width,))), (7, ((), (1,), (width,)))):
        expect(call, i, *shapes)
    return _results(call, _packed_sizes(call, 5, 8), dtype)


def _quantized_reference(x, w, bias, x_scale, w_scale, mask=None, x_zero=None, w_zero=None, past=None, **attrs):
    dtype, (bias, x_scale, w_scale, past) = bias.dtype, map(widen, (bias, x_scale, w_scale, past))
    wide = bias.dtype
    x, w = (a.astype(wide) - (0 if z is None else z.astype(wide)) for a, z in ((x, x_zero), (w, w_zero)))
    q, k, v = np.split(x @ w * (x_scale * w_scale) + bias, 3, axis=-1)
    y, present = _attend(q, k, v, past, mask, None, attrs)
    return y.astype(dtype), present if present is None else present.astype(dtype)


@where_static
def _expand_quantized(b: Builder, call: Call) -> tuple[Value, ...]:
    """The product is one of whole numbers, scaled by both."""
    s, (x, w, bias, x_scale, w_scale) = _packed_sizes(call, 5, 8), call.inputs[:5]
    mask, x_zero, w_zero, past = (call.given(i) for i in (5, 6, 7, 8))
    wide = bias.dtype if bias.dtype.itemsize >= 4 else FLOAT32
    product = b.add("Cast", b.add("MatMulInteger", x, w, _number(b, x_zero), _number(b, w_zero)), to=wide)
    scales = b.add("Mul", *(b.add("Cast", _number(b, v), to=wide) for v in (x_scale, w_scale)))
    projected = b.add("Add", b.add("Cast", b.add("Mul", product, scales), to=bias.dtype), bias)
    return _emit(b, call, s, projected, past, mask, None)


def _number(b: Builder, v: Value | MaybeNone) -> Value | MaybeNone:
    """A row, or one number without axes."""
    if v is None or v.shape != (1,):
        return v
    return b.add("Squeeze", v, b.constant([0], np.int64))


def _bytes(dtype: str, *shape: int) -> Const:
    low, high = (0, 200) if dtype == "uint8" else (-90, 90)
    return Const(np.random.default_rng(1).integers(low, high, shape), dtype)


_SCALES = (Const(0.02, "float32"), Const(0.01, "float32"))
contrib(
    "QAttention",
    "input weight bias input_scale weight_scale mask_index? input_zero_point? weight_zero_point? past?",
    _quantized_infer,
    _quantized_reference,
    _expand_quantized,
    [
        Case((_bytes("uint8", 2, 4, 6), _bytes("int8", 6, 48), _B, *_SCALES), _TWO),
        Case(
            (
                _bytes("uint8", 2, 4, 6),
                _bytes("uint8", 6, 48),
                _B,
                *_SCALES,
                _flags(2, 7),
                Const(100, "uint8"),
                Const(90, "uint8"),
                _PAST,
            ),
            {**_TWO, "unidirectional": True},
            2,
        ),
    ],
    _ATTRS,
    ("output", "present"),
    dtypes=("float32",),
    macs=lambda call: macs(_packed_sizes(call, 5, 8)),
)
