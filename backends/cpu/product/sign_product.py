"""SignProduct: a product of bits on the register tiles and loops of float32, 32 bits in the place of one float."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from graphc import expr
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.product.bit_tile_micro import free_registers
from graphc.backends.cpu.product.byte_product import accepts_operand, emit_integer_product
from graphc.backends.cpu.product.matrices import Product
from graphc.backends.cpu.product.panels import Panels, panels_of
from graphc.backends.cpu.product.sign_product_block import SIGN_ROWS, SignRow, SignRows
from graphc.backends.cpu.sizes import BATCH_DIMS
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BITS, FMA
from graphc.expr import Expr
from graphc.graph import Node
from graphc.lower.elementwise import row_major
from graphc.lower.fuse import Group
from graphc.lower.storage import Buffer, Ref

INT32 = np.dtype(np.int32)


def _supported(node: Node, target: Target) -> str | None:
    x, codes = node.inputs
    if x.dtype != np.float32:
        return f"there is no {x.dtype} kernel of signs"
    if not codes.is_const or not isinstance(x.shape[-1], int):
        return "its weights are not known when it is compiled"
    return "it sums over nothing" if 0 in x.shape and 0 not in node.output.shape else None


@lowers("SignProduct", supported=_supported, epilogue=lambda node: True, converts=accepts_operand)
def lower_sign_product(lo: CpuLowering, group: Group) -> None:
    node = group.anchor
    rows, codes = node.inputs
    x, y = row_major(lo, lo.read(rows)), lo.write(group.output)
    if 0 in group.output.shape:
        return
    zeros, (planes, words, n) = node.attrs["zeros"], codes.data.shape
    m, k = math.prod(node.output.type.extents[:-1]), x.type.extents[-1]
    copies, bits = planes, planes * (1 + zeros)  # each plane of a row meets each of the weights
    plane = words * BITS.item
    packed = Ref(Buffer(f"{group.output.name}/bits", m * bits * plane))
    args = SIGN_ROWS(
        x=x.ref, to=packed, m=m, k=k, kernel=SignRow(zeros, copies), x_row=k * FMA.item, to_row=bits * plane, plane=plane,
    )  # fmt: skip
    info = lo.info(group, "sign_rows")
    lo.emit(SignRows(), args, replace(info, flops=0, nbytes=m * (k * FMA.item + bits * plane)), writes=[packed])
    none = (0,) * BATCH_DIMS
    y_row = n * group.output.dtype.itemsize
    p = Product(m, n, bits * words, (bits * plane, BITS.item), (0, 0), y_row, (1,) * BATCH_DIMS, none, none, none)
    panels = panels_of(replace(lo.target, registers=free_registers(lo.target)), m, n, p.k, BITS)
    weights = Ref(
        lo.weights.pack(codes.data, ("signs", zeros, panels.nv, panels.vl), lambda: _packed(codes.data, zeros, panels))
    )
    reason = f"{m}x{k} by {k}x{n}; {bits} bits each; tile {panels.mr}x{panels.nv}"
    info = replace(lo.info(group, "gemm", "gemm of bits", reason), type=BITS.types)
    begin, odd = divmod(bits * k, 2)
    width = -(-n // panels.vl) * panels.vl
    start = lo.weights.pack(codes.data, ("signs begin", begin, width), lambda: np.full(width, -begin, INT32))
    places = packed, weights, Ref(start), y.ref
    emit_integer_product(lo, group, p, panels, places, none, info, _sums(group, bits, odd))


def _packed(codes: np.ndarray, zeros: bool, panels: Panels) -> np.ndarray:
    """Panels of all planes of the weights, for each plane of a row, one behind the other."""
    planes = codes.reshape(-1, codes.shape[2])
    matrix = np.concatenate([planes] * (1 + zeros))
    out, wide = np.zeros(panels.nbytes // BITS.item, codes.dtype), panels.nv * panels.vl
    for t in range(panels.tiles):
        width = wide if t < panels.tiles - 1 else panels.last_nv * panels.vl
        at, part = t * panels.panel // BITS.item, matrix[:, t * wide : t * wide + width]
        out[at : at + panels.padded * width].reshape(panels.padded, width)[: len(part), : part.shape[1]] = part
    return out


def _sums(group: Group, bits: int, odd: int) -> Expr:
    """The group's expression, where arg 0 is how many bits differ, less half of them all (`odd` is what this leaves out): each
    product has `bits`, so that the sum is (all - 2 differ) / bits."""
    total = expr.arg(0, INT32) * -2
    if odd:
        total = total + 1
    if bits > 1:
        total = expr.shift_right(total, bits.bit_length() - 1)
    if group.expression is None:
        return total
    others = [expr.arg(i, v.dtype) for i, v in enumerate(group.operands, 1)]
    return expr.substitute(group.expression, [total, *others])
