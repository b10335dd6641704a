"""Samples that models are run over: the files of `--data`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphc.cli.described import described
from graphc.cli.files import File, TestSet, expanded
from graphc.cli.sources import Reader
from graphc.cli.specs import specs_of

if TYPE_CHECKING:
    import numpy as np

    from graphc.cli.preparation import Preparation
    from graphc.graph import Graph


def sample_files(data: Path | None) -> list[File | TestSet]:
    """The files of samples, those of a folder in the order of their names. Raises InputError for a folder without any."""
    return [] if data is None else list(expanded([str(data)]))


def paths_of(files: Iterable[File | TestSet]) -> list[str]:
    """Of all files that are read."""
    parts = ((f,) if isinstance(f, File) else (*f.inputs.values(), *f.outputs.values()) for f in files)
    return [f.path for group in parts for f in group if not f.is_stdin]


def read_samples(
    graph: Graph, files: Sequence[File | TestSet], how: Preparation, model: Path
) -> list[dict[str, np.ndarray]] | None:
    """The arrays of each file by the names of inputs; None where there are no files. how: what is made of
    pictures, beside what the model's files say."""
    reader = Reader(specs_of(graph.inputs), described(how, graph.meta.get("described", {}), model))
    return [reader.read(file) for file in files] or None
