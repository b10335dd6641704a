"""A process that checks models: numbers come in by standard input, a line of JSON each goes out.

What ends the process (a fault in machine code) is told from the line before: what was running.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import sys
import traceback
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .case import Case
from .check import Finding, attempt, check
from .generate import generate


def serve(seed: int, names: list[str], rotate: bool, folder: str, seconds: float) -> None:
    """Check models until standard input ends. rotate: each model on one of graphc's CPU targets in turn, not on all."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not disturb the lines

    def tell(**line: Any) -> None:
        out.write(json.dumps(line) + "\n")

    for line in sys.stdin:
        i = int(line)
        tell(at="generate")
        try:
            case = generate(seed, i)
        except Exception:  # a fault of a step
            found = {"engine": "generate", "kind": "error", "text": traceback.format_exc(), "operators": "", "at": ""}
            tell(i=i, kind="?", operators={}, worlds=0, counts={}, findings=[found], explained=[])
            continue
        about = {"seed": seed, "i": i}
        kept = Path(folder) / f"running-{os.getpid()}.pickle"
        kept.write_bytes(pickle.dumps(replace(case, refused=())))
        report = check(case, engines_for(names, i) if rotate else names, lambda name: tell(at=name), seconds)
        findings = [told(f, Path(folder), about, n) for n, f in enumerate(report.findings)]
        tell(
            i=i,
            kind=case.kind,
            operators=case.operators(),
            worlds=len(case.feeds),
            counts={n: asdict(c) for n, c in report.counts.items()},
            findings=findings,
            explained=report.explained,
        )
        kept.unlink()


def engines_for(names: list[str], i: int) -> list[str]:
    """One of the CPU targets in turn, and every other engine."""
    cpus = [n for n in names if n.startswith("cpu")]
    return [n for n in names if n not in cpus or n == cpus[i % len(cpus)]]


def told(finding: Finding, folder: Path, about: dict, n: int) -> dict:
    """The finding as JSON; its case is saved."""
    place = folder / f"{about['seed']}-{about['i']}" / str(n)
    told = {"engine": finding.engine, "kind": finding.kind, "text": finding.text, "operators": finding.operators}
    if finding.case is not None:
        finding.case.save(place, {**about, **told})
        (place / "finding.txt").write_text(
            f"{finding.engine}: {finding.kind}\n{finding.text}\n{text_of(finding.case)}\n"
        )
    return {**told, "at": str(place)}


def text_of(case: Case) -> str:
    import onnx

    return onnx.printer.to_text(case.model)[:20000]


def try_once(path: str, engine: str) -> None:
    """Run a pickled case: whether it ends the process is what the caller wants to know."""
    warnings.simplefilter("ignore")
    case: Case = pickle.loads(Path(path).read_bytes())
    attempt(case, engine)
