"""Everything that is wrong with an ONNX file, found in one go: what follows from a problem is poisoned and not reported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from graphc.errors import CheckError, GraphcError, LoadError, Location, UnsupportedError
from graphc.frontends.onnx_values import SHAPES_FIRST, UnknownTypeError
from graphc.graph import Value
from graphc.op import Deferred


class TooLarge(LoadError):
    """Ends the conversion at once."""


class Problems:
    """The problems of a file, in the order of its parts."""

    def __init__(self) -> None:
        self.found: list[GraphcError] = []
        self.warnings: list[GraphcError] = []
        self.poisoned: set[Value] = set()  # results of nodes that failed
        self.open = self.partial = False  # does an input have no shape? Were nodes left out because of that?

    def poison(self, name: str) -> Value:
        """The result of what failed."""
        v = Value(name, None)
        self.poisoned.add(v)
        return v

    @contextmanager
    def report(
        self, source: Location, op: str | None = None, node: str | None = None, operands: Iterable = ()
    ) -> Iterator[None]:
        """Collect what goes wrong inside as a problem of this place."""
        try:
            yield
        except TooLarge:
            raise
        except CheckError as error:
            self.found += error.problems
        except (Deferred, UnknownTypeError) as error:
            if not self.open:
                what = f"the {error} must be known to read it" if isinstance(error, Deferred) else error.message
                self.found.append(UnsupportedError(what, hint=SHAPES_FIRST, op=op, node=node, source=source))
            self.partial = True
        except GraphcError as error:
            types = ", ".join(str(v.type or "?") if v is not None else "-" for v in operands)
            if types.strip("?-, ") and "operand types" not in error.message:
                error.message += f"\n  operand types: {types}"
            self.found.append(error.located(op=op, node=node, source=source))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            message = f"operands or attributes that make no sense ({type(error).__name__}: {error})"
            self.found.append(LoadError(message, op=op, node=node, source=source))
