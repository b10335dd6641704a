"""Where a list of steps is expanded, and what steps ask of their operands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from graphc.frontends.yaml_args import Env
from graphc.frontends.yaml_literals import Literal
from graphc.frontends.yaml_names import Names, dotted
from graphc.frontends.yaml_operators import Values
from graphc.frontends.yaml_problems import Lost, Poisoned
from graphc.frontends.yaml_step import NetStep
from graphc.graph import Value


@dataclass(frozen=True)
class Frame:
    """Where a list of steps is expanded."""

    env: Env
    names: Names
    path: str  # begins the names of nodes
    weights: str  # begins the names of weights
    calls: tuple[str, ...] = ()  # blocks being expanded, outermost first
    looped: bool = False  # inside a loop names may be given again
    residual: bool = False  # in a path that will be added to others

    def at(self, suffix: str, weights: str | None = None) -> Frame:
        """The frame of something inside this one."""
        return replace(
            self, path=dotted(self.path, suffix), weights=dotted(self.weights, suffix) if weights is None else weights
        )


def dims(step: NetStep, operands: Values) -> dict[str, Callable[[], int]]:
    """$channels and $features: axes 1 and -1 of what comes in."""

    def dim(axis: int, what: str) -> int:
        require(operands)
        if not operands or operands[0] is None:
            raise step.place.error(f"${what} is not known: nothing comes in here")
        shape = operands[0].shape if operands[0].type is not None else ()
        if len(shape) < 2 or not isinstance(shape[axis], int):
            raise step.place.error(f"${what} is not a number here: the input is {operands[0].type or 'not known'}")
        return shape[axis]

    return {"channels": partial(dim, 1, "channels"), "features": partial(dim, -1, "features")}


def is_lost(operands: Iterable[Value | Literal | None]) -> bool:
    """Is one of them the result of a step that has a problem?"""
    return any(isinstance(v, Lost) for v in operands)


def require(operands: Iterable[Value | Literal | None]) -> None:
    """Raises Poisoned where an operand is lost."""
    if is_lost(operands):
        raise Poisoned


def check_count(step: NetStep, operands: Values, wanted: int | None, name: str) -> None:
    """Raises LoadError where there are not as many as wanted (None: any number but 0)."""
    if wanted is None and operands:
        return
    if len(operands) != (wanted if wanted is not None else 1):
        count = ("no value", "one value", "two values", "three values")
        found, takes = (
            "values" if n is None else count[n] if n < len(count) else f"{n} values" for n in (len(operands), wanted)
        )
        if wanted == 1:
            hint = "nothing stands before it: name what it reads: from: NAME" if not operands else "from: NAME"
        else:
            hint = f"name them: from: [{', '.join('abcdefgh'[: wanted or 2])}]"
        given = f"not {found}" if operands else "and there is none here"
        raise step.place.error(f"'{name}' reads {takes}, {given}", hint)
