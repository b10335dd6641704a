"""What `graphc run --json` tells of arrays and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.cli.answers import Classes
from graphc.cli.machine import Record
from graphc.cli.run_files import Answer
from graphc.objects import tensors_of
from graphc.types import dtype_name


def array_record(name: str, array: np.ndarray) -> Record:
    return {"name": name, "dtype": dtype_name(array.dtype), "shape": array.shape}


def numbers(array: np.ndarray) -> Record:
    """The smallest, the mean and the largest of the numbers, and how many are NaN; None of what has none."""
    nothing = {"min": None, "mean": None, "max": None}
    if array.dtype.kind in "OUS" or not array.size:
        return {**nothing, "nan": 0}
    x = array.astype(np.float64)
    bad = int(np.isnan(x).sum())
    known = nothing if bad == x.size else {"min": np.nanmin(x), "mean": np.nanmean(x), "max": np.nanmax(x)}
    return {**known, "nan": bad}


def best(classes: Classes, output: str, value: Any) -> list[Record]:
    """The best classes of each row, best first, of an output that is scores."""
    found = classes.of(output, value)
    if found is None:
        return []
    return [
        {"row": at, "classes": [{"class": c.number, "label": c.label, "score": c.score} for c in row]}
        for at, row in zip(np.ndindex(found[0].shape[:-1]), classes.best(*found))
    ]


def output_records(classes: Classes, results: Mapping[str, Any], rows: bool = False) -> list[Record]:
    """Of each result, with those of a sequence or a map under names of their own. rows: best classes of rows alone, not of each
    position in them."""
    return [
        array_record(key, array)
        | numbers(array)
        | {"best": best(classes, key, array) if not rows or classes.ranked(key, array) is not None else []}
        for name, value in results.items()
        for key, array in tensors_of(name, value).items()
    ]


def answer_record(classes: Classes, answer: Answer, found: tuple[float, list[str]] | None) -> Record:
    """Of a file: its results, and what is wrong with it. found: how far they are from what is expected, and what differs."""
    record: Record = {"file": answer.sample.name, "error": answer.error}
    record["outputs"] = output_records(classes, answer.results, rows=True)
    return record if found is None else record | {"difference": found[0], "different": found[1]}
