"""A placed picture as SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from graphc.draw.boxes import Box, Edge, Frame, Picture
from graphc.draw.kinds import Kind
from graphc.draw.layout import Placed, Point, Rect
from graphc.draw.measure import DETAIL, FRAME_TITLE, SMALL, TITLE, badge, bands
from graphc.draw.text import FONT, as_xml, width

_MARGIN = 16.0
_LEGEND = 26.0
_STYLE = f"""
text {{ font: {DETAIL:g}px {FONT}; text-anchor: middle; fill: #1f2a33 }}
.t {{ font-size: {TITLE:g}px; font-weight: bold }}
.n {{ font-size: {TITLE:g}px; font-weight: bold; fill: #fff }}
.d {{ fill: #48545f }}
.e, .f {{ stroke: #fff; stroke-width: 2.5px; stroke-opacity: .85; paint-order: stroke }}
.e {{ font-size: {SMALL:g}px; fill: #5b6671 }}
.f {{ font-size: {FRAME_TITLE:g}px; font-weight: bold; text-anchor: start; fill: #48545f }}
.l {{ text-anchor: start }}
.a {{ fill: none; stroke: #77828c; stroke-width: 1.1 }}
.h {{ fill: #77828c }}
.g {{ stroke: #b6c0c9; fill: #5b7a99; fill-opacity: .06 }}
"""


def svg_of(picture: Picture, placed: Placed) -> str:
    """The text of the file. It is the same each time."""
    kinds = _kinds(picture)
    drawing_width, drawing_height = placed.size
    wide = max(drawing_width, sum(_swatch_width(kind) for kind in kinds)) + 2 * _MARGIN
    high = drawing_height + 2 * _MARGIN + _LEGEND
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "width": _n(wide), "height": _n(high)})
    root.set("viewBox", f"0 0 {_n(wide)} {_n(high)}")
    ET.SubElement(root, "title").text = picture.title
    ET.SubElement(root, "style").text = _STYLE + "".join(
        f".{_class(kind)} {{ fill: {kind.fill}; stroke: {kind.border} }}\n" for kind in kinds
    )
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#fff"})
    left = (wide - drawing_width) / 2
    body = ET.SubElement(root, "g", {"transform": f"translate({_n(left)} {_n(_MARGIN)})"})
    for frame, rect in placed.frames.items():
        _frame(body, frame, rect)
    for points in placed.edges.values():
        _edge(body, points)
    for frame, rect in placed.frames.items():
        _text(body, frame.title, rect.left + 9, rect.top + 15, "f")
    for edge, centre in placed.labels.items():
        _edge_label(body, edge, centre)
    for box, rect in placed.boxes.items():
        _box(body, box, rect)
    _legend(root, kinds, _MARGIN, high - _MARGIN)
    return as_xml(ET.tostring(root, encoding="unicode")) + "\n"


def _kinds(picture: Picture) -> list[Kind]:
    shown = {band.kind for box in picture.boxes for band in bands(box)}
    return [kind for kind in Kind if kind in shown]


def _n(x: float) -> str:
    return f"{round(x, 1):g}"


def _class(kind: Kind) -> str:
    return f"k{list(Kind).index(kind)}"


def _text(parent: ET.Element, text: str, x: float, y: float, style: str) -> None:
    attributes = {"class": style} if style else {}
    ET.SubElement(parent, "text", {**attributes, "x": _n(x), "y": _n(y)}).text = text


def _rect(parent: ET.Element, rect: Rect, style: str, radius: float = 0) -> None:
    sizes = {"x": rect.left, "y": rect.top, "width": rect.right - rect.left, "height": rect.bottom - rect.top}
    attributes = {key: _n(value) for key, value in sizes.items()}
    ET.SubElement(parent, "rect", {"class": style, **attributes, **({"rx": _n(radius)} if radius else {})})


def _box(parent: ET.Element, box: Box, rect: Rect) -> None:
    group = ET.SubElement(parent, "g")
    ET.SubElement(group, "title").text = "\n".join(dict.fromkeys([box.name, *(part.name for part in box.rows)]))
    found = list(bands(box))
    if box.count > 1:  # a sheet below the first
        _rect(group, Rect(rect.left + 3, rect.top + 3, rect.right + 3, rect.bottom + 3), _class(found[0].kind), 5)
    middle, top = (rect.left + rect.right) / 2, rect.top
    for i, band in enumerate(found):
        bottom = top + band.height
        radius = 12 if band.kind is Kind.PORT else 5 if len(found) == 1 else 2
        _rect(group, Rect(rect.left, top, rect.right, bottom), _class(band.kind), radius)
        if len(band.lines) == 2:
            _text(group, band.lines[0].text, middle, top + 15, "t")
            _text(group, band.lines[1].text, middle, top + 28, "d")
        else:
            style = "n" if band.kind is Kind.PORT else "t" if i == 0 else ""
            _text(group, band.lines[0].text, middle, top + band.height / 2 + 0.36 * band.lines[0].size, style)
        top = bottom
    if badge(box):
        half = width(badge(box), TITLE, True) / 2
        _text(group, badge(box), rect.right - half - 4, rect.top + 15, "t")


def _frame(parent: ET.Element, frame: Frame, rect: Rect) -> None:
    group = ET.SubElement(parent, "g")
    ET.SubElement(group, "title").text = frame.name
    _rect(group, rect, "g", 8)


def _edge(parent: ET.Element, points: Sequence[Point]) -> None:
    *curve, tip = points
    start, *rest = (f"{_n(x)} {_n(y)}" for x, y in curve)
    ET.SubElement(parent, "path", {"class": "a", "d": f"M{start}C{' '.join(rest)}"})
    (x, y), (tip_x, tip_y) = curve[-1], tip
    length = max(((tip_x - x) ** 2 + (tip_y - y) ** 2) ** 0.5, 1e-6)
    across, along = -(tip_y - y) / length * 3, (tip_x - x) / length * 3
    corners = [(tip_x, tip_y), (x + across, y + along), (x - across, y - along)]
    ET.SubElement(parent, "path", {"class": "h", "d": "M" + "L".join(f"{_n(a)} {_n(b)}" for a, b in corners) + "z"})


def _edge_label(parent: ET.Element, edge: Edge, centre: Point) -> None:
    lines = edge.label.split("\n")
    for i, line in enumerate(lines):
        _text(parent, line, centre[0], centre[1] + (i - (len(lines) - 1) / 2) * 11 + 3.2, "e")


def _swatch_width(kind: Kind) -> float:
    return 18 + width(kind.word, DETAIL) + 16


def _legend(parent: ET.Element, kinds: Sequence[Kind], left: float, bottom: float) -> None:
    for kind in kinds:
        _rect(parent, Rect(left, bottom - 11, left + 12, bottom + 1), _class(kind), 3)
        _text(parent, kind.word, left + 18, bottom - 1, "l")
        left += _swatch_width(kind)
