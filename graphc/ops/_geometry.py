"""Where the windows of convolutions and pools lie: sizes, strides, padding and the size of the result, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphc.dims import UNKNOWN
from graphc.op import Attr, Call, Deferred
from graphc.sizes import largest
from graphc.types import Dim, Shape, Sym, number, numbers

WINDOW_ATTRS = {
    "kernel_shape": Attr("ints", None),
    "strides": Attr("ints", None),
    "dilations": Attr("ints", None),
    "pads": Attr("ints", None),
}
AUTO_PAD = {"auto_pad": Attr(str, "NOTSET", ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"))}


@dataclass(frozen=True)
class Geometry:
    """The windows of one call, each field with one entry per spatial axis; auto_pad is resolved.

    Window o of an axis reads x[o·stride - pads_begin + k·dilation] for k < kernel; what lies outside x is padding. With
    ceil_mode the last window may reach beyond pads_end: those elements are nothing, not even zeros that count.
    Transposed, x[i] adds to y[i·stride - pads_begin + k·dilation]; there pads_end makes
    out = (size - 1)·stride + extent - pads_begin - pads_end hold, and is negative where output_padding adds rows.
    Pads are UNKNOWN for SAME with a stride above 1 on a symbolic axis: bind the graph first. A global pool's kernel is
    the spatial shape.
    """

    kernel: Shape
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads_begin: Shape
    pads_end: Shape
    out_spatial: Shape

    @property
    def extent(self) -> Shape:
        """Elements from the first to the last tap of the kernel: (kernel - 1)·dilation + 1."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations))


def geometry(call: Call) -> Geometry:
    """The geometry of a convolution or pool: any operator with an operand 'x' [N, C, *spatial].

    The kernel is that of the operand 'w', or the attribute kernel_shape, or (global pools) the whole of x. Where
    auto_pad is set it wins over pads. Raises TypeRuleError on attributes that do not fit and on windows larger than the
    padded input; Deferred while the kernel's size is unknown.
    """
    attrs, spatial = call.attrs, _shape_of(call, "x")[2:]
    rank = len(spatial)
    if "w" not in call.op.inputs and "kernel_shape" not in attrs:
        ones, zeros = (1,) * rank, (0,) * rank
        return Geometry(tuple(spatial), ones, ones, zeros, zeros, ones)
    kernel = _kernel(call, rank)
    options = {
        "strides": _per_axis(call, "strides", rank, 1),
        "dilations": _per_axis(call, "dilations", rank, 1),
        "pads": _per_axis(call, "pads", 2 * rank, 0),
        "auto_pad": attrs.get("auto_pad", "NOTSET"),
    }
    try:
        if "output_padding" in attrs:
            options["output_padding"] = _per_axis(call, "output_padding", rank, 0)
            options["output_shape"] = _per_axis(call, "output_shape", rank, 1) if attrs["output_shape"] else None
            return transposed_windows(spatial, kernel, **options)
        return windows(spatial, kernel, **options, ceil_mode=attrs.get("ceil_mode", False))
    except ValueError as error:
        raise call.fail(str(error), "check kernel, strides, dilations and pads against the size of the input") from None


def _shape_of(call: Call, operand: str) -> Shape:
    return call.shape(call.op.inputs.index(operand))


def _kernel(call: Call, rank: int) -> tuple[int, ...]:
    given = call.attrs.kernel_shape
    if given is not None:
        _per_axis(call, "kernel_shape", rank, 1)
    if "w" not in call.op.inputs:
        if given is None:
            raise call.fail("attribute 'kernel_shape' is missing", f"give {rank} sizes, one per spatial axis")
        return given
    dims = _shape_of(call, "w")[2:]
    for d, k in zip(dims, given or ()):
        if isinstance(d, int) and d != k:
            raise call.fail(f"kernel_shape {given} is not that of the weights, {tuple(dims)}", "leave kernel_shape out")
    dims = given or dims
    if any(isinstance(d, Sym) for d in dims):
        raise Deferred("size of the kernel")
    if 0 in dims:
        raise call.fail(f"the kernel {tuple(dims)} has no elements")
    return tuple(dims)


def _per_axis(call: Call, name: str, count: int, least: int) -> tuple[int, ...]:
    """The attribute with its default (`least` for each axis) filled in, checked."""
    values = call.attrs.get(name)
    if values is None:
        return (least,) * count
    if len(values) != count:
        raise call.fail(f"{name} {values} has {len(values)} entries", f"give {count} for {_shape_of(call, 'x')}")
    if min(values, default=least) < least:
        hint = "use Pad with negative pads, or Slice, to crop" if name == "pads" else None
        raise call.fail(f"{name} {values} has an entry below {least}", hint)
    return values


def windows(
    spatial: Shape,
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: bool = False,
) -> Geometry:
    """Geometry from the bare numbers. Raises ValueError naming the axis where a window does not fit.

    Sizes: SAME gives ceil(size/stride); otherwise the windows that fit into the padded input, with ceil_mode also one
    that only begins inside it (not inside the padding at the end): ONNX AveragePool-22, torch.nn.MaxPool2d. VALID is
    padding of 0, and leaves ceil_mode as it is.
    """
    rank = len(spatial)
    strides, dilations = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    pads = tuple(pads or (0,) * 2 * rank)
    begins: list[Dim] = []
    ends: list[Dim] = []
    outs: list[Dim] = []
    begin: Dim
    end: Dim
    for axis, (size, k, s, d) in enumerate(zip(spatial, kernel, strides, dilations)):
        extent = (k - 1) * d + 1
        if auto_pad.startswith("SAME"):
            out = _shift(size, s - 1) // s
            total: Dim
            if s == 1:
                total = extent - 1
            elif isinstance(size, Sym):
                total = UNKNOWN
            else:  # of (out - 1) s + extent - size what is above 0
                total = largest(0, extent - 1 - (number(size) - 1) % s)
            begin, end = _halves(total, auto_pad)
        else:
            begin, end = (0, 0) if auto_pad == "VALID" else (pads[axis], pads[axis + rank])
            if isinstance(size, int) and size + begin + end < extent:
                raise ValueError(
                    f"axis {axis + 2} of size {size} with padding {begin} + {end} is smaller than a window of {extent} "
                    f"(kernel {k}, dilation {d}): the output size would not be positive"
                )
            beyond = s - 1 + min(0, s - extent + end) if ceil_mode else end - extent + s
            out = _shift(size, begin + beyond) // s
        begins.append(begin)
        ends.append(end)
        outs.append(out)
    return Geometry(tuple(kernel), strides, dilations, tuple(begins), tuple(ends), tuple(outs))


def transposed_windows(
    spatial: Shape,
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
) -> Geometry:
    """Geometry of a transposed convolution (ONNX ConvTranspose-22). Raises ValueError naming the axis.

    output_shape (without N and C) or auto_pad SAME (size·stride) fix the result's size and so the padding, which is not
    below 0; otherwise out = (size - 1)·stride + extent + output_padding - pads.
    """
    rank = len(spatial)
    strides, dilations = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    pads, extra = tuple(pads or (0,) * 2 * rank), tuple(output_padding or (0,) * rank)
    begins: list[Dim] = []
    ends: list[Dim] = []
    outs: list[Dim] = []
    begin: Dim
    end: Dim
    out: Dim
    for axis, (size, k, s, d) in enumerate(zip(spatial, kernel, strides, dilations)):
        if extra[axis] >= max(s, d):
            raise ValueError(f"output_padding {extra[axis]} of axis {axis + 2} is not below stride {s} or dilation {d}")
        reach = (k - 1) * d + 1 - s  # the full result has size·stride + reach elements
        if output_shape is not None:
            out = output_shape[axis]
            total = UNKNOWN if isinstance(size, Sym) else max(0, size * s + reach + extra[axis] - out)
            begin = _halves(total, auto_pad)[0]
            end = UNKNOWN if isinstance(size, Sym) else size * s + reach - out - begin
        elif auto_pad.startswith("SAME"):
            out = size * s
            begin = _halves(max(0, reach + extra[axis]), auto_pad)[0]
            end = reach - begin
        else:
            begin, end = (0, 0) if auto_pad == "VALID" else (pads[axis], pads[axis + rank])
            end -= extra[axis]
            out = _shift(size * s, reach - begin - end)
        if isinstance(out, int) and out < 1:
            raise ValueError(f"axis {axis + 2} of size {size} would have output size {out}: padding {begin} + {end}")
        begins.append(begin)
        ends.append(end)
        outs.append(out)
    return Geometry(tuple(kernel), strides, dilations, tuple(begins), tuple(ends), tuple(outs))


def _halves(total: Dim, auto_pad: str) -> tuple[Dim, Dim]:
    """Padding split between begin and end: an odd one goes to the end for SAME_UPPER, else to the beginning."""
    if isinstance(total, Sym):
        return total, total
    small, large = total // 2, total - total // 2
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def _shift(size: Dim, by: int) -> Dim:
    return size + by if by >= 0 else size - -by


def window_view(x: np.ndarray, g: Geometry, fill: float) -> np.ndarray:
    """View [N, C, *out, *kernel] of x [N, C, *spatial] padded with `fill`: every window with its elements."""
    rank = len(g.kernel)
    axes = tuple(range(2, 2 + rank))
    outs, extent, begins = numbers(g.out_spatial), numbers(g.extent), numbers(g.pads_begin)
    reach = [max(o - 1, 0) * s + e for o, s, e in zip(outs, g.strides, extent)]
    ends = [max(0, r - size - b) for r, size, b in zip(reach, x.shape[2:], begins)]
    padded = np.pad(x, [(0, 0), (0, 0), *zip(begins, ends)], constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, extent, axes)
    starts = tuple(slice(0, max((o - 1) * s + 1, 0), s) for o, s in zip(outs, g.strides))
    taps = tuple(slice(None, None, d) for d in g.dilations)
    at = (slice(None), slice(None), *starts, *taps)
    return view[at]
