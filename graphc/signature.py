"""What calling a model needs to know: names, dtypes and shapes of its inputs and outputs. Written to disk beside its plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from graphc import objects
from graphc.objects import ObjectType
from graphc.records import record
from graphc.types import Sym, TensorType, dtype_from_name, dtype_name


@record(frozen=True)
class Spec:
    """An input or output: shape entries are ints or names of symbolic dims; None while unknown.

    optional: an input that has a default, the value that the model's file gives it.
    content: of one that is no tensor: its type. dtype and shape are those of one object then.
    """

    name: str
    dtype: np.dtype | None
    shape: tuple[int | str, ...] | None
    optional: bool = False
    content: ObjectType | None = field(default=None, repr=False)

    @classmethod
    def of(cls, name: str, t: TensorType | None, dtype: np.dtype | None = None, optional: bool = False) -> Spec:
        """dtype: where there is no type, since the rank is not known."""
        if t is None:
            return cls(name, dtype, None, optional)
        content = t if isinstance(t, ObjectType) else None
        return cls(name, t.dtype, tuple(str(d) if isinstance(d, Sym) else d for d in t.shape), optional, content)

    @property
    def type(self) -> TensorType | None:
        """None while the rank is not known."""
        if self.content is not None:
            return self.content
        return None if self.dtype is None or self.shape is None else TensorType(self.dtype, self.shape)

    @property
    def is_static(self) -> bool:
        return self.content is None and self.shape is not None and all(isinstance(d, int) for d in self.shape)

    def __str__(self) -> str:
        if self.dtype is None:
            return f"{self.name}: ?"
        if self.content is not None:
            return f"{self.name}: {self.content}"
        dims = "..." if self.shape is None else ", ".join(map(str, self.shape))
        return f"{self.name}: {dtype_name(self.dtype)}[{dims}]{' (optional)' if self.optional else ''}"


@record(frozen=True)
class State:
    """An input and an output of one dtype and rank, by name.

    name: what a session calls it
    """

    name: str
    input: str
    output: str


@record(frozen=True)
class Growth:
    """An input and the output that begins with its elements, along an axis, by name."""

    input: str
    output: str
    axis: int


_SPECS = ("inputs", "outputs", "optional", "declared")  # fields of a signature


@record(frozen=True)
class Signature:
    """What calling a model needs to know.

    inputs     those that must be given, in order; `optional`: those that have a default
    valued     inputs whose values decide shapes
    operators  how many the graph has
    loose      dims of one name are equal as far as it is known; arrays may show that they are not
    states     inputs and outputs that a session carries from one step to the next
    caches     those that names and operators tell, for a session of a model that has no others
    growing    inputs that results append to
    nets       names of all nets of the source, where it has several
    labels     names of the classes that outputs have scores of, by output
    scores     outputs that are scores of classes, whether these have names or not
    declared   outputs as the file declares them, where that does not follow from the operators
    described  what an ONNX file says of itself, and the dims that it gives (frontends/onnx_described.py)
    """

    name: str
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    valued: tuple[str, ...]
    operators: int
    optional: tuple[Spec, ...] = ()
    loose: bool = False
    states: tuple[State, ...] = ()
    caches: tuple[State, ...] = ()
    growing: tuple[Growth, ...] = ()
    nets: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scores: tuple[str, ...] = ()
    declared: tuple[Spec, ...] = ()
    described: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        specs = {key: [_to_json(s) for s in getattr(self, key)] for key in _SPECS}
        rest: dict[str, Any] = {"valued": list(self.valued), "operators": self.operators, "loose": self.loose}
        for key in ("states", "caches"):
            rest[key] = [[s.name, s.input, s.output] for s in getattr(self, key)]
        rest["growing"] = [[g.input, g.output, g.axis] for g in self.growing]
        rest["nets"] = list(self.nets)
        rest["labels"] = {name: list(names) for name, names in self.labels.items()}
        rest["scores"], rest["described"] = list(self.scores), dict(self.described)
        return {"name": self.name, **specs, **rest}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Signature:
        inputs, outputs, optional, promised = (tuple(map(_from_json, content[k])) for k in _SPECS)
        states, caches = (tuple(State(*names) for names in content[k]) for k in ("states", "caches"))
        grown = tuple(Growth(*g) for g in content["growing"])
        rest = tuple(content["valued"]), content["operators"], optional, content["loose"], states, caches, grown
        labels = {name: tuple(names) for name, names in content["labels"].items()}
        return Signature(
            *(
                content["name"],
                inputs,
                outputs,
                *rest,
                tuple(content["nets"]),
                labels,
                tuple(content["scores"]),
                promised,
            ),
            content["described"],
        )


def _to_json(spec: Spec) -> list[Any]:
    dtype = None if spec.dtype is None else spec.dtype.name
    content = None if spec.content is None else objects.to_json(spec.content)
    return [spec.name, dtype, None if spec.shape is None else list(spec.shape), spec.optional, content]


def _from_json(content: Sequence[Any]) -> Spec:
    name, dtype, shape, optional, held = content
    of = None if held is None else objects.from_json(held)
    assert of is None or isinstance(of, ObjectType)
    return Spec(name, dtype and dtype_from_name(dtype), None if shape is None else tuple(shape), optional, of)


def wrong_names(missing: Sequence[str], unknown: Sequence[Any]) -> str:
    """What is wrong with the names that inputs are given by."""
    parts = [
        f"{what}: {', '.join(map(str, names))}" for what, names in (("missing", missing), ("unknown", unknown)) if names
    ]
    return f"wrong input names ({'; '.join(parts)})"
