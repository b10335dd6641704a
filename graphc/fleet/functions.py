"""What the tasks of an engine call: plain functions, of a model or of its path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from graphc.model import Model
from graphc.pickled import opened

Feeds = Mapping[str, Any]


def run(source: Model | str | os.PathLike[str], feeds: Feeds, **options: Any) -> dict[str, np.ndarray]:
    """Results by name. source: a model, or the path of its file, which each process compiles once, with the arguments of
    `graphc.compile`. Raises what that and `Model.run` raise."""
    return opened(source, **options).run(feeds)


def run_all(
    source: Model | str | os.PathLike[str], feeds: Iterable[Feeds], **options: Any
) -> Iterator[dict[str, np.ndarray]]:
    """The same for the inputs of a partition, one after the other (Spark's mapPartitions, Dask's bags)."""
    model = opened(source, **options)
    for one in feeds:
        yield model.run(one)
