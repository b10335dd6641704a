"""Runs of float and quantised graphs over data, with any of their values as results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.compiler import compile as compile_graph
from graphc.graph import Graph, Value

Progress = Callable[[str, int, int], None]
Feeds = Sequence[Mapping[str, np.ndarray]]


def silent(stage: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Runner:
    """Runs graphs over batches. options: of `graphc.compile`."""

    feeds: Feeds
    options: Mapping[str, Any]
    progress: Progress = silent

    def values(self, graph: Graph, wanted: Sequence[Value], stage: str = "") -> Iterator[list[Any]]:
        """The values of a graph, batch by batch. stage: what the progress is told of."""
        inputs = {v: v.name for v in graph.inputs}
        made = list(dict.fromkeys(v for v in wanted if v not in inputs and not v.is_const))
        names = {v: f"{i}:{v.name}" for i, v in enumerate(made)}
        tapped = replace(graph, outputs=tuple(made), output_names=tuple(names.values()), states=())
        model = compile_graph(tapped, **self.options) if made else None
        for i, feed in enumerate(self.feeds):
            results = {} if model is None else model.run(feed)
            yield [v.data if v.is_const else feed[inputs[v]] if v in inputs else results[names[v]] for v in wanted]
            if stage:
                self.progress(stage, i + 1, len(self.feeds))
