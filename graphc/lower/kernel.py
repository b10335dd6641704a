"""Kernels, and what they are specialised by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from graphc.records import record

if TYPE_CHECKING:
    from graphc.expr import Expr


@dataclass(init=False, repr=False, eq=False, frozen=True)
class Kernel:
    """A kernel of a backend. Each kind is a class of its own, whose fields (with a faithful repr) specialise it:

        @dataclass(frozen=True, eq=False)
        class AddScaled(Kernel, name="add_scaled"):
            dtype: str

    Kernels are compared by their text: 0.0 and -0.0, or 1 and True, are equal as numbers and other code.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, *, name: str) -> None:
        super().__init_subclass__()
        cls.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __str__(self) -> str:
        words = [_numbers(p) if isinstance(p, tuple) else str(p) for p in self.params]
        text = "_".join(w for w in words if w)
        return f"{self.name}_{text}" if text else self.name

    @property
    def by_field(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def params(self) -> tuple[Any, ...]:
        """The fields' values, without those at the end that are what they are by default."""
        values, defaults = [*self.by_field.values()], [f.default for f in fields(self)]
        while values and defaults[-1] is not MISSING and repr(values[-1]) == repr(defaults[-1]):
            values.pop()
            defaults.pop()
        return tuple(values)

    @cached_property
    def spec(self) -> str:
        """What the kernel is, in full: what finds its code again."""
        return f"Kernel(name={self.name!r}, params={self.params!r})"

    @cached_property
    def symbol(self) -> str:
        safe = "".join(c if c.isalnum() else "_" for c in str(self))[:48]
        return f"graphc_{safe}_{hashlib.sha256(self.spec.encode()).hexdigest()[:12]}"


def _numbers(params: tuple[Any, ...]) -> str | None:
    return ".".join(map(str, params)) if all(isinstance(n, int) for n in params) else None


class Variants(NamedTuple):
    """A kernel that is chosen when the program is bound: number `index`, a value, of `kernels`."""

    index: Any
    kernels: Sequence[Kernel]


def one_of(index: Any, kernels: Sequence[Kernel]) -> Kernel | Variants:
    """Number `index`, a value, of the kernels."""
    return kernels[0] if len(kernels) == 1 else Variants(index, kernels)


@record(frozen=True)
class Pass:
    """result = finish(combine over the row of map(element)).

    combine  'add', 'mul', 'max', 'min', 'and', 'or'
    finish   of the combined number, which is the argument with the result's own index; may use scalars
    keep     the mapped elements are also stored into the first output, of the same dtype
    """

    combine: str
    map: Expr
    finish: Expr
    keep: bool = False


@record(frozen=True)
class Passes:
    """Passes over the same operands, and what is written after them.

    kinds    per operand: 'v' an element per position, 's' a number per segment of a row or per step of a column, 'c' a count
             (the operand's ref is the number itself)
    dtypes   per operand, by name
    outputs  ('v', expression) per element, ('s', expression) a number per row or column

    Expressions name operand i as argument i; argument len(kinds) + j is the result of pass j.
    """

    kinds: str
    dtypes: tuple[str, ...]
    passes: tuple[Pass, ...]
    outputs: tuple[tuple[str, Expr], ...]
