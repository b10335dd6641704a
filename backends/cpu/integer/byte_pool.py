"""MaxPool of bytes, or of bfloat16, whose channels are innermost in memory."""

from __future__ import annotations

from graphc.backends.cpu.conv.window import window_of
from graphc.backends.cpu.integer.byte_conv_block import BYTE_POOL, BytePool, LargestBytes
from graphc.backends.cpu.integer.pixels import finish, has_neighbours, read_pixels, write_pixels
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.graph import Node
from graphc.lower.fuse import Group


def takes_bytes(node: Node) -> bool:
    """Could it be a pool of bytes or bfloat16, which have a kernel of their own where channels are innermost?"""
    if node.op.name != "MaxPool" or len(node.outputs) > 1 or node.inputs[0].type.rank > 4 or 0 in node.output.shape:
        return False
    if node.inputs[0].dtype.name not in ("uint8", "int8", "bfloat16"):
        return False
    w = window_of(node)  # a window of padding alone has no largest
    seen = (w.pad[i] < w.kernel[i] and (w.out[i] - 1) * w.stride[i] - w.pad[i] < w.size[i] for i in (1, 2))
    return all(seen) and all(d == 1 for d in w.dilation)


def wants_pixels(lo: CpuLowering, node: Node) -> bool:
    """Are its channels innermost already, or are those of its result to be? For bfloat16 there is no other kernel."""
    return (
        node.output.dtype.name == "bfloat16"
        or has_neighbours(lo.strided(node.inputs[0]))
        or node.output in lo.channels_last
    )


def emit_byte_pool(lo: CpuLowering, group: Group) -> None:
    node = group.anchor
    w = window_of(node)
    x = read_pixels(lo, node.inputs[0], node.output.type.rank)
    y, own = write_pixels(lo, node.output)
    (_, in_h, in_w), (_, out_h, out_w), (_, k_h, k_w) = w.size, w.out, w.kernel
    (_, s_h, s_w), (_, d_h, d_w), (_, p_h, p_w) = w.stride, w.dilation, w.pad
    micro = LargestBytes(node.inputs[0].dtype.name)
    args = BYTE_POOL(
        micro=micro, x=x.ref, y=y.ref, n=w.n, in_h=in_h, in_w=in_w, out_h=out_h, out_w=out_w, k_h=k_h, k_w=k_w, s_h=s_h,
        s_w=s_w, d_h=d_h, d_w=d_w, p_h=p_h, p_w=p_w, x_n=x.n, x_row=x.row, x_h=d_h * x.row, x_w=d_w * x.pixel,
        x_pixel=x.pixel, y_n=y.n, y_row=y.row, y_pixel=y.pixel, channels=w.channels,
    )  # fmt: skip
    lo.emit(
        BytePool(),
        args,
        lo.info(group, str(micro), "bfloat16" if node.output.dtype.name == "bfloat16" else "bytes"),
        writes=[y.ref],
    )
    finish(lo, group, own)
