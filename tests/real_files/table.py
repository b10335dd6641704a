"""Results as a line of text and as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .run import UNSTEADY

Result = dict[str, Any]

HEAD = """\
# ONNX files of packages

Files that packages of PyPI and npm bring along, each in graphc and in ONNX Runtime, on random inputs of the shapes that they are
used with, one thread each. A ratio is graphc's time over ONNX Runtime's: processor time, medians, in turns; *start* is a fresh process
up to its first result, where both have seen the file before. *Difference* is the largest, over the largest magnitude of the
output; ¹: when inputs change by a millionth, ONNX Runtime's own results may change by more than 0.01. Such a file enlarges rounding, and the
number hangs on the input (`graphc compare` tells what nodes differ by). Of a start, about 110 ms are Python and NumPy, for both. Written by `python -m tests.real_files --out FOLDER` (downloads, runs) and then `… --table`.
"""


def line(result: Result) -> str:
    """What a terminal shows of a file."""
    said = result.get("check", {})
    notes = [*said.get("said", ()), *(f"host: {h}" for h in said.get("host", ()))]
    if "failed" in result:
        return "\n    ".join([f"FAILED {result['name']}: {result['failed']}", *notes])
    marks = "" if agrees(result) else "WRONG "
    numbers = f"{ratio(result, 'seconds'):.2f} start {ratio(result, 'start'):.2f} error {result['error']:.1g}"
    return "\n    ".join([f"{marks}{numbers} {result['name']}", *notes])


def agrees(result: Result) -> bool:
    return result["error"] <= result["tolerance"]


def unsteady(result: Result) -> bool:
    """Do results move by more than a code when inputs move by rounding? Of results that were kept before that was asked: no."""
    return result.get("moved", 0.0) > UNSTEADY


def ratio(result: Result, what: str) -> float:
    return result[what]["graphc"] / result[what]["onnxruntime"]


def page(results: Sequence[Result]) -> str:
    done = [r for r in results if "failed" not in r]
    rows = [_row(r) for r in results]
    head = [
        "package",
        "file",
        "size",
        "opset",
        "operators",
        "in NumPy",
        "difference",
        "ms",
        "ratio",
        "start, ms",
        "ratio",
    ]
    table = [_cells(head), _cells(["---"] * 2 + ["--:"] * 9), *map(_cells, rows)]
    return "\n".join([HEAD, *summary(results, done), "", *table, ""])


def summary(results: Sequence[Result], done: Sequence[Result]) -> list[str]:
    runs, starts = ([ratio(r, what) for r in done] for what in ("seconds", "start"))
    packages = {p for r in results for p in r["packages"]}
    silent = sum(not r["check"]["said"] for r in done)
    return [
        f"{len(results)} files of {len(packages)} packages: {len(done)} run, {sum(map(agrees, done))} of them agree, and of {silent} "
        "`graphc check` has nothing to say. "
        f"Time: geometric mean of the ratios {np.exp(np.mean(np.log(runs))):.2f}, largest {max(runs):.2f}. "
        f"Start: median {np.median(starts):.2f}, largest {max(starts):.2f}."
    ]


def _row(r: Result) -> list[str]:
    package = r["packages"][0]
    inside = r["name"].removeprefix(f"{package}/")
    others = len(set(r["packages"])) - 1
    name = package + (f" and {others} more" if others else "")
    start = [name, inside, _size(r["size"]), str(r.get("opset", "")), str(sum(r.get("operators", {}).values()))]
    if "failed" in r:
        return [*start, r["failed"].replace("|", "\\|"), *[""] * 5]
    host = ", ".join(h.split(",")[0] for h in r["check"]["host"])
    difference = f"{r['error']:.0e}" + ("" if agrees(r) else " **wrong**") + (" ¹" if unsteady(r) else "")
    times = [x for what in ("seconds", "start") for x in (f"{r[what]['graphc'] * 1e3:.3g}", f"{ratio(r, what):.2f}")]
    return [*start, host, difference, *times]


def _size(n: int) -> str:
    return f"{n / 1e6:.3g} MB"


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
