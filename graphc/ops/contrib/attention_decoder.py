"""DecoderMaskedMultiHeadAttention of com.microsoft: one new token, and a cache that grows or has room."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import FLOAT_NAMES, differ, operand_name, require_dtype, require_same_dtype
from graphc.ops.contrib.attention import Sizes, expect, macs, require_heads, scale_of, split
from graphc.ops.contrib.attention_cache import emit_written
from graphc.ops.contrib.attention_masks import add, emit_mask, mask_reference
from graphc.ops.contrib.attention_scores import attend, columns, emit_attend, emit_flat, emit_heads, flat, heads_of
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import widen
from graphc.ops.within import emit_within
from graphc.types import Shape, TensorType

QUERY, KEY, VALUE, MASK, ADDED, PAST_KEY, PAST_VALUE, LENGTH, WIDTH, INDIRECTION, BIAS = range(11)
INT64 = np.dtype(np.int64)


def _sizes(call: Call) -> Sizes:
    """Of a use: its past are all positions of the cache, its keys those that come behind (none in a buffer with room)."""
    query, heads = call.shape(QUERY), call.attrs.num_heads
    if len(query) != 3 or differ(query[1], 1):
        raise call.fail(f"the query has shape {query}", "give [batch, 1, hidden]")
    if call.has(KEY) != call.has(VALUE):
        raise call.fail("key and value go together: one is missing")
    past = call.shape(PAST_KEY)[2] if call.has(PAST_KEY) and call.rank(PAST_KEY) == 4 else 0
    keys = 0 if call.attrs.past_present_share_buffer else 1
    if not call.has(KEY):
        size = v_size = split(call, query[2], 3 * heads, "query, key and value")
        return Sizes(query[0], heads, 1, keys, past, size, v_size)
    size = split(call, query[2], heads, "query")
    if call.rank(KEY) == 4:  # of an encoder
        keys, v_size = call.shape(KEY)[2], call.shape(VALUE)[-1]
        expect(call, KEY, (query[0], heads, keys, size))
        expect(call, VALUE, (query[0], heads, keys, v_size))
        return Sizes(query[0], heads, 1, keys, 0, size, v_size)
    v_size = split(call, call.shape(VALUE)[-1], heads, "value")
    expect(call, KEY, (query[0], 1, heads * size))
    expect(call, VALUE, (query[0], 1, heads * v_size))
    return Sizes(query[0], heads, 1, keys, past, size, v_size)


def _infer(call: Call) -> list[TensorType]:
    dtype, s = require_dtype(call, QUERY, FLOAT_NAMES), _sizes(call)
    require_heads(call, s)
    require_same_dtype(call, QUERY, KEY, VALUE, ADDED, PAST_KEY, PAST_VALUE, BIAS)
    if call.has(WIDTH) or call.has(INDIRECTION):
        raise call.fail("beams are not supported", "leave beam_width and cache_indirection out")
    of_encoder = call.has(KEY) and call.rank(KEY) == 4
    shared = call.attrs.past_present_share_buffer and not of_encoder
    if call.has(PAST_KEY) != call.has(PAST_VALUE) or (of_encoder and call.has(PAST_KEY)):
        raise call.fail("past_key and past_value go together, where the key is one token")
    if shared and not (call.has(PAST_KEY) and call.has(LENGTH)):
        raise call.fail("past and present share a buffer", "give past_key, past_value and past_sequence_length")
    if shared and s.past == 0:
        raise call.fail("the buffer of past and present has no positions", "it needs room for the new token")
    expect(call, PAST_KEY, (s.batch, s.heads, s.past, s.size))
    expect(call, PAST_VALUE, (s.batch, s.heads, s.past, s.v_size))
    expect(call, BIAS, (s.heads * (2 * s.size + s.v_size),))
    if call.has(LENGTH):
        require_dtype(call, LENGTH, ("int32", "int64"))  # a size is int64
        expect(call, LENGTH, (), (1,))
    for i, lead in ((MASK, (s.batch,)), (ADDED, (s.batch, s.heads, 1))):
        if call.has(i):
            shape = call.shape(i)
            fits = len(shape) == len(lead) + 1 and all(
                not differ(d, n) or (i == ADDED and d == 1) for d, n in zip(shape, lead)
            )
            last = shape[-1] if shape else 0
            longer = isinstance(last, int) and isinstance(s.total, int) and last > s.total
            if not fits or longer or (not shared and differ(last, s.total)):
                raise call.fail(f"'{operand_name(call, i)}' has shape {shape}", f"it must be {(*lead, s.total)}")
    y: Shape = (s.batch, 1, s.heads * s.v_size)
    scores: Shape = s.scores
    if shared and call.n_outputs > 3:
        scores = (s.batch, s.heads, 1, call.ints(LENGTH)[0] + 1)
    return [TensorType(dtype, shape) for shape in (y, *s.present, scores)]


def _reference(q, k=None, v=None, mask=None, added=None, past_key=None, past_value=None, length=None, *rest, **attrs):
    dtype, heads, bias = q.dtype, attrs["num_heads"], rest[2] if len(rest) > 2 else None
    q, k, v, added, past_key, past_value, bias = map(widen, (q, k, v, added, past_key, past_value, bias))
    if k is None:
        q, k, v = np.split(q, 3, axis=-1)
    if bias is not None:
        parts = np.split(bias, [q.shape[2], 2 * q.shape[2]])
        q = q + parts[0]
        if k.ndim == 3:
            k, v = k + parts[1], v + parts[2]
    q, k, v = (heads_of(x, heads) for x in (q, k, v))
    keys = k.shape[2]
    if past_key is not None and attrs["past_present_share_buffer"]:
        at = int(np.reshape(length, ()))
        if not 0 <= at < past_key.shape[2]:
            raise InputError(f"past_sequence_length is {at}, of a buffer of {past_key.shape[2]}")
        whole = past_key.copy(), past_value.copy()
        for buffer, new in zip(whole, (k, v)):
            buffer[:, :, at] = new[:, :, 0]
        (k, v), keys = whole, at + 1
    elif past_key is not None:
        k, v = np.concatenate([past_key, k], 2), np.concatenate([past_value, v], 2)
        keys = k.shape[2]
    total = k.shape[2]
    numbers = np.zeros((1, 1, 1, total), q.dtype)
    for given in (
        None if mask is None else mask_reference(mask, len(q), 0, 1, total, attrs["mask_filter_value"]),
        added,
    ):
        if given is not None:
            lacking = total - given.shape[-1]
            numbers = numbers + np.pad(given, [(0, 0)] * 3 + [(0, lacking)])
    found = attend(q, k, v, scale_of(attrs, q.shape[3]), added=numbers, seen=np.arange(total) < keys)
    return tuple(a.astype(dtype) for a in (flat(found.y), k, v, found.scores[..., :keys]))


def _biased(b: Builder, call: Call, s: Sizes) -> list[Value]:
    """Queries, keys and values with their bias, by heads."""
    widths = [s.heads * n for n in (s.size, s.size, s.v_size)]
    values = [*call.inputs[:3]] if call.has(KEY) else [*columns(b, call.inputs[QUERY], *widths)]
    if call.has(BIAS):
        biases = columns(b, call.inputs[BIAS], *widths)
        values = [b.add("Add", v, x) if len(v.shape) == 3 else v for v, x in zip(values, biases)]
    return values


@where_static
def _expand(b: Builder, call: Call) -> tuple[Value, ...]:
    s, dtype, attrs = _sizes(call), call.dtype(QUERY), call.attrs
    q, k, v = _biased(b, call, s)
    k, v = (emit_heads(b, x, s.heads) for x in (k, v))
    lengths, keys = None, [k, v]
    if not attrs.past_present_share_buffer or not call.has(PAST_KEY):
        call.ignore(LENGTH)
    if call.has(PAST_KEY):
        pasts = call.inputs[PAST_KEY : PAST_VALUE + 1]
        if attrs.past_present_share_buffer:
            at = b.add("Cast", b.add("Reshape", call.inputs[LENGTH], b.constant([1], np.int64)), to=INT64)
            at = emit_within(b, at, s.past, "past_sequence_length", "the positions of the buffer", call.op.name)
            at = b.add("Expand", at, b.constant([s.batch], np.int64))
            lengths = b.add("Add", at, b.constant(1, np.int64))
            keys = [emit_written(b, past, new, at) for past, new in zip(pasts, keys)]
        else:
            keys = [b.add("Concat", past, new, axis=2) for past, new in zip(pasts, keys)]
    mask = call.given(MASK)
    if mask is not None:
        mask = emit_mask(b, mask, s.batch, 0, 1, s.total, attrs.mask_filter_value, dtype)
    added = call.given(ADDED)
    mask = add(b, *(_filled(b, x, s.total) for x in (mask, added)))
    if call.n_outputs > 3:
        there = keys
        if lengths is not None:
            bounds = [b.constant([n], np.int64) for n in (0, call.ints(LENGTH)[0] + 1)]
            there = [b.add("Slice", x, *bounds, b.constant([2], np.int64)) for x in keys]
            mask = None if mask is None else b.add("Slice", mask, *bounds, b.constant([3], np.int64))
        queries, scale = emit_heads(b, q, s.heads), scale_of(attrs, s.size)
        k, v = there
        y, scores, _ = emit_attend(b, queries, k, v, scale, added=mask)
        return emit_flat(b, y), *keys, scores
    heads: dict[str, Any] = {"q_num_heads": s.heads, "kv_num_heads": s.heads, "scale": attrs.scale or None}
    y = b.add("Attention", q, *keys, mask, None, None, lengths, **heads)
    return (y, *keys)[: call.n_outputs]


def _filled(b: Builder, x: Value | None, total) -> Value | None:
    """With zeros for the positions that nothing is said of."""
    if x is None or x.shape[-1] == total:
        return x
    return b.add("Pad", x, b.constant([0] * 7 + [total - x.shape[-1]], np.int64), b.constant(0, x.dtype))


def _cases() -> list[Case]:
    one, buffer, length = Tensor((2, 1, 32)), Tensor((2, 2, 8, 16)), Const([4], "int32")
    shared = {"num_heads": 2, "past_present_share_buffer": True}
    flags = Const([[1, 0, 1, 1, 1], [1, 1, 1, 0, 1]], "int32")
    encoded = Tensor((2, 2, 6, 16))
    biased = (None, None, None, Tensor((96,)))
    return [
        Case((one, one, one, None, None, buffer, buffer, length), shared, 3),
        Case(
            (one, one, one, flags, Tensor((1, 2, 1, 5)), buffer, buffer, length, *biased[1:]),
            {**shared, "output_qk": True},
            4,
        ),
        Case((Tensor((2, 1, 96)), None, None, None, None, buffer, buffer), {"num_heads": 2, "scale": 0.2}, 3),
        Case((one, encoded, encoded, Const(np.eye(2, 6), "int32")), {"num_heads": 2}),
    ]


contrib(
    "DecoderMaskedMultiHeadAttention",
    "query key? value? mask_index? attention_bias? past_key? past_value? past_sequence_length? beam_width? "
    "cache_indirection? bias?",
    _infer,
    _reference,
    _expand,
    _cases(),
    {
        "num_heads": Attr(int),
        "mask_filter_value": Attr(float, -10000.0, settled=True),
        "scale": Attr(float, 0.0),
        "past_present_share_buffer": Attr(bool, False, settled=True),
        "output_qk": Attr(bool, False, settled=True),
    },
    ("output", "present_key", "present_value", "qk"),
    values=(LENGTH,),
    macs=lambda call: macs(_sizes(call)),
)
