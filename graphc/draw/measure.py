"""Sizes of boxes, and where their text stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from graphc.draw.boxes import Box, Edge, Frame
from graphc.draw.fold import summary
from graphc.draw.kinds import Kind
from graphc.draw.text import shortened, width

Size = tuple[float, float]
TITLE, DETAIL, SMALL = 12.0, 10.0, 9.0  # sizes of text
FRAME_TITLE = 11.0
_SIDE = 10.0  # between text and border
_LEAST = 62.0


class Line(NamedTuple):
    text: str
    size: float
    bold: bool


class Band(NamedTuple):
    """Part of a box, from side to side, with its own colour."""

    kind: Kind
    lines: tuple[Line, ...]
    height: float


def bands(box: Box) -> Iterator[Band]:
    """The first one tells its operator and its attributes in two lines, those below it in one."""
    if box.label:
        lines = (Line(shortened(box.label), TITLE, True), Line(summary(box), DETAIL, False))
        yield Band(Kind.BLOCK, lines, 36)
        return
    for i, part in enumerate(box.rows):
        title = shortened(part.title, 24)
        if i == 0 and part.detail:
            yield Band(part.kind, (Line(title, TITLE, True), Line(part.detail, DETAIL, False)), 34)
        elif i == 0:
            yield Band(part.kind, (Line(title, TITLE, True),), 24)
        else:
            yield Band(part.kind, (Line(shortened(part.label, 32), DETAIL, False),), 17)


def badge(box: Box) -> str:
    """'×3' at the upper right corner."""
    return f"×{box.count}" if box.count > 1 else ""


def size_of(box: Box) -> Size:
    found = list(bands(box))
    widest = max(width(*line) for band in found for line in band.lines)
    if badge(box):
        widest = max(widest, width(*found[0].lines[0]) + 2 * width(badge(box), TITLE, True) + 8)
    return max(_LEAST, widest + 2 * _SIDE), sum(band.height for band in found)


def frame_title_size(frame: Frame) -> Size:
    return (width(frame.title, FRAME_TITLE, True) + 4, 14) if frame.title else (1, 1)


def edge_label_size(edge: Edge) -> Size:
    lines = edge.label.split("\n")
    return max(width(line, SMALL) for line in lines) + 6, 11.0 * len(lines)
