"""Attention written as products around a softmax, and ONNX's Attention, as FusedAttention.

softmax(q kᵀ · scale + mask) v, with the scale on any of its factors, a soft cap, any number of masks added to the scores,
heads split off by Reshape and Transpose, heads of keys and values repeated for groups of queries' heads. Those
transpositions and repetitions, and a Split or Slice of one projection for all three, become ways to address the
projection's result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphc.dtypes import is_narrow
from graphc.graph import Node, Value
from graphc.ops._masks import hidden_from
from graphc.ops.attention import Window, emit_lengths
from graphc.ops.movement import slice_axes, slice_bounds
from graphc.passes.attention_windows import window_of_mask
from graphc.passes.identities import permutation
from graphc.passes.rewrite import Rewrite, Skip, Sweep, same_type

BY_SEQUENCE = [0, 2, 1, 3]  # [batch, sequence, heads, size] to [batch, heads, sequence, size] and back

OTHERS = "it is not in float32 or half precision throughout, or has dims that are not known"

fuse_attention = Rewrite("fuse_attention", makes="FusedAttention")


@dataclass
class _Scores:
    """scale · (q kᵀ) + masks, the product under a soft cap if that is not 0."""

    q: Value
    k_transposed: Value
    scale: float = 1.0
    masks: list[Value] = field(default_factory=list)
    softcap: float = 0.0


@dataclass(frozen=True)
class _Operand:
    """A four-dimensional value that holds heads from `first` on along `axis`."""

    value: Value
    axis: int = 1
    first: int = 0


# --- products around a softmax ----------------------------------------------------------------------------------------
@fuse_attention.on("MatMul")
def softmax_between_products(node: Node, sweep: Sweep) -> Value | Skip | None:
    weights, v = node.inputs
    softmax, narrow = sweep.producer(weights, "Softmax"), None
    if softmax is None:
        softmax, narrow = _wider_softmax(weights, sweep)
    if softmax is None:
        return None
    rank = len(weights.shape)
    if rank not in (3, 4) or len(v.shape) != rank:
        return Skip(f"its operands have {rank} and {len(v.shape)} axes")
    if softmax.attrs["axis"] % rank != rank - 1:
        return Skip("the softmax is along another axis")
    if not sweep.sole(weights):
        return Skip(f"'{weights.name}' is a result or read by others")
    scores = _scores(softmax.inputs[0] if narrow is None else narrow, sweep)
    if not isinstance(scores, _Scores):
        return scores
    return _fused(node, scores, v, sweep)


def _wider_softmax(weights: Value, sweep: Sweep) -> tuple[Node, Value] | tuple[None, None]:
    """A softmax in float32 of scores in half precision, whose result is narrowed again, and these scores."""
    narrowed = sweep.producer(weights, "Cast")
    softmax = None if narrowed is None else sweep.producer(narrowed.inputs[0], "Softmax")
    widened = None if softmax is None else sweep.producer(softmax.inputs[0], "Cast")
    if narrowed is None or softmax is None or widened is None:
        return None, None
    between, scores = (narrowed.inputs[0], softmax.inputs[0]), widened.inputs[0]
    if scores.dtype != weights.dtype or not is_narrow(scores.dtype) or any(v.dtype != np.float32 for v in between):
        return None, None
    return (softmax, scores) if all(map(sweep.sole, between)) else (None, None)


def _scores(v: Value, sweep: Sweep) -> _Scores | Skip | None:
    """What lies before the softmax, looking back through masks, then through factors, to a product; None for no product."""
    if not sweep.sole(v):
        return Skip(f"'{v.name}' is a result or read by others") if _from_product(v, sweep) else None
    masks: list[Value] = []
    while (masked := _masked(v, sweep)) is not None:
        if isinstance(masked, Skip):
            return masked
        v, mask = masked
        masks.append(mask)
    v, scale = _unscaled(v, sweep)
    cap = 0.0
    if (curve := sweep.producer(v, "Tanh")) is not None and scale and sweep.sole(v):
        v, inner = _unscaled(curve.inputs[0], sweep)
        cap, scale = scale, scale * inner  # cap · tanh(inner · s) is s · (cap · inner) under the cap
    product = sweep.producer(v, "MatMul")
    if product is None:
        return None
    if not sweep.sole(v):
        return Skip(f"'{v.name}' is a result or read by others")
    left, right = product.inputs
    return _Scores(left, right, scale, masks, cap)


def _from_product(v: Value, sweep: Sweep) -> bool:
    node = sweep.producer(v)
    while node is not None and node.op.name in ("Add", "Mul", "Div", "Tanh", "Where"):
        node = next((p for p in map(sweep.producer, node.inputs) if p is not None), None)
    return node is not None and node.op.name == "MatMul"


def _masked(v: Value, sweep: Sweep) -> tuple[Value, Value] | Skip | None:
    """(scores, what is added to them) where v is such a sum; None where it is not."""
    node = sweep.producer(v, "Add", "Where")
    if node is None:
        return None
    if node.op.name == "Add":
        a, b = node.inputs
        x, mask = (a, b) if _from_product(a, sweep) else (b, a)
    else:
        condition, a, b = node.inputs
        x, hidden, seen = (b, a, False) if a.is_const else (a, b, True)
        lowest = hidden_from(hidden.dtype)
        if not hidden.is_const or hidden.data.size != 1 or not hidden.data.reshape(-1)[0] <= lowest:
            return Skip(f"'{hidden.name}', what hidden scores are replaced by, is not a number of {lowest:g} or less")
        nothing = sweep.constant(np.zeros_like(hidden.data))
        shown, other = (nothing, hidden) if seen else (hidden, nothing)
        if condition.is_const:
            mask = sweep.constant(np.where(condition.data, shown.data, other.data))
        else:
            mask = sweep.add("Where", condition, shown, other)
    if not same_type(x, v):
        return Skip(f"the mask '{mask.name}' is larger than the scores")
    if not sweep.sole(x):
        return Skip(f"'{x.name}' is a result or read by others")
    return x, mask


def _unscaled(v: Value, sweep: Sweep) -> tuple[Value, float]:
    """The value without factors that are constant numbers, and their product."""
    scale = 1.0
    while (node := sweep.producer(v, "Mul", "Div")) is not None and sweep.sole(v):
        x, factor = node.inputs
        if not factor.is_const or factor.data.size != 1 or not same_type(x, v):
            break
        number = float(factor.data.reshape(-1)[0])
        if not np.isfinite(number) or (node.op.name == "Div" and number == 0):
            break
        scale = scale * number if node.op.name == "Mul" else scale / number
        v = x
    return v, scale


def _fused(node: Node, scores: _Scores, v: Value, sweep: Sweep) -> Value | Skip:
    q, q_scale = _unscaled(scores.q, sweep)
    kt, k_scale = _unscaled(scores.k_transposed, sweep)
    if not _is_of_floats(q, kt, v) or not all(x.type.is_static for x in (q, kt, v)):
        return Skip(OTHERS)
    if not q.shape[:-2] == kt.shape[:-2] == v.shape[:-2]:
        return Skip(f"queries {q.shape}, keys {kt.shape} and values {v.shape} differ in batch or heads")
    if 0 in node.output.shape or 0 in kt.shape:
        return Skip("it is empty")
    heads, kv_heads = q.shape[-3], q.shape[-3]
    operands = [_operand(q, sweep), _keys(kt, sweep), _operand(v, sweep)]
    grouped = _shared_heads(kt, v, sweep)
    if grouped is not None:
        kv_heads = grouped[0].shape[1]
        operands[1:] = [_operand(x, sweep) for x in grouped]
    window, masks = _windowed(scores.masks, q.shape[-2], v.shape[-2])
    mask = masks[0] if masks else None
    for other in masks[1:]:
        mask = sweep.add("Add", other, mask)
    scale = scores.scale * q_scale * k_scale
    seen = {"before": window.before, "after": window.after, "offset": window.offset}
    y = _emit(sweep, operands, mask, heads=heads, kv_heads=kv_heads, scale=scale, softcap=scores.softcap, **seen)
    return y if isinstance(y, Skip) else sweep.reshaped(y, node.output.shape)


def _is_of_floats(*values: Value) -> bool:
    """Is it all in one of the dtypes that there may be kernels for?"""
    return {v.dtype.name for v in values} in ({"float32"}, {"float16"}, {"bfloat16"})


def _windowed(masks: Sequence[Value], queries: int, keys: int) -> tuple[Window, list[Value]]:
    """A mask that is a window, and the others."""
    for i, mask in enumerate(masks):
        window = window_of_mask(mask.data, queries, keys) if mask.is_const else None
        if window is not None:
            return window, [*masks[:i], *masks[i + 1 :]]
    return Window(-1, -1), [*masks]


def _emit(
    sweep: Sweep,
    operands: list[_Operand],
    mask: Value | None,
    lengths: Value | None = None,
    axis: int = 1,
    **attrs: Any,
) -> Value | Skip:
    """axis: of the result's heads. Half precision is fused where the backend has a kernel that takes it as it is: without, scores
    would be rounded as in the graph, and copied."""
    inputs = [*(o.value for o in operands), mask, lengths]
    while inputs[-1] is None:
        inputs.pop()
    axes, first = [*(o.axis for o in operands), axis], [o.first for o in operands]
    y = sweep.add("FusedAttention", *inputs, head_axes=axes, first_heads=first, **attrs)
    made = sweep.producer(y)
    if y.dtype != np.float32 and made is not None and not sweep.accepts(made):
        return Skip(f"the target has no kernel for it in {y.dtype}")
    return y


# --- where heads lie --------------------------------------------------------------------------------------------------
def _operand(v: Value, sweep: Sweep) -> _Operand:
    """Heads of [batch, heads, sequence, size], or of [heads, sequence, size], before the transposition that brought them there."""
    swapped = sweep.producer(v, "Transpose")
    return _moved(
        v if swapped is None else swapped.inputs[0], [] if swapped is None else permutation(swapped), v, sweep
    )


def _moved(source: Value, order: list[int], v: Value | None, sweep: Sweep) -> _Operand:
    """Heads of v = Transpose(source, order), or of that transposition where there is no v yet."""
    if order == BY_SEQUENCE:
        return _whole(_Operand(source, 2), sweep)
    if order == [1, 0, 2]:
        return _Operand(_four(source, sweep), 2)
    return _Operand(_four(v if v is not None else sweep.add("Transpose", source, perm=order), sweep))


def _keys(kt: Value, sweep: Sweep) -> _Operand:
    """Heads of the keys, which the product reads transposed."""
    swapped = sweep.producer(kt, "Transpose")
    source = kt if swapped is None else swapped.inputs[0]
    *outer, size, sequence = range(len(kt.shape)) if swapped is None else permutation(swapped)
    order = [*outer, sequence, size]
    return _operand(source, sweep) if order == sorted(order) else _moved(source, order, None, sweep)


def _shared_heads(kt: Value, v: Value, sweep: Sweep) -> tuple[Value, Value] | None:
    """Keys and values before each head was repeated for a group of queries' heads; None where they were not, or not alike."""
    swapped = sweep.producer(kt, "Transpose")
    if swapped is None or permutation(swapped) != [0, 1, 3, 2]:
        return None
    k, values = _before_repeats(swapped.inputs[0], sweep), _before_repeats(v, sweep)
    return (k, values) if k is not None and values is not None and k.shape[1] == values.shape[1] else None


def _before_repeats(v: Value, sweep: Sweep) -> Value | None:
    """x [batch, heads, sequence, size] where v has each of its heads several times over, side by side."""
    merge = sweep.producer(v, "Reshape")
    spread = None if merge is None else sweep.producer(merge.inputs[0], "Expand", "Tile")
    if spread is None or len(spread.output.shape) != 5:
        return None
    batch, heads, times, length, size = spread.output.shape
    thin = spread.inputs[0]
    if v.shape != (batch, heads * times, length, size) or thin.shape != (batch, heads, 1, length, size):
        return None
    apart = sweep.producer(thin, "Unsqueeze", "Reshape")
    shape = (batch, heads, length, size)
    return apart.inputs[0] if apart is not None and apart.inputs[0].shape == shape else sweep.reshaped(thin, shape)


def _four(v: Value, sweep: Sweep) -> Value:
    return v if len(v.shape) == 4 else sweep.reshaped(v, (1, *v.shape))


def _whole(o: _Operand, sweep: Sweep) -> _Operand:
    """[batch, sequence, heads, size] that is cut out of the columns of a wider value: that value."""
    if o.axis != 2:
        return o
    split = sweep.producer(o.value, "Reshape")
    batch, length, heads, size = o.value.shape
    if split is None or split.inputs[0].shape != (batch, length, heads * size):
        return o
    part = columns_of(split.inputs[0], sweep)
    if part is None:
        return o
    x, start = part
    if not size or start % size or x.shape[-1] % size:
        return o
    return replace(o, value=sweep.reshaped(x, (batch, length, x.shape[-1] // size, size)), first=start // size)


def columns_of(v: Value, sweep: Sweep) -> tuple[Value, int] | None:
    """(x, i) where v is columns i and following of x."""
    node = sweep.producer(v, "Split", "Slice")
    if node is None:
        return None
    x, last = node.inputs[0], len(v.shape) - 1
    if node.op.name == "Split":
        at = next(i for i, out in enumerate(node.outputs) if out is v)
        return (
            (x, sum(out.shape[last] for out in node.outputs[:at])) if node.attrs["axis"] % (last + 1) == last else None
        )
    cuts = slice_axes(node.call)
    if any(step != 1 or (axis != last and v.shape[axis] != x.shape[axis]) for axis, _, _, step in cuts):
        return None
    starts = [slice_bounds(x.shape[last], *bounds).start for axis, *bounds in cuts if axis == last]
    return x, sum(starts)


# --- the result -------------------------------------------------------------------------------------------------------
@fuse_attention.on("Transpose")
def heads_side_by_side(node: Node, sweep: Sweep) -> Value | Skip | None:
    """The result with its heads behind the sequence is written there at once."""
    inner = sweep.producer(node.inputs[0], "FusedAttention")
    if inner is None or permutation(node) != BY_SEQUENCE:
        return None
    if not sweep.sole(node.inputs[0]):
        return Skip(f"'{node.inputs[0].name}' is a result or read by others")
    axes = (*inner.attrs["head_axes"][:3], 3 - inner.attrs["head_axes"][3])
    return sweep.remake(node, *inner.inputs, op="FusedAttention", attrs={**inner.attrs, "head_axes": axes})


# --- ONNX's operator --------------------------------------------------------------------------------------------------
@fuse_attention.on("Attention")
def attention_without_extras(node: Node, sweep: Sweep) -> tuple[Value, ...] | Skip | None:
    reason = _extra(node, sweep)
    if reason:
        return Skip(reason)
    call, (q, k, v) = node.call, node.inputs[:3]
    flat = len(q.shape) == 3
    operands, results = [_split(q, call.attrs.q_num_heads, sweep)], list(node.outputs)
    for i, x in enumerate((k, v)):
        operand, present = _split(x, call.attrs.kv_num_heads, sweep), None
        if call.has(4):
            new = _by_heads(x, call.attrs.kv_num_heads, sweep)
            present = sweep.add("Concat", node.inputs[4 + i], new, axis=2)
            operand = _Operand(present)
        elif any(sweep.is_read(r) for r in results[1 + i : 2 + i]):
            present = _by_heads(x, call.attrs.kv_num_heads, sweep)
        if present is not None:
            results[1 + i : 2 + i] = [present for _ in results[1 + i : 2 + i]]
        operands.append(operand)
    # not those of the operands: what q, k and v are parts of has the heads of all
    heads, kv_heads = (call.attrs.q_num_heads, call.attrs.kv_num_heads) if flat else (q.shape[1], k.shape[1])
    queries, keys = (o.value.shape[3 - o.axis] for o in operands[:2])
    past = call.shape(4)[2] if call.has(4) else 0
    window = Window.of(call.attrs, past)
    mask = node.inputs[3] if call.has(3) else None
    if mask is not None and mask.dtype.kind == "b":
        mask = sweep.add("Where", mask, *(sweep.constant(n, q.dtype) for n in (0, -np.inf)))
    elif mask is not None and mask.dtype != q.dtype:
        mask = sweep.add("Cast", mask, to=q.dtype)
    y = _emit(
        sweep,
        operands,
        mask,
        lengths=emit_lengths(sweep, node.inputs[6], keys) if call.has(6) else None,
        axis=2 if flat else 1,
        heads=heads,
        kv_heads=kv_heads,
        scale=operands[0].value.shape[3] ** -0.5 if call.attrs.scale is None else call.attrs.scale,
        zeros=mask is not None or call.has(6) or window.blinds(queries, keys),
        softcap=call.attrs.softcap,
        before=window.before,
        after=window.after,
        # the first query stands behind the cache, which is what comes before the new keys; or the last at the last key
        at_end=call.has(4) or call.has(6),
        offset=queries - k.shape[-2] if call.has(4) else 0,
    )
    if isinstance(y, Skip):
        return y
    results[0] = sweep.reshaped(y, node.output.shape)
    return tuple(results)


def _by_heads(v: Value, heads: int | None, sweep: Sweep) -> Value:
    """[batch, heads, sequence, size] of that, or of [batch, sequence, heads · size]."""
    if len(v.shape) == 4:
        return v
    assert heads is not None
    batch, length, columns = v.shape
    return sweep.add("Transpose", sweep.reshaped(v, (batch, length, heads, columns // heads)), perm=BY_SEQUENCE)


def _extra(node: Node, sweep: Sweep) -> str:
    """What of this use FusedAttention does not have, or ''."""
    call = node.call
    if any(sweep.is_read(v) for v in node.outputs[3:]):
        return "its scores are read"
    precision = call.attrs.softmax_precision
    if precision is not None and precision != np.float32:  # numpy takes None for float64
        return "it has a softmax of another precision"
    operands = [v for v in (*node.inputs[:3], *node.inputs[4:6]) if v is not None]
    mask = node.inputs[3] if call.has(3) else None
    if not _is_of_floats(*operands) or not all(v.type.is_static for v in (*node.operands, node.output)):
        return OTHERS
    if mask is not None and mask.dtype.kind != "b" and operands[0].dtype == np.float32 != mask.dtype:
        return f"its mask is in {mask.dtype}"
    if any(0 in v.shape for v in (*node.inputs[:3], node.output)):
        return "it is empty"
    keys = node.inputs[1].shape[-2] + (call.shape(4)[2] if call.has(4) else 0)
    if call.has(3) and call.shape(3) and call.shape(3)[-1] not in (1, keys):
        return "its mask is shorter than the keys"
    return ""


def _split(v: Value, heads: int | None, sweep: Sweep) -> _Operand:
    """[batch, heads, sequence, size], or [batch, sequence, heads · size]."""
    if len(v.shape) == 4:
        return _operand(v, sweep)
    assert heads is not None
    batch, length, columns = v.shape
    return _whole(_Operand(sweep.reshaped(v, (batch, length, heads, columns // heads)), 2), sweep)
