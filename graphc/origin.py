"""Where a model comes from, so that it can be loaded when its graph is needed, and found on disk when it is not."""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphc.documents import stamp_of
from graphc.errors import LoadError
from graphc.source_files import Files, text_of
from graphc.store import Store

if TYPE_CHECKING:
    from graphc.contents import Content, InFile
    from graphc.graph import Graph

FrontEnd = Callable[[Any], "Graph"]
Described = Sequence[Sequence[str]]  # files beside the model's: path from its folder, digest


class Origin:
    """A source that can be loaded once: an onnx ModelProto too large to copy, or what no front end takes."""

    reloadable = False

    def __init__(self, source: Any) -> None:
        self.source = source

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it has been read from."""
        return ()

    def digest(self, store: Store) -> str | None:
        """What tells it from other models; None where that can't be known."""
        return None

    def load(self, front_end: FrontEnd, mapped: bool) -> Graph:
        """mapped: large arrays may be views of mapped files."""
        return front_end(self.source)

    def content(self) -> Content | None:
        """What a pickle has of it; None where that is its graph."""
        return None

    def described(self, store: Store) -> Described | None:
        """The files beside it that it was loaded from; None where they have changed meanwhile."""
        return []

    def find(self, store: Store, described: Described) -> bool:
        """Are the files beside it still what `described` told? They are opened, and stay readable when they are deleted."""
        return not described

    def check(self) -> None:
        """Raises LoadError where arrays that were loaded, or would be now, are others than at first."""

    def release(self) -> None:
        """Give pages of mapped files back to the system."""


class GraphOrigin(Origin):
    reloadable = True


class BytesOrigin(Origin):
    reloadable = True

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.source).hexdigest()

    def digest(self, store: Store) -> str | None:
        return f"onnx {self._digest}"

    def content(self) -> Content | None:
        from graphc.contents import InBytes

        return InBytes(self.source, self._digest, False)


class PickledOrigin(Origin):
    """source: the pickle of a graph."""

    reloadable = True

    def __init__(self, source: bytes, digest: str) -> None:
        super().__init__(source)
        self._digest = digest

    def digest(self, store: Store) -> str | None:
        return f"graph {self._digest}"

    def load(self, front_end: FrontEnd, mapped: bool) -> Graph:
        return front_end(pickle.loads(self.source))

    def content(self) -> Content | None:
        from graphc.contents import InBytes

        return InBytes(self.source, self._digest, True)


class FileOrigin(Origin):
    """source: the path."""

    reloadable = True

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._files = Files()
        self._stamp: list[int] | None = None
        self._content: InFile | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.source, *(p for p in self._files.paths if p != self.source))

    def digest(self, store: Store) -> str | None:
        try:
            found = os.stat(self.source)
            if not stat.S_ISREG(found.st_mode):
                return None  # nobody waits for a pipe, or reads a device to its end
            self._stamp = stamp_of(found)
            return f"{self.source.suffix} {text_of(self.source.stem)} {store.source_digest(self.source)}"
        except (OSError, ValueError):
            return None  # the front end says what is wrong with it

    def content(self) -> Content | None:
        """None where a file has gone or changed."""
        from graphc.contents import InFile, digest_of

        if not self.source.is_file() or self._current() != self._stamp or not self._files.are_there:
            return None
        if self._content is None:
            path = os.path.abspath(self.source)
            found = [(os.path.relpath(p, os.path.dirname(path)), digest_of(p)) for p in self.files]
            self._content = InFile(path, tuple(found))
        return self._content

    def load(self, front_end: FrontEnd, mapped: bool) -> Graph:
        self.check()
        self._files.mapped = mapped
        with self._files.reading():
            graph = front_end(self.source)
        if self._stamp is None:
            self._stamp = self._current()
        return graph

    def described(self, store: Store) -> Described | None:
        if self._current() != self._stamp or self._files.changed is not None:
            return None
        others = [p for p in self._files.paths if p != self.source]
        try:
            return [[os.path.relpath(p, self.source.parent), store.source_digest(p)] for p in others]
        except OSError:
            return None

    def find(self, store: Store, described: Described) -> bool:
        paths = [self.source.parent / name for name, _ in described]
        try:
            for path, (_, digest) in zip(paths, described):
                if store.source_digest(path) != digest:
                    return False
            for path in (self.source, *paths):
                self._files.open(path)
        except OSError:
            return False
        return self._current() == self._stamp

    def check(self) -> None:
        self._files.check()
        if self._stamp is not None and not self._files.holds(self.source) and self._current() != self._stamp:
            raise LoadError(
                f"'{self.source}' has changed since it was compiled, and its graph is needed again",
                hint="compile the model again",
            )

    def _current(self) -> list[int] | None:
        try:
            return stamp_of(os.stat(self.source))
        except OSError:
            return None

    def release(self) -> None:
        self._files.release()


def origin_of(source: Any, copy: bool) -> Origin:
    """copy: of a ModelProto, which its owner may change."""
    contents = sys.modules.get("graphc.contents")
    if contents is not None and isinstance(source, contents.InBytes):
        return PickledOrigin(source.content, source.digest)
    graphs = sys.modules.get("graphc.graph")
    if graphs is not None and isinstance(source, graphs.Graph):
        return GraphOrigin(source)
    if isinstance(source, (str, os.PathLike)):
        return FileOrigin(Path(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return BytesOrigin(bytes(source))
    if copy and hasattr(source, "SerializeToString"):
        try:
            return BytesOrigin(source.SerializeToString())
        except ValueError:  # above 2 GiB
            pass
    return Origin(source)
