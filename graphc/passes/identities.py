"""Drop what changes nothing, and merge neighbours that undo or repeat each other."""

from __future__ import annotations

import numpy as np

from graphc.graph import Node, Value
from graphc.passes.rewrite import Rewrite, Skip, Sweep, all_equal, not_negative, same_type

identities = Rewrite("identities")


# --- one node without effect ------------------------------------------------------------------------------------------
@identities.on("Identity")
def identity(node: Node, sweep: Sweep) -> Value:
    return node.inputs[0]


@identities.on("Dropout")
def inference_dropout(node: Node, sweep: Sweep) -> tuple[Value, ...] | Skip:
    x, *rest = node.inputs
    training = rest[1] if len(rest) > 1 else None
    if training is not None and not all_equal(training, 0):
        return Skip(f"its training mode '{training.name}' is not known to be off")
    if len(node.outputs) == 1:
        return (x,)
    mask = node.outputs[1]
    if sweep.is_read(mask):
        return Skip("its mask is used")
    return x, mask


@identities.on("Cast", "CastLike")
def cast_to_the_same_dtype(node: Node, sweep: Sweep) -> Value | None:
    x = node.inputs[0]
    return x if x.dtype == node.output.dtype else None


@identities.on("Sum", "Mean", "Max", "Min", "Concat")
def of_one_operand(node: Node, sweep: Sweep) -> Value | None:
    return node.inputs[0] if len(node.operands) == 1 and same_type(node.inputs[0], node.output) else None


@identities.on("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Pad", "Split")
def same_elements_same_shape(node: Node, sweep: Sweep) -> Value | Skip | None:
    """They only add, repeat or rearrange elements: with one output of the operand's shape they change nothing.

    Pad may crop on one side and add on the other: its pads must all be 0.
    """
    if len(node.outputs) != 1 or not same_type(node.inputs[0], node.output):
        return None
    if node.op.name == "Pad" and any(node.call.ints(1)):
        return Skip("it pads and crops")
    return node.inputs[0]


@identities.on("Slice")
def slice_of_everything(node: Node, sweep: Sweep) -> Value | Skip | None:
    if not same_type(node.inputs[0], node.output):
        return None
    if node.call.has(4) and any(step < 0 for step in node.call.ints(4)):
        return Skip("it reverses")
    return node.inputs[0]


@identities.on("*")
def neutral_constant(node: Node, sweep: Sweep) -> Value | Skip | None:
    """x - 0, x·1 and their like. (x + 0.0 is none: it makes 0.0 of -0.0.)"""
    laws = node.op.laws
    if laws.neutral is None:
        return None
    a, b = node.inputs
    for x, c in ((a, b), (b, a)) if laws.commutes else ((a, b),):
        if all_equal(c, laws.neutral) and not x.is_const:
            return x if same_type(x, node.output) else Skip(f"the constant broadcasts {x.type} to {node.output.type}")
    return None


@identities.on("Where")
def constant_condition(node: Node, sweep: Sweep) -> Value | None:
    condition, a, b = node.inputs
    for chosen, flag in ((a, True), (b, False)):
        if all_equal(condition, flag) and same_type(chosen, node.output):
            return chosen
    return None


# --- neighbours -------------------------------------------------------------------------------------------------------
@identities.on("*")
def twice(node: Node, sweep: Sweep) -> Value | None:
    """f(f(x)) as x or as f(x)."""
    laws = node.op.laws
    inner = sweep.producer(node.inputs[0], node.op.name) if laws.involution or laws.idempotent else None
    if inner is None or dict(inner.attrs) != dict(node.attrs):
        return None
    return inner.inputs[0] if laws.involution else inner.output


@identities.on("Relu", "Abs")
def of_what_is_not_negative(node: Node, sweep: Sweep) -> Value | None:
    return node.inputs[0] if not_negative(node.inputs[0], sweep) else None


@identities.on("BitCast")
def bits_again(node: Node, sweep: Sweep) -> Value | None:
    """The bits of what had them before."""
    before = sweep.producer(node.inputs[0], "BitCast")
    if before is None:
        return None
    x = before.inputs[0]
    return x if x.dtype == node.output.dtype else sweep.remake(node, x)


@identities.on("BitwiseXor")
def flipped_again(node: Node, sweep: Sweep) -> Value | None:
    """The same bits flipped twice by a constant number."""
    flips = sweep.producer(node.inputs[0], "BitwiseXor")
    if flips is None or not all(v.is_const and v.data.size == 1 for v in (node.inputs[1], flips.inputs[1])):
        return None
    same = node.inputs[1].data.item() == flips.inputs[1].data.item()
    return flips.inputs[0] if same and same_type(node.output, flips.inputs[0]) else None


@identities.on("Cast")
def cast_of_a_wider_cast(node: Node, sweep: Sweep) -> Value | Skip | None:
    """Cast∘Cast where the first loses nothing."""
    inner = sweep.producer(node.inputs[0], "Cast")
    if inner is None:
        return None
    source, middle = inner.inputs[0], inner.output
    if not _exact(source.dtype, middle.dtype):
        return Skip(f"the first cast, {source.dtype} to {middle.dtype}, rounds")
    return sweep.remake(node, source)


def _exact(source: np.dtype, target: np.dtype) -> bool:
    """Does every number of `source` have the same value in `target`?

    NumPy calls casts of int64 to float64 safe, too, and those of bytes to floats of 8 bits.
    """
    rounds = source.kind in "iu" and target.kind == "f" and (source.itemsize == 8 or target.itemsize == 1)
    return source.kind in "biuf" and target.kind in "biuf" and not rounds and np.can_cast(source, target, "safe")


@identities.on("Transpose")
def transposed(node: Node, sweep: Sweep) -> Value | None:
    """Identity permutations, Transpose∘Transpose, and permutations that move only dims of 1 (a Reshape)."""
    x, perm = node.inputs[0], permutation(node)
    if perm == sorted(perm):
        return x
    inner = sweep.producer(x, "Transpose")
    if inner:
        before = permutation(inner)
        return sweep.remake(node, inner.inputs[0], attrs={"perm": [before[p] for p in perm]})
    moving = [p for p in perm if x.shape[p] != 1]
    if moving == sorted(moving) and node.output.type.is_static:
        shape = sweep.constant(node.output.shape, np.int64)
        return sweep.remake(node, x, shape, op="Reshape", attrs={"allowzero": 0 in node.output.shape})
    return None


def permutation(node: Node) -> list[int]:
    """The axes of a Transpose; by default the reverse. Raises Deferred while the rank is unknown."""
    rank = len(node.inputs[0].shape)
    perm = node.attrs["perm"]
    return list(perm) if perm is not None else list(range(rank))[::-1]


@identities.on("Concat")
def concat_of_concat(node: Node, sweep: Sweep) -> Value | Skip | None:
    rank = len(node.output.shape)
    axis = node.attrs["axis"] % rank
    flat: list[Value] = []
    kept = None
    for v in node.inputs:
        inner = sweep.producer(v, "Concat")
        if inner is None or inner.attrs["axis"] % rank != axis:
            flat.append(v)
        elif not sweep.sole(v):
            kept = v.name
            flat.append(v)
        else:
            flat.extend(inner.inputs)
    if len(flat) > len(node.inputs):
        return sweep.remake(node, *flat)
    return Skip(f"'{kept}' is read by others") if kept else None


@identities.on("Add", "Mul")
def chain_of_constants(node: Node, sweep: Sweep) -> Value | Skip | None:
    """(x ∘ a) ∘ b -> x ∘ (a ∘ b) for constants a and b, where that takes no larger constant."""
    inner = sweep.producer(node.inputs[0], node.op.name)
    if inner is None or not node.inputs[1].is_const or not inner.inputs[1].is_const:
        return None
    x, a, b = inner.inputs[0], inner.inputs[1].data, node.inputs[1].data
    with np.errstate(all="ignore"):
        merged = np.asarray(a + b if node.op.name == "Add" else a * b, a.dtype)
    if merged.size > max(a.size, b.size):
        return Skip("the merged constant would be larger than either")
    if a.dtype.kind == "f" and np.isfinite(a).all() and np.isfinite(b).all() and not np.isfinite(merged).all():
        return Skip("the merged constant overflows")
    if node.op.name == "Mul" and np.any((merged == 0) & (a != 0) & (b != 0)):
        return Skip("the merged constant underflows")
    return sweep.remake(node, x, sweep.constant(merged))
