"""Rows of measurements, the file that keeps them, and what is said about them: tables and a plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from engines import ENGINES, installed
from sets import SETS

UNITS = {"memory": (2**20, "MiB"), "start": (1, "s"), "compile": (1, "s")}  # of a set; the others are times in ms


@dataclass(frozen=True)
class Row:
    """One model with one number of threads.

    values            by engine: seconds, or bytes in the set 'memory'
    target            largest ratio to the best peer, or largest value where the set has no peers
    error             largest difference from ONNX Runtime over the result's scale
    reference_error   the same from NumPy in float64
    failed            engines that can't run the model, and what they said
    measured          what the target limits, where that is not the ratio to a peer
    others            CPUs that other processes used meanwhile
    clock             what measured the time: 'wall', or 'processor' for the process's own
    """

    set: str  # noqa: A003
    model: str
    threads: int
    values: dict[str, float]
    target: float
    peers: tuple[str, ...] = ()
    error: float | None = None
    reference_error: float | None = None
    failed: dict[str, str] = field(default_factory=dict)
    measured: float | None = None
    others: float = 0.0
    clock: str = "wall"
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    @property
    def key(self) -> tuple[str, str, int]:
        return self.set, self.model, self.threads

    @property
    def ratio(self) -> float | None:
        """graphc over the best peer: below 1, graphc is better."""
        peers = [v for engine, v in self.values.items() if engine != "graphc" and engine in (self.peers or ENGINES)]
        return self.values["graphc"] / min(peers) if peers and "graphc" in self.values else None

    @property
    def score(self) -> float:
        """What the target limits; infinite where graphc failed."""
        score = self.values.get("graphc") if self.set == "compile" else self.ratio
        score = score if self.measured is None else self.measured
        return float("inf") if score is None else score


class Results:
    """The rows of a JSON file; a row replaces the one of the same set, model and threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        stored = json.loads(path.read_text())["rows"] if path.exists() else []
        self._rows = {row.key: row for row in (Row(**fields) for fields in stored)}

    @property
    def rows(self) -> list[Row]:
        """In the order of the sets and of their models; those of other sets as they came."""
        names = [*SETS, *UNITS, "dynamic"]
        cases = {(name, case.name): i for name, chosen in SETS.items() for i, case in enumerate(chosen.cases)}
        cases |= {("memory", model): i for (name, model), i in cases.items() if name == "light"}
        return sorted(
            self._rows.values(), key=lambda r: (r.threads, names.index(r.set), cases.get((r.set, r.model), len(cases)))
        )

    def add(self, row: Row) -> None:
        self._rows[row.key] = row
        text = json.dumps({**machine(), "rows": [asdict(r) for r in self.rows]}, indent=1)
        self._path.write_text(text + "\n")


def machine() -> dict[str, Any]:
    """Where and with what the measuring is done."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "versions": {**installed(), "numpy": np.__version__, "python": platform.python_version()},
    }


def cpu_name() -> str:
    """As the machine calls it, with LLVM's name for what it is: 'AMD EPYC' is many."""
    import llvmlite.binding as llvm

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((text.split(":", 1)[1].strip() for text in lines if text.startswith("model name")), platform.machine())
    return f"{name} ({llvm.get_host_cpu_name()})"


# --- text -------------------------------------------------------------------------------------------------------------
def line(row: Row) -> str:
    values = ", ".join(f"{engine} {_value(row, engine)}" for engine in row.values)
    failed = "".join(f"; {engine} failed: {said}" for engine, said in row.failed.items())
    error = "" if row.error is None else f"; error {row.error:.0e}"
    exact = "" if row.reference_error is None else f", {row.reference_error:.0e} of float64"
    verdict = "" if row.score <= row.target else " MISSED"
    text = f"{row.set} {row.model} ×{row.threads}: {values}; {row.score:.2f} (target {row.target:.2f}{verdict})"
    return f"{text}{error}{exact}; others used {row.others:.2f} CPUs{failed}"


def _value(row: Row, engine: str) -> str:
    if engine not in row.values:
        return "failed" if engine in row.failed else ""
    scale, unit = UNITS.get(row.set, (1e-3, "ms"))
    mark = "" if row.clock == "wall" else "ᵖ"
    return f"{row.values[engine] / scale:.3g} {unit}{mark}"


def geometric_mean(ratios: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(ratios)))))


def summary(rows: Sequence[Row]) -> str:
    """A line for each set and number of threads, in Markdown."""
    body = []
    for name, threads in dict.fromkeys((r.set, r.threads) for r in rows):
        of_set = [r for r in rows if (r.set, r.threads) == (name, threads)]
        worst = max(of_set, key=lambda r: r.score / r.target)
        missed = sum(r.score > r.target for r in of_set)
        if name == "compile":
            cells = ["", f"{worst.score:.1f} s", f"{worst.target:.1f} s"]
        else:
            limit = SETS[name].target if name in SETS else None
            mean = geometric_mean(r.score for r in of_set if r.measured is None)
            cells = [f"{mean:.2f}" + (f" (target {limit:.2f})" if limit else "")]
            cells += [f"{worst.score:.2f} ({worst.model})", f"{worst.target:.2f}"]
        body.append([name, str(threads), *cells, f"{len(of_set) - missed} of {len(of_set)}"])
    return _markdown(["set", "threads", "mean", "furthest from its target", "its target", "reached"], body)


def table(rows: Sequence[Row]) -> str:
    """Everything, in Markdown."""
    engines = [e for e in ENGINES if any(e in r.values for r in rows)]
    head = ["set", "model", "threads", *engines, "ratio", "target", "difference from ONNX Runtime"]
    body = []
    for r in rows:
        figure = r.ratio if r.measured is None else r.measured
        ratio = "" if figure is None else f"{figure:.2f}" if r.score <= r.target else f"**{figure:.2f}**"
        error = "" if r.error is None else f"{r.error:.0e}"
        body.append([r.set, r.model, str(r.threads), *(_value(r, e) for e in engines), ratio, f"{r.target:.2f}", error])
    return _markdown(head, body)


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))


def caption(rows: Sequence[Row]) -> str:
    about = machine()
    engines = ", ".join(f"{name} {about['versions'][name]}" for name in ENGINES if name in about["versions"])
    days = sorted({r.date[:10] for r in rows} or {about["date"]})
    text = f"{days[-1]}, {about['cpu']}, {about['cores']} cores, float32 but for half, precision, bfloat16, weights and defaults: {engines}."
    if len(days) > 1:
        text += f" Rows that were not measured again are older, the first of {days[0]}, some with other versions."
    if any(r.clock == "processor" for r in rows):
        text += " Times marked ᵖ are processor time: the machine did other things too."
    return text


def write_between_markers(page: Path, name: str, text: str) -> None:
    """Replace what stands between the two markers of this name. Raises ValueError where the page lacks them."""
    begin, end = f"<!-- {name}: begin (written by benchmarks/all.py) -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} lacks the lines '{begin}' and '{end}'")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def plot(rows: Sequence[Row], path: Path) -> None:
    """Ratios as bars with their targets, a panel for each number of threads."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "graphc"}
    )  # text stays text, and no run differs
    from matplotlib import pyplot

    threads = sorted({r.threads for r in rows})
    panels = [[r for r in rows if r.threads == n and r.ratio is not None] for n in threads]
    size = (6 * len(panels), 0.6 + 0.2 * max(map(len, panels)))
    figure, axes = pyplot.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    for axis, n, panel in zip(axes[0], threads, panels):
        names = [f"{r.set}: {r.model}" for r in panel]
        colours = ["#2a9d8f" if r.score <= r.target else "#e76f51" for r in panel]
        axis.barh(names, [r.ratio for r in panel], color=colours)
        axis.plot([r.target for r in panel], names, "k|", label="target")
        axis.axvline(1, color="grey", linewidth=0.8)
        axis.invert_yaxis()
        axis.margins(y=0.005)
        axis.set_xlabel("time over the best peer's: less is better, 1 is as fast", fontsize=8)
        axis.tick_params(axis="x", top=True, labeltop=True)
        axis.legend(fontsize=7, loc="lower right")
        axis.grid(axis="x", alpha=0.35)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7)
        axis.set_title(f"graphc over the best peer, {n} thread{'s' * (n > 1)}", fontsize=9)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
