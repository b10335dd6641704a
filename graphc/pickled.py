"""Equal models of a process are one: whoever unpickles a model again has the one that is there, with its plans."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from graphc.executable import PLANNING

if TYPE_CHECKING:
    from graphc.model import Model

HELD = 4  # models that stay though nobody holds them, so that the next task finds its model

_models: WeakValueDictionary[tuple, Model] = WeakValueDictionary()
_held: OrderedDict[tuple, Model] = OrderedDict()  # the last used last


def the_one(source: tuple, settings: Mapping[str, Any], make: Callable[[], Model]) -> Model:
    """The process's model of this source, which its key tells, and these arguments. Raises what `make` raises."""
    key = _key(source, settings)
    with PLANNING:
        model = _models.get(key)
        if model is None:
            model = _models[key] = make()
        _held[key] = model
        _held.move_to_end(key)
        if len(_held) > HELD:
            _held.popitem(last=False)
    return model


def note(model: Model, source: tuple, settings: Mapping[str, Any]) -> None:
    """A model that is pickled here is the one, unless there is another."""
    with PLANNING:
        _models.setdefault(_key(source, settings), model)


def forget() -> None:
    """Let go of the models that nobody else holds, and of their memory."""
    with PLANNING:
        _held.clear()


def _key(source: tuple, settings: Mapping[str, Any]) -> tuple:
    return *source, repr(sorted(settings.items()))
