"""Loops over strided operands, made fewer."""

from __future__ import annotations


def collapse(dims: list[int], walks: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Merge neighbouring loops that every operand walks as one, and drop loops of one iteration."""
    keep = [i for i, d in enumerate(dims) if d != 1]
    dims, walks = [dims[i] for i in keep], [[w[i] for i in keep] for w in walks]
    i = len(dims) - 2
    while i >= 0:
        if all(w[i] == w[i + 1] * dims[i + 1] for w in walks):
            dims[i] *= dims[i + 1]
            del dims[i + 1]
            for w in walks:
                w[i] = w[i + 1]
                del w[i + 1]
        i -= 1
    return (dims, walks) if dims else ([1], [[0] for _ in walks])
