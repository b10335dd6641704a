"""What a method is, and the methods in the order in which they follow each other."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from graphc.errors import InputError
from graphc.graph import Graph
from graphc.shrinker.binary import Signs
from graphc.shrinker.channels import Channels
from graphc.shrinker.codebook import Codebook
from graphc.shrinker.low_rank import LowRank
from graphc.shrinker.report import LayerReport
from graphc.shrinker.sparse import Sparse


class Method(Protocol):
    """A pass over a graph: what is smaller, and what became of each layer but those whose results have the names to keep."""

    def __call__(self, graph: Graph, keep: Collection[str]) -> tuple[Graph, tuple[LayerReport, ...]]: ...

    def __str__(self) -> str: ...


def methods_of(
    *,
    channels: float | None = None,
    low_rank: float | None = None,
    sparse: float | None = None,
    block: tuple[int, int] | str | None = None,
    codebook: int | None = None,
    signs: str | None = None,
) -> list[Method]:
    """The methods that are asked for: fewer channels, then factors, then zeros, then how weights are stored.

    Raises InputError for values that make no sense, for none at all, and for two forms of storage.
    """
    if block is not None and sparse is None:
        raise InputError("block is the size of what sparse sets to zero", hint="sparse=0.5, block=(16, 1)")
    if codebook is not None and signs is not None:
        raise InputError("weights are stored by a codebook or by their signs, not by both", hint="leave out one")
    shape: dict[str, Any] = {} if block is None else {"block": block}
    found = [
        None if channels is None else Channels(channels),
        None if low_rank is None else LowRank(low_rank),
        None if sparse is None else Sparse(sparse, **shape),
        None if codebook is None else Codebook(codebook),
        None if signs is None else Signs(signs),
    ]
    methods: list[Method] = [method for method in found if method is not None]
    if not methods:
        raise InputError(
            "nothing says how the model becomes smaller",
            hint="name a method: channels, low_rank, sparse, codebook or signs",
        )
    return methods
