"""Windowed operators on dense operands: what the blocked kernels do not do, through plain loops."""

from __future__ import annotations

import math

from backends.cpu.lower.core import Lowering, Storage, lowers, native_dtypes
from backends.cpu.lower.movement import emit_copy
from backends.cpu.lower.window import window_of
from backends.cpu.program import Buffer, Ref
from backends.cpu.target import Target
from backends.cpu.toolchain import Kernel
from graphc.errors import InputError
from graphc.fuse import Group
from graphc.graph import Node, Value
from graphc.ops.pool import unpooled_shape

DTYPES = frozenset({"float32", "float64"})


def five_dense(s: Storage) -> list[int]:
    """Byte strides of [n, channel, d, h, w] of a dense value."""
    n, c, *spatial = s.strides
    return [n, c, *[0] * (3 - len(spatial)), *spatial]


def _shared(node: Node, x: Storage, y: Storage) -> list[int | Ref]:
    """The head of every argument block: operands, sizes and geometry."""
    w = window_of(node)
    sizes = [*w.size, *w.out, *w.kernel, *w.stride, *w.dilation, *w.pad]
    return [x.ref, y.ref, w.n, w.out_channels, *sizes, *five_dense(x), *five_dense(y)]


def emit_conv(lo: Lowering, group: Group) -> None:
    """Conv or ConvTranspose whose operands are dense, of any values and sizes."""
    node = group.anchor
    x, weights = lo.read(node.inputs[0]), lo.read(node.inputs[1])
    y = lo.write(node.output)
    if 0 in node.output.shape:
        return
    transposed = node.op.name == "ConvTranspose"
    groups = node.attrs["group"]
    bias: list[int | Ref] = [0, 0]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        b = lo.read(node.inputs[2])
        bias = [b.ref, b.strides[0]]
    first, second, *taps = five_dense(weights)
    o, i = (second, first) if transposed else (first, second)
    head = _shared(node, x, y)
    args = [*head, weights.ref, bias[0], groups, node.inputs[0].shape[1] // groups, bias[1], o, i, *taps]
    kernel = Kernel("conv_dense", (node.output.dtype.name, transposed))
    lo.emit(kernel, args, lo.info(group, str(kernel), "loops", "operands that the packed kernels do not take"))


def _unpool_supported(node: Node, target: Target) -> str | None:
    return "it has more than three spatial dims" if node.output.type.rank > 5 else native_dtypes(node)


def emit_pool(lo: Lowering, group: Group) -> None:
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
    padded = int(bool(node.attrs.get("count_include_pad")))
    args = [*_shared(node, x, y), *w.pad_end, padded, indices, *steps, node.attrs.get("p", 0)]
    kernel = Kernel("pool_dense", (op, node.inputs[0].dtype.name))
    lo.emit(kernel, args, lo.info(group, str(kernel), "loops", "dense operands"))


@lowers("MaxUnpool", supported=_unpool_supported)
def lower_max_unpool(lo: Lowering, group: Group) -> None:
    """Scatter into the planes that the pool came from, which output_shape may make longer."""
    node = group.nodes[0]
    x, out = node.inputs[0], node.output
    inner = unpooled_shape(x.shape[2:], node.attrs["kernel_shape"], node.attrs["strides"], node.attrs["pads"])
    planes = math.prod(x.shape[:2])
    three = lambda dims: (1,) * (3 - len(dims)) + tuple(dims)  # noqa: E731
    source, index = (_contiguous(lo, v) for v in node.inputs[:2])
    args = [source, index, lo.write(out).ref, x.type.size, planes, *three(inner), *three(out.shape[2:])]
    size = planes * math.prod(inner)

    def error(number: int, value: int) -> InputError:
        message = f"index {value} at {number} does not lie in the {size} elements of {(*x.shape[:2], *inner)}"
        return InputError(message, hint=f"valid: 0 to {size - 1}", op=node.op.name, node=node.name, source=node.source)

    lo.emit(Kernel("max_unpool", (out.dtype.itemsize,)), args, lo.info(group, "max_unpool"), check=error)


def _contiguous(lo: Lowering, v: Value) -> Ref:
    """Address of a dense value whose elements follow each other, through a copy where it is a view."""
    s = lo.read(v)
    if s.contiguous:
        return s.ref
    packed = Ref(Buffer(f"{v.name}/packed", v.type.nbytes))
    emit_copy(lo, s, packed, v.name)
    return packed
