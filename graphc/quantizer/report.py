"""What became of every layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from graphc.quantizer.noise import decibels
from graphc.quantizer.ranges import Range
from graphc.report import format_bytes
from graphc.tables import WIDTH, text_table
from graphc.words import many


@dataclass(frozen=True)
class LayerReport:
    """A layer that can be quantised. Errors are relative: the norm of differences over that of the values in float, over all data.

    name, op   of its node
    kept       why it stays in float, or ''
    extent     of what it makes, if that becomes bytes
    weights    error of its weights
    output     error of what it makes in the quantised model, with all that comes before it
    alone      error of the model's results when it is the only layer that is quantised
    """

    name: str
    op: str
    kept: str = ""
    extent: Range | None = None
    weights: float | None = None
    output: float | None = None
    alone: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Numbers that JSON has: an error that is no finite number is left out, as is what was not measured."""
        errors = {"weights": self.weights, "output": self.output, "alone": self.alone}
        known = {key: value for key, value in errors.items() if value is not None and math.isfinite(value)}
        extent = {} if self.extent is None else {"range": list(self.extent)}
        return {"name": self.name, "op": self.op, **({"kept": self.kept} if self.kept else {}), **extent, **known}


@dataclass(frozen=True)
class Report:
    """Of a quantised model: how it was made, its layers in order, the error of its results (None without data), and how many bytes
    its constants take before and after."""

    scheme: str
    samples: int
    layers: tuple[LayerReport, ...]
    error: float | None
    bytes: tuple[int, int]

    @property
    def kept(self) -> tuple[LayerReport, ...]:
        return tuple(layer for layer in self.layers if layer.kept)

    def ranking(self) -> list[LayerReport]:
        """The layers, the one first whose quantisation alone does most harm; else by the errors of outputs, or of weights."""
        for key in ("alone", "output", "weights"):
            known = [layer for layer in self.layers if getattr(layer, key) is not None]
            if known:
                return sorted(known, key=lambda layer: -getattr(layer, key))
        return []

    def text(self, width: int = WIDTH) -> str:
        """The table of the layers, whose lines have at most so many characters, and what it comes to; as `graphc quantize` prints it."""
        columns, rows = table(self)
        before, after = self.bytes
        kept = f", {len(self.kept)} kept in float" if self.kept else ""
        lines = [
            f"{text_table(columns, rows, width=width, title=f'{self.scheme}: signal to noise')}\n",
            f"{many(len(self.layers) - len(self.kept), 'layer')} quantised{kept}; "
            f"weights take {format_bytes(after)}, before {format_bytes(before)}",
        ]
        if self.error is not None:
            said = "not finite" if not math.isfinite(self.error) else f"{self.error:.3g} ({shown(self.error)})"
            lines.append(f"relative error of the results over {many(self.samples, 'sample')}: {said}")
        return "\n".join(lines)

    __str__ = text

    def to_json(self) -> dict[str, Any]:
        error = {"error": self.error} if self.error is not None and math.isfinite(self.error) else {}
        layers = [layer.to_json() for layer in self.layers]
        return {"scheme": self.scheme, "samples": self.samples, **error, "bytes": list(self.bytes), "layers": layers}


def table(report: Report) -> tuple[list[str], list[list[str]]]:
    """The columns that say something ('>' before those of numbers), and a row for each layer; errors in dB."""
    ranked = {layer: i + 1 for i, layer in enumerate(report.ranking())}
    rows = [
        {
            "layer": layer.name,
            "operator": layer.op,
            ">range": layer.kept or _extent(layer.extent),
            ">weights": shown(layer.weights),
            ">output": shown(layer.output),
            ">alone": shown(layer.alone),
            ">rank": str(ranked.get(layer, "")),
        }
        for layer in report.layers
    ]
    columns = [c for c in rows[0] if any(row[c] for row in rows)]
    return columns, [[row[c] for c in columns] for row in rows]


def _extent(extent: Range | None) -> str:
    return "" if extent is None else f"{extent.low:.3g} … {extent.high:.3g}"


def shown(error: float | None) -> str:
    """'40.1 dB'; 'exact' for none."""
    if error is None:
        return ""
    return "exact" if error == 0 else f"{decibels(error):.1f} dB"
