"""Pickles of models: the path of the source, what its files hold, and the options; or the source itself, where it has no file.

Equal models of a process are one: whoever unpickles a model again has the one that is there, with its plans.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from graphc.documents import content_digest
from graphc.errors import LoadError
from graphc.executable import PLANNING
from graphc.records import record
from graphc.store import open_store

if TYPE_CHECKING:
    from graphc.graph import Graph
    from graphc.model import Model

HELD = 4  # models that stay though nobody holds them, so that the next task finds its model


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
        from graphc.origin import PickledOrigin

        return PickledOrigin(self.content, self.digest) if self.is_graph else self.content


Content = InFile | InBytes

_models: WeakValueDictionary[tuple, Model] = WeakValueDictionary()
_opened: OrderedDict[tuple, Model] = OrderedDict()
_held: OrderedDict[tuple, Model] = OrderedDict()  # the last used last


def reopened(content: Content, settings: Mapping[str, Any]) -> Model:
    """The process's model of this source and these arguments of `graphc.compile`. Raises what that raises, and LoadError."""
    from graphc import compiler

    key = _key(content, settings)
    with PLANNING:
        model = _models.get(key)
        if model is None:
            model = _models[key] = compiler.compile(content.source(), **settings)
        _held[key] = model
        _held.move_to_end(key)
        if len(_held) > HELD:
            _held.popitem(last=False)
    return model


def opened(source: Model | str | os.PathLike[str], **options: Any) -> Model:
    """The process's model of a file, or of an equal one, compiled at the first call and when the file has changed. Raises what
    `graphc.compile` raises."""
    from graphc import compiler
    from graphc.model import Model

    if isinstance(source, Model):
        return source
    at = os.fspath(source), os.getcwd(), repr(sorted(options.items()))
    with PLANNING:
        model = _opened.get(at)
        if model is None or not model.is_current:
            if str(source).endswith(".gcm"):
                import graphc

                model = graphc.load(os.fspath(source), **options)
            else:
                model = compiler.compile(source, **options)
            reopen, arguments = model.__reduce__()
            model = _opened[at] = reopen(*arguments)
        _opened.move_to_end(at)
        if len(_opened) > HELD:
            _opened.popitem(last=False)
    return model


def by_value(model: Model) -> bytes:
    """A pickle that needs no file. Inputs with a default lose it."""
    return pickle.dumps(_ByValue(model))


class _ByValue:
    def __init__(self, model: Model) -> None:
        self._model = model

    def __reduce__(self) -> tuple:
        return reduced(self._model, InBytes.of_graph(self._model.source_graph), self._model.options)


def reduced(model: Model, content: Content, settings: Mapping[str, Any]) -> tuple[Callable[..., Model], tuple]:
    """What `Model.__reduce__` gives. A model that is unpickled where it was pickled is that model."""
    with PLANNING:
        _models.setdefault(_key(content, settings), model)
    return reopened, (content, dict(settings))


def _key(content: Content, settings: Mapping[str, Any]) -> tuple:
    return *content.key, repr(sorted(settings.items()))


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes, remembered as long as its stamp stays. Raises OSError."""
    store = open_store()
    return content_digest(path) if store is None else store.source_digest(path)
