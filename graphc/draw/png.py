"""SVG as PNG."""

from __future__ import annotations

import re

from graphc.draw.text import FONT
from graphc.errors import GraphcError, MissingPackageError

_SHARP, _MOST = 2, 16_000  # pixels of a picture for one of the SVG's, up to so many in all along a side
_PROBE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text y="9" font-family="{}">{}</text></svg>'


def png_of(svg: str) -> bytes:
    """Raises MissingPackageError where the renderer is not there, GraphcError where it has no font to write with."""
    try:
        import resvg_py
    except ImportError:
        raise MissingPackageError("PNG files need resvg-py", hint="pip install 'graphc[draw]', or write .svg") from None
    written, blank = (resvg_py.svg_to_bytes(svg_string=_PROBE.format(FONT, text)) for text in ("M", ""))
    if written == blank:
        raise GraphcError(
            "PNG files need a font, and none is installed", hint="install one (DejaVu Sans), or write .svg"
        )
    sides = [float(side) for side in re.findall(r'(?:width|height)="([\d.]+)"', svg[: svg.index(">")])]
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=_SHARP if max(sides) * _SHARP <= _MOST else 1))
