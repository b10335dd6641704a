"""What a picture shows: boxes in frames, and edges between boxes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Union

from graphc.draw.kinds import Kind
from graphc.draw.parts import Part


@dataclass(eq=False)
class Box:
    """rows: the parts that it shows, one below the other. covers: those that it stands for, too. label: of a folded frame.
    count: how often it stands in a row."""

    rows: list[Part]
    covers: list[Part]
    label: str = ""
    count: int = 1
    name: str = ""

    @property
    def kind(self) -> Kind:
        return Kind.BLOCK if self.label else self.rows[0].kind


@dataclass(eq=False)
class Frame:
    """label: '' for none. count: how often what is in it stands in a row."""

    label: str
    items: list[Element]
    count: int = 1
    name: str = ""

    def boxes(self) -> Iterator[Box]:
        for item in self.items:
            if isinstance(item, Box):
                yield item
            else:
                yield from item.boxes()

    def frames(self) -> Iterator[Frame]:
        """Those inside it, outer ones first."""
        for item in self.items:
            if isinstance(item, Frame):
                yield item
                yield from item.frames()

    @property
    def stem(self) -> str:
        """What the labels of frames that are alike have in common: 'layer2.' of 'layer2.1'."""
        return re.sub(r"\d+", "", self.label)

    @property
    def title(self) -> str:
        return f"{self.label} ×{self.count}".strip() if self.count > 1 else self.label


Element = Union[Box, Frame]


def boxes_of(element: Element) -> list[Box]:
    return [element] if isinstance(element, Box) else list(element.boxes())


def covered(element: Element) -> list[Part]:
    return [part for box in boxes_of(element) for part in box.covers]


@dataclass(eq=False)
class Edge:
    source: Box
    target: Box
    label: str = ""


@dataclass
class Picture:
    """root: what is in no other frame."""

    title: str
    root: Frame
    edges: list[Edge] = field(default_factory=list)

    @property
    def boxes(self) -> list[Box]:
        return list(self.root.boxes())
