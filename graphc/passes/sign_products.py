"""Products of signs by signs become counts of bits:

    MatMul(x, s w) = s Cast(SignProduct(x, w)),

where all elements of x are -1, 0 and 1 (or those times one number), as behind a Sign or a Where of such constants, and those of w, too;
s is a number, or one of each column. The sums are then exact. A Sign makes NaN of NaN, which no bit says: the sum of 0 · x is added to
each row, which is 0 or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product as every_choice

import numpy as np

from graphc.graph import Node, Value
from graphc.ops.sign_product import packed_signs
from graphc.passes.rewrite import Rewrite, Skip, Sweep

sign_products = Rewrite("sign_products", makes="SignProduct")

MOST_VALUES = 4  # that are followed through the graph
MOST_CHOICES = 256  # of values of a node's operands
DEEPEST = 24  # nodes between a product and what makes its signs
LEAST_DEPTH, LEAST_COLUMNS = 64, 16  # below, to make bits takes what is saved
ROWS_AT_ONCE = 256  # of weights that are looked at: what is made of them stays small
AT_ONCE = 4096  # elements of a constant: the first tell whether it may have few values
MOVES = frozenset(("Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather"))
CHOOSES = {"Where": 1, "Concat": 0}  # operators whose results are those of operands, from this one on


@sign_products.on("MatMul", "Gemm")
def of_signs(node: Node, sweep: Sweep) -> Value | Skip | None:
    x, w = node.inputs[:2]
    if not w.is_const or len(w.shape) != 2 or w.dtype != np.float32 or x.type is None or x.type.rank < 2:
        return None
    gemm = node.op.name == "Gemm"
    weights = w.data.T if gemm and node.attrs["transB"] else w.data
    if not w.data.size or len(np.unique(np.abs(weights[:, :1]))) > 2:  # most weights are told by their first column
        return None
    values = values_of(x, sweep)
    step = None if values is None else _step(values)
    if values is None or step is None:  # before all weights are read, which may be gigabytes
        return Skip("its first operand is not known to be signs")
    scale = _scale(weights)
    if scale is None:
        return None
    if gemm and (node.attrs["transA"] or node.attrs["alpha"] != 1 or node.attrs["beta"] != 1):
        return Skip("it turns its first operand, or has factors")
    k, n = weights.shape
    if k < LEAST_DEPTH or n < LEAST_COLUMNS:
        return Skip("it is too small")
    codes = sweep.constant(packed_signs(np.sign(weights)))
    total = sweep.add("Cast", sweep.add("SignProduct", x, codes, zeros=0.0 in values), to=np.float32)
    if any(map(math.isnan, values)):
        nothing = sweep.add("Mul", x, sweep.constant(0, np.float32))
        total = sweep.add("Add", total, sweep.add("ReduceSum", nothing, sweep.constant([-1], np.int64), keepdims=True))
    scale = scale * np.float32(step)
    bias = node.inputs[2] if gemm and len(node.inputs) > 2 else None
    scaled = sweep.constant(scale[0] if np.all(scale == scale[0]) else scale)
    if bias is None:
        return sweep.remake(node, total, scaled, op="Mul")
    return sweep.remake(node, sweep.add("Mul", total, scaled), bias, op="Add")


def _scale(w: np.ndarray) -> np.ndarray | None:
    """float32 [N]: the one magnitude of each column [K, N] that is not 0, or None where there are others."""
    blocks = [w[i : i + ROWS_AT_ONCE] for i in range(0, len(w), ROWS_AT_ONCE)]
    most = np.max([np.abs(block).max(0) for block in blocks], axis=0)
    if not np.isfinite(most).all():
        return None
    if not all(np.all((np.abs(block) == most) | (block == 0)) for block in blocks):
        return None
    return np.where(most == 0, 1, most).astype(np.float32)


def _step(values: frozenset[float]) -> float | None:
    """What the values are a sign times, but for NaN; None where they are no signs."""
    found = {abs(v) for v in values if v and not math.isnan(v)}
    return found.pop() if len(found) == 1 and math.isfinite(next(iter(found))) else None


Found = dict[Value, frozenset[float] | None]


def values_of(v: Value, sweep: Sweep, depth: int = DEEPEST, seen: Found | None = None) -> frozenset[float] | None:
    """All values that the elements of v may have; None where they are not known to be few. seen: what was found of others."""
    seen = {} if seen is None else seen
    if v not in seen:
        seen[v] = _values_of(v, sweep, depth, seen)
    return seen[v]


def _values_of(v: Value, sweep: Sweep, depth: int, seen: Found) -> frozenset[float] | None:
    if v.is_const:
        return _few(v.data.reshape(-1)) if v.data.dtype.kind in "bif" else None
    if v.type is not None and v.dtype == np.bool_:
        return frozenset((0.0, 1.0))
    node = sweep.producer(v)
    if node is None or not depth or v.type is None or v.dtype.kind not in "if":
        return None
    name = node.op.name
    if name in MOVES:
        return values_of(node.inputs[0], sweep, depth - 1, seen)
    if not node.op.elementwise and name not in CHOOSES:  # nor are the constants it reads looked at
        return None
    found = [values_of(x, sweep, depth - 1, seen) for x in node.operands]
    known = [few for few in found if few is not None]
    whole = len(known) == len(found) == len(node.inputs)
    if name in CHOOSES:
        return _few(np.array([x for few in known[CHOOSES[name] :] for x in few])) if whole else None
    if name == "Sign" and not whole:
        return frozenset((-1.0, 0.0, 1.0, math.nan)) if v.dtype.kind == "f" else frozenset((-1.0, 0.0, 1.0))
    if not whole or not 0 < math.prod(map(len, known)) <= MOST_CHOICES:
        return None
    return _few(np.concatenate([_of_choice(node, choice) for choice in every_choice(*known)]))


def _of_choice(node: Node, values: Sequence[float]) -> np.ndarray:
    """[1]: the node's result of operands of one element each. They keep their ranks: some operands must be one number."""
    operands = [np.full((1,) * x.type.rank, value).astype(x.dtype) for x, value in zip(node.operands, values)]
    with np.errstate(all="ignore"):
        return np.asarray(node.op.reference(*operands, **node.attrs)).reshape(-1)


def _few(values: np.ndarray) -> frozenset[float] | None:
    """Those that differ, with one NaN and one zero at most; None where they are many."""
    found = values[:0]
    for start in range(0, len(values), AT_ONCE):
        found = np.unique(np.concatenate([found, values[start : start + AT_ONCE]]))
        if len(found) > MOST_VALUES:
            return None
    return frozenset(math.nan if math.isnan(x) else x for x in found.astype(float))
