"""What the tasks of an engine call: plain functions, of a model or of its path."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from graphc import compiler
from graphc.contents import InBytes
from graphc.executable import PLANNING
from graphc.model import Model
from graphc.pickled import HELD

Feeds = Mapping[str, Any]

_opened: OrderedDict[tuple, Model] = OrderedDict()


def opened(source: Model | str | os.PathLike[str], **options: Any) -> Model:
    """The process's model of a file, or of an equal one, compiled at the first call and when the file has changed. Raises what
    `graphc.compile` raises."""
    if isinstance(source, Model):
        return source
    at = os.fspath(source), os.getcwd(), repr(sorted(options.items()))
    with PLANNING:
        model = _opened.get(at)
        if model is None or not model.is_current:
            reopen, arguments = _compiled(source, options).__reduce__()
            model = _opened[at] = reopen(*arguments)
        _opened.move_to_end(at)
        if len(_opened) > HELD:
            _opened.popitem(last=False)
    return model


def _compiled(source: str | os.PathLike[str], options: Mapping[str, Any]) -> Model:
    if str(source).endswith(".gcm"):
        import graphc

        return graphc.load(os.fspath(source), **options)
    return compiler.compile(source, **options)


def by_value(model: Model) -> bytes:
    """A pickle that needs no file. Inputs with a default lose it."""
    return pickle.dumps(_ByValue(model))


class _ByValue:
    def __init__(self, model: Model) -> None:
        self._model = model

    def __reduce__(self) -> tuple:
        return compiler.reduced(self._model, InBytes.of_graph(self._model.source_graph), self._model.options)


def run(source: Model | str | os.PathLike[str], feeds: Feeds, **options: Any) -> dict[str, np.ndarray]:
    """Results by name. source: a model, or the path of its file, which each process compiles once, with the arguments of
    `graphc.compile`. Raises what that and `Model.run` raise."""
    return opened(source, **options).run(feeds)


def run_all(
    source: Model | str | os.PathLike[str], feeds: Iterable[Feeds], **options: Any
) -> Iterator[dict[str, np.ndarray]]:
    """The same for the inputs of a partition, one after the other (Spark's mapPartitions, Dask's bags)."""
    model = opened(source, **options)
    for one in feeds:
        yield model.run(one)
