"""Errors for people: each names the file, the node, the operator, what is wrong and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from graphc.records import record


@record(frozen=True)
class Location:
    """Where a node or a value came from: a file and a place in it ('line 12, column 3', 'node 17')."""

    file: str | None = None
    place: str | None = None
    path: tuple[str, ...] = ()  # the call path of YAML blocks or ONNX functions, outermost first

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.file, self.place) if part)
        if self.path:
            text += f" (in {' > '.join(self.path)})"
        return text


class GraphcError(Exception):
    """Base of every error that is the fault of a model, its inputs or the environment, and not of graphc.

    `message` says what is wrong, `hint` what to do; `op`, `node` and `source` say where.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        op: str | None = None,
        node: str | None = None,
        source: Location | None = None,
    ) -> None:
        self.message, self.hint, self.op, self.node, self.source = message, hint, op, node, source
        super().__init__(message)

    def __str__(self) -> str:
        where = str(self.source) if self.source else ""
        what = " ".join(part for part in (self.op, f"'{self.node}'" if self.node else None) if part)
        head = ": ".join(part for part in (where, what) if part)
        text = f"{head}: {self.message}" if head else self.message
        return f"{text}\n  {self.hint}" if self.hint else text

    def located(self, *, op: str | None = None, node: str | None = None, source: Location | None = None) -> GraphcError:
        """The same error with the places filled in that it does not have yet."""
        self.op, self.node, self.source = self.op or op, self.node or node, self.source or source
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.op, self.node, self.source)


def _rebuild(  # exceptions with keyword arguments do not pickle by themselves
    cls: type[GraphcError],
    message: str,
    hint: str | None,
    op: str | None,
    node: str | None,
    source: Location | None,
) -> GraphcError:
    return cls(message, hint=hint, op=op, node=node, source=source)


class LoadError(GraphcError):
    """A model file that can't be read: truncated, not the format it claims, unknown syntax, unsafe paths."""


class NoNetError(LoadError):
    """A YAML file that holds blocks or defaults for other files, and no net: it is no model, and nothing is wrong with it."""


class TypeRuleError(GraphcError):
    """Operands or attributes that an operator does not accept."""


class UnsupportedError(GraphcError):
    """Something valid that graphc can't do (yet): an operator, an opset, a dtype."""


class MissingPackageError(UnsupportedError, ImportError):
    """A package that only some of graphc needs, and that is not installed."""


class UnreachableError(GraphcError):
    """Another process or machine that does not answer."""


class InputError(GraphcError, ValueError):
    """Wrong arrays handed to a compiled model, or wrong options to `graphc.compile`: names, dtypes, shapes, values."""


class DeviceError(GraphcError):
    """A GPU, or its driver, that failed while it was at work."""


class NoDeviceError(UnsupportedError, DeviceError):
    """A GPU that this machine does not have, or that its driver can't use."""


class OutOfMemoryError(GraphcError, MemoryError):
    """A value, a plan or a result that the machine's memory does not hold."""


def raise_full(error: MemoryError) -> NoReturn:
    """Raises OutOfMemoryError for any error of memory."""
    if isinstance(error, OutOfMemoryError):
        raise error
    raise OutOfMemoryError(f"the machine's memory is full: {error}", hint="smaller inputs, or fewer plans") from error


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raises OutOfMemoryError where memory can't be had within."""
    try:
        yield
    except MemoryError as error:
        raise_full(error)


class CheckError(GraphcError):
    """Several problems of one file, reported together; `problems` holds them."""

    def __init__(self, problems: Sequence[GraphcError], **where: Any) -> None:
        self.problems = list(problems)
        plural = "problem" if len(self.problems) == 1 else "problems"
        lines = "\n".join(f"- {p}" for p in self.problems)
        super().__init__(f"{len(self.problems)} {plural}:\n{lines}", **where)

    def __reduce__(self) -> tuple[Any, ...]:
        return CheckError, (self.problems,)


def of_readings(readings: Iterable[GraphcError]) -> list[GraphcError]:
    """All problems of a file that was read in several ways, of which each raised one of these. What is said of a place in a block
    is what the first reading found there."""
    found: dict[tuple[str | None, str | None, str], GraphcError] = {}
    known: set[tuple[str | None, str | None]] = set()  # places in blocks
    for error in readings:
        inside = set()
        for e in getattr(error, "problems", [error]):
            at = e.source or Location()
            if (at.file, at.place) not in known:
                found.setdefault((at.file, at.place, e.message), e)
            if at.path:
                inside.add((at.file, at.place))
        known |= inside
    return [*found.values()]


class GraphcWarning(UserWarning):
    """Something the user should know of that does not stop the work (no cache directory, a slow path)."""
