#!/usr/bin/env python3
"""Writes docs/operator-table.md: for each operator its opsets, and for each dtype whether the CPU's kernels compute it. `python docs/operator_table.py`;
a test compares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from graphc import pipeline
from graphc.backends.cpu.backend import CpuBackend
from graphc.backends.cpu.options import CpuOptions
from graphc.errors import GraphcError
from graphc.frontends.onnx_versions import NEWEST_OPSET
from graphc.graph import Builder, Graph
from graphc.op import Case, Const, Deferred, Op, Tensor, all_ops
from graphc.types import dtype_from_name

PAGE = Path(__file__).with_name("operator-table.md")
COLUMNS = {
    **{name: (name,) for name in ("float64", "float32", "float16", "bfloat16")},
    "integers": tuple(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)),
    "bool": ("bool",),
}
COMPILED, SOME, HOST = "●", "◐", "○"
INTERNAL = {"Reorder"}  # made by a backend, with layouts
HEAD = f"""
# Where operators run on the CPU

Each operator's samples, with its operands in a dtype, after all passes: {COMPILED} kernels compute all of them, {SOME} some, {HOST} none
(the host does, by NumPy); nothing where the operator does not take the dtype, or has no operand of it. An operator that is
expanded into others counts as they do. Which uses have no kernel stands below the table. `graphc check MODEL` says it of a model.

Opsets are those of the versions that onnx {onnx.__version__} has of an operator, in its domain: since the first it exists, and each is read, with
the meaning that it has there ([how that is tested](conformance.md#operators-and-opsets)).

This page is written by `python docs/operator_table.py`.
""".strip()


@cache
def opsets() -> dict[str, list[int]]:
    """Operator -> the opsets of its versions, of those that ONNX defines."""
    found: dict[str, list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        name = schema.name if schema.domain in ("", "ai.onnx") else f"{schema.domain}::{schema.name}"
        if schema.since_version <= NEWEST_OPSET:
            found.setdefault(name, []).append(schema.since_version)
    return {name: sorted(versions) for name, versions in found.items()}


def versions(name: str) -> str:
    return ", ".join(map(str, opsets().get(name, ())))


class Table:
    """Rows of the page, by operator."""

    def __init__(self) -> None:
        self.backend = CpuBackend(CpuOptions("portable", 1))
        bound = pipeline.bound(self.backend.kernel_operators(), self.backend.compiles)
        self.passes = (*pipeline.SHAPE_FREE, *bound)

    def row(self, op: Op) -> tuple[str, list[str]]:
        """The operator's line, and why uses of it run on the host, but for what the line says."""
        cells, reasons = [], list[str]()
        for names in COLUMNS.values():
            hosted = []
            for name in names:
                for graph in graphs(op, name):
                    try:
                        found = self._on_host(graph)
                    except GraphcError:  # what it is expanded into does not take the dtype
                        continue
                    hosted.append(bool(found))
                    reasons += [r for r in found if r not in reasons and not r.startswith(f"{op.name} has no")]
            cells.append("" if not hosted else HOST if all(hosted) else SOME if any(hosted) else COMPILED)
        return f"| `{op.name}` | {versions(op.name)} | {' | '.join(cells)} |", reasons

    def _on_host(self, graph: Graph) -> list[str]:
        pending = self.backend.outlook(pipeline.run(graph, self.passes))
        return list(dict.fromkeys(p.reason for p in pending if p.host))


def graphs(op: Op, dtype: str) -> Iterator[Graph]:
    """Its samples with operands of a dtype."""
    operands = max(op.min_inputs, 2 if op.variadic else 1)
    for case in op.samples.cases or (Case((Tensor((2, 3)),) * operands),):
        if not any(isinstance(spec, Tensor) and spec.dtype is None for spec in case.inputs):
            continue
        b = Builder(op.name)
        try:
            inputs = [_operand(b, i, spec, dtype) for i, spec in enumerate(case.inputs)]
            made = b.add(op, *inputs, outputs=case.n_outputs, **case.attrs)
        except (GraphcError, Deferred):
            continue
        yield b.build({f"y{i}": v for i, v in enumerate(made if isinstance(made, tuple) else (made,))})


def _operand(b: Builder, i: int, spec: Tensor | Const | None, dtype: str):
    if spec is None:
        return None
    if isinstance(spec, Const):
        return b.constant(np.asarray(spec.value, dtype_from_name(spec.dtype)))
    return b.input(f"x{i}", dtype_from_name(spec.dtype or dtype), spec.shape)


def shown() -> list[Op]:
    """Operators that take numbers and hold no graphs."""
    ops = (op for name, op in all_ops().items() if name not in INTERNAL and not op.holds_graphs)
    return [op for op in ops if any(True for names in COLUMNS.values() for d in names for _ in graphs(op, d))]


def render(ops: Iterable[Op]) -> list[str]:
    """Lines of the table, then of the reasons."""
    table = Table()
    rows, reasons = [], []
    for op in ops:
        row, why = table.row(op)
        rows.append(row)
        reasons += [f"- `{op.name}`: {'; '.join(why)}"] if why else []
    return [*rows, "", *reasons]


def others(ops: Iterable[Op]) -> list[str]:
    """The operators of ONNX that have no row: with the opsets of their versions."""
    rows = {op.name for op in ops}
    return [f"- `{name}`: {versions(name)}" for name in sorted(opsets().keys() - rows) if name in all_ops()]


def page() -> str:
    names, ops = ["operator", "opsets", *COLUMNS], shown()
    head = [f"| {' | '.join(names)} |", "| --- | --- |" + " :-: |" * len(COLUMNS)]
    more = [
        "",
        "The opsets of the others: they hold graphs, take strings, sequences, optionals or maps, or name the dtypes of their operands.",
        "",
    ]
    return "\n".join([HEAD, "", *head, *render(ops), *more, *others(ops)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
