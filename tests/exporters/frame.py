"""Models as exporters write them: graphc beside ONNX Runtime and the model itself, on random data."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

import graphc
from graphc.errors import GraphcWarning

TOLERANCE = (
    2e-5  # of the largest magnitude: sums of some hundred products in another order, an Exp or a division behind them
)
Feeds = dict[str, np.ndarray]

REFERENCE = "reference"  # the target that compiles nothing: fast for models that are seen once


@dataclass(frozen=True)
class Exported:
    """An ONNX file, what to feed in each run, and what the model itself says in each, one value per output or None."""

    data: bytes
    feeds: Sequence[Feeds]
    own: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Case:
    """A model and its exporter.

    different   why the file says something else than the model (graphc says what ONNX Runtime does)
    runtime     why ONNX Runtime's results don't count (graphc says what the model does)
    invalid     why the file is not ONNX, so that it must be refused
    declared    why a shape that the file declares is not so, of which graphc must warn
    """

    kind: str
    name: str
    exporter: str
    make: Callable[[], Exported]
    different: str = ""
    runtime: str = ""
    invalid: str = ""
    declared: str = ""
    tolerance: float = TOLERANCE

    def __str__(self) -> str:
        return f"{self.name} ({self.exporter})"


@dataclass(frozen=True)
class Row:
    """How a case went. Differences are relative to the largest magnitude, of numbers; labels are counted that differ.

    own, runtime   (largest difference, labels that differ) from the model itself and from ONNX Runtime; None: not compared
    host           operators on the host
    warned         graphc's warnings
    skipped        why there is no file
    refused        why ONNX Runtime does not run the file
    """

    case: Case
    opset: int = 0
    nodes: int = 0
    own: tuple[float, int] | None = None
    runtime: tuple[float, int] | None = None
    host: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    skipped: str = ""
    refused: str = ""
    failed: str = field(default="", compare=False)

    @property
    def wrong(self) -> list[str]:
        """What should be otherwise."""
        if self.skipped:
            return []
        if self.case.invalid:
            return [] if self.failed and self.refused else ["a file that is not ONNX was taken"]
        if self.failed:
            return [self.failed]
        counted = {"the model": None if self.case.different else self.own}
        counted["ONNX Runtime"] = None if self.case.runtime else self.runtime
        found = [
            f"{_shown(difference)} from {what}"
            for what, difference in counted.items()
            if difference and (not difference[0] <= self.case.tolerance or difference[1])
        ]
        if not any(counted.values()):
            found.append("compared with nothing")
        if self.case.declared:
            return found if self.warned else [*found, "no warning of the declared shape"]
        return found + list(self.warned)

    def __str__(self) -> str:
        start = f"{self.case.kind:12} {self.case.name:34} {self.case.exporter:14}"
        if self.skipped:
            return f"{start} no file: {self.skipped}"
        numbers = f"{self.opset:5} {self.nodes:5} {_shown(self.runtime):>10} {_shown(self.own):>10}"
        refused = self.refused and f"ONNX Runtime: {self.refused}"
        case = self.case
        notes = filter(None, [", ".join(self.host), case.different, case.runtime, case.invalid, case.declared, refused])
        verdict = "WRONG" if self.wrong else "refuse" if self.case.invalid else "agrees"
        return f"{start} {numbers} {verdict:6}  {'; '.join([*notes, *self.wrong])}"


TITLE = f"{'kind':12} {'model':34} {'exporter':14} {'opset':>5} {'nodes':>5} {'runtime':>10} {'model':>10}         on the host; notes"


def _shown(difference: tuple[float, int] | None) -> str:
    if difference is None:
        return "-"
    return f"{difference[1]} labels" if difference[1] else f"{difference[0]:.1e}"


def missing(packages: Iterable[str]) -> str | None:
    """The first of the packages that is not installed."""
    return next((p for p in packages if not importlib.util.find_spec(p)), None)


def _table(value: Any) -> np.ndarray:
    """An output as an array: a sequence of maps has a row for each."""
    return np.array([list(m.values()) for m in value]) if isinstance(value, list) else np.asarray(value)


def difference(got: Any, want: Any, flat: bool = False) -> tuple[float, int]:
    """(largest difference of numbers, labels that differ). flat: only the number of elements must be the same. Raises
    AssertionError where shapes are not."""
    if isinstance(want, list) and want and not isinstance(want[0], dict):
        assert len(got) == len(want), f"{len(got)} tensors, not {len(want)}"
        pairs = [difference(g, w) for g, w in zip(got, want)]
        return float(np.max([d for d, _ in pairs], initial=0)), sum(n for _, n in pairs)
    a, b = _table(got), _table(want)
    if flat and a.size == b.size:
        b = b.reshape(a.shape)
    assert a.shape == b.shape, f"shape {a.shape}, not {b.shape}"
    if b.dtype.kind in "OUSbiu" and a.dtype.kind in "OUSbiu":
        return 0.0, int((a.astype(str) != b.astype(str)).sum())
    kind = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    a, b = a.astype(kind), b.astype(kind)
    scale = max(np.abs(b[np.isfinite(b)]).max(initial=0), 1e-6)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return float(np.where(same, 0, np.abs(a - b) / scale).max(initial=0)), 0


def count(graph: onnx.GraphProto) -> int:
    """Nodes, with those of bodies."""
    bodies = [g for n in graph.node for a in n.attribute for g in [*([a.g] if a.HasField("g") else []), *a.graphs]]
    return len(graph.node) + sum(map(count, bodies))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:110]}"


def _onnx_runtime(case: Exported) -> tuple[list[list[Any]], str]:
    """Results of each run, or why there are none."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(case.data, options, providers=["CPUExecutionProvider"])
        return [session.run(None, feeds) for feeds in case.feeds], ""
    except Exception as error:  # it has classes of its own
        return [], _first_line(error)


def compare(case: Case, target: str = "cpu") -> Row:
    """Export, run and compare."""
    logging.disable(logging.CRITICAL)  # exporters tell much
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            exported = case.make()
        except Exception as error:  # exporters fail in many ways
            return Row(case, skipped=_first_line(error))
        want, refused = _onnx_runtime(exported)
    proto = onnx.load_from_string(exported.data)
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    about = {"opset": opset, "nodes": count(proto.graph), "refused": refused}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GraphcWarning)
        try:
            model = graphc.compile(exported.data, target=target, threads=None if target == REFERENCE else 1)
            results = [model.run(feeds) for feeds in exported.feeds]
            got = [[result[o.name] for o in proto.graph.output] for result in results]
        except Exception as error:  # whatever it is, it is the finding
            return Row(case, **about, failed=f"graphc: {_first_line(error)}")
    warned = tuple(dict.fromkeys(str(w.message).splitlines()[0] for w in caught if w.category is GraphcWarning))
    try:
        return Row(
            case,
            **about,
            own=_largest(got, exported.own, flat=True),
            runtime=_largest(got, want, flat=False),
            host=() if target == REFERENCE else _on_the_host(model, exported.feeds[0]),
            warned=warned,
        )
    except AssertionError as error:
        return Row(case, **about, warned=warned, failed=f"graphc: {error}")


def _largest(got: list[list[Any]], want: Sequence[Sequence[Any]], flat: bool) -> tuple[float, int] | None:
    pairs = [difference(g, w, flat) for gs, ws in zip(got, want) for g, w in zip(gs, ws) if w is not None]
    return (float(np.max([d for d, _ in pairs])), sum(n for _, n in pairs)) if pairs else None  # NaN counts


def _on_the_host(model: graphc.Model, feeds: Feeds) -> tuple[str, ...]:
    plan = model.plan({k: np.shape(v) for k, v in feeds.items()})
    return tuple(sorted({op for s in plan.steps if s.host for op in s.ops}))
