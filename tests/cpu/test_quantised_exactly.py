"""Quantised operators and networks against exact arithmetic: halves, saturation, zero points at the ends, odd channels, every pairing of
signedness. Scales are powers of two and sums stay below 2^24, so that float32 rounds nothing but what is to be rounded: results are
equal, not near. The references are NumPy's integers and float64; of networks, the graph node by node in float32, where all is exact too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from targets import offered

import graphc
from graphc.dtypes import int_range, names
from graphc.graph import Builder, Value
from graphc.interpret import run_graph
from graphc.ops.quantize import FLOAT8, QUANTIZED
from graphc.types import dtype_from_name

TARGETS = offered("cpu", "cpu:avx2", "cpu:portable")
KINDS = ("uint8", "int8")
FEW, MANY = 3, 400
EXACT = 1 << 24  # up to which whole numbers are exact in float32
draws = st.data()


def property_test(check: Callable[[st.DataObject], None]) -> Callable:
    """A few examples by default, always the same; many under slow. What fails is not made smaller, which would take minutes."""

    @pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
    def test(examples: int) -> None:
        quick = {
            "phases": [Phase.generate],
            "deadline": None,
            "suppress_health_check": list(HealthCheck),
            "database": None,
        }
        settings(max_examples=examples, derandomize=True, **quick)(given(draws)(check))()

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    return test


def generator(data: st.DataObject) -> np.random.Generator:
    return np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))


def whole(rng: np.random.Generator, kind: str, *shape: int) -> np.ndarray:
    """The whole range, its ends often."""
    low, high = int_range(dtype_from_name(kind))
    drawn = rng.integers(low, high, shape, np.int64, endpoint=True)
    return np.where(rng.random(shape) < 0.3, rng.choice([low, high], shape), drawn).astype(dtype_from_name(kind))


def powers(rng: np.random.Generator, low: int, high: int, *shape: int) -> np.ndarray:
    return (2.0 ** rng.integers(low, high, shape, endpoint=True)).astype(np.float32)


def quantised(real: np.ndarray, zero: np.ndarray | int, kind: str) -> np.ndarray:
    """real: exact. Halves to the even number, then the zero point, then the range."""
    target = dtype_from_name(kind)
    return np.clip(np.rint(real) + np.asarray(zero, np.float64), *int_range(target)).astype(np.int64).astype(target)


def along(axis: int, rank: int, numbers: np.ndarray) -> np.ndarray:
    """One number, or one for each index of an axis, in a shape that broadcasts."""
    return numbers if numbers.ndim == 0 else numbers.reshape([-1 if k == axis % rank else 1 for k in range(rank)])


def operand(b: Builder, feeds: dict[str, np.ndarray], data: np.ndarray, constant: bool) -> Value:
    if constant:
        return b.constant(data)
    name = f"x{len(feeds)}"
    feeds[name] = data
    return b.input(name, data.dtype, data.shape)


def check(data: st.DataObject, b: Builder, y: Value, feeds: dict[str, np.ndarray], want: np.ndarray) -> graphc.Model:
    target = data.draw(st.sampled_from(TARGETS), label="target")
    model = graphc.compile(b.build({"y": y}), target=target, threads=data.draw(st.integers(1, 2), label="threads"))
    got = model.run(feeds)["y"]
    assert got.dtype == want.dtype and got.shape == want.shape
    same(got, want)
    return model


def same(got: np.ndarray, want: np.ndarray) -> None:
    bits = f"u{want.dtype.itemsize}"
    equal = got.view(bits) == want.view(bits)
    if want.dtype.kind in "fV":
        wide_got, wide_want = got.astype(np.float64), want.astype(np.float64)
        equal |= (wide_got == wide_want) | (np.isnan(wide_got) & np.isnan(wide_want))
    where = np.argwhere(~equal)
    assert not len(where), (
        f"{len(where)} of {want.size}, first at {where[0]}: {got[tuple(where[0])]} for {want[tuple(where[0])]}"
    )


# --- between floats and small numbers ---------------------------------------------------------------------------------
SMALL = names("int", "uint", bits=range(1, 17))


def near_halves(rng: np.random.Generator, kind: str, *shape: int) -> np.ndarray:
    """float64: whole numbers, halves, their neighbours in float32, numbers beyond the range, and what is none."""
    low, high = int_range(dtype_from_name(kind))
    margin = (high - low) // 8 + 2
    base = rng.integers(low - margin, high + margin, shape, endpoint=True) + rng.choice([0, 0.5, -0.5, 0.25], shape)
    base = base.astype(np.float32)
    moved = np.nextafter(base, rng.choice([-np.inf, np.inf], shape).astype(np.float32))
    base = np.where(rng.random(shape) < 0.3, moved, base)
    odd = rng.choice(np.float32([np.inf, -np.inf, np.nan, -0.0, 3e38, -3e38, 1e-45]), shape)
    return np.where(rng.random(shape) < 0.1, odd, base)


def granular(
    data: st.DataObject, rng: np.random.Generator, shape: tuple[int, ...]
) -> tuple[dict[str, int], tuple, Callable]:
    """Attributes, the shape of scales, and what spreads these over x."""
    rank = len(shape)
    how = data.draw(st.sampled_from(["number", "vector", "axis", "block"] if rank else ["number"]), label="granularity")
    if how in ("number", "vector"):
        return {}, (() if how == "number" else (1,)), lambda s: s.reshape(())
    axis = data.draw(st.integers(-rank, rank - 1), label="axis")
    if how == "axis":
        return {"axis": axis}, (shape[axis],), lambda s: along(axis, rank, s)
    block = data.draw(st.integers(1, shape[axis]), label="block")
    at = axis % rank
    blocks = (*shape[:at], -(-shape[at] // block), *shape[at + 1 :])
    spread = lambda s: np.repeat(s, block, at).take(range(shape[at]), at)  # noqa: E731
    return {"axis": axis, "block_size": block}, blocks, spread


SHAPES = st.lists(st.integers(1, 19), max_size=3).map(tuple)


@property_test
def test_quantize_linear_to_integers(data: st.DataObject) -> None:
    """By any scale: the quotient in float32 is NumPy's, and what follows is exact in float64."""
    rng, kind = generator(data), data.draw(st.sampled_from(SMALL), label="kind")
    shape = data.draw(SHAPES, label="shape")
    attrs, of_scale, spread = granular(data, rng, shape)
    any_scale = data.draw(st.booleans(), label="any scale")
    scale = powers(rng, -5, 5, *of_scale)
    scale = scale * rng.uniform(0.5, 1, of_scale).astype(np.float32) if any_scale else scale
    with np.errstate(over="ignore", invalid="ignore"):
        x = (near_halves(rng, kind, *shape) * spread(scale)).astype(np.float32)
        real = (x / spread(scale)).astype(np.float64)
        zero = whole(rng, kind, *of_scale) if data.draw(st.booleans(), label="zero point") else None
        low, _ = int_range(dtype_from_name(kind))
        shifted = np.rint(real) + (0 if zero is None else spread(zero).astype(np.float64))
        want = np.clip(np.where(np.isnan(shifted), low, shifted), *int_range(dtype_from_name(kind)))
    b, feeds = Builder("quantize"), {}
    constant = data.draw(st.booleans(), label="constant")
    values = [operand(b, feeds, x, False), operand(b, feeds, scale, constant)]
    values += [] if zero is None else [operand(b, feeds, zero, constant)]
    attrs = attrs if zero is not None else {**attrs, "output_dtype": kind}
    y = b.add("QuantizeLinear", *values, **attrs)
    check(data, b, y, feeds, want.astype(np.int64).astype(dtype_from_name(kind)))


@property_test
def test_quantize_linear_to_small_floats(data: st.DataObject) -> None:
    """Halves between neighbours, the largest numbers and what lies beyond, with and without saturation."""
    rng, kind = generator(data), data.draw(st.sampled_from([*FLOAT8, "float4_e2m1fn"]), label="kind")
    target = dtype_from_name(kind)
    bits = 4 if kind == "float4_e2m1fn" else 8
    grid = np.arange(2**bits, dtype=np.uint8).view(target).astype(np.float64)
    grid = np.unique(grid[np.isfinite(grid)])
    largest = grid[-1]
    step = largest - grid[-2]
    middle = (grid[1:] + grid[:-1]) / 2
    ends = np.array([largest + step / 2, largest + step / 4, largest + step, largest * 3])
    numbers = np.concatenate([grid, middle, middle * (1 + 2**-20), ends, -ends, [np.inf, -np.inf, np.nan, -0.0]])
    x = rng.choice(numbers.astype(np.float32), data.draw(st.sampled_from([(7,), (3, 17), (2, 5, 16)]), label="shape"))
    scale = powers(rng, -3, 3)
    saturate = kind.startswith("float4") or data.draw(st.booleans(), label="saturate")
    want = x.astype(target)
    if saturate:
        bounded = np.where(np.isnan(x), x, np.clip(x, -largest, largest))
        want = bounded.astype(target)
    b, feeds = Builder("quantize"), {}
    zero = np.zeros((), target)
    y = b.add(
        "QuantizeLinear", operand(b, feeds, x * scale, False), operand(b, feeds, scale, False), b.constant(zero),
        **({} if saturate else {"saturate": False}),
    )  # fmt: skip
    check(data, b, y, feeds, want)


@property_test
def test_dequantize_linear(data: st.DataObject) -> None:
    """(x - zero) scale is exact in float32, and rounded once where the result is narrower."""
    rng = generator(data)
    kind = data.draw(st.sampled_from([*QUANTIZED, "int32"]), label="kind")
    target = dtype_from_name(kind)
    shape = data.draw(SHAPES, label="shape")
    attrs, of_scale, spread = granular(data, rng, shape)
    scale = powers(rng, -4, 4, *of_scale)
    if kind in SMALL:
        x = whole(rng, kind, *shape)
        zero = whole(rng, kind, *of_scale) if data.draw(st.booleans(), label="zero point") else None
    elif kind == "int32":
        x, zero = rng.integers(-EXACT, EXACT, shape).astype(np.int32), None
    else:
        bits = 4 if kind.startswith("float4") else 6 if kind.startswith("float6") else 8
        x, zero = rng.integers(0, 2**bits, shape).astype(np.uint8).view(target), None
    centred = x.astype(np.float32) - (np.float32(0) if zero is None else spread(zero).astype(np.float32))
    result = data.draw(st.sampled_from(["float32", "float16", "bfloat16"]), label="result")
    with np.errstate(over="ignore"):
        want = (centred * spread(scale)).astype(dtype_from_name(result))
    b, feeds = Builder("dequantize"), {}
    constant = data.draw(st.booleans(), label="constant")
    values = [operand(b, feeds, x, False), operand(b, feeds, scale, constant)]
    values += [] if zero is None else [operand(b, feeds, zero, constant)]
    attrs = attrs if result == "float32" else {**attrs, "output_dtype": result}
    check(data, b, b.add("DequantizeLinear", *values, **attrs), feeds, want)


# --- products ---------------------------------------------------------------------------------------------------------
def zero_point(data: st.DataObject, rng: np.random.Generator, kind: str, *shapes: tuple[int, ...]) -> np.ndarray | None:
    """None, or of one of the shapes."""
    shape = data.draw(st.sampled_from([None, *shapes]), label="zero point")
    return None if shape is None else whole(rng, kind, *shape)


def wide(x: np.ndarray | None) -> np.ndarray | int:
    return 0 if x is None else x.astype(np.int64)


SIZES = st.sampled_from([1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 47, 65])


@property_test
def test_matmul_integer(data: st.DataObject) -> None:
    rng, (left, right) = generator(data), data.draw(st.tuples(*[st.sampled_from(KINDS)] * 2), label="kinds")
    m, k, n = data.draw(SIZES, label="m"), data.draw(st.integers(1, 200), label="k"), data.draw(SIZES, label="n")
    batch = data.draw(st.sampled_from([(), (2,)]), label="batch")
    a, w = whole(rng, left, *batch, m, k), whole(rng, right, k, n)
    a_zero = zero_point(data, rng, left, (), (1,), (m, 1) if not batch else (2, m, 1))
    w_zero = zero_point(data, rng, right, (), (1,), (n,))
    want = np.matmul(wide(a) - wide(a_zero), wide(w) - wide(w_zero)).astype(np.int32)
    b, feeds = Builder("product"), {}
    constant = data.draw(st.booleans(), label="constant")
    values = [operand(b, feeds, a, False), operand(b, feeds, w, constant)]
    values += [None if z is None else operand(b, feeds, z, constant) for z in (a_zero, w_zero)]
    check(data, b, b.add("MatMulInteger", *values), feeds, want)


@property_test
def test_qlinear_matmul(data: st.DataObject) -> None:
    rng = generator(data)
    left, right, result = data.draw(st.tuples(*[st.sampled_from(KINDS)] * 3), label="kinds")
    m, k, n = data.draw(SIZES, label="m"), data.draw(st.integers(1, 250), label="k"), data.draw(SIZES, label="n")
    a, w = whole(rng, left, m, k), whole(rng, right, k, n)
    columns = data.draw(st.booleans(), label="per column")
    a_zero, w_zero = whole(rng, left), whole(rng, right, *([n] if columns else []))
    a_scale, w_scale = powers(rng, -3, 3), powers(rng, -1, 1, *([n] if columns else []))
    total = np.matmul(wide(a) - wide(a_zero), wide(w) - wide(w_zero))
    assert np.abs(total).max() < EXACT
    spread = max(1.0, float(np.abs(total * w_scale).max()) / data.draw(st.sampled_from([4, 100, 900]), label="range"))
    y_scale = np.float32(2.0 ** np.ceil(np.log2(spread)) * a_scale)
    y_zero = whole(rng, result)
    want = quantised(total * (a_scale.astype(np.float64) * w_scale / y_scale), y_zero, result)
    b, feeds = Builder("product"), {}
    constant = data.draw(st.booleans(), label="constant")
    values = [operand(b, feeds, a, False)]
    values += [
        operand(b, feeds, np.asarray(z), constant) for z in (a_scale, a_zero, w, w_scale, w_zero, y_scale, y_zero)
    ]
    check(data, b, b.add("QLinearMatMul", *values), feeds, want)


def windows(x: np.ndarray, w: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
    """The sums of a convolution of images in int64, tap by tap."""
    (top, left, bottom, right), (sh, sw), (dh, dw) = attrs["pads"], attrs["strides"], attrs["dilations"]
    x = np.pad(x, [(0, 0), (0, 0), (top, bottom), (left, right)])
    groups, (kh, kw) = attrs["group"], w.shape[2:]
    out_h, out_w = (x.shape[2] - (kh - 1) * dh - 1) // sh + 1, (x.shape[3] - (kw - 1) * dw - 1) // sw + 1
    xs, ws = x.reshape(x.shape[0], groups, -1, *x.shape[2:]), w.reshape(groups, -1, *w.shape[1:])
    out = np.zeros((x.shape[0], groups, ws.shape[1], out_h, out_w), np.int64)
    for i in range(kh):
        for j in range(kw):
            part = xs[..., i * dh : i * dh + (out_h - 1) * sh + 1 : sh, j * dw : j * dw + (out_w - 1) * sw + 1 : sw]
            out += np.einsum("ngchw,gmc->ngmhw", part, ws[..., i, j])
    return out.reshape(x.shape[0], -1, out_h, out_w)


def convolution(data: st.DataObject) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of an image and of weights whose sums stay below 2^24, and attributes."""
    depthwise = data.draw(st.booleans(), label="depthwise")
    channels = data.draw(st.sampled_from([1, 3, 5, 8, 15, 16, 17, 19, 33]), label="channels")
    group = channels if depthwise else data.draw(st.sampled_from([1, 1, 2]), label="group")
    depth, each = (1, 1) if depthwise else (channels, data.draw(st.integers(1, 20), label="filters"))
    kernel = data.draw(
        st.sampled_from([(1, 1), (3, 3), (1, 3), (2, 2)] if depth < 28 else [(1, 1), (1, 3)]), label="kernel"
    )
    pads = tuple(data.draw(st.integers(0, 1)) for _ in range(4))
    dilations = data.draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2)]), label="dilations")
    strides = data.draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2)]), label="strides")
    size = [(k - 1) * d + 1 + data.draw(st.integers(0, 9)) for k, d in zip(kernel, dilations)]
    x, w = (data.draw(st.integers(1, 3), label="batch"), group * depth, *size), (group * each, depth, *kernel)
    return x, w, {"group": group, "pads": pads, "strides": strides, "dilations": dilations}


@property_test
def test_conv_integer(data: st.DataObject) -> None:
    rng, (left, right) = generator(data), data.draw(st.tuples(*[st.sampled_from(KINDS)] * 2), label="kinds")
    of_x, of_w, attrs = convolution(data)
    x, w = whole(rng, left, *of_x), whole(rng, right, *of_w)
    x_zero = zero_point(data, rng, left, ())
    w_zero = zero_point(data, rng, right, (), (of_w[0],))
    centred = wide(w) - (along(0, 4, wide(w_zero)) if w_zero is not None else 0)
    want = windows(wide(x) - wide(x_zero), centred, attrs).astype(np.int32)
    b, feeds = Builder("conv"), {}
    constant = data.draw(st.sampled_from([True, True, False]), label="constant")
    values = [operand(b, feeds, x, False), operand(b, feeds, w, constant)]
    values += [None if z is None else operand(b, feeds, z, constant) for z in (x_zero, w_zero)]
    check(data, b, b.add("ConvInteger", *values, **attrs), feeds, want)


@property_test
def test_qlinear_conv(data: st.DataObject) -> None:
    rng = generator(data)
    left, right, result = data.draw(st.tuples(*[st.sampled_from(KINDS)] * 3), label="kinds")
    of_x, of_w, attrs = convolution(data)
    filters, each = of_w[0], data.draw(st.booleans(), label="per channel")
    vector = [filters] if each else []
    x, w, bias = whole(rng, left, *of_x), whole(rng, right, *of_w), rng.integers(-5000, 5000, filters).astype(np.int32)
    x_zero, w_zero = whole(rng, left), whole(rng, right, *vector)
    x_scale, w_scale = powers(rng, -3, 3), powers(rng, -1, 1, *vector)
    has_bias = data.draw(st.booleans(), label="bias")
    total = windows(wide(x) - wide(x_zero), wide(w) - along(0, 4, wide(w_zero)), attrs)
    total += bias.reshape(-1, 1, 1) if has_bias else 0
    assert np.abs(total).max() < EXACT
    scale = along(1, 4, w_scale.astype(np.float64)) * x_scale
    spread = max(
        1.0, float(np.abs(total * scale).max() / x_scale) / data.draw(st.sampled_from([4, 100, 900]), label="range")
    )
    y_scale, y_zero = np.float32(2.0 ** np.ceil(np.log2(spread)) * x_scale), whole(rng, result)
    want = quantised(total * scale / y_scale, y_zero, result)
    b, feeds = Builder("conv"), {}
    constant = data.draw(st.sampled_from([True, True, False]), label="constant")
    values = [operand(b, feeds, x, False)]
    values += [
        operand(b, feeds, np.asarray(z), constant) for z in (x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero)
    ]
    values += [operand(b, feeds, bias, constant)] if has_bias else []
    check(data, b, b.add("QLinearConv", *values, **attrs), feeds, want)


# --- networks ---------------------------------------------------------------------------------------------------------
class Net:
    """A random QDQ network whose every sum is exact in float32 (see the head of this file). A tensor is a value of floats, and the
    power of two that they are multiples of."""

    def __init__(self, data: st.DataObject) -> None:
        self.data, self.rng, self.b = data, generator(data), Builder("net")
        self.weights = data.draw(st.sampled_from(KINDS), label="weights")
        self.made: list[tuple[Value, int]] = []

    def draw(self, *choices: Any) -> Any:
        return self.data.draw(st.sampled_from(choices))

    def quantised(self, v: Value, exponent: int) -> Value:
        """To codes and back: the tensor is kept."""
        kind = self.draw(*KINDS)
        scale = self.b.constant(np.float32(2.0**exponent))
        zero = self.b.constant(whole(self.rng, kind) if self.draw(True, False) else np.asarray(self.draw(0, 100), kind))
        codes = self.b.add("QuantizeLinear", v, scale, zero)
        y = self.b.add("DequantizeLinear", codes, scale, zero)
        self.made.append((y, exponent))
        return codes

    def conv(self, x: Value, exponent: int) -> None:
        channels, small = int(x.type.shape[1]), self.draw(True, False)
        depthwise = self.draw(True, False, False)
        kernel = self.draw(1, 3) if depthwise or channels <= 28 else 1
        filters = channels if depthwise else self.draw(1, 7, 16, 19)
        group, stride, depth = (channels if depthwise else 1), self.draw(1, 1, 2), 1 if depthwise else channels
        shape, each = (filters, depth, kernel, kernel), self.draw(True, False)
        vector = [filters] if each else []
        taps, low, high = depth * kernel * kernel, *int_range(np.dtype(self.weights))
        assert taps * 255 * 255 + 3000 + 255 * 2**8 < EXACT  # with the bias and what is added
        w_zero = self.rng.integers(low, high, vector, endpoint=True).astype(self.weights)
        w = (
            self.rng.integers(-3, 4, shape) + along(0, 4, w_zero.astype(int))
            if small
            else whole(self.rng, self.weights, *shape)
        )
        w = np.clip(w, low, high).astype(self.weights)
        scales = powers(self.rng, -6, -5, *vector)
        unit = exponent - 6
        weights = self.b.add("DequantizeLinear", *map(self.b.constant, (w, scales, w_zero)), axis=0)
        bias = self.rng.integers(-3000, 3000, filters).astype(np.int32)
        of_bias = np.broadcast_to(scales * np.float32(2.0**exponent), (filters,)).copy()
        operands = [x, weights]
        if self.draw(True, False):
            operands.append(self.b.add("DequantizeLinear", self.b.constant(bias), self.b.constant(of_bias), axis=0))
        y = self.b.add("Conv", *operands, group=group, strides=(stride,) * 2, pads=(kernel // 2,) * 4)
        spread = unit + round(np.log2(np.sqrt(taps) * 70 * (2 if small else 70) / self.draw(3, 40, 150)))
        others = [(v, e) for v, e in self.made if v.type.shape == y.type.shape and unit <= e <= unit + 8]
        if others and self.draw(True, True, False):
            other, _ = others[self.data.draw(st.integers(0, len(others) - 1))]
            y = self.b.add("Add", *((y, other) if self.draw(True, False) else (other, y)))
        end = self.draw("", "Relu", "Clip")
        if end == "Relu":
            y = self.b.add("Relu", y)
        elif end:
            y = self.b.add("Clip", y, *(self.b.constant(np.float32(n * 2.0**spread)) for n in (-self.draw(0, 20), 60)))
        self.quantised(y, spread)

    def pool(self, x: Value, exponent: int) -> None:
        if self.draw(True, False):
            y = self.b.add("MaxPool", x, kernel_shape=(3, 2), strides=(1, 2), pads=(1, 0, 1, 0))
        elif self.draw(True, False):
            y = self.b.add("AveragePool", x, kernel_shape=(2, 2), strides=(1, 1), pads=(0, 0, 0, 0))
            exponent += self.draw(-1, 0)
        else:
            y = self.b.add(
                "AveragePool", x, kernel_shape=(2, 4), strides=(2, 1), pads=(1, 1, 0, 2), count_include_pad=True
            )
        self.quantised(y, exponent)

    def concat(self, x: Value, exponent: int) -> None:
        others = [(v, e) for v, e in self.made if v.type.shape[2:] == x.type.shape[2:]]
        other, e = others[self.data.draw(st.integers(0, len(others) - 1))]
        self.quantised(self.b.add("Concat", x, other, axis=1), max(e, exponent) + self.draw(-1, 0, 1))

    def moved(self, x: Value, exponent: int) -> None:
        y = self.b.add("Transpose", x, perm=(0, 1, 3, 2))
        self.quantised(y, exponent) if self.draw(True, False) else self.made.append((y, exponent))


@property_test
def test_networks(data: st.DataObject) -> None:
    """Convolutions with residual additions, clips, pools, concatenations and movements between quantisations."""
    n = Net(data)
    shape = (n.draw(1, 1, 3), n.draw(1, 3, 8, 17), *n.draw((8, 8), (7, 9), (12, 5)))
    codes = n.quantised(n.b.input("x", np.float32, shape), -3)
    for _ in range(data.draw(st.integers(1, 4), label="layers")):
        x, exponent = n.made[-1] if n.draw(True, True, False) else n.made[n.rng.integers(len(n.made))]
        fits = min(int(d) for d in x.type.shape[2:]) >= 4
        n.draw(n.conv, n.conv, n.conv, n.pool if fits else n.conv, n.concat, n.moved)(x, exponent)
    results = {"y": n.made[-1][0], "codes": codes}
    graph = n.b.build(results)
    image = (np.rint(n.rng.normal(0, 300, shape)) / 2**5).astype(np.float32)  # of which every eighth is a half
    want = dict(zip(results, run_graph(graph, [image])))
    model = graphc.compile(graph, target=n.draw(*TARGETS), threads=n.draw(1, 2))
    for name, got in model.run({"x": image}).items():
        assert got.dtype == want[name].dtype
        same(got, want[name])


@pytest.mark.parametrize("scale", [0, -0.5, 1e-45, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_quantised_as_before(kind: str, scale: float) -> None:
    """By the scale of the codes: they stay, but for a scale of 0, after which nothing is left of them."""
    b = Builder("again")
    parameters = b.constant(np.float32(scale)), b.constant(np.asarray(5, kind))
    x = b.add("DequantizeLinear", b.input("x", kind, (1, 3, 5, 7)), *parameters)
    graph = b.build({"y": b.add("QuantizeLinear", x, *parameters)})
    codes = whole(np.random.default_rng(0), kind, 1, 3, 5, 7)
    want = codes if scale else np.full_like(codes, np.iinfo(kind).min)
    np.testing.assert_array_equal(graphc.compile(graph).run({"x": codes})["y"], want)
