"""Windows over images: convolutions, pools, resizing; in one, two or three spatial dims."""

from __future__ import annotations

import math

from ..draft import Draft, Reject, Tensor
from ..draws import F32, is_float
from . import step
from .elementwise import activation


def image(d: Draft, ranks: tuple[int, ...] = (4, 4, 4, 4, 3, 5), dtype=None) -> Tensor:
    """A value with a batch, known channels and spatial dims."""
    rank = d.draw.one_of(*ranks)
    return d.pick(
        lambda t: (
            t.rank == rank and t.size > 0 and 1 not in t.open and (t.dtype == dtype if dtype else is_float(t.dtype))
        )
    )


def channels(d: Draft) -> int:
    """Output channels: multiples of the block of 8 or 16, and not."""
    return d.draw.one_of(1, 2, 3, 4, 7, 8, 8, 8, 12, 16, 16, 17, 24, 32)


def filters(d: Draft, *shape: int, dtype=F32) -> Tensor:
    """Weights that keep the size of the elements."""
    reach = (3 / max(1, math.prod(shape[1:]))) ** 0.5
    w = d.draw.array(dtype, shape, -reach, reach, "uniform")
    if d.outer is None and d.draw.chance(0.06):
        return d.input_of([w] * d.shared.worlds, shape)
    return d.const(w)


def window(d: Draft, x: Tensor, widest: int = 5, padded: bool = True) -> dict:
    """kernel_shape, strides, dilations and pads that fit the spatial dims of x (in every world)."""
    n = x.rank - 2
    smallest = [min(s[2 + i] for s in x.shapes()) for i in range(n)]
    kernel = [d.draw.one_of(1, 2, 3, 3, 4, widest) for _ in range(n)]
    if d.draw.chance(0.7):
        kernel = kernel[:1] * n
    plain = d.draw.chance(0.5)
    strides = [1 if plain else d.draw.one_of(1, 2, 2, 3) for _ in range(n)]
    dilations = [1 if plain or d.draw.chance(0.7) else 2 for _ in range(n)]
    extents = [(k - 1) * q + 1 for k, q in zip(kernel, dilations)]
    if d.draw.chance(0.5):
        pads = [(e - 1) // 2 for e in extents] * 2
    else:
        pads = [d.draw.count(0, min(2, max(0, e - 1))) for e in extents * 2]
    if not padded:
        pads = [0] * 2 * n
    for i in range(n):
        if smallest[i] + pads[i] + pads[n + i] < extents[i]:
            raise Reject("the window does not fit")
    attrs = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    defaults = {"strides": [1] * n, "dilations": [1] * n, "pads": [0] * 2 * n}
    for key, value in defaults.items():
        if attrs[key] == value and d.draw.chance(0.7):
            del attrs[key]
    return attrs


def same(attrs: dict, how: str) -> dict:
    """With auto_pad in place of pads."""
    return {k: v for k, v in attrs.items() if k not in ("pads", "dilations")} | {"auto_pad": how}


def conv(
    d: Draft, x: Tensor, out: int, kernel: int = 3, group: int = 1, stride: int = 1, bias: bool | None = None
) -> Tensor:
    """A convolution that keeps the size (over the stride)."""
    n = x.rank - 2
    w = filters(d, out, x.shape[1] // group, *[kernel] * n, dtype=x.dtype)
    b = d.weights(out, dtype=x.dtype) if (d.draw.chance(0.5) if bias is None else bias) else None
    pads = [(kernel - 1) // 2] * 2 * n
    return d.node(
        "Conv", x, w, b, group=group if group > 1 else None, pads=pads, strides=[stride] * n if stride > 1 else None
    )


@step(5)
def convolution(d: Draft) -> Tensor:
    """Dense, grouped and depthwise, with everything that Conv can have; often a norm and an activation behind."""
    x = image(d)
    c = x.shape[1]
    match d.draw.one_of("dense", "dense", "dense", "grouped", "depthwise"):
        case "dense":
            group, out = 1, channels(d)
        case "depthwise":
            group, out = c, c * d.draw.one_of(1, 1, 1, 2)
        case _:
            group = d.draw.one_of(*(g for g in range(1, c + 1) if c % g == 0))
            out = group * d.draw.one_of(1, 2, 3, 4, 8)
    attrs = window(d, x)
    w = filters(d, out, c // group, *attrs["kernel_shape"], dtype=x.dtype)
    if d.draw.chance(0.15):
        attrs = same(attrs, d.draw.one_of("SAME_UPPER", "SAME_LOWER", "VALID"))
    if d.draw.chance(0.3):
        del attrs["kernel_shape"]
    b = d.weights(out, dtype=x.dtype) if d.draw.chance(0.5) else None
    y = d.node("Conv", x, w, b, group=d.draw.one_of(None, 1) if group == 1 else group, **attrs)
    if d.draw.chance(0.3):
        y = batch_norm(d, y)
    return activation(d, y) if d.draw.chance(0.5) else y


def batch_norm(d: Draft, x: Tensor) -> Tensor:
    c = x.shape[1]
    scale, variance = d.weights(c, dtype=x.dtype, low=0.5), d.weights(c, dtype=x.dtype, low=0.5, high=2)
    shift, mean = d.weights(c, dtype=x.dtype), d.weights(c, dtype=x.dtype)
    return d.node("BatchNormalization", x, scale, shift, mean, variance, epsilon=d.draw.one_of(None, 1e-3))


@step(1.5)
def normalized(d: Draft) -> Tensor:
    match d.draw.one_of("Batch", "Batch", "Instance", "Group", "LRN"):
        case "Batch":
            return batch_norm(d, d.pick(lambda t: is_float(t.dtype) and t.rank > 1 and t.size > 0 and 1 not in t.open))
        case "Instance":
            x = image(d)
            c = x.shape[1]
            return d.node(
                "InstanceNormalization", x, d.weights(c, dtype=x.dtype), d.weights(c, dtype=x.dtype), epsilon=1e-3
            )
        case "Group" if d.opset >= 21:
            x = image(d)
            c = x.shape[1]
            groups = d.draw.one_of(*(g for g in range(1, c + 1) if c % g == 0))
            scale, bias = d.weights(c, dtype=x.dtype), d.weights(c, dtype=x.dtype)
            return d.node("GroupNormalization", x, scale, bias, num_groups=groups, epsilon=1e-3)
        case _:
            return d.node(
                "LRN",
                image(d, (4,)),
                size=d.draw.one_of(1, 3, 5),
                alpha=d.draw.one_of(None, 0.1),
                bias=d.draw.one_of(None, 2.0),
            )


@step(2.5)
def pool(d: Draft) -> object:
    """Ceiling, dilations, padding that counts or not, automatic padding; indices."""
    x = image(d)
    attrs = window(d, x, widest=3)
    op = d.draw.one_of("MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool")
    if op == "AveragePool" and d.opset < 19 or op == "LpPool" and d.opset < 18:
        attrs.pop("dilations", None)
        window_fits(x, attrs)
    ceil = d.draw.one_of(None, None, 0, 1)
    if op == "LpPool":
        attrs |= {"p": d.draw.one_of(None, 1, 2)} | ({"ceil_mode": ceil} if d.opset >= 18 else {})
        return d.node(op, x, **attrs)
    if d.draw.chance(0.15):
        attrs = same(attrs, d.draw.one_of("SAME_UPPER", "SAME_LOWER", "VALID"))
    else:
        attrs["ceil_mode"] = ceil
    if op == "AveragePool":
        return d.node(op, x, count_include_pad=d.draw.one_of(None, 0, 1), **attrs)
    if d.draw.chance(0.2) and x.certain:
        return d.node(op, x, outputs=2, storage_order=d.draw.one_of(None, 0, 1), **attrs)
    return d.node(op, x, **attrs)


def window_fits(x: Tensor, attrs: dict) -> None:
    n = x.rank - 2
    pads = attrs.get("pads", [0] * 2 * n)
    for i, k in enumerate(attrs["kernel_shape"]):
        if max(pads[i], pads[n + i]) >= k or min(s[2 + i] for s in x.shapes()) + pads[i] + pads[n + i] < k:
            raise Reject("the window does not fit")


@step(1)
def global_pool(d: Draft) -> Tensor:
    x = image(d)
    op = d.draw.one_of("GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean")
    if op != "ReduceMean":
        return d.node(op, x)
    axes = list(range(2, x.rank))
    keepdims = d.draw.one_of(None, 0)
    if d.opset >= 18:
        return d.node(op, x, d.ints(*axes), keepdims=keepdims)
    return d.node(op, x, axes=axes, keepdims=keepdims)


@step(1.5)
def transposed(d: Draft) -> Tensor:
    x = image(d)
    if math.prod(x.shape[2:]) > 200:
        raise Reject("large")
    c = x.shape[1]
    group = d.draw.one_of(1, 1, 1, *(g for g in range(1, c + 1) if c % g == 0))
    attrs = window(d, x, widest=4)
    strides = attrs.get("strides", [1] * (x.rank - 2))
    if max(strides) > 1 and d.draw.chance(0.3):
        attrs["output_padding"] = [d.draw.count(0, s - 1) for s in strides]
    elif d.draw.chance(0.15):
        attrs = same(attrs, d.draw.one_of("SAME_UPPER", "SAME_LOWER", "VALID"))
    out = d.draw.one_of(1, 2, 3, 8, 16)
    w = filters(d, c, out, *attrs["kernel_shape"], dtype=x.dtype)
    bias = d.weights(out * group, dtype=x.dtype) if d.draw.chance(0.5) else None
    return d.node("ConvTranspose", x, w, bias, group=group if group > 1 else None, **attrs)


@step(2)
def resize(d: Draft) -> Tensor:
    """All modes; by scales or sizes; up and down; some axes only."""
    x = d.pick(lambda t: is_float(t.dtype) and 1 < t.rank < 6 and t.size > 0)
    mode = d.draw.one_of("nearest", "nearest", "linear", "linear", "cubic")
    axes = list(range(x.rank))[-d.draw.count(1, min(2 if mode != "linear" else 3, x.rank)) :]
    if mode == "cubic":
        if x.rank != 4:
            raise Reject("rank")
        axes = [2, 3]
    how = d.draw.one_of(
        None,
        "half_pixel",
        "asymmetric",
        "align_corners",
        "pytorch_half_pixel",
        *(["half_pixel_symmetric"] if d.opset >= 19 else []),
    )
    attrs = {"mode": mode, "coordinate_transformation_mode": how}
    if mode == "nearest":
        attrs["nearest_mode"] = d.draw.one_of(None, "floor", "ceil", "round_prefer_ceil", "round_prefer_floor")
    if mode == "cubic":
        attrs |= {"cubic_coeff_a": d.draw.one_of(None, -0.5), "exclude_outside": d.draw.one_of(None, 1)}
    if d.opset >= 18 and mode != "nearest" and how != "align_corners" and d.draw.chance(0.2):
        attrs["antialias"] = 1
    scales = [d.draw.one_of(2.0, 2.0, 3.0, 1.5, 0.5, 0.75, 1.0) if i in axes else 1.0 for i in range(x.rank)]
    if d.draw.chance(0.5) or x.open:
        return d.node("Resize", x, None, d.const(scales, F32), **attrs)
    sizes = [d.draw.count(1, 2 * n + 1) if i in axes else n for i, n in enumerate(x.shape)]
    return d.node("Resize", x, None, None, d.ints(*sizes), **attrs)


@step(0.5)
def grid_sample(d: Draft) -> Tensor:
    if d.opset < 20:
        raise Reject("newer")
    x = image(d, (4,))
    n, _, h, w = x.shape
    if 0 in x.open or h * w > 400:
        raise Reject("open")
    grid = d.weights(n, d.draw.count(1, 4), d.draw.count(1, 5), 2, low=-1.2, high=1.2, dtype=x.dtype, style="uniform")
    return d.node(
        "GridSample", x, grid, mode=d.draw.one_of(None, "linear", "nearest", "cubic"),
        padding_mode=d.draw.one_of(None, "zeros", "border", "reflection"), align_corners=d.draw.one_of(None, 0, 1),
    )  # fmt: skip


@step(0.8)
def padded_window(d: Draft) -> Tensor:
    """A Pad in front of what pads itself."""
    x = image(d, (4,))
    value = d.const(d.draw.one_of(0.0, 0.0, 1.0), x.dtype) if d.draw.chance(0.5) else None
    top, left, bottom, right = (d.draw.count(0, 2) for _ in range(4))
    x = d.node("Pad", x, d.ints(0, 0, top, left, 0, 0, bottom, right), value)
    if d.draw.chance(0.5):
        return conv(d, x, channels(d))
    return d.node(d.draw.one_of("MaxPool", "AveragePool"), x, kernel_shape=[3, 3], pads=[d.draw.count(0, 1)] * 4)


@step(0.5)
def per_pixel(d: Draft) -> Tensor:
    """Channels last and back."""
    x = image(d, (4,))
    y = d.node("Transpose", x, perm=[0, 2, 3, 1])
    y = d.node("MatMul", y, filters(d, x.shape[1], channels(d), dtype=x.dtype))
    y = activation(d, y)
    return d.node("Transpose", y, perm=[0, 3, 1, 2])
