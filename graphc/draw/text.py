"""Text in pictures: how wide it is on any machine, whatever fonts that has; what a file of it may hold."""

from __future__ import annotations

import re

_WIDE = {  # hundredths of the font's size, of DejaVu Sans: other sans-serif fonts are narrower
    30: "'IJijl",
    35: " ,./:;\\f|·",
    40: "!()-[]t",
    45: '"r',
    50: "*_`",
    55: "?Lcsz",
    60: "FPkvxy",
    65: "$0123456789EKSTYabdeghnopqu{}",
    70: "ABCRVXZ",
    75: "HNU",
    80: "&DGOQ",
    85: "#+<=>^w~×→≤",
    90: "M",
    95: "%",
    100: "@Wm…",
}
_WIDTHS = {c: width / 100 for width, characters in _WIDE.items() for c in characters}
FONT = "Helvetica, Arial, 'DejaVu Sans', 'Liberation Sans', 'Noto Sans', sans-serif"
_BOLD = 1.12
MOST = 40  # characters of a line in a box
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def width(text: str, size: float, bold: bool = False) -> float:
    """Pixels of a line of text. A character that is not in the table counts as the widest."""
    return sum(_WIDTHS.get(c, 1.0) for c in text) * size * (_BOLD if bold else 1)


def shortened(text: str, most: int = MOST) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def as_xml(text: str) -> str:
    """XML without the characters that none may hold, control characters for instance: names in models are any text."""
    return _NO_XML.sub("\ufffd", text)
