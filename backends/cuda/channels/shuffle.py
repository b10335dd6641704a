"""ChannelShuffle."""

from __future__ import annotations

from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.lower.fuse import Group
from graphc.lower.registry import native_dtypes


@lowers("ChannelShuffle", supported=native_dtypes, channels_last=lambda node: "any")
def lower_shuffle(lo: CudaLowering, group: Group) -> None:
    """A transposition of the dims [n, groups, channels of a group, pixels]."""
    node = group.nodes[0]
    x, y = lo.strided(node.inputs[0]), lo.write(node.output)
    groups, (n, channels, *spatial) = node.attrs["groups"], node.output.shape
    own = channels // groups
    xs = [x.strides[0], x.strides[1], own * x.strides[1], *x.strides[2:]]
    ys = [y.strides[0], groups * y.strides[1], y.strides[1], *y.strides[2:]]
    shape = [n, own, groups, *spatial]
    lo.copy(x.ref, xs, y.ref, ys, shape, y.type.dtype.itemsize, lo.info(group, "copy_strided"))
