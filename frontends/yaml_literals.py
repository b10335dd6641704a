"""Literals: numbers written where a value is wanted (`Mul: [x, 2.0]`), and the dtypes that they take.

What is written decides: `2` is a whole number, `2.0`, `1e3` and `.inf` are floats, `true` is a boolean. A whole number
takes the dtype of the operands that it must agree with, a float only that of other floats. Alone, a whole number is int64
and a float is float32, where the operator takes those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.dtypes import is_float, is_integer
from graphc.frontends.yaml_args import computed
from graphc.frontends.yaml_syntax import Item, did_you_mean
from graphc.graph import Value
from graphc.op import Op
from graphc.types import dtype_from_name, dtype_name

DTYPES = (
    "float32",
    "float64",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
)
_DTYPES_ELSEWHERE = {
    "float": "float32", "single": "float32", "double": "float64", "half": "float16", "int": "int64", "long": "int64",
    "integer": "int64", "short": "int16", "byte": "uint8", "char": "int8", "boolean": "bool",
}  # fmt: skip
_WORDS = {bool: "a boolean", int: "a whole number", float: "a float"}
_KINDS = (bool, int, float)  # narrowest first
_ALONE = {bool: ("bool",), int: ("int64", "float32"), float: ("float32",)}  # dtypes without other operands, best first


@dataclass(frozen=True)
class Literal:
    """A number or a (nested) list of numbers: the elements in order, the shape, and the widest kind among them."""

    item: Item
    elements: tuple[bool | int | float, ...]
    shape: tuple[int, ...]

    @property
    def kind(self) -> type:
        """bool, int or float; a list without elements is of whole numbers."""
        return max((type(e) for e in self.elements), key=_KINDS.index, default=int)

    def __str__(self) -> str:
        """The literal, or what shows its kind best where it is a list."""
        shown = next((e for e in self.elements if type(e) is self.kind), None)
        return "[]" if shown is None else str(shown).lower() + " in a list" * bool(self.shape)

    def array(self, dtype: Any) -> np.ndarray:
        """The elements as an array. Raises LoadError where the dtype can't hold them: a float as integer, 300 as int8."""
        return as_array(self.elements, np.dtype(dtype), self.item).reshape(self.shape)

    def alone(self, allowed: Sequence[str] | None = None) -> np.dtype:
        """The dtype where no other operand decides. Raises LoadError where what is allowed (names) leaves no choice."""
        if allowed is None:
            return np.dtype(_ALONE[self.kind][0])
        best = [d for d in _ALONE[self.kind] if d in allowed]
        if not best:
            best = [d for d in allowed if d in DTYPES and _suits(self.kind, np.dtype(d))]
        if best and (len(best) == 1 or best[0] in _ALONE[self.kind]):
            return np.dtype(best[0])
        wanted = " or ".join(d for d in allowed if d in DTYPES)
        if best:
            hint = f"give it a type: {{Constant: {{value: …}}}}, then {{Cast: {{to: {best[0]}, as: NAME}}}}"
            raise self.item.error(f"{self} may be {wanted} here", hint)
        other = {float: "write a whole number", bool: "write a number", int: None}[self.kind]
        raise self.item.error(
            f"{self} is {_WORDS[self.kind]}, but {wanted or 'no number'} is wanted here",
            "write true or false" if wanted == "bool" else other,
        )


def read_dtype(item: Item, what: str = "dtype", known: Sequence[str] = DTYPES) -> np.dtype:
    """A dtype by its name. Raises LoadError with the one that was probably meant."""
    name = item.word(what).rsplit(".", 1)[-1]
    if item.value not in known:
        meant = name if name in known else _DTYPES_ELSEWHERE.get(name.lower())
        hint = f"write {meant}" if meant else did_you_mean(name, DTYPES)
        raise item.error(f"unknown dtype '{item.value}'", hint)
    return dtype_from_name(name)


def _suits(kind: type, dtype: np.dtype) -> bool:
    if kind is bool:
        return dtype.kind == "b"
    return is_float(dtype) or (kind is int and is_integer(dtype))


def read_literal(item: Item) -> Literal:
    """A number, a boolean, an expression of numbers, or a (nested) list of those. Raises LoadError."""
    elements: list[bool | int | float] = []
    shape = _read(item, elements)
    kinds = {type(e) for e in elements}
    if bool in kinds and len(kinds) > 1:
        raise item.error("a list holds both booleans and numbers", "write 0 and 1 for false and true, or Cast one")
    return Literal(item, tuple(elements), shape)


def _read(item: Item, elements: list[bool | int | float]) -> tuple[int, ...]:
    if isinstance(item.value, list):
        shapes = [_read(i, elements) for i in item.value]
        for i, shape in zip(item.value, shapes):
            if shape != shapes[0]:
                raise i.error("the rows of a list of numbers must be of one length")
        return (len(shapes), *(shapes[0] if shapes else ()))
    value = computed(item)
    if not isinstance(value, (bool, int, float)):
        shown = repr(value) if isinstance(value, str) else item.kind
        raise item.error(f"an operand that is not a name must be a number or true or false, not {shown}")
    elements.append(value)
    return ()


def as_array(elements: Sequence[bool | int | float], dtype: np.dtype, item: Item) -> np.ndarray:
    """Numbers in a dtype that can hold them. Raises LoadError where it can't."""
    name = dtype_name(dtype)
    for v in elements:
        if isinstance(v, bool) != (dtype.kind == "b"):
            hint = "write 0 or 1" if isinstance(v, bool) else "write true or false"
            raise item.error(f"{str(v).lower()} is {_WORDS[type(v)]} beside an operand of {name}", hint)
        if is_integer(dtype):
            _require_fit(v, dtype, item)
        elif not is_float(dtype) and dtype.kind != "b":
            raise item.error(f"{v} is {_WORDS[type(v)]} beside an operand of {name}")
    if not is_float(dtype):
        return np.array(elements, dtype)
    with np.errstate(all="ignore"):
        array = np.array([_rounded(v) for v in elements], np.float64).astype(dtype)
    for v, found in zip(elements, array.astype(np.float64)):
        if math.isinf(found) and v not in (math.inf, -math.inf):
            raise item.error(f"{v} is too large for {name}", "write .inf for infinity")
    return array


def _rounded(v: int | float) -> float:
    try:
        return float(v)
    except OverflowError:
        return math.inf


def _require_fit(v: int | float, dtype: np.dtype, item: Item) -> None:
    from ml_dtypes import iinfo

    name, limits = dtype_name(dtype), iinfo(dtype)
    if isinstance(v, float):
        whole = f"write {int(v)}, or " if math.isfinite(v) and v == int(v) else ""
        hint = f"{whole}cast the operand first, by a step before this one: - cast: float32"
        raise item.error(f"{v} is a float beside an operand of {name}", hint)
    if not int(limits.min) <= v <= int(limits.max):
        raise item.error(f"{v} does not fit {name} ({limits.min} to {limits.max})", "cast the operand first")


class Dtypes:
    """The dtypes of values, also of those whose shape is known only when the model runs."""

    def __init__(self) -> None:
        self._known: dict[Value, np.dtype] = {}

    def of(self, value: Value) -> np.dtype | None:
        return value.type.dtype if value.type is not None else self._known.get(value)

    def note(self, op: str, operands: Sequence[Value | None], results: Sequence[Value], to: np.dtype | None) -> None:
        """After an operator whose results have no type yet: what its signature says of their dtypes. to: its attribute."""
        if all(v.type is not None for v in results):
            return
        from graphc.frontends.onnx_operands import signature

        known = signature(op)
        if known is None:
            return
        for i, v in enumerate(results):
            parameter = known.outputs[min(i, len(known.outputs) - 1)]
            dtypes = known.dtypes[parameter]
            same = (self.of(o) for k, o in enumerate(operands) if o is not None and known.operand(k) == parameter)
            found = next((d for d in same if d is not None), to)
            if found is None and len(dtypes) == 1 and dtypes[0] in DTYPES:
                found = dtype_from_name(dtypes[0])
            if found is not None:
                self._known[v] = found

    def literals(self, op: Op, operands: Sequence[Value | Literal | None]) -> list[np.dtype | None]:
        """The dtype of every literal among the operands of an operator; None for the others. Raises LoadError."""
        from graphc.frontends.onnx_operands import signature

        known = signature(op.name)
        parameters = [known.operand(i) if known is not None and known.inputs else "T" for i in range(len(operands))]
        found: list[np.dtype | None] = []
        for operand, parameter in zip(operands, parameters):
            if not isinstance(operand, Literal):
                found.append(None)
                continue
            peers = [o for o, p in zip(operands, parameters) if p == parameter and o is not None]
            values = (self.of(o) for o in peers if isinstance(o, Value))
            dtype = next((d for d in values if d is not None), None)
            if dtype is None:
                widest = max((o for o in peers if isinstance(o, Literal)), key=lambda o: _KINDS.index(o.kind))
                dtype = widest.alone(known.dtypes[parameter] if known is not None else None)
            found.append(dtype)
        return found
