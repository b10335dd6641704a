"""Arrays of few numbers as bytes and back, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphc
from graphc.coded_arrays import CHUNK, PIECE, pack, pack_bytes, unpack, unpack_bytes
from graphc.dtypes import BY_NAME
from graphc.errors import InputError
from graphc.graph import Builder
from graphc.shrinker.layers import layers_of, weights_of

TYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint16", "int64", "bool", "float8_e4m3fn")


def array(dtype: str, shape: tuple[int, ...], entries: int, seed: int = 0) -> np.ndarray:
    """Of so many different elements, of any bits."""
    rng, kind = np.random.default_rng(seed), BY_NAME[dtype].numpy
    book = rng.integers(0, 2 if dtype == "bool" else 256, (entries, kind.itemsize), np.uint8).view(kind)[:, 0]
    return book[rng.integers(0, entries, shape)]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@given(
    st.sampled_from(TYPES),
    st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple),
    st.integers(1, 256),
    st.integers(0, 9),
)
def test_what_is_packed_comes_back(dtype: str, shape: tuple[int, ...], entries: int, seed: int):
    given_ = array(dtype, shape, entries, seed)
    data = pack(given_)
    assert data is None or (len(data) < given_.nbytes and same(unpack(data), given_))


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type(dtype: str):
    given_ = array(dtype, (3, 1000), 2)
    assert same(unpack(pack(given_)), given_)


def test_bits_of_zeros_and_nan():
    given_ = np.tile(np.array([0.0, -0.0, np.nan, -np.nan, np.inf], np.float32), 50).reshape(10, 25)
    data = pack(given_)
    assert same(unpack(data), given_) and len(data) < given_.nbytes / 8


@pytest.mark.parametrize(
    "other",
    [
        np.arange(300, dtype=np.float32).repeat(9),  # more than 256 numbers
        np.arange(3, dtype=np.float32),  # no fewer bytes
        np.zeros(0, np.float32),
        np.array(["a"] * 100, object),
        np.zeros(100, np.complex64),
    ],
)
def test_what_is_left_as_it_is(other: np.ndarray):
    assert pack(other) is None


@given(st.data())
def test_broken_data(data: st.DataObject):
    """An error, or an array: nothing else."""
    right = bytearray(pack(array("float32", (40, 30), 9)))
    end, place = data.draw(st.integers(0, len(right))), data.draw(st.integers(0, 30))
    right[place] ^= data.draw(st.integers(0, 255))
    try:
        unpack(bytes(right[:end]))
    except InputError as error:
        assert "not all of" in str(error)


def test_weights_of_a_codebook():
    """What `graphc shrink` counts as coded, and a head."""
    b = Builder()
    x = b.input("x", np.float32, (1, 256))
    w = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
    small = graphc.shrink(b.build([b.add("MatMul", x, b.constant(w))]), codebook=4)
    decoded = graphc.pipeline.run(small.graph, graphc.pipeline.SHAPE_FREE)
    weights = weights_of(layers_of(decoded)[0]).data
    data = pack(weights)
    assert same(unpack(data), weights)
    assert len(data) <= small.report.coded + 20 < weights.nbytes / 7


def test_many_arrays():
    """Weights of two codebooks, of none, and an odd end."""
    first, second = array("float32", (200, 500), 16), array("float32", (300, 300), 30, seed=1)
    plain = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    data = first.tobytes() + second.tobytes() + plain.tobytes() + b"end"
    packed = pack_bytes(data)
    assert unpack_bytes(packed).tobytes() == data
    coded = first.nbytes + second.nbytes - CHUNK  # where the plain numbers begin, a chunk has too many different ones
    assert len(packed) < len(data) - 0.75 * coded  # 4 or 5 of 32 bits
    assert pack_bytes(plain.tobytes()) is None and pack_bytes(b"") is None
    assert unpack_bytes(pack_bytes(bytes(5 * PIECE))).tobytes() == bytes(5 * PIECE)


@given(st.data())
def test_broken_bytes(data: st.DataObject):
    right = bytearray(pack_bytes(array("float32", (40, 30), 9).tobytes()))
    end, place = data.draw(st.integers(0, len(right))), data.draw(st.integers(0, 30))
    right[place] ^= data.draw(st.integers(0, 255))
    try:
        unpack_bytes(bytes(right[:end]))
    except InputError as error:
        assert "not all of" in str(error)
