"""Values of arguments: `$` references are replaced, expressions computed, and the result converted to a type hint."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin

from graphc.errors import LoadError
from graphc.frontends.yaml_expr import ExprError, evaluate
from graphc.frontends.yaml_slips import slip
from graphc.frontends.yaml_syntax import Item, did_you_mean
from graphc.graph import Value
from graphc.types import Sym

Number = int | float  # whole numbers and floats are told apart
SPECIAL = ("channels", "features", "i")  # $channels, $features: axes 1 and -1 of what comes in; $i: the iteration


@dataclass(frozen=True)
class Env:
    """What `$name` stands for: arguments and params, and functions for names whose value is asked for late."""

    variables: Mapping[str, Item]
    special: Mapping[str, Callable[[], int]] = field(default_factory=dict)

    def with_special(self, **special: Callable[[], int]) -> Env:
        return Env(self.variables, {**self.special, **special})

    def lookup(self, name: str) -> Any:
        """The value of $name, or an Item when it is a list or a mapping. Raises ExprError."""
        if name in self.variables:
            item = self.variables[name]
            return item if isinstance(item.value, (list, dict)) else item.value
        if name in self.special:
            return self.special[name]()
        raise ExprError(unknown_variable(name, [*self.variables, *self.special]))

    def resolve(self, item: Item) -> Item:
        """The item with every `$` in it replaced by its value. Raises LoadError at the place of what is wrong."""
        if isinstance(item.value, dict):
            return Item(
                {k: self.resolve(v) for k, v in item.value.items()}, item.file, item.line, item.column, item.keys
            )
        if isinstance(item.value, list):
            return item.of([self.resolve(v) for v in item.value])
        if isinstance(item.value, str) and "$" in item.value:
            value = compute(item, self.lookup)
            return value if isinstance(value, Item) else item.of(value)
        return item


EMPTY = Env({})


def unknown_variable(name: str, known: Any) -> str:
    hint = did_you_mean(name, {*known}, "known here")
    if hint and hint.startswith("did you"):
        hint = re.sub("'(?=\\w)", "'$", hint)
    return f"unknown variable '${name}'" + (f": {hint}" if hint else "")


def compute(item: Item, variable: Callable[[str], Any], word: Callable[[str], Any] = str) -> Any:
    """The value of the item's text as an expression. Raises LoadError at its place in the file."""
    try:
        return evaluate(item.value, variable, word)
    except ExprError as e:
        raise Item(None, item.file, item.line, item.column + e.at).error(str(e), e.hint) from None


def convert(item: Item, hint: Any, what: str) -> Any:
    """A resolved item as a value of the type `hint`. Raises LoadError that says what `what` must be.

    Hints: int, float, bool, str, Literal[…], tuple[T, ...], Item (as it is), Value (whose names `read_argument` reads), and unions of these. Text where a number
    is wanted is an expression. Where a whole number is wanted, 2.0 is one; for a Number it stays a float.
    """
    if hint is Item or hint is Any:
        return item
    wanted = options(hint)
    if int in wanted and float in wanted and isinstance(computed(item), float):
        wanted = tuple(o for o in wanted if o is not int)
    for option in wanted:
        value = _as(item, option)
        if value is not None or (item.value is None and option is type(None)):
            return value
    lists = [option for option in options(hint) if get_origin(option) is tuple]
    for element in item.value if lists and isinstance(item.value, list) else ():
        if _as(element, get_args(lists[0])[0]) is None:
            raise element.error(f"{what} must be {describe(lists[0])}, not of {_shown(element)}")
    choices = [c for option in options(hint) if get_origin(option) is Literal for c in get_args(option)]
    hints = (
        [_near(item.value, choices), slip(item.value), _boolean(item.value, hint), _why_not(item)]
        if isinstance(item.value, str)
        else []
    )
    raise item.error(f"{what} must be {describe(hint)}, not {_shown(item)}", next(filter(None, hints), None))


def _shown(item: Item) -> str:
    return repr(item.value) if isinstance(item.value, (str, int, float)) else item.kind


def _near(text: str, choices: list[str]) -> str | None:
    hint = did_you_mean(text, choices)
    return hint if hint and hint.startswith("did you") else None


def _boolean(text: str, hint: Any) -> str | None:
    """What to write instead of YAML 1.1's other words for booleans."""
    word = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(text.lower())
    if bool not in options(hint):
        return None
    return f"write {word}" if word else _near(text, ["true", "false"])


def _why_not(item: Item) -> str | None:
    """What keeps a text from being computed, where it looks like an expression."""
    if item.value.isidentifier() or not re.search(r"[-+*/%^(]", item.value):
        return None
    try:
        compute(item, EMPTY.lookup)
    except LoadError as e:
        return f"{e.message}; {e.hint}" if e.hint else e.message
    return None


def options(hint: Any) -> tuple:
    """The members of a union of type hints."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _as(item: Item, hint: Any) -> Any:
    """The value as one plain type, or None if it is not of that type."""
    value = item.value
    if get_origin(hint) is Literal:
        return value if isinstance(value, str) and value in get_args(hint) else None
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            return None
        values = tuple(_as(v, get_args(hint)[0]) for v in value)
        return None if None in values else values
    if hint is bool:
        value = computed(item)
        return value if isinstance(value, bool) else None
    if hint is str:
        return value if isinstance(value, str) else None
    if hint in (int, float):
        value = computed(item)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if hint is int:
            return int(value) if value == value and abs(value) < 1 << 62 and value == int(value) else None
        return float(value) if isinstance(value, float) or abs(value) < 1 << 1023 else None
    return None


def computed(item: Item) -> Any:
    """The value of an item, computed where it is an expression of numbers; None where that has no value."""
    if isinstance(item.value, str) and not _is_word(item.value):
        try:
            return compute(item, EMPTY.lookup)
        except LoadError:
            return None
    return item.value


def is_number(value: Any) -> bool:
    """A number or a boolean?"""
    return isinstance(value, (bool, int, float))


def _is_word(text: str) -> bool:
    return text.isidentifier() or not any(c.isdigit() for c in text)


def describe(hint: Any) -> str:
    """A type hint in words."""
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        type(None): "null",
        Item: "a value",
        Any: "a value",
        Value: "the name of a value",
    }
    parts: list[str] = []
    for option in (o for o in options(hint) if o is not int or float not in options(hint)):
        if get_origin(option) is Literal:
            parts.extend(repr(c) for c in get_args(option))
        elif get_origin(option) is tuple:
            parts.append(f"a list of {names[get_args(option)[0]].removeprefix('a ')}s")
        elif option is not type(None):
            parts.append(names[option])
    return " or ".join(parts)


def to_dim(item: Item, what: str) -> int | Sym:
    """A dim of a shape: a number, a name, or an expression of names ('(h + 1)//2'). Raises LoadError."""
    wrong = f"{what} must be a size or the name of one, not {_shown(item)}"
    unnamed = isinstance(item.value, dict) and list(item.value) == [""]  # YAML reads `?` so
    if unnamed or item.value in (None, "None", "?", -1):
        raise item.error(wrong, "a size that is known when the model runs has a name, any you like: batch")
    if isinstance(item.value, str) and re.fullmatch(r"\w+(\s+\w+)+|[A-Za-z]\w*(-\w+)+", item.value):
        raise item.error(wrong, f"the name of a size is one word: {re.sub(r'[^A-Za-z0-9]+', '_', item.value)}")
    value = compute(item, EMPTY.lookup, Sym) if isinstance(item.value, str) else item.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, Sym) or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise item.error(wrong)
