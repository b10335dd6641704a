"""Files of arrays by name: safetensors and npz, in the folder of the model. Nothing is ever unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy

from graphc.errors import LoadError
from graphc.frontends import yaml_files
from graphc.frontends.yaml_syntax import Item
from graphc.source_files import Folder

# What reading a damaged file raises: the modules zipfile, zlib, lzma, tokenize, struct and numpy have classes of their own.
DAMAGE = Exception
# How to convert what is not read.
_PICKLE = (
    "a pickle can run code, so none is read; in PyTorch: from safetensors.torch import save_file; "
    'save_file(torch.load("{name}", map_location="cpu", weights_only=True), "{stem}.safetensors")'
)
_KERAS = 'in Keras: numpy.savez("{stem}.npz", **{{w.path: w.numpy() for w in model.weights}})'
CONVERSIONS = dict.fromkeys((".pt", ".pth", ".bin", ".ckpt", ".pkl"), _PICKLE) | dict.fromkeys(
    (".h5", ".keras"), _KERAS
)


def path_of(where: Item, folder: Folder | None, suffixes: Sequence[str]) -> Path:
    """A file of arrays in the model's folder. Raises LoadError."""
    name = Path(str(where.value))
    hint = CONVERSIONS.get(name.suffix, "convert it: nothing that needs unpickling is read")
    return yaml_files.path_of(where, folder, suffixes, "weights", hint.format(name=name, stem=name.stem))


def open_store(path: Path, where: Item) -> Store:
    """Arrays by name. Raises LoadError."""
    readers: dict[str, Callable[[Path], Store]] = {".safetensors": _SafetensorsStore, ".npz": _NpzStore}
    try:
        return readers[path.suffix](path)
    except LoadError as e:
        raise where.error(e.message, e.hint) from None


class Store(Protocol):
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
