"""Pictures of graphs: layered drawings, top to bottom, as SVG or PNG.

parts.py reads a graph; fold.py decides what is a box and what a frame; layout.py asks Graphviz where they go; render.py draws.
"""

from __future__ import annotations

from graphc.draw.boxes import Picture
from graphc.draw.fold import FOLDS, MOST_BOXES, picture_of, picture_of_groups
from graphc.draw.kernels import grouped
from graphc.draw.layout import place
from graphc.draw.parts import scopes_of
from graphc.draw.png import png_of
from graphc.draw.render import svg_of
from graphc.graph import Graph
from graphc.report import Plan

__all__ = ["FOLDS", "MOST_BOXES", "picture", "picture_of_kernels", "png_of", "svg"]


def picture(graph: Graph, fold: str = "auto", most: int = MOST_BOXES) -> Picture:
    """Boxes and edges of the graph. fold: 'none', an operator is a box and a block a frame; 'auto', what repeats is there
    once, and blocks are folded, inner ones first, until there are no more than `most` boxes; 'all', every block is a box.
    Weights, and what is computed of weights alone, are not drawn."""
    return picture_of(scopes_of(graph), fold, most)


def picture_of_kernels(graph: Graph, plan: Plan) -> Picture:
    """Operators in frames, one for each kernel that computes them."""
    return picture_of_groups(grouped(scopes_of(graph), plan.steps))


def svg(picture: Picture) -> str:
    """The text of an SVG file, the same each time. Raises GraphcError where Graphviz is not there."""
    return svg_of(picture, place(picture))
