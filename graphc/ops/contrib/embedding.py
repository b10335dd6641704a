"""EmbedLayerNormalization of com.microsoft: rows for words, positions and segments, their sum, and its layer normalisation."""

from __future__ import annotations

import numpy as np

from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import FLOAT_NAMES, operand_name, require_dtype, require_same_dtype
from graphc.ops.contrib.attention import expect
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import widen
from graphc.ops.within import emit_within
from graphc.types import TensorType

IDS, SEGMENTS, WORDS, POSITIONS, SEGMENT_ROWS, GAMMA, BETA, MASK, POSITION_IDS = range(9)
INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)


def _infer(call: Call) -> list[TensorType]:
    for i in (IDS, SEGMENTS, MASK, POSITION_IDS):
        if call.has(i):
            require_dtype(call, i, ("int32",))
    dtype = require_dtype(call, WORDS, FLOAT_NAMES)
    require_same_dtype(call, WORDS, POSITIONS, SEGMENT_ROWS, GAMMA, BETA)
    if call.rank(IDS) != 2 or call.rank(WORDS) != 2:
        raise call.fail(f"'input_ids' has shape {call.shape(IDS)}", "give [batch, sequence], and tables of two axes")
    if call.has(SEGMENTS) and not call.has(SEGMENT_ROWS):
        raise call.fail("there are segment_ids, and no segment_embedding")
    (batch, length), hidden = call.shape(IDS), call.shape(WORDS)[1]
    for i in (POSITIONS, SEGMENT_ROWS):
        if call.has(i):
            expect(call, i, (call.shape(i)[0] if call.rank(i) else 0, hidden))
    for i in (GAMMA, BETA):
        expect(call, i, (hidden,))
    for i in (SEGMENTS, MASK):
        expect(call, i, (batch, length))
    expect(call, POSITION_IDS, (batch, length), (1, length))
    rows = call.shape(POSITIONS)[0]
    if not call.has(POSITION_IDS) and isinstance(length, int) and isinstance(rows, int) and length > rows:
        raise call.fail(f"there are {rows} positions, of a sequence of {length}", "give a longer position_embedding")
    y = TensorType(dtype, (batch, length, hidden))
    return [y, TensorType(INT32, (batch,)), y]


def _rows(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    if ids.size and not (ids.min() >= 0 and ids.max() < len(table)):
        raise InputError(f"ids from {ids.min()} to {ids.max()}, the table has {len(table)} rows")
    return table[ids]


def _reference(
    ids,
    segments,
    words,
    positions,
    segment_rows,
    gamma,
    beta,
    mask=None,
    position_ids=None,
    *,
    epsilon,
    mask_index_type,
):
    dtype = words.dtype
    words, positions, segment_rows, gamma, beta = map(widen, (words, positions, segment_rows, gamma, beta))
    total = _rows(words, ids) + _rows(
        positions, np.arange(ids.shape[1])[None] if position_ids is None else position_ids
    )
    if segment_rows is not None:
        segments = np.zeros_like(ids) if segments is None else segments
        total = total + _rows(segment_rows, segments)
    mean = total.mean(-1, keepdims=True)
    deviation = np.sqrt(((total - mean) ** 2).mean(-1, keepdims=True) + total.dtype.type(epsilon))
    y = (total - mean) / deviation * gamma + beta
    count = np.zeros(len(ids), INT32) if mask is None else (mask == 1).sum(1).astype(INT32)
    return y.astype(dtype), count, total.astype(dtype)


@where_static
def _expand(b: Builder, call: Call) -> tuple[Value, ...]:
    batch, length = call.shape(IDS)

    def rows(table: int, ids: int) -> Value:
        t, (what, where) = call.inputs[table], (operand_name(call, i) for i in (ids, table))
        return b.add("Gather", t, emit_within(b, call.inputs[ids], t.shape[0], what, where, call.op.name), axis=0)

    total = rows(WORDS, IDS)
    if call.has(POSITION_IDS):
        at = rows(POSITIONS, POSITION_IDS)
    else:
        at = b.add("Slice", call.inputs[POSITIONS], *(b.constant([n], np.int64) for n in (0, length, 0)))
    total = b.add("Add", total, at)
    if call.has(SEGMENTS):
        total = b.add("Add", total, rows(SEGMENT_ROWS, SEGMENTS))
    elif call.has(SEGMENT_ROWS):  # all of them are the first segment
        first = b.add("Slice", call.inputs[SEGMENT_ROWS], *(b.constant([n], np.int64) for n in (0, 1, 0)))
        total = b.add("Add", total, first)
    y = b.add("LayerNormalization", total, *call.inputs[GAMMA : BETA + 1], axis=-1, epsilon=call.attrs.epsilon)
    if call.n_outputs == 1:
        call.ignore(MASK)
        return (y,)
    if call.has(MASK):
        ones = b.add("Cast", b.add("Equal", call.inputs[MASK], b.constant(1, INT32)), to=INT32)
        count = b.add("ReduceSum", ones, b.constant([1], np.int64), keepdims=False)
    else:
        count = b.add("Expand", b.constant(0, INT32), b.constant([batch], np.int64))
    return (y, count, total)[: call.n_outputs]


def _cases() -> list[Case]:
    ids, segments = Const([[1, 2, 3], [4, 5, 6]], "int32"), Const([[0, 0, 1], [1, 1, 0]], "int32")
    words, positions, two, h = (Tensor(shape, dtype="float32") for shape in ((10, 8), (6, 8), (2, 8), (8,)))
    mask = Const([[1, 2, 0], [5, 1, 1]], "int32")
    return [
        Case((ids, segments, words, positions, two, h, h, mask), {}, 3),
        Case((ids, None, words, positions, None, h, h), {"epsilon": 1e-5}, 2),
        Case((ids, segments, words, positions, two, h, h, None, Const([[2, 0, 1]], "int32")), {}, 2),
    ]


contrib(
    "EmbedLayerNormalization",
    "input_ids segment_ids? word_embedding position_embedding segment_embedding? gamma beta mask? position_ids?",
    _infer,
    _reference,
    _expand,
    _cases(),
    {"epsilon": Attr(float, 1e-12), "mask_index_type": Attr(int, 0, settled=True)},
    ("output", "mask_index", "embedding_sum"),
    dtypes=("int32",),
    tolerance=1e-4,  # as LayerNormalization
)
