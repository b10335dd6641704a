"""The files that a model is read from: mapped instead of copied, remembered, and guarded against change.

While `Files.reading()` is active, front ends take large arrays from `take`: views of the mapped file, whose pages can be
given back to the system (`release`) once the arrays have been packed. A mapped file that is overwritten in place changes
under its readers, so who keeps such arrays asks `check` before using them again. Files that are deleted or replaced stay
as they were.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from graphc.errors import LoadError
from graphc.records import record

SMALL = 1 << 16  # bytes below which an array is copied: it is not worth a dependence on the file
_ACTIVE: ContextVar[Files | None] = ContextVar("files", default=None)


@record(frozen=True, eq=False)
class _Open:
    path: Path
    stamp: tuple[int, int]
    fd: int
    memory: mmap.mmap | None  # None for an empty file


class Files:
    """What has been opened for one model. `mapped=False` only remembers the paths."""

    def __init__(self, mapped: bool = True) -> None:
        self.mapped = mapped
        self._open: dict[Path, _Open] = {}
        self._noted: dict[Path, tuple[int, int] | None] = {}  # in the order of reading, with stamps

    @contextmanager
    def reading(self) -> Iterator[Files]:
        """Front ends that read inside use this object."""
        token = _ACTIVE.set(self)
        try:
            yield self
        finally:
            _ACTIVE.reset(token)

    @property
    def paths(self) -> list[Path]:
        """Of all files, in the order of reading."""
        return list(self._noted)

    def note(self, path: Path) -> None:
        self._noted.setdefault(path, _stamp_now(path))

    @property
    def changed(self) -> Path | None:
        """A file that was read by its name, and is another now."""
        noted = ((path, stamp) for path, stamp in self._noted.items() if path not in self._open)
        return next((path for path, stamp in noted if _stamp_now(path) != stamp), None)

    @property
    def are_there(self) -> bool:
        """Are all files, by their names, still what was read?"""
        return all(stamp is not None and _stamp_now(path) == stamp for path, stamp in self._noted.items())

    def open(self, path: Path, fd: int | None = None) -> mmap.mmap | None:
        """The mapped file; None where it is empty or can't be mapped (a pipe, some network folders). Raises OSError."""
        self.note(path)
        if path not in self._open:
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)) if fd is None else os.dup(fd)
            try:
                info = os.fstat(fd)
                memory = mmap.mmap(fd, 0, access=mmap.ACCESS_READ) if info.st_size else None
            except (OSError, ValueError):
                os.close(fd)
                return None
            self._open[path] = _Open(path, _stamp(info), fd, memory)
        return self._open[path].memory

    def holds(self, path: Path) -> bool:
        """Is the file mapped, so that it can be read though it may have been deleted?"""
        return path in self._open

    def stamp(self, path: Path) -> tuple[int, int]:
        """Of a mapped file, when it was opened."""
        return self._open[path].stamp

    def check(self) -> None:
        """Raises LoadError where a mapped file has been overwritten since it was opened, or another file is another now."""
        if (changed := self.changed) is not None:
            raise LoadError(
                f"'{changed}' has changed since it was compiled", hint="compile the model that is read from it again"
            )
        for f in self._open.values():
            if _stamp(os.fstat(f.fd)) != f.stamp:
                raise LoadError(
                    f"'{f.path}' has been overwritten since it was compiled",
                    hint="compile the model again; to update a file that is in use, write a new one and rename it",
                )

    def release(self) -> None:
        """Give all pages back to the system; they are read again when they are needed."""
        for f in self._open.values():
            if f.memory is not None:
                _give_back(f.memory, 0, len(f.memory))

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # when Python ends, `os` may be gone first
        for f in self._open.values():
            close(f.fd)


def shown(path: Path) -> str:
    """The path in a message."""
    text = str(path)
    return text if len(text) < 300 else f"{text[:100]}…{text[-50:]}"


@record(frozen=True, eq=False)
class Folder:
    """Where the files beside a model may lie: below `path`, the folder that its file was named in.

    roots: real folders that links may lead into. A download cache keeps all files in one store and gives out links to them
    (models--x/snapshots/y/model.onnx -> ../../blobs/z). The store is where a linked model lies; that of a model in such a
    snapshot, also where it is no link itself.
    """

    path: Path
    roots: tuple[Path, ...]

    @classmethod
    def of(cls, model: Path) -> Folder:
        """The folder of a model's file."""
        here, there = Path(os.path.realpath(model.parent)), Path(os.path.realpath(model)).parent
        repositories = (
            f.parent for f in here.parents if f.name == "snapshots" and f.parent.name.startswith("models--")
        )
        stores = [repository / "blobs" for repository in repositories]
        return cls(model.parent, tuple(dict.fromkeys((here, there, *stores))))

    def holds(self, real: Path) -> bool:
        """Does a file, links followed, lie in one of the roots?"""
        return any(real.is_relative_to(root) for root in self.roots)

    def __str__(self) -> str:
        return " and ".join(f"'{root}'" for root in self.roots)


def _stamp(info: os.stat_result) -> tuple[int, int]:
    return info.st_size, info.st_mtime_ns


def _stamp_now(path: Path) -> tuple[int, int] | None:
    """None where there is no such file."""
    try:
        return _stamp(os.stat(path))
    except (OSError, ValueError):
        return None


def text_of(name: str) -> str:
    """The name of a file as text that can be written anywhere: bytes of it that are no UTF-8 become '?'."""
    return name.encode("utf-8", "replace").decode()


def note(path: str | os.PathLike) -> None:
    """A front end reads this file: the model depends on it."""
    active = _ACTIVE.get()
    if active is not None:
        active.note(Path(path))


def mapped(path: Path) -> mmap.mmap | None:
    """The whole file, mapped; None where it is to be opened the usual way."""
    active = _ACTIVE.get()
    return active.open(path) if active is not None and active.mapped else None


def require_same(path: Path) -> None:
    """Raises LoadError where the file of that name is another than the one that has been mapped: it can't be read by its name."""
    active = _ACTIVE.get()
    if active is not None and active.holds(path) and _stamp_now(path) != active.stamp(path):
        raise LoadError(
            f"'{path}' has changed since it was compiled, and is needed again", hint="compile the model again"
        )


def held(path: Path) -> mmap.mmap | None:
    """The mapped file, where it has been mapped already: it is as it was then, though its name may be another's now."""
    active = _ACTIVE.get()
    return active.open(path) if active is not None and active.holds(path) else None


def take(path: Path, offset: int, nbytes: int, fd: int | None = None) -> np.ndarray | None:
    """`nbytes` of a file, read-only (uint8), from its mapping: a view, or a copy of few bytes. None where it is to be read
    the usual way. fd: of the file, where it is open."""
    active = _ACTIVE.get()
    memory = active.open(path, fd) if active is not None and active.mapped else None
    if memory is None or offset + nbytes > len(memory):
        return None
    view = np.frombuffer(memory, np.uint8, nbytes, offset)
    return view if nbytes >= SMALL else view.copy()


def mapping_of(array: np.ndarray) -> mmap.mmap | None:
    """The mapped file that an array is a view of."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    return base if isinstance(base, mmap.mmap) else None


def owned(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy where it is a view of a mapped file."""
    return array if mapping_of(array) is None else array.copy()


def release(arrays: Iterable[np.ndarray]) -> None:
    """Give back the pages of those arrays that are views of mapped files."""
    for a in arrays:
        memory = mapping_of(a)
        if memory is not None and a.flags.c_contiguous:
            _give_back(memory, a.ctypes.data - np.frombuffer(memory, np.uint8).ctypes.data, a.nbytes)


def _give_back(memory: mmap.mmap, start: int, nbytes: int) -> None:
    if hasattr(memory, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        memory.madvise(mmap.MADV_DONTNEED, first, min(start + nbytes, len(memory)) - first)
