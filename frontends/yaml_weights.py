"""Where weights come from: a seed, or a safetensors or npz file beside the model. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy

from graphc.errors import GraphcError, LoadError
from graphc.frontends.yaml_files import WEIGHTS, path_of
from graphc.frontends.yaml_syntax import Item, check_keys, did_you_mean
from graphc.source_files import Folder

INITS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {}
# What reading a damaged file raises: the modules zipfile, zlib, lzma, tokenize, struct and numpy have classes of their own.
DAMAGE = Exception
MAX_ELEMENTS = 1 << 30  # of one weight, and of all random ones together: a guard against typing errors


def init(name: str) -> Callable:
    """Register a way to draw a weight: (generator, shape) -> float32 array."""

    def add(draw: Callable) -> Callable:
        INITS[name] = draw
        return draw

    return add


def _normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> np.ndarray:
    data = rng.standard_normal(shape, dtype=np.float32)
    data *= np.float32(std)
    return data


@init("he")
def _he(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 2/fan_in), fan_in = all axes but the first (He et al. 2015, arXiv:1502.01852)."""
    return _normal(rng, shape, math.sqrt(2 / max(1, math.prod(shape[1:]))))


@init("lecun")
def _lecun(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 1/fan_in): keeps the variance where no rectifier follows."""
    return _normal(rng, shape, math.sqrt(1 / max(1, math.prod(shape[1:]))))


@init("he_transposed")
def _he_transposed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """He for weights [in, out, …] of transposed convolutions, whose stride is taken to be 2."""
    return _normal(rng, shape, math.sqrt(2 / max(1, shape[0] * math.prod(k / 2 for k in shape[2:]))))


@init("embedding")
def _embedding(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return _normal(rng, shape, 1.0)


@init("small")
def _small(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return _normal(rng, shape, 0.05)


@init("recurrent")
def _recurrent(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """U(-1, 1)/sqrt(last axis), as is usual for recurrent cells."""
    return (rng.random(shape, dtype=np.float32) * 2 - 1) / np.float32(math.sqrt(max(1, shape[-1])))


@init("around_one")
def _around_one(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """U(0.5, 1.5): scales and variances of normalisation."""
    return rng.random(shape, dtype=np.float32) + np.float32(0.5)


@init("below_one")
def _below_one(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """U(0.5, 1): scales of normalisation in residuals."""
    return rng.random(shape, dtype=np.float32) / np.float32(2) + np.float32(0.5)


class Weights(Protocol):
    """A source of weights."""

    def get(self, name: str, shape: tuple[int, ...], dtype: np.dtype, init: str, where: Item) -> np.ndarray:
        """The weight of that name. Problems are kept for `problems`, and zeros returned."""

    def problems(self, complete: bool, others: Collection[str] = ()) -> list[GraphcError]:
        """Everything that was wrong. complete: all weights of the model have been asked for, but those of other nets, whose
        names begin the names of their weights."""


def generator(seed: int, name: str) -> np.random.Generator:
    """For the weight of that name."""
    key = hashlib.blake2s(f"{seed}:{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(key, "little")))


class SeededWeights:
    """Random weights: each is a function of (seed, name, shape), so that a new layer leaves the others alone."""

    def __init__(self, seed: int) -> None:
        self.seed, self.total = seed, 0

    def get(self, name: str, shape: tuple[int, ...], dtype: np.dtype, init: str, where: Item) -> np.ndarray:
        before, self.total = self.total, self.total + math.prod(shape)
        if before > MAX_ELEMENTS:  # told already
            return np.broadcast_to(np.zeros((), dtype), shape)
        if self.total > MAX_ELEMENTS:
            raise where.error(f"the net has more than {MAX_ELEMENTS} random weights", "check the sizes of its layers")
        return INITS[init](generator(self.seed, name), shape).astype(dtype, copy=False)

    def problems(self, complete: bool, others: Collection[str] = ()) -> list[GraphcError]:
        return []


class FileWeights:
    """Weights from a file; floating dtypes are converted to the model's."""

    def __init__(self, store: _Store, where: Item) -> None:
        self.store, self.where = store, where
        self.missing: dict[str, tuple[tuple[int, ...], Item]] = {}
        self.wrong: list[GraphcError] = []
        self.used: set[str] = set()

    def get(self, name: str, shape: tuple[int, ...], dtype: np.dtype, init: str, where: Item) -> np.ndarray:
        if name not in self.store.shapes:
            self.missing[name] = (shape, where)
            return np.zeros(shape, dtype)
        self.used.add(name)
        found = self.store.shapes[name]
        if found != shape:
            self.wrong.append(
                where.error(f"weight '{name}' has shape {list(found)} in {self.store.name}, not {list(shape)}")
            )
            return np.zeros(shape, dtype)
        try:
            data = self.store.read(name)
        except DAMAGE as e:
            self.wrong.append(where.error(f"weight '{name}' can't be read from {self.store.name}: {e}"))
            return np.zeros(shape, dtype)
        if data.dtype != dtype and (data.dtype.kind in "biuc" or dtype.kind != "f"):
            self.wrong.append(where.error(f"weight '{name}' is {data.dtype} in {self.store.name}, not {dtype}"))
        return data.astype(dtype, copy=False)

    def problems(self, complete: bool, others: Collection[str] = ()) -> list[GraphcError]:
        extra = sorted(n for n in set(self.store.shapes) - self.used if n.partition(".")[0] not in others)
        out = list(self.wrong)
        for name, (shape, where) in self.missing.items():
            out.append(
                where.error(f"weight '{name}' {list(shape)} is missing in {self.store.name}", _near(name, extra))
            )
        for name in extra if complete else ():
            hint = (
                _near(name, self.missing)
                or "remove it from the file, or the layer that it was for is missing in the model"
            )
            out.append(
                self.where.error(
                    f"{self.store.name} holds '{name}' {list(self.store.shapes[name])}, which no layer asks for", hint
                )
            )
        return out


def _near(name: str, others: Any) -> str | None:
    hint = did_you_mean(name, others)
    return hint if hint and hint.startswith("did you") else None


def open_weights(item: Item | None, folder: Folder | None) -> Weights:
    """The `weights:` section: {seed: 0} (also the default) or {file: name}. Raises LoadError.

    A file must lie inside the model's folder, or where links of a download cache lead, and end in .safetensors or .npz.
    """
    if item is None:
        return SeededWeights(0)
    spec = check_keys(item, ("seed", "file"), "weights")
    if len(spec) != 1:
        raise item.error("weights takes either 'seed' or 'file'")
    if "seed" in spec:
        seed = spec["seed"].value
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise spec["seed"].error(f"seed must be a whole number, not {seed!r}")
        return SeededWeights(seed)
    where = spec["file"]
    return FileWeights(open_store(path_of(where, folder, (".safetensors", ".npz"), "weights", WEIGHTS), where), where)


def open_store(path: Path, where: Item) -> _Store:
    """Arrays by name. Raises LoadError."""
    readers: dict[str, Callable[[Path], _Store]] = {".safetensors": _SafetensorsStore, ".npz": _NpzStore}
    try:
        return readers[path.suffix](path)
    except LoadError as e:
        raise where.error(e.message, e.hint) from None


class _Store(Protocol):
    name: str
    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> np.ndarray: ...


class _SafetensorsStore:
    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.name = path.name
        try:
            self.file = safe_open(path, framework="numpy")
            self.shapes = {k: tuple(self.file.get_slice(k).get_shape()) for k in self.file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as e:
            raise LoadError(f"'{path.name}' is not a safetensors file: {e}") from None

    def read(self, name: str) -> np.ndarray:
        return self.file.get_tensor(name)


class _NpzStore:
    """An npz archive. A member's header is read before its data, so that its size is known to be right."""

    def __init__(self, path: Path) -> None:
        self.name, self.shapes, self.path = path.name, {}, path
        self.members: dict[str, str] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    with archive.open(member) as stream:
                        name = member.removesuffix(".npy")
                        if name in self.members:
                            raise ValueError(f"it holds '{name}' twice")
                        self.members[name], self.shapes[name] = member, _npy_header(stream)
        except DAMAGE as e:
            raise LoadError(f"'{path.name}' is not an npz file: {e}") from None

    def read(self, name: str) -> np.ndarray:
        with zipfile.ZipFile(self.path) as archive, archive.open(self.members[name]) as stream:
            return npy.read_array(stream, allow_pickle=False)


def _npy_header(stream: Any) -> tuple[int, ...]:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(stream)[0]
