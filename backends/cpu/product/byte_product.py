"""MatMulBytes: a product of bytes on the register tiles and loops of float32, four bytes in the place of one float."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.product.byte_tile_micro import free_registers
from graphc.backends.cpu.product.gemm import emit_product, packed_b
from graphc.backends.cpu.product.matrices import product_of
from graphc.backends.cpu.product.panels import panels_of
from graphc.backends.cpu.sizes import BATCH_DIMS
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BYTES
from graphc.graph import Node, Value
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.movement import emit_copy
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides, storage_bytes
from graphc.types import TensorType


def supported(node: Node, target: Target) -> str | None:
    if len(node.output.shape) - 2 > BATCH_DIMS:
        return f"it has more than {BATCH_DIMS} batch dims"
    return "it sums over nothing" if 0 in node.inputs[0].shape and 0 not in node.output.shape else None


@lowers("MatMulBytes", supported=supported)
def lower_byte_product(lo: CpuLowering, group: Group) -> None:
    node = group.anchor
    rows, columns = node.inputs
    y = lo.write(group.output)
    if 0 in group.output.shape:
        return
    a, b = _floats(lo, rows, tail=1), _floats(lo, columns, tail=3)
    p = product_of(node, a, b, y)
    panels = panels_of(replace(lo.target, registers=free_registers(lo.target)), p.m, p.n, p.k, BYTES)
    weights, b_batch = packed_b(lo, node.name, columns, p, b, panels)
    nothing = Ref(channel_vector(lo, None, p.n, lo.target.vl))
    info = lo.info(
        group, "gemm", "gemm of bytes", f"{p.m}x{BYTES.k * p.k} by {BYTES.k * p.k}x{p.n}; tile {panels.mr}x{panels.nv}"
    )
    emit_product(lo, p, panels, (a.ref, weights, nothing, y.ref), b_batch, BYTES.told(info, columns))


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
