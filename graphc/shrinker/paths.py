"""Where a layer's output channels go: through what leaves them apart, to the products that read them.

An operator that no line here knows keeps the channels of the layers before it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from graphc.graph import Graph, Node, Value
from graphc.op import Family
from graphc.quantizer.placement import is_product, weight_axis
from graphc.shrinker.layers import NOT_FINITE, SHARED, is_finite, is_shared

POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
FLAT = ("Reshape", "Flatten", "Squeeze")
NORM = "BatchNormalization"


@dataclass(frozen=True)
class Track:
    """The channels of a layer in a value: along which axis, from its end (-1 is the last), and how many elements each has there."""

    layer: Node
    axis: int
    inner: int = 1


Tracks = Mapping[Value, Track]


@dataclass(frozen=True)
class Onward:
    """How a node reads channels. track: those that its result has of them, if any; cuts: of constant operands, the axes that are
    theirs; grouped: it has as many groups as channels; flat: it makes rows of all features."""

    track: Track | None
    cuts: Mapping[int, int] = field(default_factory=dict)
    grouped: bool = False
    flat: bool = False


def traced(graph: Graph, layers: Collection[Node]) -> tuple[dict[Value, Track], dict[Node, str]]:
    """The values that have channels of layers, and the layers that keep all, with the reason."""
    tracks: dict[Value, Track] = {}
    refused: dict[Node, str] = {}
    chosen = set(layers)
    for node in graph.nodes:
        found = onward(node, tracks, graph)
        if isinstance(found, str):
            for v in node.operands:
                if v in tracks:
                    refused.setdefault(tracks[v].layer, found)
        elif found is not None and found.track is not None:
            tracks[node.output] = found.track
        if node in chosen:
            reason = _whole(node, graph)
            if reason:
                refused.setdefault(node, reason)
            else:
                tracks[node.output] = Track(node, _channel_axis(node))
    for v in graph.outputs:
        if v in tracks:
            refused.setdefault(tracks[v].layer, "its channels are a result of the model")
    return tracks, refused


def onward(node: Node, tracks: Tracks, graph: Graph) -> Onward | str | None:
    """How a node reads channels; why the layer must keep all; None where it reads none."""
    read = {tracks[v] for v in node.operands if v in tracks}
    if not read:
        return None
    reason = f"{node.op.name} '{node.name}' reads them"
    if len(read) > 1 or len(node.outputs) != 1 or node.output.type is None:
        return f"{reason} with those of others" if len({t.layer for t in read}) > 1 else reason
    (track,) = read
    if node.op.family is Family.ELEMENTWISE:
        return _elementwise(node, track, tracks) or f"{reason} with others"
    x = node.inputs[0]
    if x is None or x not in tracks or any(v in tracks for v in node.operands[1:]) or x.type is None:
        return reason
    place = len(x.shape) + track.axis
    if is_product(node):
        return _product(node, track, place, graph) or reason
    if node.op.name == NORM and place == 1:
        known = all(v is not None and v.is_const for v in node.inputs[1:5])
        return Onward(track, dict.fromkeys(range(1, 5), 0)) if known and not node.attrs["training_mode"] else reason
    if node.op.name in POOLS and place == 1:
        return Onward(track)
    if node.op.name == "Transpose":
        after = list(node.attrs["perm"] or reversed(range(len(x.shape)))).index(place)
        return Onward(Track(track.layer, after - len(x.shape), track.inner))
    if node.op.family is Family.REDUCTION:
        return _reduced(node, track, place) or reason
    if node.op.name in FLAT and place == 1:
        return _flattened(node, track) or reason
    return reason


def bias_axis(node: Node) -> int | None:
    """The axis of a layer's output channels in what it adds; None where it adds nothing, or one number to all."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return None if bias is None or not bias.data.ndim or bias.shape[-1] == 1 else bias.data.ndim - 1


def _channel_axis(node: Node) -> int:
    return -1 if node.op.name in ("Gemm", "MatMul") else 1 - len(node.output.shape)


def _whole(node: Node, graph: Graph) -> str:
    """Why the channels of a layer can't be told apart, or ''."""
    if node.output.type is None:
        return "its shape is not known"
    if not is_finite(node):
        return NOT_FINITE
    if node.attrs.get("group", 1) != 1:
        return "its channels are in groups"
    return SHARED if is_shared(node, graph) else ""


def _product(node: Node, track: Track, place: int, graph: Graph) -> Onward | None:
    weights = node.inputs[1]
    if weights is None or is_shared(node, graph):
        return None
    if node.op.name in ("Gemm", "MatMul"):
        last = place == len(node.inputs[0].shape) - 1
        return Onward(None, {1: 1 - weight_axis(node)}) if last else None
    if place != 1 or track.inner != 1:
        return None
    if node.attrs["group"] == 1:
        return Onward(None, {1: 1 - weight_axis(node)})
    if node.op.name == "Conv" and node.attrs["group"] == weights.shape[0] and weights.shape[1] == 1:
        cuts = {1: 0, 2: 0} if len(node.inputs) > 2 and node.inputs[2] is not None else {1: 0}
        return Onward(track, cuts, grouped=True)
    return None


def _elementwise(node: Node, track: Track, tracks: Tracks) -> Onward | None:
    """Constants may have the channels' axis; others must have one element along it."""
    cuts = {}
    for i, v in enumerate(node.inputs):
        if v is None or v in tracks:
            continue
        if v.type is None:
            return None
        if len(v.shape) < -track.axis or v.shape[track.axis] == 1:
            continue
        if not v.is_const:
            return None
        cuts[i] = track.axis
    return Onward(track, cuts)


def _reduced(node: Node, track: Track, place: int) -> Onward | None:
    """A sum or the like over other axes."""
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is None or not axes.is_const or not axes.data.size or "axis" in node.attrs:
        return None
    rank = len(node.inputs[0].shape)
    over = {int(a) % rank for a in axes.data.reshape(-1)}
    if place in over:
        return None
    kept = node.attrs["keepdims"]
    behind = rank - place if kept else sum(a not in over for a in range(place, rank))
    return Onward(Track(track.layer, -behind, track.inner))


def _flattened(node: Node, track: Track) -> Onward | None:
    """[batch, channels, …] -> [batch, channels·…]"""
    before, after = node.inputs[0].shape, node.output.shape
    if len(after) != 2 or after[0] != before[0] or not all(isinstance(d, int) for d in before[1:]):
        return None
    if after[1] != math.prod(before[1:]):
        return None
    return Onward(Track(track.layer, -1, track.inner * math.prod(before[2:])), flat=True)
