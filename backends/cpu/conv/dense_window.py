"""Windowed operators on dense operands: what the blocked kernels do not do, through plain loops."""

from __future__ import annotations

from typing import Any

from graphc.backends.cpu.conv.dense_window_block import CONV_DENSE, POOL_DENSE, AddScaled, ConvDense, PoolDense
from graphc.backends.cpu.conv.window import window_of
from graphc.backends.cpu.conv.window_block import dhw
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref, Storage

DTYPES = frozenset({"float32", "float64"})


def five_dense(s: Storage) -> list[int]:
    """Byte strides of [n, channel, d, h, w] of a dense value."""
    n, c, *spatial = s.strides
    return [n, c, *[0] * (3 - len(spatial)), *spatial]


def _shared(node: Node, x: Storage, y: Storage) -> dict[str, Any]:
    """The words that all argument blocks have: operands, sizes and geometry."""
    w = window_of(node)
    xs_n, xs_c, *xs = five_dense(x)
    ys_n, ys_c, *ys = five_dense(y)
    return dict(
        x=x.ref, y=y.ref, n=w.n, channels=w.out_channels, xs_n=xs_n, xs_c=xs_c, ys_n=ys_n, ys_c=ys_c,
        **dhw("in out k s d p xs ys", w.size, w.out, w.kernel, w.stride, w.dilation, w.pad, xs, ys),
    )  # fmt: skip


def emit_conv(lo: CpuLowering, group: Group) -> None:
    """Conv or ConvTranspose whose operands are dense, of any values and sizes."""
    node = group.anchor
    x, weights = lo.read(node.inputs[0]), lo.read(node.inputs[1])
    y = lo.write(node.output)
    if 0 in node.output.shape:
        return
    transposed = node.op.name == "ConvTranspose"
    groups = node.attrs["group"]
    bias: tuple[int | Ref, int] = 0, 0
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        b = lo.read(node.inputs[2])
        bias = b.ref, b.strides[0]
    first, second, *taps = five_dense(weights)
    o, i = (second, first) if transposed else (first, second)
    dtype = node.output.dtype.name
    args = CONV_DENSE(
        **_shared(node, x, y), w=weights.ref, bias=bias[0], bias_step=bias[1],
        groups=groups, per_group=node.inputs[0].shape[1] // groups, ws_o=o, ws_i=i, **dhw("ws", taps),
        add_scaled=AddScaled(dtype),
    )  # fmt: skip
    kernel = ConvDense(dtype, transposed)
    info = lo.info(group, str(kernel), "loops", "operands that the packed kernels do not take")
    lo.emit(kernel, args, info, writes=[y.ref])


def emit_pool(lo: CpuLowering, group: Group) -> None:
    """A pool of dense values, with or without the indices."""
    node = group.anchor
    x, y = lo.read(node.inputs[0]), lo.write(node.output)
    indices: int | Ref = 0
    if len(node.outputs) > 1:
        indices = lo.write(node.outputs[1]).ref
    if 0 in node.output.shape:
        return
    op = "max" if "Max" in node.op.name else "average" if "Average" in node.op.name else "lp"
    w = window_of(node)
    depth, height, width = w.size
    steps = (1, depth, depth * height) if node.attrs.get("storage_order") else (height * width, width, 1)
    args = POOL_DENSE(
        **_shared(node, x, y), **dhw("end index", w.pad_end, steps), indices=indices,
        padded=int(bool(node.attrs.get("count_include_pad"))), norm=node.attrs.get("p", 0),
    )  # fmt: skip
    kernel = PoolDense(op, node.inputs[0].dtype.name)
    writes = [y.ref, *([indices] if isinstance(indices, Ref) else [])]
    lo.emit(kernel, args, lo.info(group, str(kernel), "loops", "dense operands"), writes=writes)
