#!/usr/bin/env python3
"""What Stream-K would save by the model of costs, over the tiles and the parts of sums that there are.

    python benchmarks/stream_k.py [--arch sm_90a] [--only TEXT]

Stream-K (Osama et al., 2023) deals the steps of all tiles evenly to as many blocks as fit at once: no wave is filled badly, but
tiles that two blocks share are written, and added up. Two ways to do that are estimated: a second kernel adds, as it does for
parts of sums; or the last block of a tile does, which reads the parts of the others when these have counted themselves in.
Prints, for the networks and products of benchmarks/gpu.py, where that is more than GAIN faster. No GPU is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from graphc.backends.cuda.codegen.figures import Card
from graphc.backends.cuda.product.costs import FLOAT, LAUNCH, LEAST, START, Problem, predicted, ranked
from graphc.backends.cuda.product.tile import WarpTile

GAIN = 0.05  # of the time, below which another kernel is not worth it
COUNTED = 1e-6  # seconds until the last block sees what the others have written: a fence and an atomic operation
WAYS = ("a second kernel adds", "the last block adds")


def seconds(card: Card, p: Problem, tile: WarpTile, way: str) -> float | None:
    """The least, of as many blocks as a multiprocessor has at once, and fewer; None where blocks would have too little to do."""
    steps, tiles = -(-p.k // tile.depth), p.batch * -(-p.m // tile.m) * -(-p.n // tile.n)
    found = []
    for together in range(1, min(tile.blocks, card.fits(tile.shared(p.item))) + 1):
        blocks = card.multiprocessors * together
        each = -(-tiles * steps // blocks)
        if each * tile.depth < LEAST:
            continue
        cuts = sum(b * each < tiles * steps and b * each % steps != 0 for b in range(1, blocks))
        pieces = -(-tiles // blocks) + (cuts > 0)  # of tiles, that a block begins and ends
        busy = each * together * _step(card, p, tile, together) + pieces * START
        found.append(LAUNCH + max(busy, p.nbytes / card.memory) + _adding(card, tile, way, cuts, together, each, steps))
    return min(found, default=None)


def _adding(card: Card, tile: WarpTile, way: str, cuts: int, together: int, each: int, steps: int) -> float:
    nbytes = FLOAT * tile.m * tile.n
    if not cuts:
        return 0.0
    if way == WAYS[0]:
        return LAUNCH + 2 * 2 * cuts * nbytes / card.cache
    pieces = 2 + -(-steps // each)  # that a block writes, and that the last one reads
    return COUNTED + pieces * together * nbytes * card.multiprocessors / card.cache


def _step(card: Card, p: Problem, tile: WarpTile, together: int) -> float:
    """Of one block, where so many share a multiprocessor."""
    full = replace(p, m=tile.m * card.multiprocessors * together, n=tile.n, k=tile.depth, batch=1)
    return (predicted(card, full, tile, 1).busy - START) / together


@dataclass(frozen=True)
class Site:
    """A product or a convolution, and the tiles that it may have."""

    card: Card
    problem: Problem
    tiles: tuple[WarpTile, ...]

    def best(self, way: str | None = None) -> float | None:
        if way is None:
            return ranked(self.card, self.problem, self.tiles)[0].seconds
        fit = [t for t in self.tiles if self.card.fits(t.shared(self.problem.item))]
        return min(filter(None, (seconds(self.card, self.problem, t, way) for t in fit)), default=None)


@contextmanager
def recorded() -> Iterator[list[Site]]:
    """What the model is asked meanwhile."""
    from graphc.backends.cuda.conv import tensor_conv
    from graphc.backends.cuda.product import tensor

    found: list[Site] = []

    def asked(card: Card, p: Problem, tiles: Sequence[WarpTile]) -> Any:
        found.append(Site(card, p, tuple(tiles)))
        return ranked(card, p, tiles)

    try:
        tensor.ranked = tensor_conv.ranked = asked  # type: ignore[attr-defined]
        yield found
    finally:
        tensor.ranked = tensor_conv.ranked = ranked  # type: ignore[attr-defined]


def main() -> None:
    from gpu_cases import cases

    from graphc.backend import Request
    from graphc.backends import open_backend
    from graphc.cli.passes import shown_after

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="sm_90a")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(f"| | precision | by the model | {' | '.join(WAYS)} |\n| --- | --- | ---: | ---: | ---: |")
    for case in cases(False):
        if case.group not in ("networks", "encoder", "products") or case.lacks or options.only not in case.key:
            continue
        backend = open_backend("cuda", Request(options={"arch": options.arch, **case.options}))
        with recorded() as sites:
            shown_after(case.source(), "lower", backend, (), lambda shapes=case.shapes: shapes)
        now = sum(site.best() or 0.0 for site in sites)
        cells = [f"{now * 1e6:.0f} µs", *(_saved(sites, way, now) for way in WAYS)]
        print(f"| {case.name} | {case.precision} | {' | '.join(cells)} |", flush=True)


def _saved(sites: Sequence[Site], way: str, now: float) -> str:
    gains = []
    for site in sites:
        before, after = site.best(), site.best(way)
        assert before is not None
        if after is not None and after < (1 - GAIN) * before:
            gains.append(before - after)
    return f"{len(gains)} of {len(sites)}: -{sum(gains) / now:.1%}" if gains else "-"


if __name__ == "__main__":
    main()
