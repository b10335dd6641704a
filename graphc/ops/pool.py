"""Pools over windows and over all of space, and the inverse of max pooling."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from graphc.errors import InputError
from graphc.op import FLOATS, Attr, Call, Case, Const, Family, Op, Samples, Tensor, register
from graphc.ops._geometry import AUTO_PAD, WINDOW_ATTRS, Geometry, geometry, window_view, windows
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype
from graphc.ops.precision import in_float32
from graphc.types import Dim, Shape, TensorType, numbers, prod

POOL_ATTRS = {**AUTO_PAD, **WINDOW_ATTRS, "ceil_mode": Attr(bool, False)}
INT64 = np.dtype(np.int64)


def pool_shape(call: Call) -> Shape:
    """[N, C, *out]. Raises TypeRuleError where x has no spatial axis or the padding is as large as the window."""
    x = call.shape(0)
    if len(x) < 3:
        raise call.fail(f"the input has shape {x}: no spatial axis", "give it as [N, C, *spatial]; Unsqueeze adds axes")
    g = geometry(call)
    for axis, (begin, end, extent) in enumerate(zip(g.pads_begin, g.pads_end, g.extent)):
        if isinstance(extent, int) and any(isinstance(p, int) and p >= extent for p in (begin, end)):
            raise call.fail(
                f"padding {begin} + {end} of axis {axis + 2} is not smaller than its window of {extent}",
                "a window of padding alone has no value: use less padding",
            )
    return (*x[:2], *g.out_spatial)


def _pool_flops(call: Call) -> Dim:
    """One operation for every element of the result and of its window."""
    return prod((*call.op.infer(call)[0].shape, *geometry(call).kernel))


def _pool_infer(call: Call) -> list[TensorType]:
    return [TensorType(require_dtype(call, 0, FLOAT_NAMES), pool_shape(call))]


def _kernel_axes(g: Geometry) -> tuple[int, ...]:
    return tuple(range(-len(g.kernel), 0))


def pool_cases(extra: tuple[dict, ...] = ({},), dtype: str | None = None, n_outputs: int = 1) -> tuple[Case, ...]:
    """Pools of 1 to 3 axes with every form of padding and ceil_mode, each also with the `extra` attributes."""
    uses: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        ((1, 8, 12, 12), (2, 2), {"strides": (2, 2)}),
        ((1, 64, 13, 13), (3, 3), {"strides": (2, 2)}),
        ((2, 5, 7, 13), (3, 3), {"strides": (2, 2), "pads": (1, 1, 1, 1)}),
        ((2, 5, 7, 13), (3, 2), {}),
        ((1, 16, 7, 7), (3, 3), {"pads": (1, 1, 1, 1)}),
        ((1, 3, 13, 13), (3, 3), {"strides": (2, 2), "ceil_mode": True}),
        ((2, 3, 8, 10), (3, 3), {"strides": (2, 2), "ceil_mode": True}),
        ((1, 3, 7, 6), (3, 2), {"strides": (3, 3), "pads": (1, 0, 1, 1), "ceil_mode": True}),
        ((1, 2, 5, 5), (2, 2), {"strides": (3, 3), "pads": (1, 1, 1, 1), "ceil_mode": True}),
        ((1, 3, 9, 13), (3, 2), {"dilations": (2, 3), "strides": (1, 2)}),
        ((1, 3, 9, 8), (3, 3), {"dilations": (2, 2), "strides": (2, 2), "pads": (1, 2, 1, 0), "ceil_mode": True}),
        ((1, 4, 7, 13), (3, 2), {"strides": (2, 2), "auto_pad": "SAME_UPPER"}),
        ((2, 4, 8, 7), (2, 3), {"strides": (1, 3), "auto_pad": "SAME_LOWER"}),
        ((1, 4, 7, 8), (3, 3), {"strides": (2, 2), "auto_pad": "VALID"}),
        ((1, 4, 8, 7), (3, 2), {"strides": (2, 2), "auto_pad": "VALID", "ceil_mode": True}),
        ((1, 3, 7, 5), (1, 1), {"strides": (2, 2)}),
        ((2, 3, 13), (4,), {"strides": (3,), "pads": (1, 2)}),
        ((1, 3, 17), (3,), {"strides": (2,), "ceil_mode": True}),
        ((1, 2, 5, 6, 7), (2, 3, 2), {"strides": (2, 1, 2), "pads": (1, 1, 0, 0, 1, 1)}),
        ((2, 2, 5, 7, 4), (3, 2, 2), {"strides": (2, 3, 2), "ceil_mode": True}),
    ]
    return tuple(
        Case((Tensor(x, dtype=dtype),), {"kernel_shape": k, **attrs, **more}, n_outputs)
        for more in extra
        for x, k, attrs in uses
    )


# --- MaxPool ----------------------------------------------------------------------------------------------------------
def _maxpool_infer(call: Call) -> list[TensorType]:
    dtype = require_dtype(call, 0, (*FLOAT_NAMES, "int8", "uint8"))
    shape = pool_shape(call)
    return [TensorType(dtype, shape), TensorType(INT64, shape)]


def _lowest(dtype: np.dtype):
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _maxpool_reference(x, *, kernel_shape, storage_order, n_outputs=1, **options):
    """Maximum of each window (NaN wins), and its flat index in x, counted column by column for storage_order 1."""
    g = windows(x.shape[2:], kernel_shape, **options)
    if n_outputs == 1:
        return window_view(x, g, _lowest(x.dtype)).max(_kernel_axes(g))
    view = window_view(x, g, _lowest(x.dtype))
    taps = math.prod(numbers(g.kernel))
    flat = view.reshape(*view.shape[: -len(g.kernel)], taps)
    order: Literal["F", "C"] = "F" if storage_order else "C"
    positions = np.arange(np.prod(x.shape[2:])).reshape(x.shape[2:], order=order)[None, None]
    where = window_view(positions, g, -1)
    where = np.broadcast_to(where.reshape(*where.shape[: -len(g.kernel)], taps), flat.shape)
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(g.kernel)) * positions.size
    lowest = flat == _lowest(x.dtype)  # of a window of these alone the first that is in x, not padding
    best = np.where(lowest.all(-1), (where >= 0).argmax(-1), flat.argmax(-1))
    values, index = (np.take_along_axis(a, best[..., None], -1)[..., 0] for a in (flat, where))
    return values, index + planes


register(
    Op(
        "MaxPool",
        ("x",),
        _maxpool_infer,
        _maxpool_reference,
        {**POOL_ATTRS, "storage_order": Attr(int, 0, (0, 1))},
        ("y", "indices"),
        flops=_pool_flops,
        per_sample=True,
        tolerance=0.0,
        samples=Samples(
            (*FLOATS, "int8", "uint8"),
            cases=pool_cases() + pool_cases(n_outputs=2) + pool_cases(({"storage_order": 1},), n_outputs=2)[:4],
        ),
        windowed=True,
    )
)


# --- AveragePool and LpPool -------------------------------------------------------------------------------------------
def counts(spatial: Shape, g: Geometry, include_pad: bool) -> np.ndarray:
    """How many elements each window averages: those inside x, or inside x and its declared padding."""
    total = np.ones((), int)
    for size, k, s, d, begin, end, out in zip(
        spatial, g.kernel, g.strides, g.dilations, g.pads_begin, g.pads_end, g.out_spatial
    ):
        at = np.arange(out)[:, None] * s - begin + np.arange(k) * d
        low, high = (-begin, size + end) if include_pad else (0, size)
        total = total[..., None] * ((at >= low) & (at < high)).sum(1)
    return total


def _averagepool_reference(x, *, kernel_shape, count_include_pad, **options):
    g = windows(x.shape[2:], kernel_shape, **options)
    return window_view(x, g, 0).sum(_kernel_axes(g)) / counts(x.shape[2:], g, count_include_pad).astype(x.dtype)


register(
    Op(
        "AveragePool",
        ("x",),
        _pool_infer,
        in_float32(_averagepool_reference),
        {**POOL_ATTRS, "count_include_pad": Attr(bool, False)},
        flops=_pool_flops,
        per_sample=True,
        samples=Samples(cases=pool_cases(({}, {"count_include_pad": True}))),
        windowed=True,
    )
)


def _lppool_reference(x, *, kernel_shape, p, **options):
    """(Σ|x|^p)^(1/p) of each window."""
    g = windows(x.shape[2:], kernel_shape, **options)
    return _norm(window_view(x, g, 0), p, _kernel_axes(g))


def _norm(x: np.ndarray, p: int, axes: tuple[int, ...], keepdims: bool = False) -> np.ndarray:
    return (np.abs(x) ** p).sum(axes, keepdims=keepdims) ** (1 / p)


def _check_p(call: Call) -> None:
    if call.attrs.p < 1:
        raise call.fail(f"p is {call.attrs.p}", "a norm needs p of 1 or more")


def _lppool_infer(call: Call) -> list[TensorType]:
    _check_p(call)
    return _pool_infer(call)


register(
    Op(
        "LpPool",
        ("x",),
        _lppool_infer,
        in_float32(_lppool_reference),
        {**POOL_ATTRS, "p": Attr(int, 2)},
        flops=_pool_flops,
        per_sample=True,
        samples=Samples(cases=pool_cases() + pool_cases(({"p": 1}, {"p": 3}))[::4]),
        windowed=True,
    )
)


# --- global pools -----------------------------------------------------------------------------------------------------
def _global_infer(call: Call) -> list[TensorType]:
    dtype, x = require_dtype(call, 0, FLOAT_NAMES), call.shape(0)
    if len(x) < 3:
        raise call.fail(f"the input has shape {x}: no spatial axis", "give it as [N, C, *spatial]; Unsqueeze adds axes")
    if "p" in call.attrs:
        _check_p(call)
    return [TensorType(dtype, (*x[:2], *geometry(call).out_spatial))]


def _space(x: np.ndarray) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _global_pool(name: str, reduce: str | None, reference, attrs=None, cases: tuple[dict, ...] = ({},)) -> Op:
    """A pool over all spatial axes. `reduce`: the reduction that it is, into which it expands."""

    def expand(b, call: Call):
        op = reduce or {1: "ReduceL1", 2: "ReduceL2"}.get(call.attrs.p)
        axes = b.constant(range(2, call.rank(0)), np.int64)
        if op is not None:
            return b.add(op, call.inputs[0], axes, keepdims=True)
        p = b.constant(call.attrs.p, call.dtype(0))
        total = b.add("ReduceSum", b.add("Pow", b.add("Abs", call.inputs[0]), p), axes, keepdims=True)
        return b.add("Pow", total, b.constant(1 / call.attrs.p, call.dtype(0)))

    shapes = ((1, 3, 7, 7), (2, 17, 13, 7), (2, 5, 9), (1, 4, 3, 5, 2), (3, 8, 1, 1))
    return register(
        Op(
            name,
            ("x",),
            _global_infer,
            in_float32(reference),
            attrs or {},
            expand=expand,
            flops=lambda call: prod(call.shape(0)),
            per_sample=True,
            samples=Samples(cases=tuple(Case((Tensor(s),), more) for more in cases for s in shapes)),
            windowed=True,
        )
    )


_global_pool("GlobalAveragePool", "ReduceMean", lambda x: x.mean(_space(x), keepdims=True))
_global_pool("GlobalMaxPool", "ReduceMax", lambda x: x.max(_space(x), keepdims=True, initial=-np.inf))
_global_pool(
    "GlobalLpPool",
    None,
    lambda x, p: _norm(x, p, _space(x), keepdims=True),
    {"p": Attr(int, 2)},
    ({}, {"p": 1}, {"p": 3}),
)


# --- MaxUnpool --------------------------------------------------------------------------------------------------------
def unpooled_shape(spatial: Shape, kernel: Shape, strides, pads) -> Shape:
    """Spatial shape that a MaxPool of these attributes came from: (size - 1)·stride + kernel - pads."""
    rank = len(kernel)
    strides, pads = strides or (1,) * rank, pads or (0,) * 2 * rank
    sizes = zip(spatial, kernel, strides, pads[:rank], pads[rank:])
    return tuple(_offset(size * s, k - s - begin - end) for size, k, s, begin, end in sizes)


def _offset(size, by: int):
    return size + by if by >= 0 else size - -by


def _maxunpool_infer(call: Call) -> list[TensorType]:
    dtype, x, index = require_dtype(call, 0, FLOAT_NAMES), call.shape(0), call.type(1)
    if index.dtype != INT64 or index.rank != len(x) or any(differ(a, b) for a, b in zip(index.shape, x)):
        raise call.fail(f"the indices are {index}", f"they must be int64 of the shape of the input, {x}")
    rank = len(x) - 2
    for name, count in (("kernel_shape", rank), ("strides", rank), ("pads", 2 * rank)):
        if call.attrs[name] is not None and len(call.attrs[name]) != count:
            raise call.fail(f"{name} {call.attrs[name]} has {len(call.attrs[name])} entries", f"give {count} for {x}")
    shape = (*x[:2], *unpooled_shape(x[2:], call.attrs.kernel_shape, call.attrs.strides, call.attrs.pads))
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise call.fail(f"the unpooled shape {shape} has dims below 0", "check kernel, strides and pads")
    if call.has(2):
        given = tuple(call.ints(2))
        if len(given) != len(shape) or any(isinstance(d, int) and g < d for g, d in zip(given, shape)):
            raise call.fail(
                f"output_shape {given} does not hold the unpooled {shape}", "give N, C and every spatial size"
            )
        shape = given
    return [TensorType(dtype, shape)]


def _maxunpool_reference(x, indices, output_shape=None, *, kernel_shape, strides, pads):
    """Zeros, with each x at its flat index of the unpadded result; output_shape adds zeros at the ends of the axes.

    Raises InputError on an index outside the result.
    """
    inner = (*x.shape[:2], *unpooled_shape(x.shape[2:], kernel_shape, strides, pads))
    y = np.zeros(inner, x.dtype)
    if indices.size and not (indices.min() >= 0 and indices.max() < y.size):
        raise InputError(
            f"indices from {indices.min()} to {indices.max()} do not lie in the {y.size} elements of {inner}"
        )
    y.reshape(-1)[indices.reshape(-1)] = x.reshape(-1)
    if output_shape is None:
        return y
    return np.pad(y, [(0, int(want) - have) for want, have in zip(output_shape, inner)])


def _maxunpool_cases() -> tuple[Case, ...]:
    index = [[[[5, 7], [13, 15]]]]
    return (
        Case((Tensor((1, 1, 2, 2)), Const(index)), {"kernel_shape": (2, 2), "strides": (2, 2)}),
        Case((Tensor((1, 1, 2, 2)), Const(index), Const((1, 1, 5, 5))), {"kernel_shape": (2, 2), "strides": (2, 2)}),
        Case(
            (Tensor((1, 2, 3)), Const([[[0, 3, 4], [6, 8, 9]]])),
            {"kernel_shape": (3,), "strides": (2,), "pads": (1, 1)},
        ),
    )


register(
    Op(
        "MaxUnpool",
        ("x", "indices", "output_shape?"),
        _maxunpool_infer,
        _maxunpool_reference,
        {"kernel_shape": Attr("ints"), "strides": Attr("ints", None), "pads": Attr("ints", None)},
        tolerance=0.0,
        samples=Samples(cases=_maxunpool_cases()),
        values=(2,),
        family=Family.INDEX,
    )
)
