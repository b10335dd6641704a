"""What of the CPU backend can be switched off, stage by stage: each part has a plain alternative that gives the same results."""

from __future__ import annotations

from graphc.backend import Part

PARTS = (
    Part("winograd", "choose", "3x3 convolutions multiply as often as their definition says"),
    Part("strassen", "choose", "so do 1x1 convolutions and products of matrices"),
    Part("layout", "layout", "each kernel of packed operands has reorders of its own before and behind it"),
    Part("fusion", "fuse", "every node is a kernel of its own: no epilogues, no prologues"),
    Part("epilogues", "fuse", "what follows a convolution or a product is a kernel of its own"),
    Part("prologues", "fuse", "what a 1x1 convolution reads is made by a kernel of its own"),
    Part("results_in_place", "place", "results are copied into the caller's arrays at the end"),
    Part("concat_in_place", "place", "the parts of a concatenation are copied into it"),
    Part("image_runs", "place", "every layer takes a batch as a whole"),
    Part("block_sparse", "lower", "products multiply by blocks of zeros, too"),
    Part("arena_reuse", "assemble", "no two values share memory"),
)
INCLUDED = {"fusion": ("epilogues", "prologues")}  # parts that go with another one


def without(names: frozenset[str]) -> frozenset[str]:
    """The parts among the names that a caller disables, with those that go with them."""
    own = {p.name for p in PARTS} & names
    return frozenset(own.union(*(INCLUDED.get(name, ()) for name in own)))
