"""Samples that models are run over: the files of `--data`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphc.cli.feeds import read_arrays
from graphc.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from graphc.graph import Graph


def sample_files(data: Path | None) -> list[Path]:
    """The files of samples, those of a folder in the order of their names."""
    from graphc.pictures import SUFFIXES

    if data is None or not data.is_dir():
        return [] if data is None else [data]
    known = (".npy", ".npz", *SUFFIXES)
    found = sorted(p for p in data.iterdir() if p.suffix.lower() in known and p.is_file())
    if not found:
        raise InputError(f"the folder '{data}' holds no data", hint=f"files of samples: {', '.join(known)}")
    return found


def read_samples(graph: Graph, files: Sequence[Path]) -> list[dict[str, np.ndarray]] | None:
    """The arrays of each file by the names of inputs; None where there are no files."""
    return [read_arrays(graph.inputs, str(path)) for path in files] or None
