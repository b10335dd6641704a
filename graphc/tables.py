"""Tables of text that fit a width, and of HTML."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

GAP = "  "
LEAST = 9  # characters that a column of text keeps
MOST = 200  # rows of a table in HTML
DETAIL = "      "  # before what has gone below its row
_BREAK = re.compile(r".*[\s,;:/_×]", re.DOTALL)  # a line of a cell ends there rather than within a word


def text_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, width: int, title: str = "", footer: Sequence[Any] = ()
) -> str:
    """A table as text, whose lines have at most `width` characters where its numbers allow it.

    A column name that starts with '>' is aligned to the right, and never broken. One that starts with '+' goes below its row,
    with its name, where there is no room.
    """
    cells = [[_printable(c) for c in row] for row in rows]
    names, foot = [name.lstrip(">+") for name in columns], [_printable(c) for c in footer]
    shown = list(range(len(columns)))
    widths = [max([cell_len(row[i]) for row in (names, *cells, *([foot] if foot else []))]) for i in shown]
    for i in reversed([i for i in shown if columns[i].startswith("+")]):
        if _total(widths, shown) > width:
            shown.remove(i)
    _narrow(widths, shown, [c.lstrip("+").startswith(">") for c in columns], width)
    below = [i for i in range(len(columns)) if i not in shown]

    def line(row: Sequence[str]) -> list[str]:
        parts = {i: _folded(row[i], widths[i]) for i in shown}
        height = max((len(p) for p in parts.values()), default=0)
        return [GAP.join(_aligned(parts[i], n, widths[i], columns[i]) for i in shown).rstrip() for n in range(height)]

    rule = "─" * min(_total(widths, shown), width)
    text = [*([title] if title else []), *line(names), rule]
    for row in cells:
        text += line(row)
        details = "; ".join(f"{names[i]} {row[i]}" for i in below if row[i])
        text += [DETAIL + part for part in _folded(details, width - len(DETAIL)) if part]
    return "\n".join([*text, *([rule, *line(foot)] if foot else [])])


def html_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> str:
    """A table under its title; of very many rows the first."""

    def line(row: Sequence[Any], tag: str) -> str:
        sides = ["right" if name.startswith(">") else "left" for name in columns]
        cells = "".join(f'<{tag} style="text-align:{s}">{escape(str(c))}</{tag}>' for s, c in zip(sides, row))
        return f"<tr>{cells}</tr>"

    head = line([name.lstrip(">+") for name in columns], "th")
    left = f"<p>… and {len(rows) - MOST} more</p>" if len(rows) > MOST else ""
    above = f"<p>{escape(title)}</p>" if title else ""
    return f"{above}<table><thead>{head}</thead><tbody>{''.join(line(row, 'td') for row in rows[:MOST])}</tbody></table>{left}"


def _printable(cell: Any) -> str:
    return "".join(c if c.isprintable() else " " for c in str(cell))


def cell_len(text: str) -> int:
    """Columns of a terminal that a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[i] for i in shown) + len(GAP) * (len(shown) - 1)


def _narrow(widths: list[int], shown: Sequence[int], fixed: Sequence[bool], width: int) -> None:
    """Take what is too much from the widest columns of text."""
    while _total(widths, shown) > width:
        widest = max((i for i in shown if not fixed[i]), key=lambda i: widths[i], default=None)
        if widest is None or widths[widest] <= LEAST:
            return
        widths[widest] -= 1


def _folded(text: str, width: int) -> list[str]:
    """Lines of at most so many characters."""
    lines = []
    while cell_len(text) > width:
        cut = width
        while cell_len(text[:cut]) > width:
            cut -= 1
        whole = _BREAK.match(text, 0, cut + text.startswith(" ", cut))
        cut = len(whole[0]) if whole and len(whole[0]) > cut // 2 else cut
        lines.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*lines, text]


def _aligned(lines: Sequence[str], n: int, width: int, column: str) -> str:
    text = lines[n] if n < len(lines) else ""
    space = " " * (width - cell_len(text))
    return space + text if column.lstrip("+").startswith(">") else text + space
