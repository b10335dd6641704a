"""MultiHeadAttention of com.microsoft: attention over projected queries, keys and values, with their bias, masks and caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import FLOAT_NAMES, differ, operand_name, require_dtype, require_same_dtype
from graphc.ops.contrib.attention_masks import add, emit_mask, mask_reference, require_mask
from graphc.ops.contrib.attention_scores import attend, columns, flat, heads_of
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import widen
from graphc.types import Dim, Shape, TensorType, prod

QUERY, KEY, VALUE, BIAS, MASK, ADDED, PAST_KEY, PAST_VALUE = range(8)


@dataclass(frozen=True)
class Sizes:
    """Dims, which are ints where the operator is expanded."""

    batch: Any
    heads: int
    queries: Any
    keys: Any
    past: Any
    size: Any
    v_size: Any

    @property
    def total(self) -> Any:
        return self.past + self.keys

    @property
    def present(self) -> tuple[Shape, Shape]:
        """Of keys and values with those of before."""
        return tuple((self.batch, self.heads, self.total, n) for n in (self.size, self.v_size))  # type: ignore[return-value]

    @property
    def scores(self) -> Shape:
        return self.batch, self.heads, self.queries, self.total


def expect(call: Call, i: int, *shapes: Shape) -> None:
    """Operand i, if it is given, has one of the shapes. Raises TypeRuleError."""
    if call.has(i) and not any(len(s) == call.rank(i) and not any(map(differ, call.shape(i), s)) for s in shapes):
        want = " or ".join(map(str, shapes))
        raise call.fail(f"'{operand_name(call, i)}' has shape {call.shape(i)}", f"it must be {want}")


def require_added(call: Call, i: int, scores: Shape) -> None:
    """Operand i, if it is given, is something to add to the scores: batch and heads may be 1. Raises TypeRuleError."""
    if not call.has(i):
        return
    shape = call.shape(i)
    fits = len(shape) == 4 and not any(
        differ(d, n) and not (axis < 2 and d == 1) for axis, (d, n) in enumerate(zip(shape, scores))
    )
    if not fits:
        raise call.fail(
            f"'{operand_name(call, i)}' has shape {shape}", f"it must broadcast to {scores} along batch and heads"
        )


def split(call: Call, columns: Dim, heads: int, what: str) -> Dim:
    """The size of each of the heads. Raises TypeRuleError."""
    if heads < 1 or (isinstance(columns, int) and (columns % heads or columns < heads)):
        raise call.fail(f"the {columns} columns of the {what} do not divide into {heads} heads")
    return columns // heads


def require_heads(call: Call, s: Sizes) -> None:
    """Raises TypeRuleError for heads of no elements."""
    if s.size == 0 or s.v_size == 0:
        raise call.fail(f"heads have {s.size} elements, and {s.v_size} of values", "1 or more each")


def _sizes(call: Call) -> Sizes:
    """Of a use. Raises TypeRuleError."""
    heads, query = call.attrs.num_heads, call.shape(QUERY)
    past = call.shape(PAST_KEY)[2] if call.has(PAST_KEY) and call.rank(PAST_KEY) == 4 else 0
    if len(query) == 5:  # [batch, sequence, heads, 3, size]
        expect(call, QUERY, (query[0], query[1], heads, 3, query[4]))
        if call.has(KEY) or call.has(VALUE):
            raise call.fail("the query has keys and values in it, and 'key' or 'value' is given", "leave them out")
        return Sizes(query[0], heads, query[1], query[1], past, query[4], query[4])
    if len(query) != 3:
        raise call.fail(f"the query has shape {query}", "give [batch, sequence, hidden]")
    batch, queries, hidden = query
    size = split(call, hidden, heads, "query")
    if not call.has(KEY):
        raise call.fail(
            "the key is missing", "give it, or queries, keys and values in one, [batch, sequence, heads, 3, size]"
        )
    key = call.shape(KEY)
    if len(key) == 5:
        expect(call, KEY, (batch, key[1], heads, 2, size))
        if call.has(VALUE):
            raise call.fail("the key has values in it, and 'value' is given", "leave it out")
        return Sizes(batch, heads, queries, key[1], past, size, size)
    if not call.has(VALUE) or call.rank(VALUE) != len(key) or len(key) not in (3, 4):
        raise call.fail("key and value go together", "both [batch, sequence, hidden] or [batch, heads, sequence, size]")
    value = call.shape(VALUE)
    if len(key) == 4:
        keys, v_size = key[2], value[3]
        expect(call, KEY, (batch, heads, keys, size))
        expect(call, VALUE, (batch, heads, keys, v_size))
    else:
        keys, v_size = key[1], split(call, value[2], heads, "value")
        expect(call, KEY, (batch, keys, hidden))
        expect(call, VALUE, (batch, keys, value[2]))
    return Sizes(batch, heads, queries, keys, past, size, v_size)


def _infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, QUERY, FLOAT_NAMES)
    require_same_dtype(call, QUERY, KEY, VALUE, BIAS, ADDED, PAST_KEY, PAST_VALUE)
    for i in (8, 9):
        if call.has(i):
            raise call.fail(f"'{operand_name(call, i)}' is for buffers that past and present share", "leave it out")
    s = _sizes(call)
    require_heads(call, s)
    expect(call, BIAS, ((2 * s.size + s.v_size) * s.heads,))
    if call.has(PAST_KEY) != call.has(PAST_VALUE):
        raise call.fail("past_key and past_value go together: one is missing")
    expect(call, PAST_KEY, (s.batch, s.heads, s.past, s.size))
    expect(call, PAST_VALUE, (s.batch, s.heads, s.past, s.v_size))
    require_mask(call, MASK, s.batch, s.past, s.queries, s.total)
    require_added(call, ADDED, s.scores)
    y: Shape = (s.batch, s.queries, s.heads * s.v_size)
    return [TensorType(dtype, shape) for shape in (y, *s.present, s.scores)]


def macs(s: Sizes) -> Dim:
    """Of both products."""
    return prod((s.batch, s.heads, s.queries, s.total, s.size + s.v_size))


def hidden_ahead(queries: int, keys: int, past: int) -> np.ndarray:
    """bool [queries, keys]: what a causal use hides. The last query sees all, also where there are fewer queries than new keys."""
    rows = np.arange(queries)[:, None]
    return (np.arange(keys) > rows + past) & (rows < queries - 1)


def scale_of(attrs: Any, size: float) -> float:
    """The scale; 0 stands for the default."""
    return attrs["scale"] or size**-0.5


def _reference(
    q, k=None, v=None, bias=None, mask=None, added=None, past_key=None, past_value=None, p=None, c=None, **attrs
):
    dtype, heads = q.dtype, attrs["num_heads"]
    q, k, v, bias, added, past_key, past_value = map(widen, (q, k, v, bias, added, past_key, past_value))
    if q.ndim == 5:
        q, k, v = (flat(q[:, :, :, i].swapaxes(1, 2)) for i in range(3))
    elif k.ndim == 5:
        k, v = (flat(k[:, :, :, i].swapaxes(1, 2)) for i in range(2))
    if bias is not None:
        hidden = q.shape[2]
        q = q + bias[:hidden]
        parts = bias[hidden : 2 * hidden], bias[2 * hidden :]
        k, v = (x + (part if x.ndim == 3 else part.reshape(heads, 1, -1)) for x, part in zip((k, v), parts))
    q, k, v = (heads_of(x, heads) for x in (q, k, v))
    past = 0 if past_key is None else past_key.shape[2]
    if past_key is not None:
        k, v = np.concatenate([past_key, k], 2), np.concatenate([past_value, v], 2)
    (batch, _, queries, size), total = q.shape, k.shape[2]
    numbers = [] if added is None else [added]
    if mask is not None:
        numbers.append(mask_reference(mask, batch, past, queries, total, attrs["mask_filter_value"]))
    if attrs["unidirectional"]:
        numbers.append(np.where(hidden_ahead(queries, total, past), LOWEST, 0))
    found = attend(q, k, v, scale_of(attrs, size), added=sum(numbers) if numbers else None)
    return tuple(a.astype(dtype) for a in (flat(found.y), k, v, found.scores))


LOWEST = float(np.finfo(np.float32).min)


def _unpacked(b: Builder, x: Value, count: int) -> list[Value]:
    """[batch, sequence, heads · size] of each of `count` on axis 3."""
    batch, length, heads, _, size = x.shape
    parts = b.add("Split", x, b.constant([1] * count, np.int64), axis=3, outputs=count)
    return [b.add("Reshape", part, b.constant([batch, length, heads * size], np.int64)) for part in parts]


def _operands(b: Builder, call: Call, s: Sizes) -> list[Value]:
    """Queries, keys and values with their bias."""
    q, k, v = (call.given(i) for i in (QUERY, KEY, VALUE))
    if len(q.shape) == 5:
        operands = _unpacked(b, q, 3)
    elif len(k.shape) == 5:
        operands = [q, *_unpacked(b, k, 2)]
    else:
        operands = [q, k, v]
    if not call.has(BIAS):
        return operands
    hidden = s.heads * s.size
    biases: Sequence[Value] = columns(b, call.inputs[BIAS], hidden, hidden, s.heads * s.v_size)
    lead = b.constant([s.heads, 1, -1], np.int64)
    biases = [x if len(v.shape) == 3 else b.add("Reshape", x, lead) for v, x in zip(operands, biases)]
    return [b.add("Add", v, x) for v, x in zip(operands, biases)]


def emit_ahead(b: Builder, s: Sizes, like) -> Value | None:
    """`hidden_ahead` as numbers to add, [queries, keys]; None where nothing is hidden."""
    if s.queries == 1:
        return None
    keys, rows = (b.add("Range", *(b.constant(n, np.int64) for n in (0, end, 1))) for end in (s.total, s.queries))
    rows = b.add("Unsqueeze", rows, b.constant([1], np.int64))
    ahead = b.add("Greater", keys, b.add("Add", rows, b.constant(s.past, np.int64)))
    hidden = b.add("And", ahead, b.add("Less", rows, b.constant(s.queries - 1, np.int64)))
    lowest = LOWEST if np.dtype(like).itemsize >= 4 else -np.inf
    return b.add("Where", hidden, b.constant(lowest, like), b.constant(0, like))


@where_static
def _expand(b: Builder, call: Call) -> tuple[Value, ...]:
    s, dtype = _sizes(call), call.dtype(QUERY)
    q, k, v = _operands(b, call, s)
    mask = None
    if call.has(MASK):
        mask = emit_mask(b, call.inputs[MASK], s.batch, s.past, s.queries, s.total, call.attrs.mask_filter_value, dtype)
    mask = add(b, mask, call.given(ADDED))
    causal = call.attrs.unidirectional
    if causal and (call.n_outputs > 3 or s.queries < s.keys):  # not as ONNX's operator has it
        mask, causal = add(b, mask, emit_ahead(b, s, dtype)), False
    pasts = [call.given(i) for i in (PAST_KEY, PAST_VALUE)]
    return _several(
        b.add(
            "Attention",
            q,
            k,
            v,
            mask,
            *pasts,
            q_num_heads=s.heads,
            kv_num_heads=s.heads,
            scale=call.attrs.scale or None,
            is_causal=causal,
            qk_matmul_output_mode=2,
            outputs=call.n_outputs,
        )
    )


def _several(values: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    return (values,) if isinstance(values, Value) else values


def _cases() -> list[Case]:
    q, kv, two = Tensor((2, 3, 16)), Tensor((2, 5, 16)), {"num_heads": 2}
    flags, past = Const([[1, 0, 1, 1, 0], [1, 1, 0, 0, 1]], "int32"), Tensor((2, 2, 4, 8))
    with_past = Const(np.eye(2, 7) + np.eye(2, 7, 3), "int32")
    return [
        Case((q, kv, kv), two),
        Case((q, kv, Tensor((2, 5, 24)), Tensor((56,))), {**two, "scale": 0.3}),
        Case((q, kv, kv, None, flags), {**two, "unidirectional": True}, 4),
        Case((q, kv, kv, None, Const([3, 5], "int32"), Tensor((1, 2, 3, 5))), {**two, "mask_filter_value": -2.0}),
        Case((q, q, q, Tensor((48,)), with_past, None, past, past), {**two, "unidirectional": True}, 3),
        Case((q, Tensor((2, 2, 5, 8)), Tensor((2, 2, 5, 8))), two),
        Case((Tensor((2, 3, 2, 3, 8)),), {**two, "unidirectional": True}),
        Case((q, Tensor((2, 5, 2, 2, 8)), None, Tensor((48,))), two),
    ]


contrib(
    "MultiHeadAttention",
    "query key? value? bias? key_padding_mask? attention_bias? past_key? past_value? past_sequence_length? "
    "cache_indirection?",
    _infer,
    _reference,
    _expand,
    _cases(),
    {
        "num_heads": Attr(int),
        "mask_filter_value": Attr(float, -10000.0, settled=True),
        "scale": Attr(float, 0.0),
        "unidirectional": Attr(bool, False),
    },
    ("output", "present_key", "present_value", "qk"),
    macs=lambda call: macs(_sizes(call)),
)
