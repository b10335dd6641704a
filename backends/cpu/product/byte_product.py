"""MatMulBytes: a product of bytes on the register tiles and loops of float32, four bytes in the place of one float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.backends.cpu.conv.window import Epilogue
from graphc.backends.cpu.integer.numbers import kind_of, simplified, small_operands, with_numbers
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.product.byte_tile_micro import dot_of_bytes, free_registers
from graphc.backends.cpu.product.gemm import emit_product, packed_b
from graphc.backends.cpu.product.matrices import Product, product_of
from graphc.backends.cpu.product.panels import Panels, panels_of
from graphc.backends.cpu.sizes import BATCH_DIMS
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BYTES, SHIFT, SHIFTED, Dot
from graphc.expr import Expr
from graphc.graph import Node, Value
from graphc.lower.constants import channel_vector, constant
from graphc.lower.fuse import Group
from graphc.lower.movement import emit_copy
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides, storage_bytes
from graphc.report import StepInfo
from graphc.types import TensorType

MAX_NUMBERS = 24  # of an epilogue, and tables


def supported(node: Node, target: Target) -> str | None:
    if len(node.output.shape) - 2 > BATCH_DIMS:
        return f"it has more than {BATCH_DIMS} batch dims"
    return "it sums over nothing" if 0 in node.inputs[0].shape and 0 not in node.output.shape else None


def operand_kind(v: Value, out: Value) -> str:
    """Of an operand of the epilogue, as `Ending` names it; '' for other shapes."""
    shape = (1,) * (out.type.rank - v.type.rank) + v.shape
    if shape == out.shape:
        return "v"
    if all(d == 1 for d in shape):
        return "s"
    if shape[-1] == 1 and shape[:-1] == out.shape[:-1]:
        return "p"
    return "c" if shape[-1] == out.shape[-1] and all(d == 1 for d in shape[:-1]) else ""


def accepts_operand(v: Value, out: Value) -> str | None:
    """Which operands the epilogue can read."""
    if operand_kind(v, out):
        return None
    return f"shape {v.shape} is neither the result's nor one number per row or column"


@lowers("MatMulBytes", supported=supported, epilogue=lambda node: True, converts=accepts_operand)
def lower_byte_product(lo: CpuLowering, group: Group) -> None:
    node = group.anchor
    rows, columns = node.inputs
    y = lo.write(group.output)
    if 0 in group.output.shape:
        return
    a, b = _floats(lo, rows, tail=1), _floats(lo, columns, tail=3)
    p = product_of(node, a, b, y)
    dot = BYTES if any(p.b_batch) else dot_of_bytes(lo.target, columns)
    panels = panels_of(replace(lo.target, registers=free_registers(lo.target)), p.m, p.n, p.k, dot)
    weights, b_batch = packed_b(lo, node.name, columns, p, b, panels)
    info = lo.info(
        group, "gemm", "gemm of bytes", f"{p.m}x{BYTES.k * p.k} by {BYTES.k * p.k}x{p.n}; tile {panels.mr}x{panels.nv}"
    )
    places = a.ref, weights, _begins(lo, dot, columns, p.n), y.ref
    emit_integer_product(lo, group, p, panels, places, b_batch, dot.told(info, columns), group.expression)


def _begins(lo: CpuLowering, dot: Dot, columns: Value, n: int) -> Ref:
    """What the sums of the n columns begin with, in int32."""
    if dot is not SHIFTED:
        return Ref(channel_vector(lo, None, n, lo.target.vl))

    def make() -> np.ndarray:
        sums = columns.data.reshape(-1, n, BYTES.k).sum((0, 2), dtype=np.int32)
        return np.pad(SHIFT * sums, (0, -n % lo.target.vl))

    return Ref(lo.weights.pack(columns.data, ("byte sums", n, lo.target.vl), make))


def emit_integer_product(
    lo: CpuLowering,
    group: Group,
    p: Product,
    panels: Panels,
    places: tuple[Ref, Ref, Ref, Ref],
    b_batch: Sequence[int],
    info: StepInfo,
    tree: Expr | None,
) -> None:
    """The step of a product whose sums are in int32, of which `tree` makes the group's result. places: as of `emit_product`,
    where the bias, with which sums begin, is of int32, too."""
    given = group.operands
    tree = simplified(tree, small_operands(group), exact=True)
    tree, numbers = with_numbers(tree, len(given), len(given) + MAX_NUMBERS)
    kinds = [(v.dtype.name, operand_kind(v, group.output)) for v in given]
    records = [_record(lo, v, kind, p) for v, (_, kind) in zip(given, kinds)]
    if numbers:
        kinds += [(n.dtype.name, "t" if kind_of(n) == "t" else "n") for n in numbers]
        ref = constant(lo, np.concatenate([n.view(np.uint8) for n in numbers])).ref
        records.append({"ref": ref, "row": 0, "vector": 0, "batch": (0,) * BATCH_DIMS})
    item = group.output.dtype.itemsize
    emit_product(lo, p, panels, places, b_batch, info, Epilogue(tree), records, tuple(kinds), item)


def _record(lo: CpuLowering, v: Value, kind: str, p: Product) -> dict[str, Any]:
    """Of an operand of the epilogue in the block."""
    item = v.dtype.itemsize
    row, vector = {"v": item * p.n, "p": item}.get(kind, 0), item * lo.target.vl if kind in "vc" else 0
    batch = tuple(s // p.y_row * row for s in p.y_batch)
    return {"ref": lo.read(v).ref, "row": row, "vector": vector, "batch": batch}


def _floats(lo: CpuLowering, v: Value, tail: int) -> Storage:
    """The operand as float32s of four bytes each. The last `tail` dims must be contiguous: a view that is not is copied."""
    s = lo.read(v)
    if s.strides[-tail:] != dense_strides(v.type)[-tail:]:
        dense = Ref(Buffer(f"{v.name}/dense", storage_bytes(v.type)))
        emit_copy(lo, s, dense, v.name)
        s = Storage(dense, v.type, dense_strides(v.type))
    if tail == 1:  # [..., M, 4K]
        shape, strides = (*v.shape[:-1], v.shape[-1] // BYTES.k), (*s.strides[:-1], BYTES.item)
    else:  # [..., K, N, 4]
        shape, strides = v.shape[:-1], s.strides[:-1]
    return Storage(s.ref, TensorType(np.float32, shape), strides)
