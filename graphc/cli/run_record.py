"""What `graphc run --json` tells of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphc.cli.machine import Record
from graphc.types import dtype_name

BEST = 5  # classes of a row


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


def best(array: np.ndarray, labels: Sequence[str] | None, classes: int | None) -> list[Record]:
    """The best classes of each row, best first. classes: how many the last axis has where they have no names; None: it has none."""
    count = classes if labels is None else len(labels)
    if not count:
        return []
    rows = array.reshape(-1, count).astype(np.float64)
    places = np.ndindex(rows.shape[:1] if labels is None else array.shape[:-1])
    return [{"row": at, "classes": _classes(row, labels)} for at, row in zip(places, rows)]


def _classes(row: np.ndarray, labels: Sequence[str] | None) -> list[Mapping[str, object]]:
    order = np.argsort(-row, kind="stable")[:BEST]
    return [{"class": c, "label": None if labels is None else labels[c], "score": row[c]} for c in order]
