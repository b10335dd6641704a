"""Where boxes, frames and edges go: Graphviz's layered drawing (Gansner, Koutsofios, North, Vo 1993, "A technique for drawing
directed graphs"), which keeps boxes apart, frames nested, and edges around what is in their way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from graphc.draw.boxes import Box, Edge, Frame, Picture
from graphc.draw.measure import Size, edge_label_size, frame_title_size, size_of
from graphc.errors import MissingPackageError

Point = tuple[float, float]


@dataclass(frozen=True)
class Rect:
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Placed:
    """Where everything is, in pixels from the upper left. edges: control points of a Bézier curve, from the source to the
    tip of the arrow. labels: centres."""

    size: Size
    boxes: dict[Box, Rect]
    frames: dict[Frame, Rect]
    edges: dict[Edge, list[Point]]
    labels: dict[Edge, Point]


def place(picture: Picture) -> Placed:
    """Raises MissingPackageError where Graphviz is not there."""
    try:
        import pygraphviz
    except ImportError:
        raise MissingPackageError("drawing needs pygraphviz", hint="pip install 'graphc[draw]'") from None
    boxes, frames, edges = picture.boxes, list(picture.root.frames()), picture.edges
    text = _dot(picture, boxes, frames)
    found = json.loads(pygraphviz.AGraph(string=text).draw(format="json", prog="dot"))
    _, _, width, height = map(float, found["bb"].split(","))

    def point(text: str) -> Point:
        x, y = map(float, text.split(","))
        return x, height - y

    def rect(o: dict) -> Rect:
        if "bb" in o:
            left, bottom, right, top = map(float, o["bb"].split(","))
            return Rect(left, height - top, right, height - bottom)
        (x, y), w, h = point(o["pos"]), float(o["width"]) * 72, float(o["height"]) * 72
        return Rect(x - w / 2, y - h / 2, x + w / 2, y + h / 2)

    rects = {o["name"]: rect(o) for o in found.get("objects", ())}
    routes = {int(o["id"]): o for o in found.get("edges", ())}
    return Placed(
        (width, height),
        {box: rects[f"b{i}"] for i, box in enumerate(boxes)},
        {frame: rects[f"cluster{i}"] for i, frame in enumerate(frames)},
        {edge: _route(routes[i]["pos"], point) for i, edge in enumerate(edges)},
        {edge: point(routes[i]["lp"]) for i, edge in enumerate(edges) if edge.label},
    )


def _route(text: str, point: Callable[[str], Point]) -> list[Point]:
    """'e,x,y x,y …': the tip of the arrow, then the curve."""
    first, *others = text.split()
    return [*map(point, others), point(first.removeprefix("e,"))]


def _dot(picture: Picture, boxes: list[Box], frames: list[Frame]) -> str:
    """All sizes are given and no text is: how text is measured differs from machine to machine."""
    names = {box: f"b{i}" for i, box in enumerate(boxes)}
    numbers = {frame: i for i, frame in enumerate(frames)}
    lines = [
        "digraph {",
        "graph [ranksep=0.16, nodesep=0.22, splines=true, margin=0, nslimit=4]",
        'node [shape=box, fixedsize=true, label=""]',
        "edge [arrowsize=0.6]",
    ]

    def within(frame: Frame) -> None:
        for item in frame.items:
            if isinstance(item, Box):
                width, height = size_of(item)
                lines.append(f"{names[item]} [width={width / 72:.4f}, height={height / 72:.4f}]")
            else:
                label = _space(frame_title_size(item))
                lines.append(f"subgraph cluster{numbers[item]} {{ graph [label={label}, labeljust=l, margin=9]")
                within(item)
                lines.append("}")

    within(picture.root)
    for i, edge in enumerate(picture.edges):
        label = f", label={_space(edge_label_size(edge))}" if edge.label else ""
        lines.append(f"{names[edge.source]} -> {names[edge.target]} [id={i}{label}]")
    return "\n".join([*lines, "}"])


def _space(size: Size) -> str:
    """A label that takes this much room."""
    width, height = (round(side) for side in size)
    table = 'TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" FIXEDSIZE="TRUE"'
    return f'<<{table} WIDTH="{width}" HEIGHT="{height}"><TR><TD></TD></TR></TABLE>>'
