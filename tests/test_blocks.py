"""Argument blocks: written by names, read by names."""

from __future__ import annotations

import pytest

from graphc.backends.cpu.blocks.block import Block

SCALE = Block("x y n factor*2", record="ref stride")


def test_words_come_in_order_whatever_the_order_of_names():
    words = SCALE(n=3, factor=(4, 5), y=2, x=1, records=[{"stride": 7, "ref": 6}, {"ref": 8, "stride": 9}])
    assert words == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [words[at] for at in SCALE["factor x"]] == [4, 1]
    at = SCALE.size + SCALE.record_size
    assert [words[at + i] for i in SCALE.in_record("stride ref")] == [9, 8]


@pytest.mark.parametrize(
    "words, message",
    [
        ({"x": 1, "y": 2, "n": 3}, "missing .factor."),
        ({"x": 1, "y": 2, "n": 3, "factor": (4, 5), "z": 6}, "unknown .z."),
        ({"x": 1, "y": 2, "n": 3, "factor": (4,)}, "'factor' has 2 words, not 1"),
    ],
)
def test_what_does_not_fit_is_refused(words: dict, message: str):
    with pytest.raises(TypeError, match=message):
        SCALE(**words)


def test_names_are_those_of_the_declaration():
    with pytest.raises(KeyError):
        SCALE["x z"]
    with pytest.raises(ValueError, match="stands twice"):
        Block("x y x")
