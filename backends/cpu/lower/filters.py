"""Weights of direct convolutions: which input blocks each tile of output channels reads, and how they are packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphc.backends.cpu.lower.core import Lowering
from graphc.backends.cpu.lower.window import Window
from graphc.backends.cpu.program import Buffer, Ref


@dataclass(frozen=True)
class Filters:
    """Weights [out channels, in channels / groups, *kernel] that `load` derives from a constant as `recipe` says."""

    source: np.ndarray
    recipe: tuple
    load: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Spans:
    """For each tile of output channels from `first` on, the input blocks of `depth` channels [start, start + count)."""

    groups: int
    depth: int
    tile: int
    first: int
    last: int
    starts: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def uniform(self) -> bool:
        """Every tile reads the same blocks."""
        return len(set(zip(self.starts, self.counts))) == 1 and self.starts[0] == 0

    @property
    def most(self) -> int:
        return max(self.counts)

    def table(self, lo: Lowering, block_bytes: int) -> int | Ref:
        """Per tile: start, count, byte offset of its weights. 0 where all are alike."""
        if self.uniform:
            return 0
        offsets = np.cumsum([0, *self.counts[:-1]]) * block_bytes
        rows = np.stack([self.starts, self.counts, offsets], 1).astype(np.int64)
        return Ref(lo.weights.pack((), ("spans", rows.tobytes()), lambda: rows, "spans"))


def spans_of(w: Window, groups: int, depth: int, tile: int, first: int, last: int) -> Spans:
    """The channels [first, last) in tiles of `tile`; a tile reads the input channels of the groups that it touches."""
    per_in, per_out = w.channels // groups, w.out_channels // groups
    starts, counts = [], []
    for o in range(first, last, tile):
        g0, g1 = o // per_out, -(-min(o + tile, w.out_channels) // per_out)
        starts.append(g0 * per_in // depth)
        counts.append(-(-(g1 * per_in) // depth) - starts[-1])
    return Spans(groups, depth, tile, first, last, tuple(starts), tuple(counts))


def pack_groups(lo: Lowering, filters: Filters, w: Window, group: int, vl: int) -> Buffer:
    """[O, group, *kernel] -> for each vector of outputs [kd][kh][kw][group][vl]."""

    def make() -> np.ndarray:
        source = filters.load().reshape(w.out_channels, group, *w.kernel)
        padded = np.zeros((-(-w.out_channels // vl) * vl, *source.shape[1:]), np.float32)
        padded[: w.out_channels] = source
        return padded.reshape(-1, vl, group, *w.kernel).transpose(0, 3, 4, 5, 2, 1)

    return lo.weights.pack(filters.source, ("conv groups", *filters.recipe, group, vl), make)


def pack_filters(lo: Lowering, filters: Filters, w: Window, spans: Spans, vl: int) -> Buffer:
    """[O, I/groups, *kernel] -> for each tile [input block][kd][kh][kw][depth][tile], zeros where it has no such channel."""

    def make() -> np.ndarray:
        per_in, per_out = w.channels // spans.groups, w.out_channels // spans.groups
        source = filters.load().reshape(w.out_channels, per_in, *w.kernel)
        tiles, width, depth = len(spans.starts), spans.tile, spans.depth
        if spans.groups == 1 and w.out_channels >= spans.last and w.channels % depth == 0:
            part = source[spans.first : spans.last].reshape(tiles, width, spans.most, depth, *w.kernel)
            return part.transpose(0, 2, 4, 5, 6, 3, 1)
        return np.concatenate([_one_tile(source, spans, t, per_in, per_out, w) for t in range(tiles)])

    recipe = ("conv", *filters.recipe, spans.first, spans.last, spans.tile, vl, spans.depth, spans.groups)
    return lo.weights.pack(filters.source, recipe, make)


def _one_tile(source: np.ndarray, spans: Spans, t: int, per_in: int, per_out: int, w: Window) -> np.ndarray:
    """One tile's weights, flat."""
    width, depth, count = spans.tile, spans.depth, spans.counts[t]
    packed = np.zeros((width, count * depth, *w.kernel), np.float32)
    o0 = spans.first + t * width
    end = min(o0 + width, w.out_channels)
    for g in range(o0 // per_out, -(-end // per_out)):
        a, b = max(o0, g * per_out), min(end, (g + 1) * per_out)
        i = g * per_in - spans.starts[t] * depth
        packed[a - o0 : b - o0, i : i + per_in] = source[a:b]
    return packed.reshape(width, count, depth, *w.kernel).transpose(1, 3, 4, 5, 2, 0).reshape(-1)
