"""Batches, image by image: runs of layers whose activations would leave the caches are run for one image after the other.

A layer for a whole batch reads its weights once, but its activations come from memory and go there. Image by image, the next
layer finds them in the cache. Threads take whole images, and meet only at the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from backends.cpu.lower.core import Lowering, flops
from backends.cpu.lower.nested import Outside, emit_nested, inner_lowering
from backends.cpu.program import Buffer, Ref
from graphc.fuse import Group
from graphc.graph import Node, Value
from graphc.op import Kind
from graphc.report import StepInfo

CACHED = 1 << 20  # bytes of a layer's activations that stay in a core's caches for the next layer
SWITCH = 2 << 20  # what beginning a run costs, as bytes
IMBALANCE = 1.1  # of threads that take whole images
AGAIN = 0.25  # what a byte of weights costs, of what one of activations does: it is only read, in order, from a cache
# Operators whose results for one image depend on that image alone, with one operand that is not constant.
SINGLE = frozenset(
    ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "LRN", "Reorder",
     "ChannelShuffle")
)  # fmt: skip
VIEWS = frozenset(("Reshape", "Reorder", "Split", "Slice", "Identity", "Squeeze", "Unsqueeze", "Flatten"))


def image_runs(groups: Sequence[Group], results: Collection[Value], threads: int) -> list[range]:
    """Which groups (by position, consecutive) are run image by image: where more bytes of activations stay in the cache
    than bytes of weights are read again."""
    n = _batch(groups)
    if n < 2 or -(-n // threads) * threads > IMBALANCE * n:
        return []
    # two states, the cheaper way through the groups: whole batch, image by image
    batch, image = (0.0, []), (float(SWITCH), [])
    for i, group in enumerate(groups):
        moved, weights = _bytes(group)
        whole = n * moved if n * moved > CACHED else 0
        alone = AGAIN * (n - 1) * weights if _independent(group, n) else float("inf")
        to_batch = min(batch, image, key=lambda s: s[0])
        to_image = min((batch[0] + SWITCH, batch[1]), image, key=lambda s: s[0])
        batch, image = (to_batch[0] + whole, to_batch[1]), (to_image[0] + alone, [*to_image[1], i])
    chosen = min(batch, image, key=lambda s: s[0])[1]
    runs: list[range] = []
    for i in chosen:
        if runs and runs[-1].stop == i:
            runs[-1] = range(runs[-1].start, i + 1)
        else:
            runs.append(range(i, i + 1))
    return [r for r in (_trimmed(r, groups, results) for r in runs) if len(r) > 1]


def _batch(groups: Sequence[Group]) -> int:
    """Images of the first window operator, 1 where there is none."""
    for group in groups:
        if group.anchor is not None and group.anchor.op.name in SINGLE - {"Reorder"}:
            return group.output.shape[0]
    return 1


def _bytes(group: Group) -> tuple[int, int]:
    """Activations of one image that a group moves, and its constants."""
    values = [*group.inputs, *(group.nodes[-1].outputs)]
    moved = sum(v.type.nbytes // max(1, v.shape[0] if v.shape else 1) for v in values if not v.is_const)
    return moved, sum(v.type.nbytes for v in values if v.is_const)


def _independent(group: Group, n: int) -> bool:
    """Do the results for one image depend on that image alone?"""
    return all(_node_independent(node, n) for node in group.nodes)


def _node_independent(node: Node, n: int) -> bool:
    live = [v for v in node.operands if not v.is_const]
    if not live or any(v.type.rank < 2 or v.shape[0] != n for v in (*live, *node.outputs)):
        return False
    rank = node.output.type.rank
    if node.op.kind is Kind.ELEMENTWISE:
        constants = [v for v in node.operands if v.is_const]
        same = all(v.type.rank == rank for v in live)
        return same and all(v.type.rank < rank or v.shape[0] == 1 for v in constants)
    if node.op.name == "Concat":
        return node.attrs["axis"] % rank != 0 and len(live) == len(node.operands)
    return node.op.name in SINGLE and len(node.outputs) == 1 and live == [node.inputs[0]]


def _trimmed(run: range, groups: Sequence[Group], results: Collection[Value]) -> range:
    """Without groups at the end whose results may be views: those are cheap, and have no place of their own."""
    while len(run) and groups[run[-1]].nodes[0].op.name in VIEWS:
        run = run[:-1]
    made = {v: i for i in run for v in groups[i].nodes[-1].outputs}
    for v in _left(run, groups, results):
        if groups[made[v]].nodes[0].op.name in VIEWS:
            return range(run.start, run.start)
    return run


def _left(run: range, groups: Sequence[Group], results: Collection[Value]) -> list[Value]:
    """Values made in a run that are needed after it."""
    inside = [groups[i] for i in run]
    made = dict.fromkeys(v for g in inside for n in g.nodes for v in n.outputs)
    later = {v for g in groups[run.stop :] for v in g.inputs} | set(results)
    return [v for v in made if v in later]


def lower_images(
    lo: Lowering,
    groups: Sequence[Group],
    run: range,
    results: Collection[Value],
    lower: Callable[[Lowering, Sequence[Group]], None],
) -> None:
    """One step for a run of groups. lower(inner, groups): emit the groups' steps."""
    left = _left(run, groups, results)
    inner = inner_lowering(lo)
    one = _OneImage()
    inside = [one.group(groups[i]) for i in run]
    made = {v for g in inside for n in g.nodes for v in n.outputs}
    outside: dict[Buffer, Outside] = {}

    def place(v: Value, whole: Ref, strides: tuple[int, ...]) -> None:
        proxy = Buffer(v.name, 0)
        outside[proxy] = Outside(whole, strides[0])
        inner.place(one.value(v), Ref(proxy), strides)

    for g in inside:
        for v in g.inputs:
            old = one.old.get(v, v)
            if not v.is_const and v not in made and v not in inner.storage:
                lo.read(old)
                place(old, lo.storage[old].ref, lo.storage[old].strides)
    for v in left:
        lo.write(v)
        place(v, lo.storage[v].ref, lo.storage[v].strides)
        inner.keep_halo(one.value(v))
    lower(inner, inside)
    images = groups[run.start].output.shape[0]
    nodes = [n for i in run for n in groups[i].nodes]
    info = StepInfo(
        0, tuple(n.name for n in nodes), tuple(n.op.name for n in nodes), "nested", "image by image",
        f"{images} images through {len(inner.program.steps)} steps each: their activations stay in the cache",
        groups[run[-1]].output.name, sum(map(flops, nodes)),
        sum(images * m + w for m, w in (_bytes(groups[i]) for i in run)),
    )  # fmt: skip
    emit_nested(lo, [inner.program.steps], images, outside, info)


class _OneImage:
    """Groups for one image of those of a batch."""

    def __init__(self) -> None:
        self.new: dict[Value, Value] = {}
        self.old: dict[Value, Value] = {}

    def value(self, v: Value | None) -> Value | None:
        if v is None or v.is_const:
            return v
        if v not in self.new:
            new = replace(v, type=replace(v.type, shape=(1, *v.shape[1:])))
            self.new[v], self.old[new] = new, v
        return self.new[v]

    def group(self, g: Group) -> Group:
        nodes = {
            n: replace(n, inputs=tuple(map(self.value, n.inputs)), outputs=tuple(map(self.value, n.outputs)))
            for n in g.nodes
        }
        anchor = None if g.anchor is None else nodes[g.anchor]
        return Group(tuple(nodes.values()), anchor, g.expression, tuple(map(self.value, g.operands)))
