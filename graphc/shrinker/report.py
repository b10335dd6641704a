"""What became of every layer, method by method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphc.report import format_bytes
from graphc.tables import WIDTH, text_table
from graphc.words import many


@dataclass(frozen=True)
class LayerReport:
    """A layer and a method.

    name, op  of its node
    made      what became of it: 'rank 12 of 64'; '' where it stays as it is
    kept      why it stays as it is, or ''
    error     of its weights: the Frobenius norm of the differences over that of the weights before this method
    bytes     of its weights in an ONNX file, before and after
    coded     bytes of its weights in the method's compressed storage, if it has one
    """

    name: str
    op: str
    made: str = ""
    kept: str = ""
    error: float | None = None
    bytes: tuple[int, int] = (0, 0)
    coded: int | None = None

    def to_json(self) -> dict[str, Any]:
        known = {"made": self.made, "kept": self.kept, "error": self.error, "coded": self.coded}
        given = {key: value for key, value in known.items() if value not in ("", None)}
        return {"name": self.name, "op": self.op, **given, "bytes": list(self.bytes)}


@dataclass(frozen=True)
class Step:
    """What one method did: its layers in order, the bytes of all constants behind it, and the relative error of the model's results
    so far (None without data)."""

    method: str
    layers: tuple[LayerReport, ...]
    bytes: int
    error: float | None = None

    @property
    def changed(self) -> tuple[LayerReport, ...]:
        return tuple(layer for layer in self.layers if not layer.kept)

    @property
    def coded(self) -> int | None:
        """Bytes of all constants where the layers' weights are in compressed storage; None where the method has none."""
        saved = [layer.bytes[1] - layer.coded for layer in self.layers if layer.coded is not None]
        return self.bytes - sum(saved) if saved else None

    def to_json(self) -> dict[str, Any]:
        error = {"error": self.error} if self.error is not None and math.isfinite(self.error) else {}
        coded = {} if self.coded is None else {"coded": self.coded}
        layers = [layer.to_json() for layer in self.layers]
        return {"method": self.method, "bytes": self.bytes, **coded, **error, "layers": layers}


@dataclass(frozen=True)
class Report:
    """Of a model that was made smaller. before: bytes of its constants; samples: over which errors of results were measured."""

    before: int
    steps: tuple[Step, ...]
    samples: int = 0

    @property
    def bytes(self) -> tuple[int, int]:
        """Of all constants, before and after."""
        return self.before, self.steps[-1].bytes

    @property
    def coded(self) -> int | None:
        """Bytes of all constants in the compressed storage of the last method, if it has one."""
        return self.steps[-1].coded

    @property
    def error(self) -> float | None:
        """The relative error of the results; None without data."""
        return self.steps[-1].error

    def text(self, width: int = WIDTH) -> str:
        """A table of the layers for each method, whose lines have at most so many characters, and what it comes to; as
        `graphc shrink` prints it."""
        lines = []
        for step in self.steps:
            columns, rows = table(step.layers)
            lines.append(f"{text_table(columns, rows, width=width, title=step.method)}\n")
            coded = f", {format_bytes(step.coded)} coded" if step.coded is not None else ""
            lines.append(f"{many(len(step.changed), 'layer')} changed; weights take {format_bytes(step.bytes)}{coded}")
            if step.error is not None:
                said = f"{step.error:.3g}" if math.isfinite(step.error) else "not finite"
                lines.append(f"relative error of the results over {many(self.samples, 'sample')}: {said}")
        before, after = self.bytes
        size = f"{format_bytes(before)} before, {format_bytes(after)} now, {after / before:.2f} of it"
        return "\n".join([*lines, f"all weights: {size}"])

    __str__ = text

    def to_json(self) -> dict[str, Any]:
        return {"samples": self.samples, "before": self.before, "steps": [step.to_json() for step in self.steps]}


def table(layers: Sequence[LayerReport]) -> tuple[list[str], list[list[str]]]:
    """The columns that say something ('>' before those of numbers), and a row for each layer."""
    rows = [
        {
            "layer": layer.name,
            "operator": layer.op,
            "became": layer.made or f"kept: {layer.kept}",
            ">error": "" if layer.error is None else f"{layer.error:.3g}",
            ">bytes before": f"{layer.bytes[0]:,}",
            ">after": f"{layer.bytes[1]:,}",
            ">coded": "" if layer.coded is None else f"{layer.coded:,}",
        }
        for layer in layers
    ]
    columns = [c for c in rows[0] if any(row[c] for row in rows)] if rows else []
    return columns, [[row[c] for c in columns] for row in rows]
