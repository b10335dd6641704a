"""Names: of values that steps share by `as` and `from`, and of the places of steps, which name nodes and weights."""

from __future__ import annotations

from graphc.frontends.yaml_syntax import Item, did_you_mean
from graphc.graph import Value


def dotted(path: str, suffix: str) -> str:
    return f"{path}.{suffix}" if suffix else path


class Names:
    """The values that `from` can name in one body; an iteration of a repeat sees those outside it too.

    held: what is inside is run by a `scan`, `while` or `when`, and can't change what names mean outside.
    """

    def __init__(self, outer: Names | None = None, held: str = "") -> None:
        self.outer, self.held = outer, held
        self.values: dict[str, tuple[Value, Item]] = {}
        self.inside: dict[str, str] = {}  # names that are known inside a structure only, with what to do

    def define(self, name: str, value: Value, item: Item, again: bool) -> None:
        """Give a value a name. Raises LoadError when it is taken (and `again` is false) or reserved."""
        if name == "last":
            raise item.error("'last' always means what the step before gave", "choose another name")
        scope = self
        if again:  # inside a loop: give the name anew where it was first given
            while name not in scope.values and scope.outer is not None and not scope.held:
                scope = scope.outer
            outside = scope.outer is not None and name not in scope.values and name in scope.outer
            if outside and scope.held in ("scan", "while"):
                hint = "make it a state, under `states`, or choose another name"
                raise item.error(f"'{name}' is a value outside, which a step of a {scope.held} can't change", hint)
            scope = scope if outside or name in scope.values else self
        elif name in self.values:
            raise item.error(f"the name '{name}' is taken", f"by line {self.values[name][1].line}")
        scope.values[name] = (value, item)

    def __contains__(self, name: str) -> bool:
        return name == "last" or name in self.values or (self.outer is not None and name in self.outer)

    def find(self, name: str, item: Item) -> Value:
        """The value of that name. Raises LoadError with close names."""
        known: list[str] = []
        hint: str | None = None
        scope: Names | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name][0]
            hint = hint or scope.inside.get(name)
            known.extend(scope.values)
            scope = scope.outer
        hint = hint or did_you_mean(name, ["last", *known], "named so far")
        raise item.error(f"no value is named '{name}' here", hint)


class Namer:
    """Names the places in one list of steps.

    In the net and in a path of a branch a step is known by its number (and a layer's name: '0.conv'); in a block's body
    by its name, the second of a kind with '_2' ('conv', 'conv_2').
    """

    def __init__(self, by_name: bool = False) -> None:
        self.by_name = by_name
        self.taken: dict[str, int] = {}

    def unique(self, stem: str) -> str:
        n = self.taken[stem] = self.taken.get(stem, 0) + 1
        return stem if n == 1 else f"{stem}_{n}"

    def place(self, stem: str, index: int, name: str | None, item: Item | None, leaf: bool) -> str:
        """The place of a step: `stem` is its layer's name ('' for a branch), `name` what the file calls it."""
        if name is not None:
            if name in self.taken and item is not None:
                raise item.error(f"two steps of one list are named '{name}'")
            return self.unique(name)
        if self.by_name:
            return self.unique(stem) if stem else ""
        return f"{index}.{stem}" if leaf else str(index)
