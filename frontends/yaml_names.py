"""Names: of values that steps share by `as` and `from`, and of the places of steps, which name nodes and weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from graphc.frontends.yaml_syntax import Item, did_you_mean
from graphc.graph import Value

WORDS = ("true", "false", "and", "or", "not")  # of expressions
NAME_HINT = f"a name is of letters, digits and _, does not begin with a digit, and is none of {', '.join(WORDS)}"


def is_name(text: str) -> bool:
    """Can a value be named so, and stand in an expression?"""
    return text.isidentifier() and text not in WORDS


def dotted(path: str, suffix: str) -> str:
    return f"{path}.{suffix}" if suffix else path


class Names:
    """The values that `from` can name in one body; an iteration of a repeat sees those outside it too.

    held: what is inside is run by a `scan`, `while` or `when`, and can't change what names mean outside.
    later: where steps give names. labels: names that steps have by `name`. block: whose body it is.
    """

    def __init__(
        self,
        outer: Names | None = None,
        held: str = "",
        later: Mapping[str, Item] = MappingProxyType({}),
        labels: Collection[str] = (),
        block: str = "",
    ) -> None:
        self.outer, self.held, self.later, self.labels, self.block = outer, held, later, labels, block
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
            place = self.values[name][1]
            raise item.error(
                f"the name '{name}' is taken", f"by line {place.line}, column {place.column}: choose another"
            )
        scope.values[name] = (value, item)

    def __contains__(self, name: str) -> bool:
        return name == "last" or name in self.values or (self.outer is not None and name in self.outer)

    def find(self, name: str, item: Item) -> Value:
        """The value of that name. Raises LoadError with close names."""
        hint: str | None = None
        scope: Names | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name][0]
            hint = hint or scope.inside.get(name)
            place = scope.later.get(name)
            if hint is None and place is not None and (place.line, place.column) > (item.line, item.column):
                hint = f"line {place.line} gives that name, but a step reads what stands before it"
                hint += "; `loop` and `scan` feed results back"
            if hint is None and name in scope.labels:
                hint = f"`name` names a step's weights: `as: {name}` names its result"
            inner, scope = scope, scope.outer
        if hint is None and "." in name:
            hint = "that is the name of a step, not of what it gives: name its result by `as: NAME`"
        hint = hint or did_you_mean(name, {"last", *self.known()}, "named so far")
        if inner.block and not (hint or "").startswith("did you"):
            hint = f"{hint}; a block sees only what goes into it: inputs: [{', '.join([*inner.values][:1])}, {name}]"
        raise item.error(f"no value is named '{name}' here", hint)

    def known(self) -> list[str]:
        """All names, inner ones first."""
        return [*self.values, *(self.outer.known() if self.outer is not None else ())]


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
