"""What exporters write in several ways, as the one operator that backends know for feature maps."""

from __future__ import annotations

from graphc.graph import Node, Value
from graphc.passes.identities import permutation
from graphc.passes.rewrite import Rewrite, Skip, Sweep, same_type

feature_maps = Rewrite("feature_maps")


@feature_maps.on("ReduceMean")
def mean_over_space(node: Node, sweep: Sweep) -> Value | Skip | None:
    """The mean over all spatial axes of a convolution's or pool's result as GlobalAveragePool."""
    x = node.inputs[0]
    if not node.call.has(1) or not _is_feature_map(x, sweep) or len(x.shape) < 3:
        return None
    rank = len(x.shape)
    if sorted(a % rank for a in node.call.ints(1)) != list(range(2, rank)):
        return Skip("it is not over all spatial axes")
    if node.attrs["keepdims"]:
        return sweep.remake(node, x, op="GlobalAveragePool")
    return sweep.remake(node, sweep.add("GlobalAveragePool", x), op="Flatten", attrs={"axis": 1})


def _is_feature_map(x: Value, sweep: Sweep) -> bool:
    """Does it come from a windowed operator, with nothing but elementwise ones behind that?"""
    producer = sweep.producer(x)
    while producer is not None and producer.op.elementwise:
        producer = sweep.producer(producer.inputs[0])
    return producer is not None and producer.op.windowed


@feature_maps.on("Reshape")
def shuffle_of_channels(node: Node, sweep: Sweep) -> Value | Skip | None:
    """[N, C, …] as [N, g, C/g, …], the two transposed, and back: ChannelShuffle."""
    swapped = sweep.producer(node.inputs[0], "Transpose")
    apart = swapped and sweep.producer(swapped.inputs[0], "Reshape")
    if not swapped or not apart:
        return None
    x, split = apart.inputs[0], apart.output
    if len(x.shape) < 2 or len(split.shape) != len(x.shape) + 1 or permutation(swapped)[:3] != [0, 2, 1]:
        return None
    if permutation(swapped)[3:] != list(range(3, len(split.shape))) or not same_type(node.output, x):
        return None
    groups, own = split.shape[1:3]
    if (split.shape[0], *split.shape[3:]) != (x.shape[0], *x.shape[2:]) or not isinstance(groups, int):
        return None
    if "?" in str(x.type) or groups * own != x.shape[1]:
        return Skip(f"{split.type} does not split the channels of {x.type} alone")
    return sweep.remake(node, x, op="ChannelShuffle", attrs={"groups": groups})
