"""Images of bytes, or of bfloat16, as their kernels read and write them: channels are neighbours, and there is a border where windows reach beyond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc.backends.cpu.conv.window import Window
from graphc.backends.cpu.integer.byte_conv_block import BORDER, Border
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.graph import Value
from graphc.lower.fuse import Group
from graphc.lower.movement import emit_elements
from graphc.lower.storage import Buffer, Ref, Storage, channels_last_strides
from graphc.report import StepInfo
from graphc.types import TensorType


@dataclass(frozen=True)
class Pixels:
    """An image [n, height, width] whose channels are neighbours: address and byte strides."""

    ref: Ref
    n: int
    row: int
    pixel: int

    def follows(self, height: int, width: int) -> bool:
        """Do all its pixels follow each other in one distance?"""
        return self.row == width * self.pixel and self.n == height * self.row


def pixels_of(s: Storage) -> Pixels:
    """Of a value whose channels are neighbours."""
    n, _, *spatial = s.strides
    row, pixel = spatial if len(spatial) == 2 else (n, *spatial)
    return Pixels(s.ref, n, row, pixel)


def has_neighbours(s: Storage) -> bool:
    """Are the channels of an image neighbours?"""
    t = s.type
    return t.layout is None and (s.strides[1] == t.dtype.itemsize or t.extents[1] == 1)


def read_pixels(lo: CpuLowering, v: Value, rank: int) -> Pixels:
    """A value of the shape of an image of that rank, dims of 1 at its front apart; copied where its channels lie apart."""
    s = lo.strided(v)
    missing = rank - s.type.rank
    if missing:
        t = replace(s.type, shape=(1,) * missing + s.type.shape)
        s = Storage(s.ref, t, (0,) * missing + s.strides)
    if has_neighbours(s):
        return pixels_of(s)
    if not missing:
        return pixels_of(lo.read(v, True))
    y = Storage(Ref(Buffer(f"{v.name}/pixels", s.type.nbytes)), s.type, channels_last_strides(s.type), True)
    info = StepInfo(0, (), ("Copy",), "copy_strided", "", "channels last", v.name, 0, 2 * s.type.nbytes)
    emit_elements(lo, s, y, info)
    return pixels_of(y)


def write_pixels(lo: CpuLowering, v: Value) -> tuple[Pixels, Storage | None]:
    """Where a result goes, and the storage of that if it is not the value's own: then `finish` is to follow."""
    s = lo.write(v)
    if has_neighbours(s):
        return pixels_of(s), None
    t = s.type
    own = Storage(Ref(Buffer(f"{v.name}/pixels", t.nbytes)), t, channels_last_strides(t), True)
    return pixels_of(own), own


def finish(lo: CpuLowering, group: Group, own: Storage | None) -> None:
    """Copy a result to where the value is."""
    if own is not None:
        info = lo.moving(group, own.type.nbytes, "channels first")
        emit_elements(lo, own, lo.write(group.output), info)


def read_window(lo: CpuLowering, v: Value, w: Window, groups: int, depth: int, fill: Ref) -> tuple[Pixels, int]:
    """What windows read, with a border of the byte `fill` where they reach beyond the image, and the elements of a group of channels: a
    multiple of `depth`. In place where it is so already."""
    s, channels = lo.strided(v), w.channels // groups
    (_, above, left), (below, right) = w.pad, _ends(w)
    width = -(-channels // depth) * depth
    if width == channels and not above and not left and not below and not right and has_neighbours(s):
        return pixels_of(s), channels
    (_, height, columns), pixel = w.size, groups * width
    t = TensorType(v.dtype, (w.n, pixel, above + height + below, left + columns + right))
    n, _, row, step = channels_last_strides(t)
    item = v.dtype.itemsize
    ref = Ref(Buffer(f"{v.name}/border", t.nbytes))
    key = ("border", s.ref.buffer, s.ref.offset, s.strides, w.pad, (below, right), groups, depth, fill)
    if key in lo.packed_rows:
        return Pixels(lo.packed_rows[key], n, row, step), width
    lo.packed_rows[key] = ref
    lo.packed_from[ref.buffer] = s.ref.buffer
    xs = s.strides if len(s.strides) == 4 else (s.strides[0], s.strides[1], s.strides[0], s.strides[2])
    args = BORDER(
        x=s.ref, y=ref, fill=fill, item=item, n=w.n, height=height, width=columns, groups=groups, channels=channels,
        x_n=xs[0], x_h=xs[2], x_w=xs[3], x_c=xs[1], y_n=n, y_h=row, y_w=step, y_group=width * item, above=above, left=left,
        y_height=t.shape[2], y_width=t.shape[3],
    )  # fmt: skip
    info = StepInfo(0, (), ("Border",), "byte_border", "", "pixels around the image", v.name, 0, 2 * t.nbytes)
    lo.emit(Border(), args, info, writes=[ref])
    return Pixels(ref, n, row, step), width


def _ends(w: Window) -> Sequence[int]:
    """Rows and columns behind the image that windows read."""
    reach = ((out - 1) * s + (k - 1) * d + 1 for out, s, k, d in zip(w.out, w.stride, w.kernel, w.dilation))
    return [max(0, r - pad - size) for r, pad, size in zip(reach, w.pad, w.size)][1:]
