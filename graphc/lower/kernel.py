"""Kernels: a name, and what specialises it; which code that is, a backend knows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from graphc.expr import Expr


@dataclass(frozen=True, eq=False)
class Kernel:
    """Names a kernel of a backend: its generator and what specialises it (with a faithful repr).

    Kernels are compared by that text: 0.0 and -0.0, or 1 and True, are equal as numbers and other code.
    """

    name: str
    params: tuple = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __str__(self) -> str:
        words = [_numbers(p) if isinstance(p, tuple) else str(p) for p in self.params]
        text = "_".join(w for w in words if w)
        return f"{self.name}_{text}" if text else self.name

    @cached_property
    def spec(self) -> str:
        """What the kernel is, in full."""
        return repr(self)

    @cached_property
    def symbol(self) -> str:
        safe = "".join(c if c.isalnum() else "_" for c in str(self))[:48]
        return f"graphc_{safe}_{hashlib.sha256(self.spec.encode()).hexdigest()[:12]}"


def _numbers(params: tuple) -> str | None:
    return ".".join(map(str, params)) if all(isinstance(n, int) for n in params) else None


@dataclass(frozen=True)
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
