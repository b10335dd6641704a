"""The errors of layers as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from graphc.draw.text import FONT, as_xml
from graphc.quantizer.noise import decibels
from graphc.quantizer.report import LayerReport, Report

KINDS = (  # field of a layer, what it says, colour
    ("weights", "weights", "#4477aa"),
    ("output", "output, with all before it", "#ee6677"),
    ("alone", "results, if it alone is quantised", "#228833"),
)
BAR, GAP, LABEL, BARS, NUMBERS = 9, 6, 300, 480, 90  # pixels
TOP, MOST = 64, 80.0  # dB at the end of the longest bar


def picture(report: Report, title: str) -> str:
    """An SVG: for each layer bars from 0 dB on, longer ones for smaller errors."""
    kinds = [k for k in KINDS if any(getattr(layer, k[0]) is not None for layer in report.layers)]
    row = BAR * max(len(kinds), 1) + GAP
    width, height = LABEL + BARS + NUMBERS, TOP + row * len(report.layers) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="{FONT}" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(8, 16, title, "font-weight='bold'"),
        _text(8, 32, f"{report.scheme}; signal to noise in dB, 20 dB are a relative error of 0.1", "fill='#555'"),
    ]
    for i, (_, says, colour) in enumerate(kinds):
        parts += [
            f'<rect x="{8 + 220 * i}" y="40" width="10" height="10" fill="{colour}"/>',
            _text(22 + 220 * i, 49, says),
        ]
    for db in range(0, int(MOST) + 1, 20):
        x = LABEL + BARS * db / MOST
        parts += [
            f'<line x1="{x:.0f}" y1="{TOP}" x2="{x:.0f}" y2="{height - 20}" stroke="#ddd"/>',
            _text(x, height - 6, f"{db} dB", "text-anchor='middle' fill='#555'"),
        ]
    for i, layer in enumerate(report.layers):
        parts += _bars(layer, kinds, TOP + row * i + GAP / 2)
    return as_xml("\n".join([*parts, "</svg>\n"]))


def _bars(layer: LayerReport, kinds: Sequence[tuple[str, str, str]], top: float) -> list[str]:
    label = f"{layer.name} ({layer.op})" + (", float" if layer.kept else "")
    parts = [_text(LABEL - 6, top + BAR * len(kinds) / 2 + 4, _shortened(label), "text-anchor='end'")]
    for i, (key, _, colour) in enumerate(kinds):
        error = getattr(layer, key)
        if error is None:
            continue
        db = decibels(error)
        length, y = BARS * min(max(db, 0.0), MOST) / MOST, top + BAR * i
        said = "exact" if error == 0 else f"{db:.1f} dB"
        parts += [
            f'<rect x="{LABEL}" y="{y:.1f}" width="{length:.1f}" height="{BAR - 1}" fill="{colour}"/>',
            _text(LABEL + length + 4, y + BAR - 1, said, "fill='#555' font-size='9'"),
        ]
    return parts


def _shortened(text: str, limit: int = 50) -> str:
    return text if len(text) <= limit else f"…{text[1 - limit :]}"


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {attributes}>{escape(text)}</text>'
