"""Pictures of graphs: layered drawings, top to bottom, as SVG or PNG.

parts.py reads a graph; fold.py decides what is a box and what a frame; layout.py asks Graphviz where they go; svg.py draws.
"""

from __future__ import annotations

from graphc.draw.fold import picture_of
from graphc.draw.layout import place
from graphc.draw.parts import scopes_of
from graphc.draw.svg import svg_of
from graphc.graph import Graph


def draw(graph: Graph, fold: str = "auto") -> str:
    """The graph as the text of an SVG file, the same each time. fold: 'auto', 'all' or 'none'.

    Raises GraphcError where Graphviz is not there.
    """
    picture = picture_of(scopes_of(graph, weights=fold == "none"), fold)
    return svg_of(picture, place(picture))
