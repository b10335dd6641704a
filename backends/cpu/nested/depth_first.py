"""Batches, depth first (sample by sample): runs of layers whose activations would leave the caches are run for one sample
after the other.

A layer for a whole batch reads its weights once, but its activations come from memory and go there. Sample by sample, the next
layer finds them in the cache. Threads take whole samples, and meet only at the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from graphc.backends.cpu.blocked.reorder import same_bytes
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import is_blocked
from graphc.backends.cpu.nested.nested import Outside, emit_nested, emit_unrolled
from graphc.backends.cpu.target import Target
from graphc.graph import Node, Value
from graphc.lower.fuse import Group
from graphc.lower.lowering import flops
from graphc.lower.program import Program
from graphc.lower.storage import Buffer, Ref
from graphc.report import StepInfo, type_of
from graphc.sizes import example, has_sizes, hint_of, is_size
from graphc.types import MaybeNone

SWITCH = 2 << 20  # what beginning a run costs, as bytes
IMBALANCE = 1.1  # of threads that take whole samples
AGAIN = 0.25  # what a byte of weights costs, of what one of activations does: it is only read, in order, from a cache


def depth_first_runs(groups: Sequence[Group], results: Collection[Value], target: Target) -> list[range]:
    """Which groups (by position, consecutive) are run sample by sample: where more bytes of activations stay in the cache
    (level 2: those of a whole batch that are no more stay anyway) than bytes of weights are read again. The number of threads
    does not matter: they must not change the results. Of sizes only that of the batch may stand for many."""
    batch_size = _batch(groups)
    n = hint_of(batch_size)
    if n < 2 or any(has_sizes(v.shape[1:]) for g in groups for v in g.nodes[-1].outputs):
        return []
    # two states, the cheaper way through the groups: whole batch, sample by sample
    batch: tuple[float, list[int]] = 0.0, []
    sample: tuple[float, list[int]] = float(SWITCH), []
    for i, group in enumerate(groups):
        moved, weights = _bytes(group)
        whole = n * moved if n * moved > target.l2 else 0
        alone = AGAIN * (n - 1) * weights if _independent(group, batch_size) else float("inf")
        to_batch = min(batch, sample, key=lambda s: s[0])
        to_sample = min((batch[0] + SWITCH, batch[1]), sample, key=lambda s: s[0])
        batch, sample = (to_batch[0] + whole, to_batch[1]), (to_sample[0] + alone, [*to_sample[1], i])
    chosen = min(batch, sample, key=lambda s: s[0])[1]
    runs: list[range] = []
    for i in chosen:
        if runs and runs[-1].stop == i:
            runs[-1] = range(runs[-1].start, i + 1)
        else:
            runs.append(range(i, i + 1))
    return [r for r in (_trimmed(r, groups, results) for r in runs) if _handed_on(r, groups) > SWITCH]


def _batch(groups: Sequence[Group]) -> int:
    """Images of the first window operator, 1 where there is none."""
    for group in groups:
        if group.anchor is not None and group.anchor.op.per_sample and group.anchor.op.name != "Reorder":
            return group.output.shape[0]
    return 1


def _bytes(group: Group) -> tuple[int, int]:
    """Activations of one sample that a group moves, and its constants."""
    values = [*group.inputs, *(group.nodes[-1].outputs)]
    types = [example(v.type) for v in values if not v.is_const]
    moved = sum(t.nbytes // max(1, t.shape[0] if t.shape else 1) for t in types)
    return moved, sum(v.type.nbytes for v in values if v.is_const)


def _independent(group: Group, n: int) -> bool:
    """Do the results for one sample depend on that sample alone?"""
    return all(_node_independent(node, n) for node in group.every_node)


def _node_independent(node: Node, n: int) -> bool:
    live = [v for v in node.operands if not v.is_const]
    if not live or any(v.type.rank < 2 or not _is(n, v.shape[0]) for v in (*live, *node.outputs)):
        return False
    if any(has_sizes(v.shape[1:]) for v in (*live, *node.outputs)):
        return False  # the memory of one sample is planned for numbers
    rank = node.output.type.rank
    if node.op.elementwise:
        constants = [v for v in node.operands if v.is_const]
        same = all(v.type.rank == rank for v in live)
        return same and all(v.type.rank < rank or v.shape[0] == 1 for v in constants)
    if node.op.name == "Concat":
        return node.attrs["axis"] % rank != 0 and len(live) == len(node.operands)
    return node.op.per_sample and len(node.outputs) == 1 and live == [node.inputs[0]]


def _is(n: int, dim: int) -> bool:
    return dim == n if is_size(dim) == is_size(n) else False


def _trimmed(run: range, groups: Sequence[Group], results: Collection[Value]) -> range:
    """Without groups at the end whose results may be views: those are cheap, and have no place of their own."""
    while len(run) and _is_view(groups[run[-1]]):
        run = run[:-1]
    made = {v: i for i in run for v in groups[i].nodes[-1].outputs}
    for v in _left(run, groups, results):
        if _is_view(groups[made[v]]):
            return range(run.start, run.start)
    return run


def _handed_on(run: range, groups: Sequence[Group]) -> int:
    """Bytes of values that one group of a run makes and another reads."""
    inside = [groups[i] for i in run]
    return sum(hint_of(v.type.nbytes) for v in {g.output for g in inside} & {v for g in inside for v in g.inputs})


def _is_view(group: Group) -> bool:
    node = group.nodes[0]
    x = node.inputs[0]
    return node.op.name == "Reorder" and is_blocked(x) and same_bytes(x.type)


def _left(run: range, groups: Sequence[Group], results: Collection[Value]) -> list[Value]:
    """Values made in a run that are needed after it."""
    inside = [groups[i] for i in run]
    made = dict.fromkeys(v for g in inside for n in g.nodes for v in n.outputs)
    later = {v for g in groups[run.stop :] for v in g.inputs} | set(results)
    return [v for v in made if v in later]


def lower_depth_first(
    lo: CpuLowering,
    groups: Sequence[Group],
    run: range,
    results: Collection[Value],
    lower: Callable[[CpuLowering, Sequence[Group]], None],
) -> None:
    """A run of groups: threads take whole samples; those that are left over, all threads do together.

    lower(inner, groups): emit the groups' steps.
    """
    left = _left(run, groups, results)
    for v in left:
        lo.write(v)
    samples = groups[run.start].output.shape[0]
    even = is_size(samples) or -(-samples // lo.threads) * lo.threads <= IMBALANCE * samples
    whole = samples if even else samples - samples % lo.threads
    inside, out = [groups[i] for i in run], groups[run[-1]].output
    if whole:
        inner, outside = _one_image(lo, 1, inside, left, lower)
        nodes = [n for g in inside for n in g.every_node]
        info = StepInfo(
            0, tuple(n.name for n in nodes), tuple(n.op.name for n in nodes), "nested", "depth-first",
            f"{whole} samples through {len(inner.steps)} steps each: their activations stay in the cache",
            out.name, sum(map(flops, nodes)) * whole // samples,
            sum(whole * moved + weights for moved, weights in map(_bytes, inside)),
            type=type_of(s.info for s in inner.steps),
        )  # fmt: skip
        emit_nested(lo, inner, whole, outside, info)
    if whole < samples:
        inner, outside = _one_image(lo, lo.threads, inside, left, lower)
        emit_unrolled(lo, inner, range(whole, samples), outside, out.name)
    lo.made(left)


def _one_image(
    lo: CpuLowering, threads: int, groups: Sequence[Group], left: Sequence[Value], lower: Callable
) -> tuple[Program, dict[Buffer, Outside]]:
    """The program for the first sample of a batch, and what it calls the memory of the outer program."""
    inner, one = CpuLowering(lo.target, threads, lo.weights, lo.policy, lo.choices, lo.checked), _OneImage()
    inside = [one.group(g) for g in groups]
    made = {v for g in groups for n in g.nodes for v in n.outputs}
    outside: dict[Buffer, Outside] = {}
    read = dict.fromkeys(v for g in groups for v in g.inputs if not v.is_const and v not in made)
    for v in (*read, *left):
        proxy, whole = Buffer(v.name, 0), lo.storage[v]
        outside[proxy] = Outside(whole.ref, whole.strides[0])
        inner.place(one.value(v), Ref(proxy), whole.strides)
        inner.keep_halo(one.value(v))
    lower(inner, inside)
    return inner.program, outside


class _OneImage:
    """Groups for one sample of those of a batch."""

    def __init__(self) -> None:
        self.new: dict[Value, Value] = {}

    def value(self, v: Value | MaybeNone) -> Value | MaybeNone:
        if v is None or v.is_const:
            return v
        if v not in self.new:
            self.new[v] = replace(v, type=replace(v.type, shape=(1, *v.shape[1:])))
        return self.new[v]

    def group(self, g: Group) -> Group:
        nodes = {
            n: replace(n, inputs=tuple(map(self.value, n.inputs)), outputs=tuple(map(self.value, n.outputs)))
            for n in g.nodes
        }
        anchor = None if g.anchor is None else nodes[g.anchor]
        prologue = self.group(g.prologue) if g.prologue else None
        return Group(tuple(nodes.values()), anchor, g.expression, tuple(map(self.value, g.operands)), prologue)
