"""Random values: normal and uniform ones, and draws by given probabilities.

A number is a function of its place in the result and of the seed (graphc/ops/random_bits.py), so that every backend draws the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import FLOATS, Attr, Call, Case, Tensor
from graphc.ops._draws import Draws
from graphc.ops.constant import source
from graphc.ops.precision import FLOAT32
from graphc.ops.random_bits import UINT64, random_bits
from graphc.types import TensorType

_DTYPE, _LIKE, _SEED = Attr("dtype", np.dtype(np.float32)), Attr("dtype", None), Attr(float, None)
FLOAT64 = np.dtype(np.float64)


# --- bits: the same for the same seed, others each time where there is none -------------------------------------------
def _key(seed: float) -> np.ndarray:
    """64 bits of a seed."""
    nothing = np.zeros((), np.int64)
    return np.asarray(random_bits(nothing, nothing, np.float64(seed).view(np.uint64)))


def drawn_bits(shape: tuple[int, ...], seed: float | None) -> np.ndarray:
    """64 random bits for each element."""
    key = np.array(secrets.randbits(64), np.uint64) if seed is None else _key(seed)
    return random_bits(np.arange(int(np.prod(shape))).reshape(shape), np.zeros((), np.int64), key)


def emit_bits(b: Builder, like: Value, seed: float | None) -> Value:
    """The same in operators."""
    key = b.add("RandomSeed") if seed is None else b.constant(_key(seed), UINT64)
    bits: Value = b.add("RandomBits", b.add("Positions", like), b.constant(0, np.int64), key)
    return bits


source(
    "RandomSeed",
    "",
    lambda call: [TensorType(UINT64, ())],
    lambda: np.array(secrets.randbits(64), np.uint64),
    [Case(())],
    deterministic=False,
)


# --- numbers of bits: in NumPy, with float64 --------------------------------------------------------------------------
def uniform(bits: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """From 0 up to 1, in steps of 2**-24, of float64 2**-53."""
    digits = 53 if dtype == FLOAT64 else 24
    return (bits >> np.uint64(64 - digits)) * 2.0**-digits


def _open_uniform(bits: np.ndarray) -> np.ndarray:
    """Between 0 and 1, of the upper 40 bits."""
    return ((bits >> np.uint64(24)) + 0.5) * 2.0**-40


def _standard_normal(bits: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The method of Box and Muller (1958), with the sine of an angle from -π/2 to π/2."""
    angle = ((bits & np.uint64(2**24 - 1)) * 2.0**-23 - 1) * (np.pi / 2)
    return np.sqrt(-2 * np.log(_open_uniform(bits))) * np.sin(angle)


# --- RandomNormal, RandomUniform --------------------------------------------------------------------------------------
def _like(call: Call) -> list[TensorType]:
    return [call.type(0).with_dtype(call.attrs.dtype or call.dtype(0))]


def _of_shape(call: Call) -> list[TensorType]:
    return [TensorType(call.attrs.dtype, call.attrs.shape)]


def _wide(dtype: np.dtype) -> np.dtype:
    """What numbers of a dtype are drawn in."""
    return dtype if dtype == FLOAT64 else FLOAT32


def _random(
    name: str,
    standard: Callable[[np.ndarray, np.dtype], np.ndarray],
    emit: Callable[[Draws, Value, np.dtype], Value],
    attrs: Mapping[str, Attr],
    bounds: Callable[..., tuple[float, float]],
) -> None:
    """Register a distribution: by shape, and like another tensor. bounds: of the attributes, shift and scale of the standard one."""
    attrs = {"seed": _SEED, **attrs}

    def drawn(shape: tuple[int, ...], dtype: np.dtype, seed: float | None, **rest: float) -> np.ndarray:
        shift, scale = bounds(**rest)
        return (shift + scale * standard(drawn_bits(shape, seed), dtype)).astype(dtype)

    def expand(b: Builder, call: Call) -> Value:
        if call.inputs:
            like, dtype = call.inputs[0], call.attrs.dtype or call.dtype(0)
        else:
            like, dtype = b.add("ConstantOfShape", b.constant(call.attrs.shape, np.int64)), call.attrs.dtype
        draws, wide = Draws(b.add, b.constant), _wide(dtype)
        shift, scale = bounds(**{k: call.attrs[k] for k in attrs if k != "seed"})
        x = emit(draws, emit_bits(b, like, call.attrs.seed), wide)
        x = x if scale == 1 else draws.op("Mul", x, scale)
        x = x if shift == 0 else draws.op("Add", x, shift)
        return x if x.dtype == dtype else b.add("Cast", x, to=dtype)

    more: dict[str, Any] = {"expand": expand, "deterministic": False}
    cases = [Case((), {"shape": (2, 3)}), Case((), {"shape": (3, 5), "seed": 7.0})]
    of_shape = {"shape": Attr("ints"), "dtype": _DTYPE, **attrs}
    source(name, "", _of_shape, lambda shape, dtype, **rest: drawn(shape, dtype, **rest), cases, of_shape, **more)

    def like(x: np.ndarray, dtype: np.dtype | None, **rest: Any) -> np.ndarray:
        return drawn(x.shape, dtype or x.dtype, **rest)

    cases = [Case((Tensor((2, 3)),)), Case((Tensor((2, 3)),), {"dtype": "float64", "seed": 1.0})]
    source(f"{name}Like", "x", _like, like, cases, {"dtype": _LIKE, **attrs}, dtypes=FLOATS, **more)


_random(
    "RandomNormal",
    _standard_normal,
    Draws.normal,
    {"mean": Attr(float, 0.0), "scale": Attr(float, 1.0)},
    lambda mean, scale: (mean, scale),
)
_random(
    "RandomUniform",
    uniform,
    Draws.uniform,
    {"low": Attr(float, 0.0), "high": Attr(float, 1.0)},
    lambda low, high: (low, high - low),
)


# --- Bernoulli, Multinomial -------------------------------------------------------------------------------------------
def _bernoulli(p, dtype, seed):
    return (uniform(drawn_bits(p.shape, seed), p.dtype) < p.astype(np.float64)).astype(dtype or p.dtype)


def _bernoulli_expand(b: Builder, call: Call) -> Value:
    p = call.inputs[0]
    wide = _wide(p.dtype)
    drawn = Draws(b.add, b.constant).uniform(emit_bits(b, p, call.attrs.seed), wide)
    drawn = b.add("Less", drawn, b.add("Cast", p, to=wide))
    result: Value = b.add("Cast", drawn, to=call.attrs.dtype or p.dtype)
    return result


source(
    "Bernoulli",
    "p",
    _like,
    _bernoulli,
    [Case((Tensor((3, 4)),)), Case((Tensor((3, 4)),), {"dtype": "bool", "seed": 2.0})],
    {"dtype": _LIKE, "seed": _SEED},
    dtypes=FLOATS,
    low=0.0,
    high=1.0,
    deterministic=False,
    expand=_bernoulli_expand,
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
    bits = drawn_bits((x.shape[0], sample_size, x.shape[1]), seed)
    noise = -np.log(-np.log1p(-_open_uniform(bits)))
    return np.argmax(x.astype(np.float64)[:, None] + noise, -1).astype(dtype)


def _multinomial_expand(b: Builder, call: Call) -> Value:
    wide = _wide(call.dtype(0))
    x = b.add("Cast", call.inputs[0], to=wide)
    each = b.add("Unsqueeze", x, b.constant([1], np.int64))
    each = b.add("Expand", each, b.constant([1, call.attrs.sample_size, 1], np.int64))
    draws = Draws(b.add, b.constant)
    noise = b.add("Log", draws.exponential(emit_bits(b, each, call.attrs.seed), wide))
    drawn = b.add("ArgMax", b.add("Sub", each, noise), axis=-1, keepdims=False)
    result: Value = b.add("Cast", drawn, to=call.attrs.dtype)
    return result


source(
    "Multinomial",
    "x",
    _multinomial_type,
    _multinomial,
    [Case((Tensor((2, 4)),), {"sample_size": 5}), Case((Tensor((1, 3)),), {"dtype": "int64", "seed": 3.0})],
    {"dtype": Attr("dtype", np.dtype(np.int32)), "sample_size": Attr(int, 1), "seed": _SEED},
    dtypes=FLOATS,
    deterministic=False,
    expand=_multinomial_expand,
)
