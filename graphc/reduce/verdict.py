"""What is wrong with a case: it is compiled, run and compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphc.cli.difference import Difference, error_of
from graphc.cli.rounding import OWN, drift
from graphc.errors import GraphcError, MissingPackageError, NoDeviceError
from graphc.objects import given_back
from graphc.reduce.case import Case

LACKING = (MissingPackageError, NoDeviceError)
_NAMES = re.compile(r"'[^']*'|[-+]?[\d.]+")


@dataclass(frozen=True)
class Trial:
    """How a case is tried.

    options: of `graphc.compile`; against: 'reference' (NumPy) or 'onnxruntime'; tolerance: as of `graphc compare`; imports: Python
    files to run before, as those of operators of one's own; limit: seconds after which a run counts as one that hangs.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    against: str = "reference"
    tolerance: float = 1e-4
    imports: tuple[str, ...] = ()
    limit: float = 120.0


@dataclass(frozen=True)
class Verdict:
    """kind: '' where nothing is wrong, 'difference', 'error', 'crash', 'hang'; what: names it among others of a kind; text: for
    people; results: numbers of those that differ."""

    kind: str = ""
    what: str = ""
    text: str = ""
    results: tuple[int, ...] = ()
    of_machine: bool = False  # an error that is no fault of the case

    def __bool__(self) -> bool:
        return bool(self.kind)

    def is_like(self, other: Verdict) -> bool:
        return (self.kind, self.what) == (other.kind, other.what)


def judged(case: Case, trial: Trial) -> Verdict:
    """Compile, run and compare, in this process."""
    import graphc

    try:
        expected = expectations(case, trial.against)
    except Exception:  # what the reference does not take either is no case of its own
        expected = None
    try:
        found = graphc.compile(case.graph, **trial.options).run(case.feeds)
    except Exception as error:
        if expected is None and trial.against != "reference":
            return Verdict()
        told = f"{type(error).__name__}: {error}"
        return Verdict("error", _kind_of(error), told, of_machine=isinstance(error, LACKING))
    if expected is None:
        return Verdict()
    return _compared(case, found, expected, trial)


def _kind_of(error: Exception) -> str:
    """Its class and what it says, without names and numbers."""
    message = error.message if isinstance(error, GraphcError) else str(error)
    return f"{type(error).__name__}: {re.sub(_NAMES, '…', message.partition(chr(10))[0])}"


def expectations(case: Case, against: str) -> dict[str, Any]:
    """Results by name. Raises what the other raises."""
    if against == "onnxruntime":
        from graphc.reduce.onnxruntime import run

        return run(case.graph, case.feeds)
    from graphc.backends import reference

    return {name: given_back(a) for name, a in reference.run(case.graph, case.feeds).items()}


def _compared(case: Case, found: Mapping[str, Any], expected: Mapping[str, Any], trial: Trial) -> Verdict:
    graph, makers = case.graph, case.graph.producers()
    off: list[tuple[int, Difference]] = []
    for i, (name, value) in enumerate(zip(graph.output_names, graph.outputs)):
        if value in makers and makers[value].deterministic:
            d = Difference(name, makers[value], value, found[name], expected[name])
            if not d.within(trial.tolerance):
                off.append((i, d))
    if not off:
        return Verdict()
    try:
        numpy = expectations(case, "reference") if trial.against != "reference" else expected
        wanted = {d.value: numpy[d.name] for _, d in off}
        moved = drift(graph, case.feeds, wanted, lambda text: None)  # what rounding explains is no difference
    except GraphcError:  # it is not known what rounding does
        moved = {}
    off = [(i, d) for i, d in off if d.error > OWN * moved.get(d.value, 0.0)]
    if not off:
        return Verdict()
    first = off[0][1]
    said = (
        f"'{first.name}' of {first.node.op.name} differs by {error_of(first.actual, first.expected):.2e} of its scale"
    )
    return Verdict("difference", "", said, tuple(i for i, _ in off))
