"""Programs that do a failing check again, to run, to debug and to keep as a test."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc import own
from graphc.errors import GraphcError
from graphc.graph import Graph
from graphc.objects import ObjectType
from graphc.testing.uses import Use
from graphc.types import dtype_name

FOLDER = "graphc-failures"
MOST = 4000  # elements of an array that is written as numbers


class _Unwritten(Exception):
    """No text makes this value."""


def write_use(use: Use, targets: Sequence[str], folder: Path, tolerance: float | None = None) -> str:
    """Write the program, over one of the same operator and targets. Gives a line that says how to run it."""
    words = [use.op.name.replace("::", "."), *(t.replace(":", "-") for t in targets)]
    path = folder / f"{'-'.join(words)}.py"
    try:
        text = program(use, targets, tolerance)
    except _Unwritten as reason:
        return f"no file is written: {reason}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        return f"{path} can't be written: {error.strerror}"
    return f"again: python {path}"


def program(use: Use, targets: Sequence[str], tolerance: float | None = None) -> str:
    """A Python program that makes the use and checks it. Raises _Unwritten."""
    file = own.FILES.get(use.op.name)
    load = [f"load_file({os.fspath(file)!r})"] if file else []
    operands = "".join(f"        {_literal(a)},\n" for a in use.arrays)
    settings = [
        f"targets={tuple(targets)!r}",
        *([f"tolerance={tolerance!r}"] if tolerance is not None else []),
    ]
    return "\n".join([
        f'"""{use.op.name}: what a check of it has found."""',
        "",
        "import ml_dtypes  # noqa: F401  (names of dtypes)",
        "import numpy as np",
        "from numpy import inf, nan  # noqa: F401",
        "",
        "from graphc.testing import Use, check, load_file",
        "",
        *load,
        "use = Use.of(",
        f"    {use.op.name!r},",
        f"    [\n{operands}    ],",
        f"    {_literal(dict(use.attrs))},",
        f"    n_outputs={use.n_outputs},",
        f"    constants={sorted(use.constants)},",
        ")",
        f"check(use, {', '.join(settings)})",
        'print("right")',
        "",
    ])  # fmt: skip


def _literal(value: Any) -> str:
    match value:
        case np.ndarray() if value.size > MOST:
            raise _Unwritten(f"an operand has {value.size} elements")
        case np.ndarray():
            if value.dtype.kind == "O" and not all(isinstance(x, str) for x in value.flat):
                raise _Unwritten("an operand holds objects")
            dtype = dtype_name(value.dtype) if value.dtype.kind != "O" else "object"
            numbers = (value if value.dtype.kind in "biuO" else value.astype(_wide(value.dtype))).tolist()
            return f"np.array({numbers!r}, {dtype!r}).reshape({value.shape})"
        case np.dtype():
            return f"np.dtype({'object' if value.kind == 'O' else dtype_name(value)!r})"
        case dict():
            return "{" + ", ".join(f"{key!r}: {_literal(item)}" for key, item in value.items()) + "}"
        case Graph() | ObjectType():
            raise _Unwritten(f"an attribute is a {type(value).__name__}")
        case _:
            return repr(value)


def _wide(dtype: np.dtype) -> np.dtype:
    """A dtype that holds these numbers and has them in Python."""
    return np.dtype("complex128" if dtype.kind == "c" else "float64")


def write_graph(graph: Graph, feeds: Mapping[str, np.ndarray], folder: Path, target: str) -> str:
    """Write the graph as an ONNX file, and its inputs beside it. Gives the command that compares it node by node."""
    from graphc.frontends.onnx_export import to_onnx

    domains = {name.rpartition("::")[0] for name in (n.op.name for n in graph.nodes) if "::" in name}
    try:
        text = to_onnx(graph, domains=domains).SerializeToString()
    except GraphcError as error:
        return f"no file is written: {error}"
    stem = "-".join(dict.fromkeys(n.op.name.replace("::", ".") for n in graph.nodes))[:60]
    path = folder / f"{stem}-{target.replace(':', '-')}.onnx"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        np.savez(path.with_suffix(".npz"), **{n: np.asarray(a) for n, a in feeds.items()}, allow_pickle=False)
    except OSError as error:
        return f"{path} can't be written: {error.strerror}"
    files = sorted({own.FILES[n.op.name] for n in graph.nodes if n.op.name in own.FILES})
    imports = "".join(f" --import {shlex.quote(f)}" for f in files)
    given = f" --input {shlex.quote(str(path.with_suffix('.npz')))}" if feeds else ""
    return f"again: graphc compare {shlex.quote(str(path))}{given} --target {target}{imports}"
