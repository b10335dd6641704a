"""Floats of 8 bits and less, integers of 2 and 4 bits: kernels convert, compare, choose and move them as the references do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from conformance.cases import cases as conformance_cases
from targets import require

import graphc
from graphc.dtypes import BY_NAME, MOVED, NATIVE, STORED, is_float, names
from graphc.frontends.onnx_data import DTYPES
from graphc.graph import Builder, Value
from graphc.ops.cast import E8M0, cast_array
from graphc.types import dtype_name

TARGETS = ("cpu:avx512", "cpu:avx2", "cpu:portable")
SMALL_FLOATS = names("float", bits=range(1, 9))
SIGNED = [n for n in SMALL_FLOATS if n != E8M0]
SMALL = sorted(STORED)
ROUNDINGS = [{"saturate": s, "round_mode": m} for s in (False, True) for m in ("up", "down", "nearest")]


def codes(name: str) -> np.ndarray:
    """Every number of a type of 16 bits and less."""
    element = BY_NAME[name]
    if name == "bool":
        return np.array([False, True])
    word = np.uint16 if element.item == 2 else np.uint8
    return np.arange(2**element.bits, dtype=np.uint32).astype(word).view(element.numpy)


def finite(name: str) -> np.ndarray:
    """The finite numbers of a small type in order, as float64."""
    numbers = np.unique(codes(name).astype(np.float32)).astype(np.float64)
    return numbers[np.isfinite(numbers)]


@cache
def numbers_of(name: str) -> np.ndarray:
    """All of a type of 16 bits and less; of wider floats what lies at and beside the numbers of small types, the middles between
    them and the bounds of integers, and some anywhere; of integers those around 0, the ends and some anywhere."""
    element, rng = BY_NAME[name], np.random.default_rng(0)
    if element.bits <= 16:
        return codes(name)
    dtype = element.numpy
    if element.family != "float":
        ends = np.iinfo(dtype)
        anywhere = rng.integers(ends.min, ends.max, 1000, dtype, endpoint=True)
        return np.concatenate([np.arange(-300, 300).astype(dtype), anywhere, np.array([ends.min, ends.max], dtype)])
    ends = [0.0, 1e38, np.inf, np.nan, 2.0**-149, 2.0**-126, *(2.0**k for k in (7, 8, 31, 32, 62, 63, 64, 127))]
    exact = np.unique(np.concatenate([*map(finite, SMALL_FLOATS), np.arange(20) / 2, ends[:-1]]))
    middles = exact[:-2] + np.diff(exact[:-1]) / 2
    x = np.concatenate([exact, middles]).astype(dtype)
    beside = [np.nextafter(x, dtype.type(side)) for side in (0, np.inf)]
    step = 2.0**-40  # beside a middle of float64, where float32 has none
    anywhere = 2.0 ** rng.uniform(-149, 128, 2000)
    x = np.concatenate([x, *beside, x * (1 - step), x * (1 + step), anywhere, ends]).astype(dtype)
    return np.concatenate([x, -x])


def agree(got: np.ndarray, want: np.ndarray) -> None:
    """The same bits; NaN where there is NaN."""
    assert got.dtype == want.dtype and got.shape == want.shape
    word = f"u{want.dtype.itemsize}"
    bad = got.view(word) != want.view(word)
    if is_float(want.dtype):
        bad &= ~(np.isnan(got) & np.isnan(want))
    at = np.flatnonzero(bad)[:5]
    assert not bad.any(), f"{want.dtype}: {got.ravel()[at]}, not {want.ravel()[at]}, at {at}"


def run(graph: Any, feeds: Mapping[str, np.ndarray], target: str = "cpu") -> dict[str, np.ndarray]:
    """Results of kernels alone."""
    model = graphc.compile(graph, target=target)
    results = model.run(feeds)
    steps = model.plan({name: x.shape for name, x in feeds.items()}, feeds).steps
    assert [(s.ops, s.reason) for s in steps if s.host] == []
    return results


# --- conversions --------------------------------------------------------------------------------------------------------
def conversions(source: str, targets: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """(to, attributes) of Cast."""
    uses: list[tuple[str, dict[str, Any]]] = []
    for to in targets:
        attributes: list[dict[str, Any]] = [{}]
        if to == E8M0:
            attributes = ROUNDINGS
        elif to in SMALL_FLOATS and BY_NAME[to].bits == 8:
            attributes = [{"saturate": False}, {"saturate": True}]
        uses += [(to, a) for a in attributes if to != source]
    return uses


def check_conversions(source: str, uses: Iterable[tuple[str, dict[str, Any]]], target: str) -> None:
    require(target)
    x, b = numbers_of(source), Builder("casts")
    v = b.input("x", x.dtype, x.shape)
    made = {f"{to} {attrs}": (to, attrs) for to, attrs in uses}
    graph = b.build({key: b.add("Cast", v, to=BY_NAME[to].numpy, **attrs) for key, (to, attrs) in made.items()})
    for key, got in run(graph, {"x": x}, target).items():
        to, attrs = made[key]
        agree(got, cast_array(x, BY_NAME[to].numpy, **attrs))


@pytest.mark.sample(2)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", sorted(NATIVE))
def test_to_small_types(source: str, target: str):
    check_conversions(source, conversions(source, SMALL), target)


@pytest.mark.sample(2)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SMALL)
def test_from_small_types(source: str, target: str):
    check_conversions(source, conversions(source, sorted(NATIVE | STORED)), target)


@pytest.mark.parametrize("target", TARGETS)
def test_each_direction(target: str):
    """One of each kind of type, on every instruction set."""
    kinds = ("float4_e2m1fn", "float8_e3m4", "float8_e4m3fn", "float8_e5m2fnuz", E8M0, "int4", "uint2")
    check_conversions("float32", conversions("float32", kinds), target)
    for kind in kinds:
        check_conversions(kind, [("float32", {})], target)


@pytest.mark.parametrize("to", ["float16", "bfloat16", *SIGNED])
def test_float64_rounds_once(to: str):
    """To the nearest number of the type, of two to the one with an even code: also where float32 is in the middle of them."""
    x = numbers_of("float64")
    every = codes(to)[: len(codes(to)) // 2]  # those without a sign
    every = every[np.isfinite(every.astype(np.float32))]
    exact = every.astype(np.float64)
    x = x[np.abs(x) <= exact[-1]]
    above = np.searchsorted(exact, np.abs(x)).clip(1)
    low, high = np.abs(x) - exact[above - 1], exact[above] - np.abs(x)
    nearest = np.where((low < high) | ((low == high) & ((above - 1) % 2 == 0)), above - 1, above)
    b = Builder("cast")
    graph = b.build({"y": b.add("Cast", b.input("x", x.dtype, x.shape), to=BY_NAME[to].numpy)})
    for got in (run(graph, {"x": x})["y"], cast_array(x, BY_NAME[to].numpy)):
        np.testing.assert_array_equal(np.abs(got.astype(np.float64)), exact[nearest])


@pytest.mark.parametrize("to", ["int2", "uint4", "int8", "uint16", "int32"])
def test_floats_are_cut_off_and_lose_high_bits(to: str):
    x = numbers_of("float32")
    x = x[np.abs(x) < 2.0**62]
    bits = BY_NAME[to].bits
    want = np.array([int(number) % 2**bits for number in x.tolist()], np.uint64)
    b = Builder("cast")
    got = run(b.build({"y": b.add("Cast", b.input("x", x.dtype, x.shape), to=BY_NAME[to].numpy)}), {"x": x})["y"]
    np.testing.assert_array_equal(got.astype(np.int64).astype(np.uint64) % 2**bits, want)


def test_small_types_within_one_kernel():
    """What is converted there and back in one expression is rounded as if it were stored."""
    x = numbers_of("float32")
    b = Builder("chain")
    v = b.input("x", x.dtype, x.shape)
    for to in ("float8_e4m3fn", "float6_e2m3fn", "int4"):
        v = b.add("Cast", b.add("Cast", v, to=BY_NAME[to].numpy), to="float32")
    want = x
    for to in ("float8_e4m3fn", "float6_e2m3fn", "int4"):
        want = cast_array(cast_array(want, BY_NAME[to].numpy), np.dtype("float32"))
    agree(run(b.build((v,)), {"x": x}).popitem()[1], want)


# --- choices ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e4m3fnuz", E8M0, "float4_e2m1fn", "int4", "uint2"])
def test_comparisons_and_choices(name: str):
    x, y = (a.ravel() for a in np.meshgrid(codes(name)[::3], codes(name)))
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    b = Builder("choices")
    u, v = b.input("x", x.dtype, x.shape), b.input("y", y.dtype, y.shape)
    results = {op: b.add(op, u, v) for op in ("Equal", "Less", "GreaterOrEqual", "Max", "Min")}
    results |= {"Where": b.add("Where", results["Less"], u, v), "Neg": b.add("Neg", u), "Relu": b.add("Relu", u)}
    if name in SMALL_FLOATS:
        results |= {op: b.add(op, u) for op in ("IsNaN", "IsInf")}
    graph, feeds = b.build(results), {"x": x, "y": y}
    want = graphc.compile(graph, target="reference").run(feeds)
    for op, got in run(graph, feeds).items():
        agree(got, want[op])


# --- movement -----------------------------------------------------------------------------------------------------------
def moves(b: Builder, x: Value, like: np.ndarray) -> dict[str, Value]:
    """What only moves elements of x [4, 6]; `like`: [2, 6] of its dtype."""

    def ints(*values: int) -> Value:
        return b.constant(values, np.int64)

    other = b.input("other", like.dtype, like.shape)
    index = b.input("index", np.int64, (2,))
    return {
        "Reshape": b.add("Reshape", x, ints(3, 8)),
        "Transpose": b.add("Transpose", x),
        "Concat": b.add("Concat", x, other, axis=0),
        "Slice": b.add("Slice", x, ints(3, 1), ints(0, 6), ints(0, 1), ints(-1, 2)),
        "Expand": b.add("Expand", b.add("Unsqueeze", x, ints(1)), ints(4, 3, 6)),
        "Tile": b.add("Tile", x, ints(2, 2)),
        "Gather": b.add("Gather", x, index, axis=1),
        "GatherND": b.add("GatherND", x, b.add("Unsqueeze", index, ints(0))),
        "ScatterND": b.add("ScatterND", x, b.add("Unsqueeze", index, ints(1)), other),
        "Compress": b.add("Compress", x, b.constant([True, False, True, True]), axis=0),
        "ReverseSequence": b.add("ReverseSequence", x, b.constant([1, 2, 3, 4, 2, 1], np.int64)),
        "ConstantOfShape": b.add("ConstantOfShape", ints(2, 3), value=like[0, :1]),
    }


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", sorted(MOVED - NATIVE))
def test_movement(name: str):
    element, rng = BY_NAME[name], np.random.default_rng(1)
    bits = rng.integers(0, 2 ** min(element.bits, 8), (6, 6, element.item), np.uint8)
    elements = bits.view(element.numpy)[..., 0]
    b = Builder("moves")
    results = moves(b, b.input("x", element.numpy, (4, 6)), elements[4:])
    if element.item <= 8:
        results["Pad"] = b.add("Pad", results["Transpose"], b.constant([1, 0, 0, 2], np.int64))
    if name in STORED:
        results["Trilu"] = b.add("Trilu", results["Transpose"])
    graph, feeds = b.build(results), {"x": elements[:4], "other": elements[4:], "index": np.array([2, 0])}
    want = graphc.compile(graph, target="reference").run(feeds)
    for op, got in run(graph, feeds).items():
        if element.family == "complex":
            assert got.tobytes() == want[op].tobytes(), op
        else:
            agree(got, want[op])


def test_bits_change_their_meaning():
    b, x = Builder("bits"), np.arange(-8, 8).astype(BY_NAME["int4"].numpy)
    y = run(b.build({"y": b.add("BitCast", b.input("x", x.dtype, x.shape), to=BY_NAME["uint4"].numpy)}), {"x": x})["y"]
    np.testing.assert_array_equal(y.astype(int), np.arange(-8, 8) % 16)


def test_bits_above_the_element_are_not_read():
    """Arrays may have anything there."""
    for name in ("int2", "uint4", "float4_e2m1fn"):
        element, raw = BY_NAME[name], np.arange(256, dtype=np.uint8)
        b = Builder("dirty")
        graph = b.build({"y": b.add("Cast", b.input("x", element.numpy, raw.shape), to="float32")})
        got = run(graph, {"x": raw.view(element.numpy)})["y"]
        clean = (raw % 2**element.bits).view(element.numpy).astype(np.float32)
        np.testing.assert_array_equal(got, clean)


def test_a_loop_carries_small_numbers():
    inner = Builder("body")
    inner.input("i", np.int64, ())
    keep = inner.input("keep", bool, ())
    s = inner.input("s", BY_NAME["float8_e4m3fn"].numpy, (5,))
    wide = inner.add("Mul", inner.add("Cast", s, to="float32"), inner.constant(1.3, "float32"))
    body = inner.build({"keep_on": inner.add("Identity", keep), "next": inner.add("Cast", wide, to=s.dtype)})
    b, x = Builder("loop"), codes("float8_e4m3fn")[40:45]
    y = b.add("Loop", b.constant(4, np.int64), b.constant(True), b.input("x", x.dtype, x.shape), n_states=1, body=body)
    want = x
    for _ in range(4):
        want = cast_array(want.astype(np.float32) * np.float32(1.3), x.dtype)
    agree(run(b.build({"y": y}), {"x": x})["y"], want)


# --- quantization -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("block", [0, 4, 3], ids=["axis", "blocks", "ragged blocks"])
@pytest.mark.parametrize("name", ["int4", "uint2", "float8_e4m3fn", "float4_e2m1fn"])
def test_quantization(name: str, block: int):
    """Against the formulas of ONNX. Scales are powers of two, so that quotients are exact."""
    element, rng = BY_NAME[name], np.random.default_rng(2)
    x = rng.uniform(-9, 9, (5, 8)).astype(np.float32)
    blocks = -(-8 // block) if block else 1
    scale = 2.0 ** rng.integers(-1, 2, (5, blocks)).astype(np.float32)
    spread = np.repeat(scale, block or 8, 1)[:, :8]
    attrs = {"axis": 1 if block else 0, "block_size": block}
    given = scale if block else scale[:, 0]
    b = Builder("quantize")
    s = b.input("scale", np.float32, given.shape)
    q = b.add("QuantizeLinear", b.input("x", np.float32, x.shape), s, output_dtype=element.numpy, **attrs)
    results = run(b.build({"q": q, "y": b.add("DequantizeLinear", q, s, **attrs)}), {"x": x, "scale": given})
    exact = codes(name).astype(np.float64)
    exact = exact[np.isfinite(exact)]
    quotient = (x / spread).clip(exact.min(), exact.max())
    distance = np.abs(quotient[..., None] - exact).min(-1)
    np.testing.assert_array_equal(np.abs(results["q"].astype(np.float64) - quotient), distance)
    np.testing.assert_array_equal(results["y"], results["q"].astype(np.float32) * spread)


def test_scales_that_are_powers_of_two():
    rng, dtype = np.random.default_rng(3), BY_NAME["float4_e2m1fn"].numpy
    x = codes("float4_e2m1fn")[rng.integers(0, 16, (3, 64))]
    scale = rng.integers(120, 134, (3, 2)).astype(np.uint8).view(BY_NAME[E8M0].numpy)
    b = Builder("mx")
    operands = b.input("x", dtype, x.shape), b.input("scale", scale.dtype, scale.shape)
    y = b.add("DequantizeLinear", *operands, axis=1, block_size=32, output_dtype="float32")
    got = run(b.build({"y": y}), {"x": x, "scale": scale})["y"]
    np.testing.assert_array_equal(got, x.astype(np.float32) * np.repeat(scale.astype(np.float32), 32, 1))


# --- ONNX's own cases ---------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_conformance_cases():
    """Those with small numbers have the results that the suite has, to the bit, and nothing runs on the host."""
    small = {number for number, dtype in DTYPES.items() if dtype_name(dtype) in STORED}
    seen: Counter[str] = Counter()
    for _, model, sets, _, _ in conformance_cases():
        types = {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
        if not types & small or onnx.TensorProto.STRING in types:
            continue
        seen.update(n.op_type for n in model.graph.node)
        for inputs, expected in sets:
            feeds = {v.name: as_array(x) for v, x in zip(model.graph.input, inputs)}
            got = run(model, feeds)
            for v, want in zip(model.graph.output, map(as_array, expected)):
                agree(got[v.name], want)
    assert seen.keys() >= {"Cast", "CastLike", "QuantizeLinear", "DequantizeLinear"} and seen.total() > 150


def as_array(x: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x)
