"""Random values: normal and uniform ones, and draws by given probabilities."""

from __future__ import annotations

import numpy as np

from graphc.op import FLOATS, Attr, Call, Case, Tensor
from graphc.ops.constant import source
from graphc.types import TensorType

_DTYPE, _LIKE, _SEED = Attr("dtype", np.dtype(np.float32)), Attr("dtype", None), Attr(float, None)


def generator(seed: float | None) -> np.random.Generator:
    """The stream of a node: the same for the same seed, another one each time where there is none."""
    return np.random.default_rng(None if seed is None else int(np.float64(seed).view(np.uint64)))


def _like(call: Call) -> list[TensorType]:
    return [call.type(0).with_dtype(call.attrs.dtype or call.dtype(0))]


def _of_shape(call: Call) -> list[TensorType]:
    return [TensorType(call.attrs.dtype, call.attrs.shape)]


def _normal(shape, dtype, seed, mean, scale):
    return generator(seed).normal(mean, scale, shape).astype(dtype)


def _uniform(shape, dtype, seed, low, high):
    return generator(seed).uniform(low, high, shape).astype(dtype)


def _random(name: str, reference, attrs: dict[str, Attr]) -> None:
    """Register a distribution: by shape, and like another tensor."""
    attrs = {"seed": _SEED, **attrs}
    of_shape = {"shape": Attr("ints"), "dtype": _DTYPE, **attrs}
    source(name, "", _of_shape, reference, [Case((), {"shape": (2, 3)})], of_shape, deterministic=False)

    def like(x, dtype, **rest):
        return reference(x.shape, dtype or x.dtype, **rest)

    cases = [Case((Tensor((2, 3)),)), Case((Tensor((2, 3)),), {"dtype": "float64", "seed": 1.0})]
    source(f"{name}Like", "x", _like, like, cases, {"dtype": _LIKE, **attrs}, dtypes=FLOATS, deterministic=False)


_random("RandomNormal", _normal, {"mean": Attr(float, 0.0), "scale": Attr(float, 1.0)})
_random("RandomUniform", _uniform, {"low": Attr(float, 0.0), "high": Attr(float, 1.0)})

source(
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
    if x.rank != 2 or call.attrs.sample_size < 0:
        raise call.fail("takes log probabilities [batch, classes] and a sample_size that is not negative")
    if x.shape[1] == 0:
        raise call.fail(f"there are no classes to draw from in {x}")
    return [TensorType(call.attrs.dtype, (x.shape[0], call.attrs.sample_size))]


def _multinomial(x, dtype, sample_size, seed):
    """Classes drawn by the Gumbel trick: argmax(log p + noise) is a draw from p (Gumbel, 1954)."""
    noise = generator(seed).gumbel(size=(x.shape[0], sample_size, x.shape[1]))
    return np.argmax(x.astype(np.float64)[:, None] + noise, -1).astype(dtype)


source(
    "Multinomial",
    "x",
    _multinomial_type,
    _multinomial,
    [Case((Tensor((2, 4)),), {"sample_size": 5}), Case((Tensor((1, 3)),), {"dtype": "int64", "seed": 3.0})],
    {"dtype": Attr("dtype", np.dtype(np.int32)), "sample_size": Attr(int, 1), "seed": _SEED},
    dtypes=FLOATS,
    deterministic=False,
)
