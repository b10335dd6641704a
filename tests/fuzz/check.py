"""A case through all engines, and what came of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import engines, peers
from .case import Case, Options
from .compare import Comparison, Difference, compare, summary
from .engines import RUNTIME, Refusal
from .evaluate import Refused
from .shrink import shrink

At = Callable[[str], None]  # told what runs now, in case that it ends the process


@dataclass
class Finding:
    """Something that must not be. kind: 'difference', 'refusal', 'error', 'crash' or 'hang'. case: the smallest that shows it."""

    engine: str
    kind: str
    text: str
    case: Case | None = None

    @property
    def operators(self) -> str:
        return " ".join(sorted(self.case.operators())) if self.case else ""


@dataclass
class Report:
    """What one model gave. explained: names of known faults and refusals of ONNX Runtime."""

    counts: dict[str, Comparison] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)


def check(case: Case, names: Sequence[str], at: At = lambda name: None, seconds: float = 30.0) -> Report:
    """Run the engines. seconds: for making a failing model small, each time."""
    report = Report()
    for name in names:
        if name == RUNTIME and (deadly := peers.deadly(case)):
            report.explained.append(deadly)
            continue
        at(name)
        finding, count = attempt(case, name)
        if count is not None:
            report.counts[name] = count
        if finding is None:
            continue
        if name == RUNTIME and finding.kind == "refusal":
            known = peers.refusal(case, finding.text)
        else:
            if any(_also(before, name, finding) for before in report.findings):
                continue
            finding = smallest(finding, seconds)
            known = peers.fault(finding.case, finding.text) if name == RUNTIME else None
        if known:
            report.explained.append(known)
        else:
            report.findings.append(finding)
    if RUNTIME in names:
        at(RUNTIME)
        report.findings += filter(None, map(refused_node, case.refused))
    return report


def _also(before: Finding, name: str, finding: Finding) -> bool:
    """Shows the smallest case of an earlier finding the same on this engine? Then it is noted there."""
    found = attempt(before.case, name)[0]
    if found is None or found.kind != before.kind or found.kind != finding.kind:
        return False
    before.engine += f", {name}"
    return True


def attempt(case: Case, engine: str) -> tuple[Finding | None, Comparison | None]:
    """What is wrong with the engine's results, and what was compared."""
    try:
        results = engines.run(engine, case)
    except Refusal as refusal:
        return Finding(engine, "refusal", str(refusal), case), None
    except Exception:  # a fault of the engine, whatever it is
        return Finding(engine, "error", traceback.format_exc(limit=-4), case), None
    count = Comparison()
    differences: list[Difference] = compare(case, engine, results, count)
    return (Finding(engine, "difference", summary(differences), case) if differences else None), count


def smallest(finding: Finding, seconds: float) -> Finding:
    """The same fault with the fewest nodes."""

    def fails(case: Case) -> bool:
        found, _ = attempt(case, finding.engine)
        return found is not None and found.kind == finding.kind and alike(found.text, finding.text)

    small = shrink(finding.case, fails, seconds)
    again, _ = attempt(small, finding.engine)
    return again or finding


def alike(a: str, b: str) -> bool:
    """Errors of the same type."""
    return kind_of(a) == kind_of(b)


def kind_of(text: str) -> str:
    last = text.strip().splitlines()[-1] if text.startswith("Traceback") else ""
    return last.partition(":")[0]


def refused_node(refused: Refused) -> Finding | None:
    """A node that graphc's front end or reference refused, if ONNX Runtime takes it."""
    case = Case("node", refused.model, {}, [refused.feeds], Options())
    if peers.deadly(case):
        return None
    try:
        engines.run(RUNTIME, case)
    except Refusal:
        return None
    if peers.lenient(case, refused.text):
        return None
    return Finding("reference", "refusal", f"ONNX Runtime takes a node: {refused.text}", case)
