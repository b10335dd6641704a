"""Structured pruning: the output channels whose weights are the least are removed, and what reads them reads fewer.

Channels are ranked by the norm of their weights, as in H. Li, A. Kadav, I. Durdanovic, H. Samet and H. P. Graf, "Pruning filters for efficient
ConvNets" (ICLR 2017, which takes the sum of magnitudes): the Euclidean norm makes the error of the matrix the least.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from graphc.errors import InputError
from graphc.graph import Graph, Node, Value
from graphc.op import get_op
from graphc.passes.rewrite import remove_dead
from graphc.quantizer.placement import is_product, weight_axis
from graphc.shrinker.layers import Rebuilt, layers_of, rows, size_of, weights_of
from graphc.shrinker.paths import Onward, Track, Tracks, bias_axis, onward, traced
from graphc.shrinker.report import LayerReport


@dataclass(frozen=True)
class Channels:
    """Removes this part of every layer's output channels (0.25: a quarter, rounded down), where all that reads them can do without.

    Raises InputError for what is no number between 0 and 1.
    """

    part: float

    def __post_init__(self) -> None:
        require_part("channels", self.part)

    def __str__(self) -> str:
        return f"{100 * self.part:g} % of the output channels removed"

    def __call__(self, graph: Graph, keep: Collection[str]) -> tuple[Graph, tuple[LayerReport, ...]]:
        layers = layers_of(graph, keep)
        tracks, refused = traced(graph, layers)
        left: dict[Node, np.ndarray] = {}
        for node in layers:
            norms = _norms(node)
            removed = int(self.part * len(norms))
            if removed == 0:
                refused.setdefault(node, f"of {len(norms)} channels that is none")
            if node not in refused:
                left[node] = np.sort(np.argsort(-norms, kind="stable")[: len(norms) - removed])
        done = _Removal(graph, tracks, left).run()
        after = {n.output.name: size_of(weights_of(n)) for n in done.nodes if is_product(n)}
        return done, tuple(_report(n, left.get(n), refused.get(n, ""), after[n.output.name]) for n in layers)


def require_part(name: str, part: object) -> None:
    """Raises InputError for what is no number between 0 and 1."""
    if isinstance(part, bool) or not isinstance(part, (int, float)) or not 0 < part < 1:
        raise InputError(f"{name} must be a number between 0 and 1, not {part!r}", hint=f"{name}=0.25")


def _norms(node: Node) -> np.ndarray:
    return np.linalg.norm(rows(weights_of(node).data, weight_axis(node)).astype(np.float64), axis=1)


def _report(node: Node, left: np.ndarray | None, kept: str, after: int) -> LayerReport:
    sizes = size_of(weights_of(node)), after
    if left is None:
        return LayerReport(node.name, node.op.name, kept=kept, bytes=sizes)
    norms = _norms(node)
    whole = float(np.linalg.norm(norms))
    error = float(np.linalg.norm(np.delete(norms, left))) / whole if whole else 0.0
    return LayerReport(node.name, node.op.name, f"{len(left)} of {len(norms)} channels", "", error, sizes)


class _Removal:
    """left: of each layer that loses some, the channels that stay."""

    def __init__(self, graph: Graph, tracks: Tracks, left: Mapping[Node, np.ndarray]) -> None:
        self.graph, self.tracks, self.left = graph, tracks, left
        self.sweep = Rebuilt(graph)
        self.cut: dict[tuple[Value, int, bytes], Value] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            track = next((self.tracks[v] for v in node.operands if v in self.tracks), None)
            index = None if track is None else self._index(track)
            if index is None and node not in self.left:
                self.sweep.copy(node)
            else:
                found = None if index is None else onward(node, self.tracks, self.graph)
                assert found is None or isinstance(found, Onward), "what can't follow is refused"
                self._remake(node, found, index)
        return remove_dead(self.sweep.finish())

    def _index(self, track: Track) -> np.ndarray | None:
        """The features that stay along the axis of a tracked value."""
        left = self.left.get(track.layer)
        return None if left is None else (left[:, None] * track.inner + np.arange(track.inner)).reshape(-1)

    def _remake(self, node: Node, found: Onward | None, index: np.ndarray | None) -> None:
        inputs, op, attrs = [self.sweep(v) for v in node.inputs], node.op, dict(node.attrs)
        if found is not None and index is not None:
            for i, axis in found.cuts.items():
                inputs[i] = self._taken(inputs[i], axis, index)
            if found.grouped:
                attrs["group"] = len(index)
            if found.flat:
                inputs, op, attrs = [inputs[0], self._row(found)], get_op("Reshape"), {}
        if node in self.left:
            inputs[1] = self._taken(inputs[1], weight_axis(node), self.left[node])
            bias = bias_axis(node)
            if bias is not None:
                inputs[2] = self._taken(inputs[2], bias, self.left[node])
        self.sweep.stands_for(node.output, self.sweep.remake(node, *inputs, op=op, attrs=attrs))

    def _row(self, found: Onward) -> Value:
        """The shape of rows of all features that stay."""
        assert found.track is not None, "features are of channels"
        features = len(self.left[found.track.layer]) * found.track.inner
        return self.sweep.weights(np.array([0, features]), "row")

    def _taken(self, v: Value | None, axis: int, index: np.ndarray) -> Value:
        assert v is not None and v.is_const, "what is cut is constant"
        key = v, axis % v.data.ndim, index.tobytes()
        if key not in self.cut:
            self.cut[key] = self.sweep.weights(np.take(v.data, index, axis), f"{v.name}_left")
        return self.cut[key]
