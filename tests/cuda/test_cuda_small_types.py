"""Floats of 8 bits and less, integers of 2 and 4 bits on the GPU's kernels, in the emulator."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.dtypes import BY_NAME, STORED
from graphc.errors import UnsupportedError
from graphc.graph import Builder
from graphc.ops.cast import cast_array

KINDS = ("float32", "float4_e2m1fn", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e8m0fnu", "int4", "uint2")


def numbers(name: str) -> np.ndarray:
    """Every number of a small type; of others what lies at and beside those of the widest small one."""
    if name in STORED:
        return np.arange(2 ** BY_NAME[name].bits, dtype=np.uint8).view(BY_NAME[name].numpy)
    exact = np.arange(256, dtype=np.uint8).view(BY_NAME["float8_e5m2"].numpy).astype(np.float64)
    with np.errstate(over="ignore"):
        return np.concatenate([exact * k for k in (1, 1.125, 1.1251, 1e9, 1e-5)]).astype(name)


def agree(got: np.ndarray, want: np.ndarray) -> None:
    """The same bits; NaN where there is NaN."""
    word = f"u{want.dtype.itemsize}"
    nan = np.isnan(got) & np.isnan(want) if BY_NAME[want.dtype.name].family == "float" else np.zeros(want.shape, bool)
    np.testing.assert_array_equal(got.view(word)[~nan], want.view(word)[~nan])


@pytest.mark.sample(3)
@pytest.mark.parametrize("source", ["float32", "float64", "float16", *sorted(STORED)])
def test_conversions(source: str):
    x, b = numbers(source), Builder("casts")
    v = b.input("x", x.dtype, x.shape)
    made = {to: b.add("Cast", v, to=BY_NAME[to].numpy) for to in KINDS if to != source}
    results = graphc.compile(b.build(made), target="cuda:emulate").run({"x": x})
    for to, got in results.items():
        agree(got, cast_array(x, BY_NAME[to].numpy))


@pytest.mark.parametrize("name", ["float8_e4m3fn", "uint4"])
def test_movement_and_choices(name: str):
    x = numbers(name)[:16].reshape(2, 8)
    b = Builder("moves")
    v, index = b.input("x", x.dtype, x.shape), b.input("index", np.int64, (3,))
    turned = b.add("Reshape", b.add("Transpose", v), b.constant([2, 8], np.int64))
    larger = b.add("Where", b.add("Less", v, turned), turned, v)
    graph = b.build({"gathered": b.add("Gather", v, index, axis=1), "turned": turned, "larger": larger})
    feeds = {"x": x, "index": np.array([5, -1, 0])}
    want = graphc.compile(graph, target="reference").run(feeds)
    for key, got in graphc.compile(graph, target="cuda:emulate").run(feeds).items():
        agree(got, want[key])


def test_blocks_of_small_weights():
    rng = np.random.default_rng(0)
    x, scale = rng.integers(-8, 8, (4, 64)).astype(BY_NAME["int4"].numpy), rng.uniform(0, 1, (4, 2)).astype(np.float32)
    b = Builder("weights")
    y = b.add(
        "DequantizeLinear", b.input("x", x.dtype, x.shape), b.input("s", "float32", (4, 2)), axis=1, block_size=32
    )
    got = graphc.compile(b.build({"y": y}), target="cuda:emulate").run({"x": x, "s": scale})["y"]
    np.testing.assert_array_equal(got, x.astype(np.float32) * np.repeat(scale, 32, 1))


def test_sums_of_small_numbers_have_no_kernel():
    b, dtype = Builder("sums"), BY_NAME["float8_e4m3fn"].numpy
    v = b.input("x", dtype, (4,))
    graph = b.build({"y": b.add("Add", v, v)})
    with pytest.raises(UnsupportedError, match="insert Casts"):
        graphc.compile(graph, target="cuda:emulate").run({"x": np.zeros(4, dtype)})


@pytest.mark.parametrize("to", ["float8_e4m3fn", "int4", "float8_e8m0fnu"])
def test_machine_code(to: str):
    """The GPU's compiler takes what the emulator takes."""
    b = Builder("cast")
    v = b.input("x", BY_NAME["float32"].numpy, (1000,))
    back = b.add("Cast", b.add("Cast", v, to=BY_NAME[to].numpy), to="float16")
    model = graphc.compile(b.build({"y": back}), target="cuda", arch="sm_90")
    (step,) = model.plan({"x": (1000,)}).steps
    assert "registers" in step.reason and "spilled" not in step.reason
