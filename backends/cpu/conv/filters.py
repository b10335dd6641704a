"""Weights of direct convolutions: which input blocks each tile of output channels reads, and how they are packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphc.backends.cpu.conv.conv_block import SPAN
from graphc.backends.cpu.conv.window import Window
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.tile.dot import FMA, Dot
from graphc.lower.storage import Buffer, Ref


@dataclass(frozen=True)
class Filters:
    """Weights [out channels, in channels / groups, *kernel] that `load` derives from a constant as `recipe` says."""

    source: np.ndarray
    recipe: tuple
    load: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Span:
    """The output channels that a tile makes and the input channels that they are made of."""

    outputs: range
    inputs: range


@dataclass(frozen=True)
class Spans:
    """What each tile of a step makes and reads, in vectors of `c` channels out and blocks of `depth` channels in. A tile is
    `tile` output channels wide; its own may begin and end inside vectors."""

    groups: int
    depth: int
    tile: int
    c: int
    tiles: tuple[Span, ...]

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first input block of each tile."""
        return tuple(s.inputs[0] // self.depth for s in self.tiles)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Input blocks of each tile."""
        return tuple(s.inputs[-1] // self.depth + 1 - start for s, start in zip(self.tiles, self.starts))

    @cached_property
    def vectors(self) -> tuple[int, ...]:
        """The first vector of outputs of each tile."""
        return tuple(s.outputs[0] // self.c for s in self.tiles)

    @property
    def uniform(self) -> bool:
        """Are all tiles whole, and read the same blocks?"""
        return self.groups == 1

    @property
    def most(self) -> int:
        return max(self.counts)

    @cached_property
    def input_lanes(self) -> tuple[tuple[int, int], ...]:
        """Of each tile the first lane of its first input block and the end of those of its last one."""
        last = (start + count - 1 for start, count in zip(self.starts, self.counts))
        return tuple(
            (s.inputs[0] - start * self.depth, s.inputs[-1] + 1 - block * self.depth)
            for s, start, block in zip(self.tiles, self.starts, last)
        )

    @cached_property
    def output_lanes(self) -> tuple[tuple[int, int], ...]:
        """Of each tile its lanes [first, end)."""
        return tuple(
            (s.outputs[0] - v * self.c, s.outputs[-1] + 1 - v * self.c) for s, v in zip(self.tiles, self.vectors)
        )

    @property
    def ragged(self) -> bool:
        """Does a tile read a part of a block?"""
        return any(lanes != (0, self.depth) for lanes in self.input_lanes)

    @property
    def masked(self) -> bool:
        """Does a tile share a vector with another?"""
        return any(lanes != (0, self.tile) for lanes in self.output_lanes)

    def table(self, lo: CpuLowering, block_bytes: int) -> int | Ref:
        """A row per tile, for conv/conv_driver.py. 0 where all are alike."""
        if self.uniform:
            return 0
        offsets = np.cumsum([0, *self.counts[:-1]]) * block_bytes
        tiles = zip(self.starts, self.counts, offsets, self.vectors, self.input_lanes, self.output_lanes)
        words = [
            SPAN(
                first=first, blocks=count, weights=offset, vector=vector,
                input_first=inputs[0], input_end=inputs[1], first_lane=outputs[0], lanes=outputs[1],
            )
            for first, count, offset, vector, inputs, outputs in tiles
        ]  # fmt: skip
        rows = np.array(words, np.int64)
        return Ref(lo.weights.pack((), ("spans", rows.tobytes()), lambda: rows, "spans"))


def spans_of(w: Window, depth: int, c: int, tile: int, first: int, last: int) -> Spans:
    """Tiles of the vectors [first, last), each of which reads all input channels. What lies behind the last output channel
    is theirs, too."""
    whole = range(w.channels)
    return Spans(1, depth, tile, c, tuple(Span(range(o, o + tile), whole) for o in range(first * c, last * c, tile)))


def pack_groups(lo: CpuLowering, filters: Filters, w: Window, group: int, vl: int) -> Buffer:
    """[O, group, *kernel] -> for each vector of outputs [kd][kh][kw][group][vl], of the inner step FMA."""

    def make() -> np.ndarray:
        source = filters.load().reshape(w.out_channels, group, *w.kernel)
        padded = np.zeros((-(-w.out_channels // vl) * vl, *source.shape[1:]), FMA.b.numpy)
        padded[: w.out_channels] = source
        return padded.reshape(-1, vl, group, *w.kernel).transpose(0, 3, 4, 5, 2, 1)

    return lo.weights.pack(filters.source, ("conv groups", *filters.recipe, group, vl), make)


def pack_filters(lo: CpuLowering, filters: Filters, w: Window, spans: Spans, dot: Dot = FMA) -> Buffer:
    """[O, I/groups, *kernel] -> for each tile [input block][kd][kh][kw] and the weights of `depth` channels as `dot` has them,
    zeros where there is no such channel."""

    def make() -> np.ndarray:
        source = filters.load().reshape(w.out_channels, w.channels // spans.groups, *w.kernel)
        tiles, width, depth = len(spans.tiles), spans.tile, spans.depth
        first, last = spans.tiles[0].outputs[0], spans.tiles[-1].outputs[-1] + 1
        if spans.groups == 1 and w.out_channels >= last and w.channels % depth == 0:
            part = source[first:last].reshape(tiles, width, spans.most, depth, *w.kernel)
            return dot.pack(part.transpose(0, 2, 4, 5, 6, 3, 1))
        return np.concatenate([_one_tile(source, spans, dot, t) for t in range(tiles)])

    recipe = ("conv", *filters.recipe, spans, *dot.recipe)
    return lo.weights.pack(filters.source, recipe, make)


def _one_tile(source: np.ndarray, spans: Spans, dot: Dot, t: int) -> np.ndarray:
    """One tile's weights, flat."""
    outputs, count, (first, _) = spans.tiles[t].outputs, spans.counts[t], spans.input_lanes[t]
    lane = spans.output_lanes[t][0]
    packed = np.zeros((spans.tile, count * spans.depth, *source.shape[2:]), source.dtype)
    part = source[outputs.start : outputs.stop]
    packed[lane : lane + len(part), first : first + source.shape[1]] = part
    packed = packed.reshape(spans.tile, count, spans.depth, *source.shape[2:])
    return dot.pack(packed.transpose(1, 3, 4, 5, 2, 0)).reshape(-1)
