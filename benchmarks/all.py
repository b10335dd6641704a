#!/usr/bin/env python3
"""graphc beside other runtimes, on every model of sets.py: the same files, the same inputs, in one run.

    python benchmarks/all.py                        # everything, one and two threads
    python benchmarks/all.py --only mobile,start    # some sets; the other rows are kept

Writes docs/benchmarks.json, docs/benchmarks.svg and the tables of docs/benchmarks.md and README.md. benchmarks/README.md
says how it measures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import dynamic
import numpy as np
from dynamic_workloads import WORKLOADS
from engines import BFLOAT16, DEFAULTS, installed
from measure import Effort, Measured, cold_start, error, measure, starts
from models import light, reference
from results import Results, Row, caption, line, plot, summary, table, write_between_markers
from sets import SETS, Case

ROOT = Path(__file__).resolve().parent.parent
OF_A_PROCESS = ("memory", "start", "compile")  # sets that measure processes, not runs
ALL = [*SETS, *OF_A_PROCESS, "dynamic"]
PROCESSES, COLD_PROCESSES = 5, 3
COMPILE_SECONDS = 6.0


def main() -> None:
    options = _options()
    options.docs.mkdir(parents=True, exist_ok=True)
    results = Results(options.docs / "benchmarks.json")

    def add(row: Row) -> None:
        results.add(row)
        print(line(row), flush=True)

    engines = [e for e in installed() if e in options.engines]
    for threads in options.threads:
        for name in options.only:
            if name in SETS:
                for case in SETS[name].cases:
                    if not options.models or case.name in options.models:
                        _runs(name, case, threads, engines, options, add)
        _processes(threads, engines, options, add)
        if "dynamic" in options.only:
            _dynamic(threads, engines, options, add)
    publish(results.rows, options.docs)
    print(f"\n{summary(results.rows)}")


def _options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=lambda t: [int(n) for n in t.split(",")], default=[1, 2], help="default: 1,2")
    parser.add_argument("--only", type=names, default=ALL, help="sets, with commas; default: all")
    parser.add_argument("--models", type=names, help="only these of the sets' models")
    parser.add_argument("--engines", type=names, default=list(installed()), help="default: all that are installed")
    parser.add_argument("--rounds", type=int, default=Effort.rounds)
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="for a model and an engine, all rounds")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds per model to repeat rounds while other processes are busy"
    )
    parser.add_argument(
        "--clock", choices=["wall", "processor"], default="wall", help="processor: its own time, for one thread"
    )
    parser.add_argument("--reference", action="store_true", help="also compare with NumPy in float64; slow")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "models", help="where model files are made")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where results are written")
    options = parser.parse_args()
    if unknown := set(options.only) - {*ALL}:
        parser.error(f"unknown sets: {', '.join(sorted(unknown))}; known: {', '.join(ALL)}")
    return options


def _runs(
    name: str, case: Case, threads: int, engines: Sequence[str], options: argparse.Namespace, add: Callable[[Row], None]
) -> None:
    """Time a model; its memory is a row of its own in the set 'memory'."""
    chosen = SETS[name]
    model, feeds = case.network.files(options.folder)
    if name == "light":  # memory is that of a process that finds its kernels on disk
        starts(model, feeds, ["graphc"], threads, 1)
    effort = Effort(options.rounds, options.seconds, options.patience, options.clock if threads == 1 else "wall")
    compared = [e for e in engines if not chosen.peers or e in ("graphc", *chosen.peers)]
    if chosen.in_bfloat16:
        compared = [*BFLOAT16, "graphc", "onnxruntime"]
    if chosen.by_default:
        compared = [e for e in engines if f"{e} by default" not in DEFAULTS]
        compared += [e for e in DEFAULTS if e.split()[0] in engines]
    found = measure(model, feeds, compared, threads, effort, chosen.wrong)
    if chosen.in_bfloat16:
        found = found.renamed({"graphc": "float32"} | {e: e.split()[0] for e in BFLOAT16})
    if chosen.by_default:
        found = found.renamed({e: e.split()[0] for e in DEFAULTS})
    errors = _errors(found, model, feeds, options.reference)
    about = {"failed": found.failed, "others": found.others}
    add(Row(name, case.name, threads, found.seconds, case.target, chosen.peers, *errors, **about, clock=effort.clock))
    if name == "light":
        add(Row("memory", case.name, threads, found.memory, 1.0, **about))


def _errors(found: Measured, model: Path, feeds: Path, exact: bool) -> tuple[float | None, float | None]:
    """graphc's distance from ONNX Runtime's results, and from those of the reference."""
    ours, theirs = found.outputs.get("graphc"), found.outputs.get("onnxruntime")
    if ours is None:
        return None, None
    return (
        None if theirs is None else error(ours, theirs),
        error(ours, reference(model, dict(np.load(feeds)))) if exact else None,
    )


def _processes(threads: int, engines: Sequence[str], options: argparse.Namespace, add: Callable[[Row], None]) -> None:
    network = light("resnet50")
    model, feeds = network.files(options.folder)
    if "start" in options.only:
        found = starts(model, feeds, engines, threads, PROCESSES)
        add(Row("start", network.name, threads, found.start, 1.0, ("onnxruntime",), failed=found.failed))
    if "compile" in options.only and threads == max(options.threads):
        seconds = cold_start(model, feeds, threads, COLD_PROCESSES)
        add(Row("compile", network.name, threads, {"graphc": seconds}, COMPILE_SECONDS))


def _dynamic(threads: int, engines: Sequence[str], options: argparse.Namespace, add: Callable[[Row], None]) -> None:
    """Calls whose shapes change (dynamic.py); figures that are no ratios to a peer are rows of their own."""
    for workload in WORKLOADS:
        if not options.models or workload.name in options.models:
            found = dynamic.measure(workload, engines, threads, options.folder, clock=options.clock)
            medians = {engine: float(np.median(seconds)) for engine, seconds in found.seconds.items()}
            for row in dynamic.rows(found):
                about = {
                    "error": found.error,
                    "failed": found.failed,
                    "clock": options.clock if threads == 1 else "wall",
                }
                about |= {} if row.peers else {"measured": row.measured}
                add(Row("dynamic", row.name, threads, medians, row.target, dynamic.PEERS, **about))


def publish(rows: Sequence[Row], docs: Path) -> None:
    """The plot, the page with all rows, and the summary in the README beside the folder."""
    plot(rows, docs / "benchmarks.svg")
    page, readme = docs / "benchmarks.md", docs.parent / "README.md"
    if page.exists():
        write_between_markers(page, "benchmarks", f"{caption(rows)}\n\n{table(rows)}")
    if readme.exists():
        write_between_markers(readme, "benchmarks", f"{caption(rows)}\n\n{summary(rows)}")


if __name__ == "__main__":
    main()
