"""The operator record and the registry: everything the compiler knows of an operator, as data, in one place.

Names, attributes and semantics are those of the newest ONNX opset; a front end translates older forms. To add an
operator, add a record in `graphc/ops/`: see docs/add-an-operator.md.
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.attrs import Attrs
from graphc.dtypes import WHOLE_BYTES, names
from graphc.errors import TypeRuleError, UnsupportedError
from graphc.own import file_outside, note
from graphc.sizes import whole
from graphc.types import Dim, MaybeNone, TensorType, prod

if TYPE_CHECKING:
    from graphc.graph import Builder, Value


class Family(enum.Enum):
    """Under which heading docs/operators.md and tests list an operator. The compiler asks for facts of the record instead."""

    ELEMENTWISE = "elementwise"
    REDUCTION = "reduction"
    COMPOSITE = "composite"
    CONTRACTION = "contraction"
    WINDOW = "window"
    MOVEMENT = "movement"
    INDEX = "index"
    NORMALIZE = "normalize"
    RECURRENT = "recurrent"
    SOURCE = "source"
    CONTROL = "control"
    TABLE = "table"
    SEQUENCE = "sequence"


class Deferred(Exception):
    """A type rule needs a value or a type that is known only when the inputs are bound."""


REQUIRED = object()


@dataclass(frozen=True)
class Attr:
    """Type and default of an attribute. Types: int, float, str, bool, 'ints', 'floats', 'strings', 'tensor', 'dtype', 'graph',
    'type' (what a sequence or an optional holds).

    A default of None means: optional, the type rule treats its absence. bool attributes accept 0 and 1. Floats are float32, as
    in ONNX, defaults too: an operator of float64 with an alpha of 0.01 multiplies by 0.00999999977648…

    settled: what it says is in the types of operands and results, or in the choice of an algorithm, by the time that code is made
    of a use, which need not read it (graphc/unread.py).
    """

    type: Any
    default: Any = REQUIRED
    choices: tuple[Any, ...] = ()
    settled: bool = False


class Call:
    """What a type rule, an expansion or a cost sees of one use of an operator."""

    def __init__(self, op: Op, inputs: Sequence[Value | None], attrs: Mapping[str, Any], n_outputs: int) -> None:
        self.op, self.n_outputs = op, n_outputs
        self.ignored: set[int] = set()
        self.attrs = attrs if isinstance(attrs, Attrs) else Attrs(attrs)
        self.inputs: tuple[Value | MaybeNone, ...] = tuple(inputs)

    def ignore(self, *operands: int) -> None:
        """Say in an expansion that these operands have no meaning beside the others (graphc/unread.py)."""
        self.ignored.update(operands)

    def has(self, i: int) -> bool:
        """Is operand i given? (Trailing and '' optional operands are not.)"""
        return i < len(self.inputs) and self.inputs[i] is not None

    def given(self, i: int) -> Value | MaybeNone:
        """Operand i, or None."""
        return self.inputs[i] if i < len(self.inputs) else None

    def type(self, i: int) -> TensorType:
        """Type of operand i. Raises Deferred while it is unknown."""
        v = self.inputs[i]
        if v.type is None:
            raise Deferred(f"type of '{v.name}'")
        return v.type

    def shape(self, i: int) -> tuple[Any, ...]:
        return self.type(i).shape

    def dtype(self, i: int) -> np.dtype:
        return self.type(i).dtype

    def rank(self, i: int) -> int:
        return len(self.type(i).shape)

    def const(self, i: int) -> np.ndarray:
        """Value of operand i when compiling. Raises Deferred if it depends on the inputs' shapes or values."""
        v = self.inputs[i]
        if v.data is None:
            raise Deferred(f"value of '{v.name}'")
        return v.data

    def ints(self, i: int) -> list[int]:
        """Value of operand i as a flat list of ints (a shape, axes, pads …)."""
        return [whole(x) for x in np.asarray(self.const(i)).reshape(-1)]

    def fail(self, message: str, hint: str | None = None) -> TypeRuleError:
        """An error to raise: `raise call.fail('…')`. The node's name and place are filled in by the caller."""
        return TypeRuleError(message, hint=hint, op=self.op.name)

    def axis_of(self, axis: int, rank: int) -> int:
        """A possibly negative axis as 0 ≤ axis < rank. Raises TypeRuleError."""
        if not -rank <= axis < rank:
            raise self.fail(f"axis {axis} is out of range for rank {rank}", f"use an axis from {-rank} to {rank - 1}")
        return axis % rank


# --- samples: valid inputs as plain data, which tests turn into strategies ---------------------------------------------
@dataclass(frozen=True)
class Tensor:
    """A random operand: shape, and the range and dtype of its elements where they differ from the samples'."""

    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Const:
    """An operand given as a constant when compiling: shapes, axes, pads, scales …"""

    value: Any
    dtype: str = "int64"


@dataclass(frozen=True)
class Case:
    """One valid use: operands (None for an absent one), attributes, number of outputs."""

    inputs: tuple[Tensor | Const | None, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    n_outputs: int = 1


FLOATS = names("float", bits=(32, 64))
INTS = names("int", "uint", bits=WHOLE_BYTES)
NUMBERS = FLOATS + INTS


@dataclass(frozen=True)
class Samples:
    """Valid inputs. `low`/`high`: range of elements, one pair for all operands or a tuple with one entry per operand.

    `dtypes`: what operand 0 (and those that must agree with it) may be. `cases`: explicit uses; an elementwise operator
    needs none (tests draw broadcastable shapes). `special`: values outside the range (NaN, infinities) on which an operator
    of floats is defined as well.
    """

    dtypes: tuple[str, ...] = FLOATS
    low: float | tuple[float, ...] = -4.0
    high: float | tuple[float, ...] = 4.0
    cases: tuple[Case, ...] = ()
    special: tuple[float, ...] = ()


@dataclass(frozen=True)
class Reduction:
    """A reduction as scalar code: finish(combine over axes of map(x), n). combine: 'add' | 'mul' | 'max' | 'min' | 'and' | 'or'."""

    combine: str
    map: Callable[[Any], Any] = lambda x: x
    finish: Callable[[Any, Any], Any] = lambda acc, n: acc


@dataclass(frozen=True)
class Laws:
    """What holds of an operator for every number, NaN included where it is one; passes simplify by it.

    neutral       f(x, neutral) is x, to the sign of a zero; where f commutes, f(neutral, x) is, too
    commutes      f(x, y) is f(y, x)
    idempotent    f(f(x)) is f(x)
    involution    f(f(x)) is x
    not_negative  no result of a floating-point type is below 0
    """

    neutral: float | None = None
    commutes: bool = False
    idempotent: bool = False
    involution: bool = False
    not_negative: bool = False


@dataclass(frozen=True)
class Op:
    """An operator. Only `name`, `inputs`, `infer` and `reference` are needed.

    name       as in ONNX; of another domain than its main one: 'domain::name'
    inputs     formal operand names: 'x', 'b?' is optional, '*xs' takes the rest
    infer      Call -> types of the outputs. May raise Deferred (through Call) or TypeRuleError (`raise call.fail(…)`)
    scalar     elementwise: (*operands, **attrs named in scalar_attrs) -> expression, over graphc.expr
    finite     elementwise: finite for finite operands, though that does not follow from the primitives of `scalar`
    reduction  reductions: the Reduction
    expand     composite: (Builder, Call) -> Value or Values; the operator in terms of others
    reference  (*arrays or None, **all attrs) -> array or tuple of arrays: NumPy, independent of scalar and expand
    tolerance  of float32 results against the float64 reference, relative to the largest magnitude of the result
    macs       Call -> multiply-accumulates, of operators whose work is products of their operands' elements
    flops      Call -> floating point operations (default: two per multiply-accumulate, else one per element of the result)
    values     operands whose values the type rule or the kernel needs when compiling (shapes, axes, pads)
    arranges   of operators on sequences: operands that are positions or lengths. Where they are known when compiling, as the sequence
               is, so is which elements are meant
    per_sample  results for one sample (of the first dim of operand 0) depend on that sample alone, and on the other operands
    laws       algebraic laws that it obeys
    bound      of operators with one dim that only data tells: Call -> what it is at most
    type_only  the results follow from the operands' types, and are computed as soon as those are known: values are not read
    types_of   operands of which the type alone counts: those of one type stand for each other
    statistics operands that training measures and does not learn
    windowed   a window slides over operand 0, a feature map [N, C, *space]; the result is one too
    deterministic  False for random operators, or Call -> bool: not folded, not merged, not compared by value
    objects    it takes or gives values that are no tensors (graphc/objects.py)
    internal   made by passes and front ends alone, of operands that they have checked: no file may name it
    family     a heading for people; stated only where it does not follow from the fields above
    """

    name: str
    inputs: tuple[str, ...]
    infer: Callable[[Call], Sequence[TensorType | MaybeNone]]
    reference: Callable[..., Any]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("y",)
    scalar: Callable[..., Any] | None = None
    scalar_attrs: tuple[str, ...] = ()
    finite: bool = False
    reduction: Reduction | None = None
    expand: Callable[[Builder, Call], Any] | None = None
    tolerance: float = 1e-5
    samples: Samples = field(default_factory=Samples)
    macs: Callable[[Call], Dim] | None = None
    flops: Callable[[Call], Dim] | None = None
    values: tuple[int, ...] = ()
    arranges: tuple[int, ...] = ()
    per_sample: bool = False
    windowed: bool = False
    laws: Laws = Laws()
    bound: Callable[[Call], Dim] | None = None
    type_only: bool = False
    types_of: tuple[int, ...] = ()
    statistics: tuple[int, ...] = ()
    deterministic: bool | Callable[[Call], bool] = True
    objects: bool = False
    internal: bool = False
    family: Family = Family.COMPOSITE

    def __post_init__(self) -> None:
        if self.scalar is not None:
            unread = [k for k, a in self.attrs.items() if k not in self.scalar_attrs and not a.settled]
            if unread:
                raise ValueError(
                    f"{self.name}: 'scalar' does not take {', '.join(unread)}: add to 'scalar_attrs', or say that they are 'settled'"
                )
        macs = self.macs
        if self.flops is None and macs is not None:
            object.__setattr__(self, "flops", lambda call: prod((2, macs(call))))
        if self.family is Family.COMPOSITE:
            object.__setattr__(self, "family", self._implied_family())

    def _implied_family(self) -> Family:
        if self.elementwise:
            return Family.ELEMENTWISE
        if self.reduction is not None:
            return Family.REDUCTION
        if self.windowed:
            return Family.WINDOW
        return Family.CONTROL if self.holds_graphs else Family.COMPOSITE

    @property
    def elementwise(self) -> bool:
        """Is each element of the result `scalar` of the (broadcast) operands' elements at its place?"""
        return self.scalar is not None

    @property
    def exact(self) -> bool:
        """Are its results of floating-point types exact? They are numbers of the operands' type then, whatever its precision: an
        element of an operand, a whole number not above it."""
        return self.tolerance == 0.0

    @property
    def holds_graphs(self) -> bool:
        """Does it run subgraphs (If, Loop, Scan)?"""
        return any(a.type == "graph" for a in self.attrs.values())

    @property
    def variadic(self) -> bool:
        return bool(self.inputs) and self.inputs[-1].startswith("*")

    @property
    def min_inputs(self) -> int:
        required = [i for i, n in enumerate(self.inputs) if not n.endswith("?") and not n.startswith("*")]
        return (required[-1] + 1) if required else 0

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Those of the attributes that have one."""
        return {
            key: _coerce(self.name, key, spec, spec.default)
            for key, spec in self.attrs.items()
            if spec.default is not REQUIRED
        }

    def complete_attrs(self, given: Mapping[str, Any]) -> Attrs:
        """`given` checked and with the defaults added. Raises TypeRuleError on unknown, missing or mistyped ones."""
        out = Attrs()
        for key, value in given.items():
            spec = self.attrs.get(key)
            if spec is None:
                from difflib import get_close_matches

                close = get_close_matches(key, self.attrs, 1)
                known = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(self.attrs) or 'none'}"
                raise TypeRuleError(f"unknown attribute '{key}'", hint=known, op=self.name)
            out[key] = _coerce(self.name, key, spec, value)
        for key in self.attrs:
            if key not in out:
                if key not in self.defaults:
                    raise TypeRuleError(f"attribute '{key}' is missing", op=self.name)
                out[key] = self.defaults[key]
        return out

    def __repr__(self) -> str:
        return f"Op({self.name})"

    def __reduce__(self) -> tuple[Callable[[str], Op], tuple[str]]:  # by name: records hold functions
        return get_op, (self.name,)


def _float32(value: Any) -> float:
    with np.errstate(over="ignore"):  # beyond its range is infinity
        return float(np.float32(float(value)))


def _float32s(values: Sequence[float]) -> tuple[float, ...]:
    with np.errstate(over="ignore"):
        return tuple(np.array(values, np.float32).astype(np.float64).tolist())


def _all(values: Any, kind: type) -> bool:
    """Is it a list of that type alone? Trees have lists of 100,000 numbers."""
    return isinstance(values, (list, tuple)) and set(map(type, values)) <= {kind}


def _coerce(op: str, key: str, spec: Attr, value: Any) -> Any:
    if value is None:
        return None
    try:
        match spec.type:
            case "ints":
                value = tuple(value if _all(value, int) else (whole(v) for v in value))
            case "floats":
                value = _float32s(value) if _all(value, float) else tuple(_float32(v) for v in value)
            case "strings":
                value = tuple(value if _all(value, str) else (str(v) for v in value))
            case "dtype":
                value = np.dtype(value)
            case "tensor":
                value = np.asarray(value)
            case "graph" | "type" | "error":
                pass
            case t:
                if t is int and isinstance(value, float) and value != int(value):
                    raise ValueError
                value = _float32(value) if t is float else whole(value) if t is int else t(value)
    except (TypeError, ValueError, OverflowError):
        want = spec.type if isinstance(spec.type, str) else spec.type.__name__
        raise TypeRuleError(f"attribute '{key}' must be of type {want}, not {value!r}", op=op) from None
    if spec.choices and value not in spec.choices:
        raise TypeRuleError(
            f"attribute '{key}' is {value!r}", hint=f"one of: {', '.join(map(repr, spec.choices))}", op=op
        )
    return value


# --- the registry -----------------------------------------------------------------------------------------------------
_REGISTRY: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Add an operator. Raises ValueError if the name is taken."""
    if file_outside() is not None:
        _load_ours()  # whose names are taken
    if op.name in _REGISTRY:
        raise ValueError(f"operator {op.name} is registered twice")
    note(op)
    _REGISTRY[op.name] = op
    return op


@lru_cache(maxsize=1)
def _load_ours() -> None:
    import graphc.ops as package

    for module in pkgutil.walk_packages(package.__path__, "graphc.ops."):
        importlib.import_module(module.name)


def _load_all() -> None:
    from graphc.installed import load_installed

    _load_ours()
    load_installed()


def get_op(name: str) -> Op:
    """The operator of that name. Raises UnsupportedError with close names."""
    _load_all()
    op = _REGISTRY.get(name)
    if op is None:
        from difflib import get_close_matches

        close = get_close_matches(name, _REGISTRY, 3, 0.7)
        raise UnsupportedError(
            f"unknown operator '{name}'",
            hint=f"did you mean {' or '.join(close)}?" if close else "`graphc operators` lists what is supported",
        )
    return op


def all_ops() -> dict[str, Op]:
    """Every registered operator by name, sorted."""
    _load_all()
    return dict(sorted(_REGISTRY.items()))


def named_op(name: str) -> Op | None:
    """The operator that a file names so, if there is one."""
    _load_all()
    op = _REGISTRY.get(name)
    return None if op is None or op.internal else op


def named_ops() -> dict[str, Op]:
    """Those that a file may name, in the same order."""
    return {name: op for name, op in all_ops().items() if not op.internal}
