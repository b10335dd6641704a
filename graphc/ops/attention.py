"""Scaled dot-product attention and rotary position embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np

from graphc.dtypes import is_narrow
from graphc.errors import InputError
from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Op, Samples, Tensor, register
from graphc.ops.contract import FLOAT_NAMES, differ, operand_name, require_dtype, require_same_dtype
from graphc.ops.precision import NUMERIC, widen
from graphc.ops.within import emit_within
from graphc.types import Dim, Shape, TensorType, dtype_name, is_static, number, prod

INT64 = np.dtype(np.int64)


# --- Attention: type rule ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Sizes:
    batch: Dim
    q_heads: Dim
    kv_heads: Dim
    q_len: Dim
    kv_len: Dim
    past: Dim
    head: Dim
    v_head: Dim

    @property
    def total(self) -> Dim:
        return self.kv_len + self.past


def _split_heads(call: Call, i: int, heads: int | None, attr: str) -> tuple[Dim, Dim, Dim, Dim]:
    """(batch, heads, sequence, head size) of operand i, which is 4-d, or 3-d with the heads side by side."""
    shape, name = call.shape(i), call.op.inputs[i]
    if len(shape) == 4:
        return shape
    if len(shape) != 3:
        raise call.fail(
            f"'{name}' has shape {shape}", "give [batch, heads, sequence, size] or [batch, sequence, hidden]"
        )
    if not heads or heads < 0:
        raise call.fail(f"'{name}' {shape} has three axes, and {attr} is not set", f"set {attr}, or give four axes")
    if isinstance(shape[2], int) and shape[2] % heads:
        raise call.fail(f"the {shape[2]} columns of '{name}' {shape} do not divide into {attr}={heads}")
    return shape[0], heads, shape[1], shape[2] // heads


def _sizes(call: Call) -> _Sizes:
    q = _split_heads(call, 0, call.attrs.q_num_heads, "q_num_heads")
    k, v = (_split_heads(call, i, call.attrs.kv_num_heads, "kv_num_heads") for i in (1, 2))
    if differ(q[3], k[3]):
        raise call.fail(f"heads of the query have size {q[3]}, of the key {k[3]}", "both must agree")
    for axis, what in ((0, "batch"), (1, "heads"), (2, "sequence length")):
        if differ(k[axis], v[axis]):
            raise call.fail(f"key and value differ in {what}: {k[axis]} and {v[axis]}")
    if differ(q[0], k[0]):
        raise call.fail(f"query and key differ in batch: {q[0]} and {k[0]}")
    if 0 in (q[1], k[1], q[3], v[3]):
        raise call.fail(f"there are {q[1]} and {k[1]} heads of size {q[3]}", "attention needs heads with elements")
    if isinstance(q[1], int) and isinstance(k[1], int) and q[1] % k[1]:
        raise call.fail(f"{q[1]} query heads do not divide into groups for {k[1]} key heads", "use a multiple")
    past: Dim = 0
    if call.has(4) != call.has(5):
        raise call.fail("past_key and past_value go together: one is missing")
    if call.has(4):
        if call.has(6):
            raise call.fail("nonpad_kv_seqlen is for a cache kept outside: give it or past_key and past_value")
        past = call.shape(4)[2]
        for i, size in ((4, k[3]), (5, v[3])):
            _expect(call, i, (k[0], k[1], past, size))
    if call.has(6):
        _expect(call, 6, (q[0],))
    return _Sizes(q[0], q[1], k[1], q[2], k[2], past, q[3], v[3])


def _expect(call: Call, i: int, want: Shape) -> None:
    if call.rank(i) != len(want) or any(differ(a, b) for a, b in zip(call.shape(i), want)):
        raise call.fail(f"'{operand_name(call, i)}' has shape {call.shape(i)}, not {want}")


def _check_mask(call: Call, s: _Sizes) -> None:
    shape, scores = call.shape(3), (s.batch, s.q_heads, s.q_len, s.total)
    if not (call.dtype(3).kind == "b" or NUMERIC.accepts(call.dtype(3))):
        raise call.fail(f"the mask is {dtype_name(call.dtype(3))}", "give bool, or numbers to add to the scores")
    fits = len(shape) <= 4 and not any(d != 1 and differ(d, want) for d, want in zip(shape[-2::-1], scores[-2::-1]))
    longer = shape and isinstance(shape[-1], int) and isinstance(s.total, int) and shape[-1] > s.total
    if not fits or longer:
        raise call.fail(f"the mask has shape {shape}", f"it must broadcast to {scores} (the last axis may be shorter)")


def _attention_infer(call: Call) -> list[TensorType]:
    dtype, v_dtype = require_dtype(call, 0, FLOAT_NAMES), require_dtype(call, 2, FLOAT_NAMES)
    require_same_dtype(call, 0, 1, 4)
    require_same_dtype(call, 2, 5)
    s = _sizes(call)
    if call.has(3):
        _check_mask(call, s)
    y: Shape = (s.batch, s.q_heads, s.q_len, s.v_head)
    if call.rank(0) == 3:
        y = (s.batch, s.q_len, s.q_heads * s.v_head)
    return [
        TensorType(dtype, y),
        TensorType(dtype, (s.batch, s.kv_heads, s.total, s.head)),
        TensorType(v_dtype, (s.batch, s.kv_heads, s.total, s.v_head)),
        TensorType(dtype, (s.batch, s.q_heads, s.q_len, s.total)),
    ]


def _attention_macs(call: Call) -> Dim:
    """Two matrix products per head: q_len·total·(head + v_head)."""
    s = _sizes(call)
    return prod((s.batch, s.q_heads, s.q_len, s.total, s.head + s.v_head))


# --- Attention: reference ---------------------------------------------------------------------------------------------
def _heads(x: np.ndarray, heads: int | None) -> np.ndarray:
    if x.ndim == 4:
        return x
    assert heads is not None
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)


@dataclass(frozen=True)
class Window:
    """Which keys queries see: query i stands at position i + offset among them, and sees those from `before` before it to
    `after` behind it; -1: all."""

    before: int
    after: int
    offset: Any = 0  # a Dim, or an array

    @staticmethod
    def of(attrs: Mapping[str, Any], offset: Any = 0) -> Window:
        """That of a use of Attention."""
        after = attrs["right_window_size"]
        if attrs["is_causal"]:
            after = 0
        return Window(attrs["left_window_size"], after, offset)

    def hides(self, queries: Dim, keys: Dim) -> bool:
        """Might a query not see all of these keys? Bounds on `before` are not compared with lengths, so that a cache may
        grow past them without another plan."""
        return self.before >= 0 or (self.after >= 0 and self.offset + self.after < keys - 1)

    def blinds(self, queries: Dim, keys: Dim) -> bool:
        """Is there a query that sees none of these keys?"""
        late = self.before >= 0 and queries - 1 + self.offset - self.before >= keys
        return late or (self.after >= 0 and self.offset + self.after < 0)

    def seen(self, queries: int, keys: int) -> np.ndarray:
        """bool [queries, keys], or [batch, 1, queries, keys] where the offset is an array [batch, 1, 1, 1]."""
        ahead = np.arange(keys) - np.arange(queries)[:, None] - self.offset
        seen = np.ones(ahead.shape, bool)
        if self.before >= 0:
            seen &= ahead >= -self.before
        if self.after >= 0:
            seen &= ahead <= self.after
        return seen

    def emit(self, b: Builder, queries: Dim, keys: Dim, offset: Value) -> Value | None:
        """`seen` as nodes, with the offset's value; None for no bounds."""
        if self.before < 0 and self.after < 0:
            return None
        bounds = ((self.before, "GreaterOrEqual", -self.before), (self.after, "LessOrEqual", self.after))
        at = b.add("Add", b.add("Unsqueeze", _range(b, queries), b.constant([1], np.int64)), offset)
        ahead = b.add("Sub", _range(b, keys), at)
        seen = [b.add(compare, ahead, b.constant(n, np.int64)) for size, compare, n in bounds if size >= 0]
        return reduce(partial(b.add, "And"), seen)


def emit_seen(b: Builder, window: Window, queries: Dim, keys: Dim, lengths: Value | None = None) -> Value | None:
    """`window.seen` as nodes; None where all see all.

    lengths: int64 [batch], how many of the keys there are in each; the window's offset is that where there are all of them.
    """
    if lengths is None:
        if not window.hides(queries, keys):
            return None
        return window.emit(b, queries, keys, b.constant(window.offset, np.int64))
    lengths = b.add("Reshape", lengths, b.constant([-1, 1, 1, 1], np.int64))
    there = b.add("Less", _range(b, keys), lengths)
    seen = window.emit(b, queries, keys, b.add("Sub", lengths, b.constant(keys - window.offset, np.int64)))
    return there if seen is None else b.add("And", there, seen)


def _range(b: Builder, end: Dim) -> Value:
    return b.add("Range", *(b.constant(n, np.int64) for n in (0, end, 1)))


def _softmax(x: np.ndarray, hides: bool) -> np.ndarray:
    """Softmax over the last axis. A row of -inf gives zeros if something `hides` rows, and NaN else."""
    top = x.max(-1, keepdims=True, initial=-np.inf)
    hidden = np.isneginf(top) & hides
    powers = np.exp(x - np.where(hidden, 0, top))
    return powers / np.where(hidden, 1, powers.sum(-1, keepdims=True))


def _attention_reference(q, k, v, mask=None, past_key=None, past_value=None, nonpad=None, **attrs):
    """softmax(softcap(Q K^T · scale) + mask) V by heads, and the caches, and the scores of qk_matmul_output_mode."""
    dtype, v_dtype, three = q.dtype, v.dtype, q.ndim == 3
    q, k, v, past_key, past_value = map(widen, (q, k, v, past_key, past_value))
    q, k, v = _heads(q, attrs["q_num_heads"]), _heads(k, attrs["kv_num_heads"]), _heads(v, attrs["kv_num_heads"])
    offset = 0
    if past_key is not None:
        offset = past_key.shape[2]
        k, v = np.concatenate([past_key, k], 2), np.concatenate([past_value, v], 2)
    group, total = q.shape[1] // k.shape[1], k.shape[2]
    root = np.sqrt(q.shape[3] ** -0.5 if attrs["scale"] is None else attrs["scale"]).astype(q.dtype)
    scores = np.matmul(q * root, np.repeat(k, group, 1).swapaxes(2, 3) * root)
    stages = [scores]
    if attrs["softcap"]:
        scores = np.tanh(scores / q.dtype.type(attrs["softcap"])) * q.dtype.type(attrs["softcap"])
    stages.append(scores)
    seen = np.ones((1, 1), bool)
    if nonpad is not None:
        if nonpad.size and not (nonpad.min() >= 0 and nonpad.max() <= total):
            raise InputError(
                f"nonpad_kv_seqlen from {nonpad.min()} to {nonpad.max()} is not between 0 and {total} keys"
            )
        nonpad = nonpad.reshape(-1, 1, 1, 1)
        offset, seen = nonpad - q.shape[2], np.arange(total) < nonpad
    seen = seen & Window.of(attrs, offset).seen(q.shape[2], total)
    if mask is not None:
        lacking = total - mask.shape[-1] if mask.ndim and mask.shape[-1] != 1 else 0
        short = [*[(0, 0)] * (mask.ndim - 1), (0, lacking)][: mask.ndim]
        if mask.dtype.kind == "b":
            seen = seen & np.pad(mask, short)
        else:
            scores = scores + np.pad(widen(mask.astype(dtype)), short, constant_values=-np.inf)
    scores = np.where(seen, scores, -np.inf).astype(q.dtype)
    stages.append(scores)
    precision = attrs["softmax_precision"] or q.dtype
    hides = mask is not None or nonpad is not None or not seen.any(-1).all()
    weights = _softmax(widen(scores.astype(precision)), hides).astype(precision).astype(q.dtype)
    stages.append(weights)
    y = np.matmul(weights, np.repeat(v, group, 1))
    if three:
        y = y.swapaxes(1, 2).reshape(len(y), y.shape[2], y.shape[1] * y.shape[3])
    return y.astype(dtype), k.astype(dtype), v.astype(v_dtype), stages[attrs["qk_matmul_output_mode"]].astype(dtype)


# --- Attention: expansion ---------------------------------------------------------------------------------------------
def _emit_heads(b, call: Call, i: int, heads: int | None):
    x = call.inputs[i]
    if call.rank(i) == 4:
        return x
    return b.add("Transpose", b.add("Reshape", x, b.constant([0, 0, heads, -1], np.int64)), perm=(0, 2, 1, 3))


def _emit_repeated(b, x, group: int):
    """Every head of x [batch, heads, sequence, size] `group` times over."""
    if group == 1:
        return x
    _, heads, _, size = x.shape
    spread = b.add(
        "Expand", b.add("Unsqueeze", x, b.constant([2], np.int64)), b.constant([1, 1, group, 1, 1], np.int64)
    )
    return b.add("Reshape", spread, b.constant([0, heads * group, -1, size], np.int64))


def _emit_seen(b, call: Call, s: _Sizes):
    """(bool value of the keys each query sees or None for all, may a query see none?)."""
    window = Window.of(call.attrs, s.total - s.q_len if call.has(6) else s.past)
    lengths = emit_lengths(b, call.inputs[6], s.total) if call.has(6) else None
    conditions = [emit_seen(b, window, s.q_len, s.total, lengths)]
    hidden = call.has(6) or window.blinds(s.q_len, s.total)
    if call.has(3) and call.dtype(3).kind == "b":
        conditions.append(_emit_padded(b, s, call.inputs[3], False))
        hidden = True
    given = [condition for condition in conditions if condition is not None]
    return (reduce(partial(b.add, "And"), given) if given else None), hidden


def emit_lengths(b: Builder, lengths: Value, keys: Dim) -> Value:
    """How many of the keys there are in each of the batch: an error where there are not as many."""
    return emit_within(b, lengths, keys + 1, "nonpad_kv_seqlen", "the number of keys", "Attention")


def _emit_padded(b, s: _Sizes, mask, value):
    """The mask, a short last axis filled up with `value`."""
    shape = mask.shape
    if not shape or shape[-1] in (1, s.total):
        return mask
    pads = [0] * (2 * len(shape) - 1) + [s.total - shape[-1]]
    return b.add("Pad", mask, b.constant(pads, np.int64), b.constant(value, mask.dtype))


def _widened(b, call: Call):
    """The same in float32, rounded once at its end. Kernels of half precision compute so, too."""
    wide = [v if v is None or v.dtype != call.dtype(0) else b.add("Cast", v, to=np.float32) for v in call.inputs]
    results = b.add("Attention", *wide, outputs=call.n_outputs, **call.attrs)
    results = results if isinstance(results, tuple) else (results,)
    return tuple(b.add("Cast", v, to=call.dtype(0)) for v in results)


def _attention_expand(b, call: Call):
    """MatMul, Softmax, MatMul, and what the attributes add; None for symbolic sizes or a value of another dtype."""
    s, dtype = _sizes(call), call.dtype(0)
    if call.dtype(2) != dtype or not is_static((s.q_heads, s.kv_heads, s.q_len, s.kv_len, s.past, s.head, s.v_head)):
        return None
    if is_narrow(dtype):
        return _widened(b, call)
    q = _emit_heads(b, call, 0, call.attrs.q_num_heads)
    k, v = (_emit_heads(b, call, i, call.attrs.kv_num_heads) for i in (1, 2))
    if call.has(4):
        k, v = (b.add("Concat", call.inputs[i], new, axis=2) for i, new in ((4, k), (5, v)))
    group = number(s.q_heads) // number(s.kv_heads)
    scale = number(s.head) ** -0.5 if call.attrs.scale is None else call.attrs.scale
    keys = b.add("Transpose", _emit_repeated(b, k, group), perm=(0, 1, 3, 2))
    scores = b.add("MatMul", b.add("Mul", q, b.constant(scale, dtype)), keys)
    stages = [scores]
    if call.attrs.softcap:
        cap = b.constant(call.attrs.softcap, dtype)
        scores = b.add("Mul", b.add("Tanh", b.add("Div", scores, cap)), cap)
    stages.append(scores)
    seen, hidden = _emit_seen(b, call, s)
    if call.has(3) and call.dtype(3).kind != "b":
        scores = b.add("Add", scores, _emit_padded(b, s, b.add("Cast", call.inputs[3], to=dtype), -np.inf))
        hidden = True
    lowest = b.constant(-np.inf, dtype)
    if seen is not None:
        scores = b.add("Where", seen, scores, lowest)
    stages.append(scores)
    precision = call.attrs.softmax_precision or dtype
    weights = b.add("Cast", b.add("Softmax", b.add("Cast", scores, to=precision), axis=-1), to=dtype)
    if hidden:  # a query that sees no key has a row of -inf, whose softmax is not a number
        top = b.add("ReduceMax", scores, b.constant([-1], np.int64), keepdims=True)
        weights = b.add("Where", b.add("Equal", top, lowest), b.constant(0, dtype), weights)
    stages.append(weights)
    y = b.add("MatMul", weights, _emit_repeated(b, v, group))
    if call.rank(0) == 3:
        y = b.add("Reshape", b.add("Transpose", y, perm=(0, 2, 1, 3)), b.constant([0, 0, -1], np.int64))
    return (y, k, v, stages[call.attrs.qk_matmul_output_mode])[: call.n_outputs]


def _attention_cases() -> tuple[Case, ...]:
    q, kv = Tensor((2, 3, 4, 8)), Tensor((2, 3, 6, 8))
    flat_q, flat_k, flat_v = Tensor((2, 4, 24)), Tensor((2, 6, 24)), Tensor((2, 6, 30))
    grouped = Tensor((2, 6, 4, 8))
    past = Tensor((2, 3, 5, 8))

    def mask(*shape, dtype="bool"):
        return Tensor(shape, dtype=dtype)

    def full(**attrs):
        return {"qk_matmul_output_mode": 3, **attrs}

    nonpad = Const([6, 3])
    return (
        Case((q, kv, kv)),
        Case((q, kv, Tensor((2, 3, 6, 5)))),
        Case((flat_q, flat_k, flat_v), {"q_num_heads": 3, "kv_num_heads": 3}),
        Case((grouped, kv, kv)),
        Case((Tensor((2, 4, 48)), flat_k, flat_k), {"q_num_heads": 6, "kv_num_heads": 3, "is_causal": True}),
        Case((q, Tensor((2, 1, 6, 8)), Tensor((2, 1, 6, 8)))),
        Case((q, kv, kv), {"scale": 0.25, "softcap": 2.0}),
        Case((q, kv, kv), {"is_causal": True}),
        Case((q, kv, kv, mask(4, 6))),
        Case((q, kv, kv, mask(2, 1, 4, 6)), full(), 4),
        Case((q, kv, kv, mask(2, 3, 4, 6, dtype="float32")), {"is_causal": True}),
        Case((q, kv, kv, mask(4, 5, dtype="float32"))),
        Case((q, kv, kv, mask(1, 4, 5))),
        Case((q, kv, kv, None, past, past), {"is_causal": True}, 3),
        Case((q, kv, kv, mask(4, 11), past, past), {"is_causal": True}, 3),
        Case((q, kv, kv, mask(4, 6, dtype="float32")), {"softcap": 1.5, "qk_matmul_output_mode": 0}, 4),
        Case((q, kv, kv, mask(4, 6, dtype="float32")), {"softcap": 1.5, "qk_matmul_output_mode": 1}, 4),
        Case((q, kv, kv, mask(4, 6, dtype="float32")), {"softcap": 1.5, "qk_matmul_output_mode": 2}, 4),
        Case((q, kv, kv, None, None, None, nonpad)),
        Case((q, kv, kv, mask(4, 6), None, None, nonpad), {"is_causal": True}),
        Case((q, kv, kv), {"left_window_size": 1, "right_window_size": 1}),
        Case((q, kv, kv), {"left_window_size": 2, "is_causal": True}),
        Case((q, kv, kv, None, None, None, nonpad), {"left_window_size": 1, "right_window_size": 2}),
        Case((q, kv, kv), {"softmax_precision": "float64"}),
    )


register(
    Op(
        "Attention",
        ("q", "k", "v", "attn_mask?", "past_key?", "past_value?", "nonpad_kv_seqlen?"),
        _attention_infer,
        _attention_reference,
        {
            "is_causal": Attr(bool, False),
            "q_num_heads": Attr(int, None),
            "kv_num_heads": Attr(int, None),
            "scale": Attr(float, None),
            "softcap": Attr(float, 0.0),
            "softmax_precision": Attr("dtype", None),
            "qk_matmul_output_mode": Attr(int, 0, (0, 1, 2, 3)),
            "left_window_size": Attr(int, -1),
            "right_window_size": Attr(int, -1),
        },
        ("y", "present_key", "present_value", "qk_matmul_output"),
        expand=_attention_expand,
        macs=_attention_macs,
        samples=Samples(("float32",), low=-2.0, high=2.0, cases=_attention_cases()),
    )
)


# --- RotaryEmbedding --------------------------------------------------------------------------------------------------
def _rotary_width(call: Call) -> Dim:
    """Elements of a head that are rotated. Raises TypeRuleError."""
    _, _, _, size = _split_heads(call, 0, call.attrs.num_heads, "num_heads")
    width = call.attrs.rotary_embedding_dim or size
    if isinstance(width, int) and (width % 2 or (isinstance(size, int) and width > size)):
        raise call.fail(f"{width} elements of a head of {size} would be rotated", "use an even number within the head")
    return width


def _rotary_infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, FLOAT_NAMES)
    require_same_dtype(call, 0, 1, 2)
    batch, _, length, _ = _split_heads(call, 0, call.attrs.num_heads, "num_heads")
    half = _rotary_width(call) // 2
    if call.has(3):
        _expect(call, 3, (batch, length))
    for i in (1, 2):
        want = (call.shape(1)[0], half) if call.has(3) else (batch, length, half)
        _expect(call, i, want)
    return [TensorType(dtype, call.shape(0))]


def _rotary_reference(x, cos, sin, positions=None, *, interleaved, num_heads, rotary_embedding_dim):
    """Pairs (a, b) of each head become (a cos - b sin, a sin + b cos): halves of it, or neighbours if interleaved."""
    heads = widen(_heads(x, num_heads))
    width = rotary_embedding_dim or heads.shape[3]
    if positions is not None:
        if positions.size and not (positions.min() >= 0 and positions.max() < len(cos)):
            raise InputError(f"position_ids from {positions.min()} to {positions.max()}, the cache has {len(cos)} rows")
        cos, sin = cos[positions], sin[positions]
    cos, sin = widen(cos)[:, None], widen(sin)[:, None]
    first, second = (
        (slice(0, width, 2), slice(1, width, 2)) if interleaved else (slice(width // 2), slice(width // 2, width))
    )
    y = heads.copy()
    y[..., first] = heads[..., first] * cos - heads[..., second] * sin
    y[..., second] = heads[..., first] * sin + heads[..., second] * cos
    y = y if x.ndim == 4 else y.swapaxes(1, 2).reshape(x.shape)
    return y.astype(x.dtype)


def emit_rows(b: Builder, tables: Sequence[Value], positions: Value) -> list[Value]:
    """Of each table the rows at the positions: an error where it has none."""
    rows = tables[0].shape[0]
    positions = emit_within(b, positions, rows, "position_ids", "the rows of the cache", "RotaryEmbedding")
    return [b.add("Gather", t, positions, axis=0) for t in tables]


def _rotary_expand(b, call: Call):
    """Gather, Mul, Sub, Add and Concat; None for heads of unknown size."""
    _, _, _, size = _split_heads(call, 0, call.attrs.num_heads, "num_heads")
    width = _rotary_width(call)
    if not isinstance(size, int) or not isinstance(width, int) or not isinstance(call.shape(1)[0], int):
        return None
    last, one = b.constant([-1], np.int64), b.constant([1], np.int64)
    x, rest = _emit_heads(b, call, 0, call.attrs.num_heads), None
    tables: Sequence[Value] = call.inputs[1:3]
    if call.has(3):
        tables = emit_rows(b, tables, call.inputs[3])
    cos, sin = (b.add("Unsqueeze", t, one) for t in tables)
    if width < size:
        x, rest = b.add("Split", x, b.constant([width, size - width], np.int64), axis=-1, outputs=2)
    if call.attrs.interleaved:
        pairs = b.add("Reshape", x, b.constant([0, 0, 0, -1, 2], np.int64))
        first, second = (b.add("Gather", pairs, b.constant(i, np.int64), axis=4) for i in (0, 1))
    else:
        first, second = b.add("Split", x, b.constant([width // 2] * 2, np.int64), axis=-1, outputs=2)
    real = b.add("Sub", b.add("Mul", first, cos), b.add("Mul", second, sin))
    imaginary = b.add("Add", b.add("Mul", first, sin), b.add("Mul", second, cos))
    if call.attrs.interleaved:
        pairs = b.add("Concat", *(b.add("Unsqueeze", part, last) for part in (real, imaginary)), axis=-1)
        turned = [b.add("Reshape", pairs, b.constant([0, 0, 0, -1], np.int64))]
    else:
        turned = [real, imaginary]
    parts = [*turned, *((rest,) if rest is not None else ())]
    y = b.add("Concat", *parts, axis=-1) if len(parts) > 1 else parts[0]
    if call.rank(0) == 4:
        return y
    return b.add("Reshape", b.add("Transpose", y, perm=(0, 2, 1, 3)), b.constant([0, 0, -1], np.int64))


def _rotary_cases() -> tuple[Case, ...]:
    positions = Const([[0, 1, 2, 3, 4], [9, 3, 5, 0, 7]])

    def case(x, half, by_position=True, **attrs):
        table = Tensor((10, half) if by_position else (2, 5, half), -1, 1)
        return Case((Tensor(x), table, table, *((positions,) if by_position else ())), attrs)

    return (
        case((2, 3, 5, 8), 4),
        case((2, 3, 5, 8), 4, False),
        case((2, 3, 5, 8), 4, interleaved=True),
        case((2, 5, 24), 4, num_heads=3),
        case((2, 3, 5, 8), 2, rotary_embedding_dim=4),
        case((2, 5, 24), 3, False, num_heads=3, rotary_embedding_dim=6, interleaved=True),
    )


register(
    Op(
        "RotaryEmbedding",
        ("x", "cos_cache", "sin_cache", "position_ids?"),
        _rotary_infer,
        _rotary_reference,
        {"interleaved": Attr(bool, False), "num_heads": Attr(int, None), "rotary_embedding_dim": Attr(int, 0)},
        expand=_rotary_expand,
        samples=Samples(("float32",), cases=_rotary_cases()),
    )
)
