"""Operators whose value follows from attributes, shapes or a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphc.dtypes import is_narrow
from graphc.op import FLOATS, Attr, Call, Case, Const, Kind, Op, Samples, Tensor, register
from graphc.ops.shape import ANY
from graphc.types import TensorType


def _source(name: str, inputs: str, infer, reference, cases: Sequence[Case], attrs=None, **more) -> Op:
    """Register an operator of kind SOURCE."""
    samples = Samples(more.pop("dtypes", ANY), more.pop("low", -4.0), more.pop("high", 4.0), tuple(cases))
    return register(
        Op(name, tuple(inputs.split()), Kind.SOURCE, infer, reference, attrs or {}, samples=samples, **more)
    )


_source(
    "Constant",
    "",
    lambda call: [TensorType(call.value.dtype, call.value.shape)],
    lambda value: value,
    [Case((), {"value": np.arange(6, dtype=np.float32).reshape(2, 3)}), Case((), {"value": np.array(7, np.int64)})],
    {"value": Attr("tensor")},
)


# --- ConstantOfShape, Range, EyeLike ----------------------------------------------------------------------------------
_ZERO = np.zeros(1, np.float32)


def _filled_type(call: Call) -> list[TensorType]:
    shape = call.ints(0)
    if call.value.size != 1 or min(shape, default=0) < 0:
        raise call.fail(f"value must have one element, shape {shape} no negative dims")
    return [TensorType(call.value.dtype, shape)]


_source(
    "ConstantOfShape",
    "shape",
    _filled_type,
    lambda shape, value: np.full([int(d) for d in shape], value.reshape(())[()], value.dtype),
    [
        Case((Const([2, 3]),)),
        Case((Const([0]),), {"value": np.array([3], np.int64)}),
        Case((Const([]),), {"value": np.array([True])}),
    ],
    {"value": Attr("tensor", _ZERO)},
    values=(0,),
)


def range_length(start, limit, delta) -> int:
    """Number of elements of Range: max(ceil((limit - start) / delta), 0). Exact for integers."""
    if isinstance(delta, int):
        return max(-((start - limit) // delta), 0)
    return max(math.ceil((limit - start) / delta), 0)


def _range_type(call: Call) -> list[TensorType]:
    if any(call.dtype(i) != call.dtype(0) for i in range(3)):
        raise call.fail("start, limit and delta differ in dtype", "insert a Cast")
    start, limit, delta = (_number(call.const(i)) for i in range(3))
    if delta == 0:
        raise call.fail("delta is 0")
    return [TensorType(call.dtype(0), (range_length(start, limit, delta),))]


def _number(x: np.ndarray) -> int | float:
    """The one element of x, as a Python number."""
    x = np.reshape(x, ())
    return int(x) if x.dtype.kind in "iu" else float(x)


def _range(start, limit, delta, stash_type):
    dtype = start.dtype
    count = range_length(_number(start), _number(limit), _number(delta))
    wide = (np.float32 if stash_type == 1 else np.float64) if is_narrow(dtype) else dtype
    start, delta = (np.reshape(v, ()).astype(wide) for v in (start, delta))
    return (start + np.arange(count).astype(wide) * delta).astype(dtype)


_source(
    "Range",
    "start limit delta",
    _range_type,
    _range,
    [
        Case((Const(3), Const(9), Const(3))),
        Case((Const(10, "int32"), Const(4, "int32"), Const(-4, "int32"))),
        Case((Const(1.0, "float32"), Const(2.0, "float32"), Const(0.3, "float32"))),
        Case((Const(5), Const(1), Const(2))),
    ],
    {"stash_type": Attr(int, 1)},
    values=(0, 1, 2),
)


def _eye_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    if x.rank != 2:
        raise call.fail("takes a matrix")
    return [x.with_dtype(call.attrs["dtype"] or x.dtype)]


_source(
    "EyeLike",
    "x",
    _eye_type,
    lambda x, dtype, k: np.eye(x.shape[0], x.shape[1], k).astype(dtype or x.dtype),
    [
        Case((Tensor((3, 4)),)),
        Case((Tensor((4, 3)),), {"k": -1, "dtype": "int32"}),
        Case((Tensor((2, 2)),), {"k": 5, "dtype": "float64"}),
    ],
    {"dtype": Attr("dtype", None), "k": Attr(int, 0)},
)

# --- random values ----------------------------------------------------------------------------------------------------
_DTYPE, _LIKE, _SEED = Attr("dtype", np.dtype(np.float32)), Attr("dtype", None), Attr(float, None)


def generator(seed: float | None) -> np.random.Generator:
    """The stream of a node: the same for the same seed, another one each time where there is none."""
    return np.random.default_rng(None if seed is None else int(np.float64(seed).view(np.uint64)))


def _like(call: Call) -> list[TensorType]:
    return [call.type(0).with_dtype(call.attrs["dtype"] or call.dtype(0))]


def _of_shape(call: Call) -> list[TensorType]:
    return [TensorType(call.attrs["dtype"], call.attrs["shape"])]


def _normal(shape, dtype, seed, mean, scale):
    return generator(seed).normal(mean, scale, shape).astype(dtype)


def _uniform(shape, dtype, seed, low, high):
    return generator(seed).uniform(low, high, shape).astype(dtype)


def _random(name: str, reference, attrs: dict[str, Attr]) -> None:
    """Register a distribution: by shape, and like another tensor."""
    attrs = {"seed": _SEED, **attrs}
    of_shape = {"shape": Attr("ints"), "dtype": _DTYPE, **attrs}
    _source(name, "", _of_shape, reference, [Case((), {"shape": (2, 3)})], of_shape, deterministic=False)

    def like(x, dtype, **rest):
        return reference(x.shape, dtype or x.dtype, **rest)

    cases = [Case((Tensor((2, 3)),)), Case((Tensor((2, 3)),), {"dtype": "float64", "seed": 1.0})]
    _source(f"{name}Like", "x", _like, like, cases, {"dtype": _LIKE, **attrs}, dtypes=FLOATS, deterministic=False)


_random("RandomNormal", _normal, {"mean": Attr(float, 0.0), "scale": Attr(float, 1.0)})
_random("RandomUniform", _uniform, {"low": Attr(float, 0.0), "high": Attr(float, 1.0)})

_source(
    "Bernoulli",
    "p",
    _like,
    lambda p, dtype, seed: (generator(seed).random(p.shape) < p.astype(np.float64)).astype(dtype or p.dtype),
    [Case((Tensor((3, 4)),)), Case((Tensor((3, 4)),), {"dtype": "bool", "seed": 2.0})],
    {"dtype": _LIKE, "seed": _SEED},
    dtypes=FLOATS,
    low=0.0,
    high=1.0,
    deterministic=False,
)


def _multinomial_type(call: Call) -> list[TensorType]:
    x = call.type(0)
    if x.rank != 2 or call.sample_size < 0:
        raise call.fail("takes log probabilities [batch, classes] and a sample_size that is not negative")
    if x.shape[1] == 0:
        raise call.fail(f"there are no classes to draw from in {x}")
    return [TensorType(call.attrs["dtype"], (x.shape[0], call.sample_size))]


def _multinomial(x, dtype, sample_size, seed):
    """Classes drawn by the Gumbel trick: argmax(log p + noise) is a draw from p (Gumbel, 1954)."""
    noise = generator(seed).gumbel(size=(x.shape[0], sample_size, x.shape[1]))
    return np.argmax(x.astype(np.float64)[:, None] + noise, -1).astype(dtype)


_source(
    "Multinomial",
    "x",
    _multinomial_type,
    _multinomial,
    [Case((Tensor((2, 4)),), {"sample_size": 5}), Case((Tensor((1, 3)),), {"dtype": "int64", "seed": 3.0})],
    {"dtype": Attr("dtype", np.dtype(np.int32)), "sample_size": Attr(int, 1), "seed": _SEED},
    dtypes=FLOATS,
    deterministic=False,
)
