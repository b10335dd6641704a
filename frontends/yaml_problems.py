"""Everything that is wrong with a file, found in one go: what follows from a problem is poisoned and not reported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from graphc.errors import CheckError, GraphcError, LoadError
from graphc.frontends.yaml_operators import listed
from graphc.frontends.yaml_syntax import Item
from graphc.graph import Value

Place = tuple[str | None, str] | None


class Lost(Value):
    """Stands for the result of a step that has a problem."""


class Poisoned(Exception):
    """Something needs what has a problem that is reported already."""


class TooLarge(LoadError):
    """Ends the loading at once: looking for more problems would take too long."""


class Problems:
    """The problems of a file, each once, however often the block is used that it is in."""

    def __init__(self) -> None:
        self._found: dict[tuple[Place, str], GraphcError] = {}
        self._settled: set[Place] = set()

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, error: GraphcError, final: bool = False) -> None:
        """A problem, or all of a CheckError. final: nothing else is to be said of its place."""
        for e in getattr(error, "problems", [error]):
            place = (e.source.file, e.source.place) if e.source is not None and e.source.place else None
            if place not in self._settled:
                self._found.setdefault((place, e.message), e)
            if final and place is not None:
                self._settled.add(place)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Goes on behind the block after a problem in it."""
        try:
            yield
        except TooLarge:
            raise
        except GraphcError as error:
            self.add(error)
        except Poisoned:
            pass

    def list(self) -> list[GraphcError]:
        """File by file, each in its order."""
        return in_order(self._found.values())

    def stop(self) -> None:
        """Raises what was found: a problem by itself, several as a CheckError."""
        found = self.list()
        if len(found) == 1:
            raise found[0]
        if found:
            raise CheckError(found)


def in_order(errors: Iterable[GraphcError]) -> list[GraphcError]:
    """File by file, as they first turn up, and each in its order."""
    found = list(errors)
    files = [e.source.file if e.source else None for e in found]
    return sorted(found, key=lambda e: (files.index(e.source.file if e.source else None), _place_of(e)))


def _place_of(error: GraphcError) -> list[int]:
    """Line and column."""
    return [int(n) for n in re.findall(r"\d+", (error.source.place if error.source else None) or "")]


def labels(item: Item) -> set[str]:
    """The texts of every `name` below an item."""
    if isinstance(item.value, list):
        return {text for value in item.value for text in labels(value)}
    if not isinstance(item.value, dict):
        return set()
    found = {text for value in item.value.values() for text in labels(value)}
    own = item.value["name"].value if "name" in item.value else None
    return found | {own} if isinstance(own, str) else found


def names_given(item: Item) -> Iterator[Item]:
    """Names that the steps below an item give: by `as` and `let`, to states, and to what is collected."""
    if isinstance(item.value, dict):
        for key, value in item.value.items():
            if key in ("let", "states", "collect") and isinstance(value.value, dict):
                yield from map(value.at_key, value.value)
            elif key in ("as", "collect"):
                yield from listed(value)
            else:
                yield from names_given(value)
    elif isinstance(item.value, list):
        for value in item.value:
            yield from names_given(value)
