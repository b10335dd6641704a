"""What a kernel's report of a position out of range means: errors as data, so that they can be kept with a plan."""

from __future__ import annotations

from dataclasses import Field
from typing import Any, ClassVar, Protocol

import numpy as np

from graphc import errors
from graphc.errors import GraphcError, InputError, Location
from graphc.records import record


class Check(Protocol):
    """What a report means: the error for a position, by its number among the positions, and its value. A dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __call__(self, number: int, value: int) -> Exception: ...


@record(frozen=True)
class OutOfRange:
    """The error for a position: number among the positions of `shape`, whose last dim is the axes' if they are several."""

    op: str
    node: str
    source: Location | None
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    axes: tuple[int | str, ...]
    what: str = "index"
    negative: bool = True

    def __call__(self, number: int, value: int) -> InputError:
        k = number % len(self.sizes)
        size = self.sizes[k]
        where = self.axes[k] if isinstance(self.axes[k], str) else f"axis {self.axes[k]}"
        place = [int(i) for i in np.unravel_index(number, self.shape)] if self.shape else []
        return InputError(
            f"{self.what} {value} at {place} is out of range for {where}",
            hint=f"valid: {-size if self.negative else 0} to {size - 1}" if size else f"{where} is empty",
            op=self.op, node=self.node, source=self.source,
        )  # fmt: skip


@record(frozen=True)
class LengthOutOfRange:
    """The error for the length of a sequence of a recurrent layer, of at most `steps`."""

    op: str
    node: str
    source: Location | None
    steps: int

    def __call__(self, number: int, value: int) -> InputError:
        return InputError(
            f"sequence_lens[{number}] is {value}, which does not lie between 0 and {self.steps} steps",
            hint="give the number of valid steps of each sequence",
            op=self.op, node=self.node, source=self.source,
        )  # fmt: skip


@record(frozen=True)
class NotFinite:
    """The error for a position that is NaN or infinite. what: holds it."""

    op: str
    node: str
    source: Location | None
    what: str

    def __call__(self, number: int, value: int) -> InputError:
        message = f"the {self.what} holds NaN or infinite positions"
        return InputError(message, op=self.op, node=self.node, source=self.source)


@record(frozen=True)
class Refused:
    """The error of what must not run. kind: its class."""

    op: str | None
    node: str | None
    source: Location | None
    kind: str
    message: str
    hint: str | None

    @classmethod
    def of(cls, error: GraphcError) -> Refused:
        kind = GraphcError if isinstance(error, errors.CheckError) else type(error)
        return cls(error.op, error.node, error.source, kind.__name__, error.message, error.hint)

    def __call__(self, number: int, value: int) -> GraphcError:
        kind: type[GraphcError] = getattr(errors, self.kind)
        return kind(self.message, hint=self.hint, op=self.op, node=self.node, source=self.source)


@record(frozen=True)
class Among:
    """The error of one of several checks, of steps within a step: `number` is a position's times their number, plus the check's."""

    checks: tuple[Check, ...]

    def __call__(self, number: int, value: int) -> Exception:
        position, which = divmod(number, len(self.checks))
        return self.checks[which](position, value)


CHECKS: dict[str, type] = {c.__name__: c for c in (OutOfRange, LengthOutOfRange, NotFinite, Refused, Among)}
