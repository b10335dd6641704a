"""GroupQueryAttention of com.microsoft: groups of queries' heads share those of keys and values, which lie in a cache.

The cache [batch, heads, length, size] has room for more positions than there are, or grows by those that come. How many keys
there are after the step, `seqlens_k` + 1 tells for each of the batch; results have zeros behind them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.attrs import Attrs
from graphc.dims import maximum
from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import FLOAT_NAMES, operand_name, require_dtype, require_same_dtype
from graphc.ops.contrib.attention import expect, require_added, split
from graphc.ops.contrib.attention_cache import emit_range, emit_written
from graphc.ops.contrib.attention_scores import attend, columns, emit_attend, emit_flat, emit_heads, flat, heads_of
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.contrib.rotary import emit_positions, emit_rotary, require_columns, rotated
from graphc.ops.precision import widen
from graphc.ops.within import emit_within
from graphc.types import Dim, Shape, TensorType, prod

QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, LENGTHS, TOTAL, COS, SIN, POSITIONS, ADDED, SINK = range(12)
Q_NORM, K_NORM, QUERY_LENGTHS = 14, 15, 16
INT64 = np.dtype(np.int64)
BEFORE_SOFTMAX, AFTER_SOFTMAX = 1, 2


@dataclass(frozen=True)
class _Sizes:
    """Dims, which are ints where the operator is expanded."""

    batch: Any
    heads: int
    kv_heads: int
    queries: Any
    size: Any
    cache: Any  # positions of the past
    total: Any  # keys after the step, of the longest sequence

    @property
    def present(self) -> Any:
        return maximum(self.cache, self.total)

    @property
    def scores(self) -> Shape:
        return self.batch, self.heads, self.queries, self.total


def _sizes(call: Call) -> _Sizes:
    """Of a use. Raises TypeRuleError; Deferred while the total is not known."""
    heads, kv_heads, query = call.attrs.num_heads, call.attrs.kv_num_heads, call.shape(QUERY)
    if len(query) != 3:
        raise call.fail(f"the query has shape {query}", "give [batch, sequence, hidden]")
    if heads < 1 or kv_heads < 1 or heads % kv_heads:
        raise call.fail(f"{heads} query heads do not divide into groups for {kv_heads} key heads", "use a multiple")
    batch, queries, hidden = query
    if call.has(KEY) != call.has(VALUE):
        raise call.fail("key and value go together: one is missing")
    size = split(call, hidden, heads if call.has(KEY) else heads + 2 * kv_heads, "query")
    for i in (KEY, VALUE):
        expect(call, i, (batch, queries, kv_heads * size))
    cache: Dim = call.shape(PAST_KEY)[2] if call.has(PAST_KEY) and call.rank(PAST_KEY) == 4 else 0
    (total,) = call.ints(TOTAL)
    return _Sizes(batch, heads, kv_heads, queries, size, cache, total)


def _refuse(call: Call) -> None:
    for name, plain in (("k_quant_type", "NONE"), ("v_quant_type", "NONE"), ("sliding_window_cache", False)):
        if call.attrs[name] != plain:
            raise call.fail(f"{name} is {call.attrs[name]!r}", f"only {plain!r} is supported")
    for i in (12, 13):
        if call.has(i):
            raise call.fail(f"'{operand_name(call, i)}' is for quantized caches, which are not supported")
    for first, second in ((PAST_KEY, PAST_VALUE), (COS, SIN), (Q_NORM, K_NORM)):
        if call.has(first) != call.has(second):
            names = " and ".join(operand_name(call, i) for i in (first, second))
            raise call.fail(f"{names} go together: one is missing")
    if call.attrs.do_rotary and not call.has(COS):
        raise call.fail("do_rotary is set, and there are no tables", "give cos_cache and sin_cache")
    if not call.attrs.causal and call.attrs.local_window_size >= 0:
        raise call.fail("a window needs causal", "set causal, or leave local_window_size out")


def _infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, QUERY, FLOAT_NAMES)
    require_same_dtype(call, QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, COS, SIN, ADDED, SINK, Q_NORM, K_NORM)
    _refuse(call)
    for i in (LENGTHS, TOTAL, QUERY_LENGTHS):
        if call.has(i):
            require_dtype(call, i, ("int32", "int64") if i == TOTAL else ("int32",))  # a size is int64
    expect(call, TOTAL, (), (1,))
    s = _sizes(call)
    for i in (PAST_KEY, PAST_VALUE):
        expect(call, i, (s.batch, s.kv_heads, s.cache, s.size))
    for i in (LENGTHS, QUERY_LENGTHS):
        expect(call, i, (s.batch,), (s.batch, 1))
    expect(call, POSITIONS, (s.batch, s.queries))
    expect(call, SINK, (s.heads,))
    for i in (Q_NORM, K_NORM):
        expect(call, i, (s.size,))
    if call.has(COS) and call.attrs.do_rotary:
        half = call.shape(COS)[-1]
        expect(call, COS, (call.shape(COS)[0], half))
        expect(call, SIN, call.shape(COS))
        if isinstance(half, int) and isinstance(s.size, int) and 2 * half > s.size:
            raise call.fail(f"tables of {half} columns are for more than heads of {s.size}")
        require_columns(call, COS)
    require_added(call, ADDED, s.scores)
    fits = s.total <= s.cache or s.total == s.cache + s.queries if _known(s) else True
    if not fits and not call.has(QUERY_LENGTHS) and not _is_prompt(s):
        raise call.fail(
            f"{s.total} keys of a cache of {s.cache} and {s.queries} new ones",
            "total_sequence_length is their sum, or no more than the cache has room for",
        )
    if _known(s) and s.total < s.queries:
        raise call.fail(f"total_sequence_length is {s.total}, of which {s.queries} are new")
    if call.n_outputs > 3 and not call.attrs.qk_output:
        raise call.fail("the fourth result is the scores, and qk_output is 0", "set qk_output to 1 or 2")
    cache: Shape = (s.batch, s.kv_heads, s.present, s.size)
    y: Shape = (s.batch, s.queries, s.heads * s.size)
    return [TensorType(dtype, shape) for shape in (y, cache, cache, s.scores)]


def _known(s: _Sizes) -> bool:
    return all(isinstance(d, int) for d in (s.total, s.cache, s.queries))


def _is_prompt(s: _Sizes) -> bool:
    """Are all keys new?"""
    return s.total == s.queries


def _macs(call: Call) -> Dim:
    s = _sizes(call)
    return prod((*s.scores, 2 * s.size))


# --- reference --------------------------------------------------------------------------------------------------------
def _normalized(x: np.ndarray, weight: np.ndarray | None, epsilon: float) -> np.ndarray:
    """RMS over each head."""
    if weight is None:
        return x
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + x.dtype.type(epsilon)) * weight


def _reference(q, k, v, past_key, past_value, lengths, total, *rest, **attrs):
    dtype = q.dtype
    q, k, v, past_key, past_value = map(widen, (q, k, v, past_key, past_value))
    rest = (*rest, *(10 - len(rest)) * (None,))
    cos, sin, _, added, sink, _, _, q_norm, k_norm, _ = map(widen, rest)
    positions, query_lengths = rest[2], rest[9]
    heads, kv_heads = attrs["num_heads"], attrs["kv_num_heads"]
    if k is None:
        width = q.shape[2] // (heads + 2 * kv_heads)
        q, k, v = np.split(q, np.cumsum([heads * width, kv_heads * width]), -1)
    q, k, v = (heads_of(x, n) for x, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
    batch, _, queries, size = q.shape
    total, lengths = int(np.reshape(total, ())), lengths.reshape(-1).astype(np.int64) + 1
    prompt = total == queries and query_lengths is None
    valid = np.full(batch, queries) if query_lengths is None else query_lengths.reshape(-1)
    before = np.zeros(batch, np.int64) if prompt else lengths - valid
    cache = 0 if past_key is None else past_key.shape[2]
    longest = max(cache, total)
    if (valid < 0).any() or (valid > queries).any():
        raise InputError(f"query_seqlens {valid} of {queries} new keys")
    if (lengths < 1).any() or (lengths > longest).any() or (before < 0).any() or (before > cache).any():
        raise InputError(f"seqlens_k {lengths - 1} do not fit {queries} new keys and a cache of {cache}")
    q = _normalized(q, q_norm, attrs["q_norm_epsilon"] or attrs["qk_norm_epsilon"])
    k = _normalized(k, k_norm, attrs["k_norm_epsilon"] or attrs["qk_norm_epsilon"])
    if attrs["do_rotary"]:
        at = before[:, None] + np.arange(queries)
        if positions is not None:
            at = at + (positions[0, 0] if positions.size else 0) if prompt else positions
        q, k = (rotated(x, cos, sin, at, attrs["rotary_interleaved"]) for x in (q, k))
    present = []
    for past, new in ((past_key, k), (past_value, v)):
        whole = np.zeros((batch, kv_heads, longest + queries, size), q.dtype)
        for i, n in enumerate(before):
            if n:
                whole[i, :, :n] = past[i, :, :n]
            whole[i, :, n : n + queries] = new[i]
            whole[i, :, n + valid[i] :] = 0
        present.append(whole[:, :, :longest])
    rows = np.arange(queries)[:, None] + before[:, None, None, None]
    ahead = np.arange(total) - rows
    seen = np.arange(total) < lengths[:, None, None, None]
    if attrs["causal"]:
        seen = seen & (ahead <= 0)
    if sink is None and attrs["smooth_softmax"] == 1:
        sink = np.zeros(heads, q.dtype)
    if attrs["local_window_size"] >= 0:
        if sink is not None or attrs["qk_output"]:  # rows of padding stand at the last key
            rows = np.minimum(rows, (lengths - 1)[:, None, None, None])
        seen = seen & (np.arange(total) > rows - attrs["local_window_size"])
    keys, values = (x[:, :, :total] for x in present)
    scale = attrs["scale"] or size**-0.5
    found = attend(q, keys, values, scale, softcap=attrs["softcap"], added=added, seen=seen, sink=sink)
    scores = found.weights if attrs["qk_output"] == AFTER_SOFTMAX else np.where(seen, found.scores, 0)
    return tuple(a.astype(dtype) for a in (flat(found.y), *present, scores))


# --- expansion --------------------------------------------------------------------------------------------------------
def _emit_normalized(b: Builder, x: Value, weight: Value | None, heads: int, epsilon: float) -> Value:
    if weight is None:
        return x
    apart = b.add("Reshape", x, b.constant([0, 0, heads, -1], np.int64))
    return b.add(
        "Reshape", b.add("RMSNormalization", apart, weight, axis=-1, epsilon=epsilon), b.constant([0, 0, -1], np.int64)
    )


def _operands(b: Builder, call: Call, s: _Sizes) -> list[Value]:
    """Queries, keys and values, normalised."""
    attrs, values = call.attrs, [*call.inputs[:3]]
    if not call.has(KEY):
        values = [*columns(b, values[0], *(n * s.size for n in (s.heads, s.kv_heads, s.kv_heads)))]
    weights = [call.given(i) for i in (Q_NORM, K_NORM)]
    epsilons = [attrs[name] or attrs.qk_norm_epsilon for name in ("q_norm_epsilon", "k_norm_epsilon")]
    for i, heads in enumerate((s.heads, s.kv_heads)):
        values[i] = _emit_normalized(b, values[i], weights[i], heads, epsilons[i])
    return values


def _emit_positions(b: Builder, call: Call, s: _Sizes, before: Value | None) -> Value:
    given = call.given(POSITIONS)
    if before is None:  # of a prompt only the first position is used
        first = b.constant(0, np.int64)
        if given is not None and 0 not in given.shape:
            index = b.constant([0], np.int64)
            first = b.add("Gather", b.add("Reshape", given, b.constant([-1], np.int64)), index, axis=0)
        return emit_positions(b, first, s.batch, s.queries)
    return emit_positions(b, before, s.batch, s.queries) if given is None else given


def _emit_cache(b: Builder, s: _Sizes, past: Value | None, new: Value, before: Value | None, lengths: Value) -> Value:
    """The cache with the new rows behind those of before, and zeros behind them."""
    if before is None:  # a prompt, whose padding is kept
        return new if s.present == s.queries else _lengthened(b, new, s.present - s.queries)
    if past is None:
        past = b.add("Expand", b.constant(0, new.dtype), b.constant([s.batch, s.kv_heads, s.present, s.size], np.int64))
    elif s.present != s.cache:
        past = _lengthened(b, past, s.present - s.cache)
    return emit_written(b, past, new, before, lengths)


def _lengthened(b: Builder, x: Value, room: Dim, axis: int = 2) -> Value:
    pads = [0] * 4 + [room if i == axis else 0 for i in range(4)]
    return b.add("Pad", x, b.constant(pads, np.int64), b.constant(0, x.dtype))


@where_static
def _expand(b: Builder, call: Call) -> tuple[Value, ...]:
    s, attrs, of = _sizes(call), call.attrs, call.op.name
    q, k, v = _operands(b, call, s)
    row = b.constant([-1], np.int64)
    last = b.add("Cast", b.add("Reshape", call.inputs[LENGTHS], row), to=INT64)
    last = emit_within(b, last, s.present, "seqlens_k", "the positions of the cache", of)
    lengths = b.add("Add", last, b.constant(1, np.int64))
    valid = None
    if call.has(QUERY_LENGTHS):
        valid = b.add("Cast", b.add("Reshape", call.inputs[QUERY_LENGTHS], row), to=INT64)
        valid = emit_within(b, valid, s.queries + 1, "query_seqlens", "the number of queries", of)
    before = None
    if valid is None and _is_prompt(s):
        call.ignore(PAST_KEY, PAST_VALUE)
    else:
        before = b.add("Sub", lengths, b.constant(s.queries, np.int64) if valid is None else valid)
        if valid is not None or s.queries > 1:
            before = emit_within(b, before, s.cache + 1, "past length", "the positions of the cache", of)
    if not attrs.do_rotary:
        call.ignore(COS, SIN, POSITIONS)
    else:
        at, tables = _emit_positions(b, call, s, before), call.inputs[COS : SIN + 1]
        q, k = (emit_rotary(b, x, tables, at, n, attrs.rotary_interleaved) for x, n in ((q, s.heads), (k, s.kv_heads)))
    k, v = (emit_heads(b, x, s.kv_heads) for x in (k, v))
    pasts = [call.given(i) for i in (PAST_KEY, PAST_VALUE)]
    present = [_emit_cache(b, s, past, new, before, lengths) for past, new in zip(pasts, (k, v))]
    keys = [k, v] if before is None else present
    y, *scores = _emit_attention(b, call, s, q, keys, before, lengths, valid is not None)
    return (y, *present, *scores)[: call.n_outputs]


def _emit_attention(
    b: Builder, call: Call, s: _Sizes, q: Value, keys: list[Value], before: Value | None, lengths: Value, ragged: bool
) -> tuple[Value, ...]:
    """The result, and scores if they are read. keys: and values, with those of before."""
    attrs, dtype = call.attrs, q.dtype
    added = call.given(ADDED)
    sink = call.given(SINK)
    if sink is None and attrs.smooth_softmax == 1:
        sink = b.constant(np.zeros(s.heads), dtype)
    blind = attrs.local_window_size == 0
    if sink is None and not attrs.qk_output and not ragged:
        mask, count, window = added, None, attrs.local_window_size
        if before is None:
            hidden = b.add("Where", _emit_there(b, s, lengths), b.constant(0, dtype), b.constant(-np.inf, dtype))
            mask = hidden if mask is None else b.add("Add", mask, hidden)
        else:
            count = lengths
            if mask is not None and s.present != s.total:
                mask = _lengthened(b, mask, s.present - s.total, 3)
        if blind:
            mask = b.constant([[False]])
        return (
            b.add(
                "Attention",
                q,
                *keys,
                mask,
                None,
                None,
                count,
                q_num_heads=s.heads,
                kv_num_heads=s.kv_heads,
                scale=attrs.scale or None,
                softcap=attrs.softcap,
                is_causal=attrs.causal,
                left_window_size=window - 1 if window > 0 else -1,
            ),
        )
    if before is not None and s.present != s.total:
        keys = [b.add("Slice", x, *(b.constant([n], np.int64) for n in (0, s.total, 2))) for x in keys]
    seen = _emit_seen(b, attrs, s, before, lengths)
    if blind:
        seen = b.add("And", seen, b.constant(False))
    scale = attrs.scale or s.size**-0.5
    q = emit_heads(b, q, s.heads)
    k, v = keys
    y, scores, weights = emit_attend(b, q, k, v, scale, softcap=attrs.softcap, added=added, seen=seen, sink=sink)
    shown = weights if attrs.qk_output == AFTER_SOFTMAX else b.add("Where", seen, scores, b.constant(0, dtype))
    return emit_flat(b, y), shown


def _emit_there(b: Builder, s: _Sizes, lengths: Value) -> Value:
    """bool [batch, 1, 1, keys]."""
    return b.add("Less", emit_range(b, s.total), b.add("Reshape", lengths, b.constant([-1, 1, 1, 1], np.int64)))


def _emit_seen(b: Builder, attrs: Attrs, s: _Sizes, before: Value | None, lengths: Value) -> Value:
    """bool [batch, 1, queries, keys]."""
    one, there = b.constant([-1, 1, 1, 1], np.int64), _emit_there(b, s, lengths)
    if not attrs.causal:
        return there
    rows = b.add("Unsqueeze", emit_range(b, s.queries), b.constant([1], np.int64))
    rows = rows if before is None else b.add("Add", rows, b.add("Reshape", before, one))
    seen = b.add("And", there, b.add("LessOrEqual", emit_range(b, s.total), rows))
    if attrs.local_window_size > 0:
        last = b.add("Sub", b.add("Reshape", lengths, one), b.constant(1, np.int64))
        first = b.add("Sub", b.add("Min", rows, last), b.constant(attrs.local_window_size, np.int64))
        seen = b.add("And", seen, b.add("Greater", emit_range(b, s.total), first))
    return seen


def _cases() -> list[Case]:
    def case(
        batch, queries, cache, lengths, total, outputs=3, rotary=0, packed=False, more=None, heads=4, kv=2, **attrs
    ):
        """more: further operands by position."""
        size = 16
        q, new = Tensor((batch, queries, heads * size)), Tensor((batch, queries, kv * size))
        past = None if cache is None else Tensor((batch, kv, cache, size))
        table = Tensor((32, rotary), -1, 1) if rotary else None
        operands: list[Tensor | Const | None] = [q, new, new]
        if packed:
            operands = [Tensor((batch, queries, (heads + 2 * kv) * size)), None, None]
        operands += [past, past, Const(lengths, "int32"), Const(total, "int32"), table, table]
        for i in range(POSITIONS, QUERY_LENGTHS + 1):
            operands.append((more or {}).get(i))
        while operands[-1] is None:
            operands.pop()
        attrs = {"num_heads": heads, "kv_num_heads": kv, **({"do_rotary": True} if rotary else {}), **attrs}
        return Case(tuple(operands), attrs, outputs)

    norm = Tensor((16,), 0.5, 1.5)
    return [
        case(2, 5, None, [4, 2], 5),
        case(2, 5, 12, [4, 2], 5, rotary=8),
        case(2, 1, 12, [6, 3], 7, rotary=8, rotary_interleaved=True),
        case(2, 1, 6, [[6], [3]], [7], packed=True, scale=0.3),
        case(1, 3, 6, [8], 9, rotary=8, more={POSITIONS: Const([[3, 1, 0]])}),
        case(1, 5, None, [4], 5, rotary=8, more={POSITIONS: Const([[3, 1, 0, 2, 4]])}, local_window_size=2),
        case(2, 1, 9, [6, 4], 8, local_window_size=3, more={ADDED: Tensor((1, 4, 1, 8))}, softcap=2.0),
        case(2, 1, 6, [6, 4], 7, local_window_size=0),
        case(1, 3, 6, [8], 9, smooth_softmax=1),
        case(2, 5, None, [4, 2], 5, 4, more={SINK: Tensor((4,))}, qk_output=2),
        case(2, 1, 12, [6, 3], 7, 4, qk_output=1, softcap=1.5),
        case(1, 3, 6, [8], 9, causal=False),
        case(2, 1, 6, [6, 3], 7, more={Q_NORM: norm, K_NORM: norm}, rotary=8, k_norm_epsilon=1e-3),
        case(2, 3, 12, [7, 4], 12, more={QUERY_LENGTHS: Const([2, 3], "int32")}, rotary=8),
    ]


contrib(
    "GroupQueryAttention",
    "query key? value? past_key? past_value? seqlens_k total_sequence_length cos_cache? sin_cache? position_ids? "
    "attention_bias? head_sink? k_scale? v_scale? q_norm_weight? k_norm_weight? query_seqlens?",
    _infer,
    _reference,
    _expand,
    _cases(),
    {
        "num_heads": Attr(int),
        "kv_num_heads": Attr(int),
        "causal": Attr(bool, True),
        "local_window_size": Attr(int, -1, settled=True),
        "smooth_softmax": Attr(int, -1, settled=True),
        "qk_output": Attr(int, 0, (0, BEFORE_SOFTMAX, AFTER_SOFTMAX)),
        "scale": Attr(float, 0.0),
        "softcap": Attr(float, 0.0),
        "do_rotary": Attr(bool, False),
        "rotary_interleaved": Attr(bool, False, settled=True),
        "qk_norm_epsilon": Attr(float, 1e-6, settled=True),
        "q_norm_epsilon": Attr(float, 0.0),
        "k_norm_epsilon": Attr(float, 0.0),
        "k_quant_type": Attr(str, "NONE"),
        "v_quant_type": Attr(str, "NONE"),
        "kv_cache_bit_width": Attr(int, 0, settled=True),
        "sliding_window_cache": Attr(bool, False),
    },
    ("output", "present_key", "present_value", "output_qk"),
    values=(TOTAL,),
    macs=_macs,
)
