"""What a pickle has of a model's source: where its files are and what they hold, or the source itself."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphc.documents import content_digest
from graphc.errors import LoadError
from graphc.records import record
from graphc.store import open_store

if TYPE_CHECKING:
    from graphc.graph import Graph


@record(frozen=True)
class InFile:
    """A source in a file. digests: of it and the files that it was read from, by their paths from its folder."""

    path: str
    digests: tuple[tuple[str, str], ...]

    @property
    def key(self) -> tuple:
        return Path(self.path).name, self.digests  # a model has its file's name

    def source(self) -> Path:
        """Raises LoadError where a file is not there, or is another."""
        hint = "put the files there as they were, or pickle graphc.compile(model.source_graph), which needs none"
        for name, digest in self.digests:
            path = Path(os.path.normpath(Path(self.path).parent / name))
            try:
                found = digest_of(path)
            except OSError as error:
                message = f"'{path}', which a pickled model is read from, is not here: {error.strerror}"
                raise LoadError(message, hint=hint) from None
            if found != digest:
                raise LoadError(f"'{path}' is not what it was when a model that is read from it was pickled", hint=hint)
        return Path(self.path)


@record(frozen=True)
class InBytes:
    """A source that the pickle holds: an ONNX file's bytes, or the pickle of a graph."""

    content: bytes
    digest: str
    is_graph: bool

    @classmethod
    def of_graph(cls, graph: Graph) -> InBytes:
        content = pickle.dumps(graph, pickle.HIGHEST_PROTOCOL)
        return cls(content, hashlib.sha256(content).hexdigest(), True)

    @property
    def key(self) -> tuple:
        return self.digest, self.is_graph

    def source(self) -> Any:
        """What `graphc.compile` takes."""
        return self if self.is_graph else self.content


Content = InFile | InBytes


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes, remembered as long as its stamp stays. Raises OSError."""
    store = open_store()
    return content_digest(path) if store is None else store.source_digest(path)
