"""ONNX operators under their own names: what their inputs and attributes say."""

from __future__ import annotations

from typing import Any

from graphc.frontends.yaml_args import computed, convert, is_number, options
from graphc.frontends.yaml_literals import DTYPES, Literal, read_dtype, read_literal
from graphc.frontends.yaml_names import Names
from graphc.frontends.yaml_syntax import Item
from graphc.graph import Value
from graphc.op import Attr

Values = tuple[Value, ...]


def listed(item: Item) -> list[Item]:
    """The items of a list, or the one item that is no list."""
    return item.value if isinstance(item.value, list) else [item]


def read_operand(item: Item, current: Values, names: Names) -> Value:
    """The value that a name stands for; `last` is the first of `current`. Raises LoadError."""
    if is_number(item.value):
        hint = "numbers can be among the `inputs` of an operator: Add: {inputs: [a, 2.0]}"
        raise item.error(f"`from` names values, and {item.value} is none", hint)
    name = item.word("a value")
    if name == "last":
        if not current:
            raise item.error("there is no last value here", "the net has several inputs: begin with from: NAME")
        return current[0]
    return names.find(name, item)


def read_input(item: Item, current: Values, names: Names) -> Value | Literal | None:
    """An entry of `inputs`: a name, a literal, or null where an operand is left out. Raises LoadError."""
    if item.value is None:
        return None
    expression = isinstance(item.value, str) and item.value not in names and is_number(computed(item))
    if expression or is_number(item.value) or isinstance(item.value, list):
        return read_literal(item)
    return read_operand(item, current, names)


def names_value(item: Item, hint: Any) -> bool:
    """Is an argument with this type hint the name of a value of the graph, not a number or text?"""
    return Value in options(hint) and isinstance(item.value, str) and not is_number(computed(item))


def read_attribute(item: Item, spec: Attr, name: str) -> Any:
    """The value of an attribute as its type says. Raises LoadError."""
    what = f"attribute '{name}'"
    hints = {"ints": int | tuple[int, ...], "floats": tuple[float, ...], "strings": tuple[str, ...], bool: bool | int}
    if spec.type == "dtype":
        return read_dtype(item, what, (*DTYPES, "bfloat16"))
    if spec.type == "tensor":
        literal = read_literal(item)
        return literal.array(literal.alone())
    if spec.type == "graph":
        raise item.error(f"{what} is a subgraph, which the language can't write", "use `when`, `while` and `scan`")
    value = convert(item, hints.get(spec.type, spec.type), what)
    return (value,) if spec.type == "ints" and isinstance(value, int) else value
