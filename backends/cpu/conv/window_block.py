"""Words that windowed operators have for each of depth, height and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def dhw(names: str, *triples: Sequence[Any]) -> dict[str, Any]:
    """Words by names from a triple for each name.

    >>> dhw("k s", (1, 3, 5), (1, 2, 2))
    {'k_d': 1, 'k_h': 3, 'k_w': 5, 's_d': 1, 's_h': 2, 's_w': 2}
    """
    pairs = zip(names.split(), triples, strict=True)
    return {f"{name}_{axis}": word for name, words in pairs for axis, word in zip("dhw", words, strict=True)}
