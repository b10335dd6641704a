"""States of a scan or while: the values that they begin with, and whether they stay of one type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphc.dtypes import is_float, is_integer
from graphc.frontends.yaml_args import to_dim
from graphc.frontends.yaml_expr import same_dim
from graphc.frontends.yaml_frame import Frame, require
from graphc.frontends.yaml_literals import Literal, read_dtype, read_literal
from graphc.frontends.yaml_operators import Values, read_input, read_operand
from graphc.frontends.yaml_problems import Lost
from graphc.frontends.yaml_registry import LayerBuilder
from graphc.frontends.yaml_step import NetStep
from graphc.frontends.yaml_syntax import Item, check_keys, did_you_mean
from graphc.graph import Value
from graphc.types import Dim, Sym, TensorType, dtype_name

if TYPE_CHECKING:
    from graphc.frontends.yaml_net import Expander


def first_values(
    x: Expander, step: NetStep, states: Mapping[str, Item], operands: Values, frame: Frame
) -> dict[str, Value]:
    """Of each state; a lost value where it has a problem."""
    firsts: dict[str, Value] = {}
    for name, item in states.items():
        firsts[name] = Lost(name, None)
        with x.attempt(item, frame):
            firsts[name] = _first_value(x, x.cell(step, frame.at(f"{name}.first")), item, operands, frame)
    return firsts


def _first_value(x: Expander, cell: LayerBuilder, item: Item, current: Values, frame: Frame) -> Value:
    """A name, a number or numbers, or `{like: x}` and `{shape: [batch, 8]}`, with a `value` that is 0 unless it is given."""
    item = frame.env.resolve(item)
    if isinstance(item.value, dict):
        return _filled(x, cell, item, current, frame)
    if item.value in ("zeros", "ones") and item.value not in frame.names:
        more = ", value: 1.0" if item.value == "ones" else ""
        hint = f"a state of {item.value} says its shape: {{shape: [batch, 8]{more}}}"
        raise item.error(f"no value is named '{item.value}' here", hint)
    if isinstance(item.value, list) and any(isinstance(i.value, str) and i.value.isidentifier() for i in item.value):
        shown = f"{{shape: [{', '.join(str(i.plain()) for i in item.value)}]}}"
        raise item.error("a list is a first value of numbers", f"a state of zeros says its shape: {shown}")
    read = read_input(item, current, frame.names)
    if read is None:
        raise item.error("a state needs a first value", "a name, a number, {like: NAME} or {shape: [batch, 8]}")
    if isinstance(read, Literal):
        return x.builder.constant(read.array(read.alone()), name=cell.name)
    require((read,))
    return read


def _filled(x: Expander, cell: LayerBuilder, item: Item, current: Values, frame: Frame) -> Value:
    spec = check_keys(item, ("like", "shape", "value", "dtype"), "a first value")
    if ("like" in spec) == ("shape" in spec):
        raise item.error("a first value takes either 'like' or 'shape'", "{like: NAME} or {shape: [batch, 8]}")
    number = read_literal(spec["value"]) if "value" in spec else None
    if number is not None and number.shape:
        raise spec["value"].error("value must be one number", "a list by itself gives an element each: h: [0.0, 1.0]")
    like = read_operand(spec["like"], current, frame.names) if "like" in spec else None
    if like is not None:
        require((like,))
        dims, sizes = like.shape, cell.add("Shape", like)
    else:
        dims = tuple(to_dim(d, "a dim of a state") for d in spec["shape"].listing("shape"))
        sizes = _sizes(x, cell, dims, spec["shape"])
    if "dtype" in spec:
        dtype = read_dtype(spec["dtype"])
    else:
        dtype = like.dtype if like is not None else number.alone() if number is not None else np.dtype(np.float32)
    value = np.zeros((), dtype) if number is None else number.array(dtype)
    types = [TensorType(dtype, dims)]
    filled: Value = cell.add("ConstantOfShape", sizes, value=value.reshape(1), types=types)
    return filled


def _sizes(x: Expander, cell: LayerBuilder, dims: Sequence[Dim], item: Item) -> Value:
    """A shape as a value of the graph: its names are sizes of the model's inputs."""
    if all(isinstance(d, int) for d in dims):
        return cell.const(dims)
    known: dict[str, tuple[Value, int]] = {}
    for v in x.inputs.values():
        for k, d in enumerate(v.type.shape if v.type is not None else ()):
            if isinstance(d, Sym):
                known.setdefault(str(d), (v, k))
    parts: list[Value] = []
    for d, place in zip(dims, item.value):
        if isinstance(d, int):
            parts.append(cell.const([d]))
        elif str(d) in known:
            v, k = known[str(d)]
            parts.append(cell.add("Shape", v, start=k, end=k + 1))
        else:
            raise place.error(f"no input has a size '{d}'", did_you_mean(str(d), known, "sizes of inputs"))
    return parts[0] if len(parts) == 1 else cell.add("Concat", *parts, axis=0)


def differ(a: TensorType | None, b: TensorType | None) -> bool:
    """Are they two types, as far as they are known?"""
    if a is None or b is None:
        return False
    return a.dtype != b.dtype or a.rank != b.rank or not all(map(same_dim, a.shape, b.shape))


def way_out(first: Value, after: Value) -> str:
    """What to do about a state whose type changes."""
    if first.is_const and not first.shape and after.shape and first.data == 0 and is_float(after.dtype):
        return f"a state of zeros says its shape: {{shape: [{', '.join(map(str, after.shape))}]}}"
    if first.dtype != after.dtype:
        written = "0 is a whole number, 0.0 a float; or " if is_integer(first.dtype) and is_float(after.dtype) else ""
        return f"{written}cast what the step gives: {{Cast: {{to: {dtype_name(first.dtype)}}}}}"
    if first.is_const and not first.shape:
        return f"give its first value that shape: {{shape: [{', '.join(map(str, after.shape))}], value: {first.data}}}"
    return "every step must give what it was given"
