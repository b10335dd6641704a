"""What a layer builds with: operators, weights and constants under the layer's name; and the registry of layers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from keyword import iskeyword
from types import MappingProxyType
from typing import Any, get_type_hints

import numpy as np

from graphc.dtypes import is_float
from graphc.errors import GraphcError, Location
from graphc.frontends.yaml_args import convert, is_number, options
from graphc.frontends.yaml_given import given_weight
from graphc.frontends.yaml_literals import as_array
from graphc.frontends.yaml_syntax import Item
from graphc.frontends.yaml_weights import MAX_ELEMENTS, Weights
from graphc.graph import Builder, Value
from graphc.source_files import Folder
from graphc.types import Dim, dtype_name

# Arguments that are counts and sizes, in any layer where they are whole numbers.
SIZES = frozenset(
    ("out", "hidden", "vocab", "dim", "heads", "classes", "layers", "parts", "groups", "k", "s", "dilation", "scale")
    + ("rows", "keep", "multiplier", "reduction", "size", "stride")
)

ADVICE = {
    "bias": "its numbers, or how they are drawn, go into `weights: {bias: …}`",
    "shape": "0 keeps a dim of the input, -1 takes what is left",
}  # where an argument of that name is of another kind


@dataclass(frozen=True)
class Param:
    """A weight in the graph: its value, whether training would change it (running statistics are not trained), where its step
    is, and where it comes from, in words. given: where a step says what it is."""

    value: Value
    trainable: bool
    source: Location
    origin: str
    given: Location | None = None


class LayerBuilder:
    """One layer being built. `name` begins the names of its nodes, `weights_name` of its weights (shared layers)."""

    def __init__(
        self,
        builder: Builder,
        weights: Weights,
        params: dict[str, Param],
        name: str,
        weights_name: str,
        item: Item,
        source: Location,
        residual: bool = False,
        given: Mapping[str, Item] = MappingProxyType({}),
        folder: Folder | None = None,
    ) -> None:
        """given: weights as the step gives them. folder: of the model's file."""
        self.builder, self.weights, self.params = builder, weights, params
        self.name, self.weights_name, self.item, self.source = name, weights_name, item, source
        self.residual, self.given, self.folder = residual, given, folder
        self.asked: list[str] = []  # the names of its weights
        self.start = len(builder.nodes)
        self.count = 0
        self.new_parameters = 0

    def add(self, op: str, *inputs: Value | None, outputs: int = 1, **attrs: Any) -> Any:
        """Append a node; returns its output Value, or a tuple when `outputs` is not 1. Raises GraphcError, located."""
        self.count += 1
        name = self.name if self.count == 1 else f"{self.name}/{op}_{self.count}"
        try:
            return self.builder.add(op, *inputs, name=name, outputs=outputs, source=self.source, **attrs)
        except GraphcError as e:
            x = inputs[0] if inputs else None
            if "smaller than a window" in e.message and x is not None and _channels_last(x.shape):
                e.hint = "channels are axis 1, [batch, channels, height, width]: `to_nchw` before it brings them there"
            raise

    def weight(self, name: str, shape: tuple[int, ...], dtype: Any, init: str, trainable: bool = True) -> Value:
        """The weight `name` of this layer, a constant. The same full name twice gives the same value."""
        full = f"{self.weights_name}.{name}"
        self.asked.append(name)
        if not is_float(np.dtype(dtype)):
            hint = "cast the input first: {Cast: {to: float32}}"
            raise self.fail(f"has weights, which are floats, but the input is {dtype_name(dtype)}", hint)
        known = self.params.get(full)
        given = self.given[name].source() if name in self.given else None
        if known:
            if given is not None and given != known.given:
                raise self.fail(
                    f"shared weight '{full}' is given here, and is another where first used",
                    "give it in the first of the steps that share it",
                )
            if known.value.shape != shape:
                raise self.fail(
                    f"shared weight '{full}' has shape {list(known.value.shape)} where first used, {list(shape)} here"
                )
            if known.trainable != trainable:
                kinds = ("frozen", "trained")
                raise self.fail(
                    f"shared weight '{full}' is {kinds[known.trainable]} where first used, {kinds[trainable]} here"
                )
            return known.value
        if math.prod(shape) > MAX_ELEMENTS or min(shape, default=1) < 1:
            raise self.fail(f"weight '{full}' would have shape {list(shape)}", "check the sizes of the layer")
        if name in self.given:
            seed = getattr(self.weights, "seed", 0)
            data = given_weight(self.given[name], full, shape, np.dtype(dtype), seed, self.folder)
            origin = f"line {self.given[name].line}"
        else:
            data = self.weights.get(full, shape, np.dtype(dtype), init, self.item)
            origin = self.weights.source(full)
        value = self.builder.constant(data, name=full)
        self.params[full] = Param(value, trainable, self.item.source(), origin, given)
        if trainable:
            self.new_parameters += data.size
        return value

    def const(self, data: Any, dtype: Any = np.int64) -> Value:
        """A constant that is no weight: axes, shapes, scales. Raises LoadError for a number that the dtype can't hold."""
        self.count += 1
        if is_number(data):
            data = as_array([data], np.dtype(dtype), self.item).reshape(())
        elif isinstance(data, np.ndarray) and is_float(data.dtype):
            with np.errstate(over="ignore"):
                large = np.isfinite(data) & ~np.isfinite(data.astype(dtype))
            as_array(data[large][:1].tolist(), np.dtype(dtype), self.item)
        return self.builder.constant(data, dtype, name=f"{self.name}/const_{self.count}")

    def fail(self, message: str, hint: str | None = None) -> GraphcError:
        """An error of this layer, to raise."""
        return self.item.error(f"{self.item.value}: {message}", hint)

    def fixed(self, x: Value, axis: int, what: str) -> int:
        """A dim that must be a number when the model is loaded: weights depend on it. Raises LoadError."""
        if not -len(x.shape) <= axis < len(x.shape):
            raise self.fail(f"needs an input with axis {axis}, {what}, not {x.type}")
        dim: Dim = x.shape[axis]
        if not isinstance(dim, int):
            hint = f"give axis {axis} of the input a fixed size"
            if axis == 1 and len(x.shape) == 3 and isinstance(x.shape[2], int):
                hint += ", or bring the channels there: {transpose: {perm: [0, 2, 1]}}"
            raise self.fail(f"{what} must be a number, but the input is {x.type}", hint)
        return dim

    def operands(self, xs: Sequence[Value], *counts: int, hint: str) -> None:
        """How many values there are, of a layer that takes one of several numbers of them. Raises LoadError."""
        if len(xs) not in counts:
            wanted = " or ".join(map(str, counts))
            raise self.fail(f"takes {wanted} value{'s' * (counts != (1,))}, not {len(xs)}", hint)

    def rank(self, x: Value, *ranks: int, hint: str | None = None) -> int:
        """The rank of x, which must be one of `ranks`. Raises LoadError."""
        rank = len(x.shape)
        if rank not in ranks:
            wanted = " or ".join(map(str, ranks))
            if hint is None and min(ranks) == 3 and rank < 3:
                hint = "it reads [batch, channels, …], images for example"
            raise self.fail(f"needs an input of rank {wanted}, not {x.type}", hint)
        return rank


def _channels_last(shape: Sequence[Dim]) -> bool:
    """Does it look like pictures with their one, three or four channels behind height and width?"""
    return len(shape) == 4 and shape[3] in (1, 3, 4) and shape[2] != shape[3] and shape[1] not in (1, 3, 4)


@dataclass(frozen=True)
class LayerDefinition:
    """A layer of the language. `args` maps names to (type hint, default); `main` is the one that a bare value sets."""

    name: str
    build: Callable
    args: Mapping[str, tuple[Any, Any]]
    main: str | None
    operands: int | None  # how many values it takes; None is any number
    doc: str

    def __call__(
        self, cell: LayerBuilder, operands: tuple[Value, ...], arguments: Mapping[str, Any]
    ) -> Value | tuple[Value, ...]:
        words = {f"{k}_" if iskeyword(k) else k: v for k, v in arguments.items()}
        return self.build(cell, *operands, **words)

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(k for k, (_, default) in self.args.items() if default is inspect.Parameter.empty)

    def read(self, key: str, item: Item) -> Any:
        """The value of a resolved argument. Raises LoadError where it is of another kind, or a size below 1."""
        hint, what = self.args[key][0], f"'{key}' of '{self.name}'"
        try:
            value = convert(item, hint, what)
        except GraphcError as e:
            e.hint = e.hint or ADVICE.get(key)
            raise
        if key in SIZES and int in options(hint) and float not in options(hint):
            for n in value if isinstance(value, tuple) else (value,):
                if isinstance(n, int) and n < 1:
                    raise item.error(f"{what} must be at least 1, not {n}")
        if key == "eps" and not 0 <= value < 1:
            raise item.error(
                f"{what} must be from 0 to 1, not {item.value}", "the number of channels follows from what comes in"
            )
        return value


_LAYERS: dict[str, LayerDefinition] = {}


def layer(build: Callable | None = None, *, name: str = "") -> Callable:
    """Register a layer: a function (cell, *values, keyword-only arguments) -> Value or tuple of Values.

    Its signature is the language: the hints are the arguments' types, the first keyword-only argument is what a bare
    value sets (`dense: 10`).
    """
    if build is None:
        return lambda fn: layer(fn, name=name)
    name = name or build.__name__.rstrip("_")
    if name in _LAYERS:
        raise ValueError(f"layer {name} is defined twice")
    hints = get_type_hints(build)
    parameters = list(inspect.signature(build).parameters.values())[1:]
    args = {p.name.rstrip("_"): (hints[p.name], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
    values = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    operands = None if any(p.kind is p.VAR_POSITIONAL for p in values) else len(values)
    doc = inspect.cleandoc(build.__doc__ or "")
    _LAYERS[name] = LayerDefinition(name, build, args, next(iter(args), None), operands, doc)
    return build


# each registers its layers
_MODULES = (
    "layers",
    "pointwise",
    "shapes",
    "sequence",
    "select",
    "distance",
    "spatial",
    "detection",
    "positions",
    "gated",
    "random",
    "pictures",
)


@lru_cache(maxsize=1)
def _load() -> None:
    for name in _MODULES:
        import_module(f"graphc.frontends.yaml_{name}")


def layers() -> dict[str, LayerDefinition]:
    """Every layer of the language by name."""
    _load()
    return _LAYERS
