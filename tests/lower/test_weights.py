"""Packed constants: the same bytes in memory and in a mapped file, each once."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import numpy as np
import pytest
from fuzz.generate import generate
from targets import require

import graphc
from graphc import source_files
from graphc.errors import GraphcError, LoadError
from graphc.graph import Builder, Graph, constant
from graphc.lower import segment
from graphc.lower.segment import SegmentWriteError, SegmentWriter, Stored
from graphc.lower.weights import Resident, WeightStore

RNG = np.random.default_rng(0)
ARRAYS = {
    "small": RNG.random((3, 5), np.float32),
    "scalar": np.array(7, np.int64),
    "none": np.empty((0, 4), np.float32),
    "transposed": RNG.random((40, 30, 20), np.float32).transpose(2, 0, 1),
    "long rows": RNG.random((3, 9000), np.float32),
    "one row": RNG.integers(0, 255, 30000, np.uint8),
    "bytes": RNG.integers(0, 255, 3, np.uint8),
    "reversed": np.arange(5000, dtype=np.int64)[::-1],
}


def at(address: int, like: np.ndarray) -> np.ndarray:
    return np.frombuffer((ctypes.c_uint8 * like.nbytes).from_address(address), like.dtype).reshape(like.shape)


@pytest.fixture
def writer(tmp_path: Path):
    path = tmp_path / "segment"
    writer = SegmentWriter(os.open(path, os.O_RDWR | os.O_CREAT), path)
    yield writer
    writer.close()


@pytest.mark.parametrize("block, piece", [(segment.BLOCK, segment.PIECE), (1 << 14, 1 << 13), (1 << 12, 1 << 12)])
def test_a_segment_holds_what_was_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, piece: int):
    monkeypatch.setattr(segment, "BLOCK", block)
    monkeypatch.setattr(segment, "PIECE", piece)
    path = tmp_path / "segment"
    writer = SegmentWriter(os.open(path, os.O_RDWR | os.O_CREAT), path)
    places = {name: writer.append(a) for name, a in [*ARRAYS.items(), *ARRAYS.items()]}
    writer.finish()
    writer.close()
    path.unlink()
    for name, place in places.items():
        assert place.address % segment.ALIGNMENT == 0
        np.testing.assert_array_equal(at(place.address, ARRAYS[name]), ARRAYS[name], err_msg=name)


def test_a_segment_of_nothing_can_be_mapped(writer: SegmentWriter):
    writer.append(ARRAYS["none"])
    writer.finish()


@pytest.mark.parametrize("stored", [True, False])
def test_the_same_array_packed_the_same_way_exists_once(writer: SegmentWriter, stored: bool):
    store, a, equal, other = WeightStore(), *(np.full(100, v, np.float32) for v in (1, 1, 2))
    store.begin(writer if stored else None)
    made = []

    def pack(source: np.ndarray, recipe: tuple):
        return store.pack(source, recipe, lambda: made.append(recipe) or source * 2)

    first = pack(a, ("twice",))
    assert pack(a, ("twice",)) is first and len(made) == 1
    assert pack(a, ("again",)) is not first and pack(other, ("twice",)) is not first
    second = pack(equal, ("twice",))
    if stored:  # by content
        assert (second.place.segment, second.place.offset) == (first.place.segment, first.place.offset)
        writer.finish()
    assert isinstance(first.place, Stored if stored else Resident)
    np.testing.assert_array_equal(at(first.place.address, a), a * 2)


def test_undone_is_packed_anew(writer: SegmentWriter):
    store, a = WeightStore(), ARRAYS["small"]
    store.begin(None)
    kept = store.pack(a, ("kept",), lambda: a)
    store.end()
    store.begin(None)
    store.pack(a, ("undone",), lambda: a)
    store.undo()
    assert store.nbytes == a.nbytes
    store.begin(None)
    assert store.pack(a, ("kept",), lambda: a) is kept
    store.begin(writer)  # a file is to hold all of a plan
    assert isinstance(store.pack(a, ("kept",), lambda: a).place, Stored)
    assert store.nbytes == a.nbytes


def test_a_constant_that_nobody_reads_takes_no_place(writer: SegmentWriter):
    store = WeightStore()
    store.begin(writer)
    unread, read = store.dense(constant("u", ARRAYS["long rows"])), store.dense(constant("r", ARRAYS["small"]))
    place = store.place_of(read)
    assert unread.place is None and store.nbytes == ARRAYS["small"].nbytes
    writer.finish()
    np.testing.assert_array_equal(at(place.address, ARRAYS["small"]), ARRAYS["small"])


def test_a_full_disk(writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segment.os, "write", full)
    writer.append(ARRAYS["small"])
    with pytest.raises(SegmentWriteError, match="No space left"):
        writer.finish()


# --- files that models are read from ----------------------------------------------------------------------------------
def test_mapped_arrays(tmp_path: Path):
    path, data = tmp_path / "data", RNG.integers(0, 255, 1 << 18, np.uint8)
    path.write_bytes(data.tobytes())
    assert source_files.take(path, 0, len(data)) is None
    opened = source_files.Files()
    with opened.reading():
        view, few = source_files.take(path, 3, source_files.SMALL), source_files.take(path, 5, 10)
        assert source_files.take(path, 10, len(data)) is None
        assert source_files.held(path) is not None and source_files.held(tmp_path / "other") is None
    assert (
        source_files.mapping_of(view) is not None and source_files.mapping_of(few) is None and not view.flags.writeable
    )
    copy = source_files.owned(view)
    assert source_files.mapping_of(copy) is None and source_files.owned(few) is few
    source_files.release([view, few, copy])
    opened.release()
    for got, want in ((view, data[3 : 3 + source_files.SMALL]), (few, data[5:15]), (copy, view)):
        np.testing.assert_array_equal(got, want)
    path.unlink()
    opened.check()
    np.testing.assert_array_equal(view, data[3 : 3 + source_files.SMALL])


def test_a_file_that_is_overwritten(tmp_path: Path):
    path = tmp_path / "data"
    path.write_bytes(b"before")
    opened = source_files.Files()
    opened.open(path)
    opened.check()
    path.write_bytes(b"afterwards")
    with pytest.raises(LoadError, match="overwritten"):
        opened.check()
    assert opened.paths == [path]


def test_unmapped_reading_only_remembers(tmp_path: Path):
    path = tmp_path / "data"
    path.write_bytes(bytes(1 << 18))
    opened = source_files.Files(mapped=False)
    with opened.reading():
        source_files.note(path)
        assert source_files.take(path, 0, 1 << 18) is None and source_files.mapped(path) is None
    assert opened.paths == [path]


def zeros_of_two_kinds(hidden: int, columns: int) -> Graph:
    """A recurrent layer and a product, both without a bias: kernels read zeros in its place."""
    b = Builder("zeros")
    x, a = b.input("x", "float32", (1, 1, 8)), b.input("a", "float32", (5, 20))
    w, r = (b.constant(RNG.uniform(-0.5, 0.5, (1, hidden, k)), "float32") for k in (8, hidden))
    y = b.add("RNN", x, w, r, hidden_size=hidden)
    return b.build({"y": y, "z": b.add("MatMul", a, b.constant(RNG.uniform(-1, 1, (20, columns)), "float32"))})


@pytest.mark.parametrize("hidden, columns", [(h, n) for h in (3, 8, 16, 24) for n in (16, 32, 60, 64, 96)])
@pytest.mark.parametrize("target", ["cpu:avx512", "cpu:avx2", "cpu:portable"])
def test_zeros_are_counted_in_bytes(target: str, hidden: int, columns: int):
    require(target)
    graph = zeros_of_two_kinds(hidden, columns)
    given = {"x": RNG.random((1, 1, 8), np.float32), "a": RNG.random((5, 20), np.float32)}
    want = graphc.compile(graph, target="reference").run(given)
    for name, got in graphc.compile(graph, target=target, cache=False).run(given).items():
        np.testing.assert_allclose(got, want[name], rtol=0, atol=1e-5)


def test_a_recipe_says_everything(monkeypatch: pytest.MonkeyPatch):
    """What is found under a recipe is what would be packed now, for random models with many layers."""
    pack, seen, found = WeightStore.pack, {}, []

    def checked(store, source, recipe, make, *named, **others):
        sources = source if isinstance(source, tuple) else (source,)
        key = (id(store), *map(id, sources), recipe)
        data = make()
        if key in seen:
            found.append(recipe[0])
            assert data.tobytes() == seen[key], recipe
        seen[key] = data.tobytes()
        return pack(store, source, recipe, make, *named, **others)

    monkeypatch.setattr(WeightStore, "pack", checked)
    kept = []  # stores and arrays: ids stay unique
    for i in range(20, 60):
        case = generate(2, i)
        shapes = {n: a.shape for n, a in case.feeds[0].items()}
        with contextlib.suppress(GraphcError):  # sizes that follow from data
            kept.append((graphc.compile(case.model, threads=1, cache=False, shapes=shapes), case))
    assert len(set(found)) > 2
