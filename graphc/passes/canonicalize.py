"""One form for what can be written in several ways, so that later passes and backends know only that form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.dtypes import is_narrow
from graphc.graph import Node, Value
from graphc.lower.fuse import MOST_OPERANDS
from graphc.passes.rewrite import Rewrite, Skip, Sweep, all_equal, same_type

canonicalize = Rewrite("canonicalize")


@canonicalize.on("Add", "Mul")
def constant_second(node: Node, sweep: Sweep) -> Value | None:
    a, b = node.inputs
    return sweep.remake(node, b, a) if a.is_const and not b.is_const else None


@canonicalize.on("Sub")
def subtract_as_add(node: Node, sweep: Sweep) -> Value | None:
    """x - c as x + (-c), which is exact. (Not for unsigned numbers.)"""
    x, c = node.inputs
    if not c.is_const or x.is_const or c.dtype.kind not in "fi":
        return None
    return sweep.remake(node, x, sweep.constant(-c.data), op="Add")


@canonicalize.on("Sum")
def sum_of_two(node: Node, sweep: Sweep) -> Value | None:
    return sweep.remake(node, *node.inputs, op="Add") if len(node.inputs) == 2 else None


@canonicalize.on("Sum", "Max", "Min", "Mean")
def of_many_operands(node: Node, sweep: Sweep) -> Value | None:
    """Of more operands than a kernel takes: the first of them, then that result and the next. In the same order, so that
    nothing rounds otherwise; narrow floats are added in float32 and rounded once, as in one kernel."""
    if len(node.inputs) <= MOST_OPERANDS:
        return None
    op, operands, dtype = node.op.name, list(node.inputs), node.output.dtype
    widened = is_narrow(dtype) and op in ("Sum", "Mean")
    if widened:
        operands = [sweep.add("Cast", v, to=np.float32) for v in operands]
    total, *rest = operands
    for start in range(0, len(rest), MOST_OPERANDS - 1):
        total = sweep.add("Sum" if op == "Mean" else op, total, *rest[start : start + MOST_OPERANDS - 1])
    if op == "Mean":
        total = sweep.add("Mul", total, sweep.constant(1 / len(operands), total.dtype))
    return sweep.add("Cast", total, to=dtype) if widened else total


@canonicalize.on("Pow")
def small_powers(node: Node, sweep: Sweep) -> Value | None:
    """x² as x·x. The exponent may be of another dtype than x."""
    x, exponent = node.inputs
    if not all_equal(exponent, 2) or not same_type(x, node.output):
        return None
    return sweep.remake(node, x, x, op="Mul")


def is_bias(c: Sequence[Value | None]) -> bool:
    """Is the third operand of a Gemm absent, or a constant number or row: what kernels add as a bias?"""
    return not c or c[0] is None or (c[0].is_const and (c[0].data.size == 1 or c[0].data.size == c[0].shape[-1]))


@canonicalize.on("Gemm")
def gemm_with_a_matrix_added(node: Node, sweep: Sweep) -> Value | None:
    """a·b + beta·c as a product and a sum, unless c is a constant number or row, the only bias that kernels know."""
    a, b, *rest = node.inputs
    c = rest[0] if rest else None
    if is_bias(rest):
        return None
    assert c is not None
    product = sweep.remake(node, a, b, None, attrs={"beta": 1.0})
    beta = node.attrs["beta"]
    if beta == 0:
        return product
    scaled = c if beta == 1 else sweep.add("Mul", c, sweep.constant(np.asarray(beta, c.dtype)))
    return sweep.add("Add", product, scaled)


@canonicalize.on("Gemm")
def gemm_factors_into_constants(node: Node, sweep: Sweep) -> Value | Skip | None:
    """alpha into constant weights, beta into a constant bias; beta·c with beta = 0 is no bias."""
    a, b, *rest = node.inputs
    c = rest[0] if rest else None
    alpha, beta = node.attrs["alpha"], node.attrs["beta"]
    done = (alpha == 1 or not b.is_const) and (beta == 1 or c is not None and not c.is_const and beta != 0)
    if done:
        stays = [f"{k}={v:g}" for k, v in (("alpha", alpha), ("beta", beta if c else 1)) if v != 1]
        return Skip(f"{', '.join(stays)}: operand is not constant") if stays else None
    if alpha != 1 and b.is_const:
        b, alpha = _scaled(b, alpha, sweep), 1.0
    if c is None or beta == 0:
        c, beta = None, 1.0
    elif c.is_const:
        c, beta = _scaled(c, beta, sweep), 1.0
    return sweep.remake(node, a, b, c, attrs={"alpha": alpha, "beta": beta})


def _scaled(v: Value, factor: float, sweep: Sweep) -> Value:
    """In float64, rounded once; integers keep their own arithmetic, as in the operator."""
    if v.dtype.kind in "iu":
        return sweep.constant(v.data * v.dtype.type(factor))
    return sweep.constant(v.data.astype(np.float64) * factor, v.dtype)
