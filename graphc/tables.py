"""Tables of text that fit a width, drawn by rich, and of HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from io import StringIO
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from graphc.errors import MissingPackageError

WIDTH = 100  # characters of a line, where nobody says another

if TYPE_CHECKING:
    from rich.console import RenderableType

GAP = 2  # blanks between columns
LEAST = 9  # characters that a column of text keeps
MOST = 200  # rows of a table in HTML
INDENT = 6  # blanks before what has gone below its row
ROW = "\0"  # fills the line below a row, the place of what has gone there
MAY_BREAK = "\x1f"  # a blank to rich, which takes no room: lines of a cell end there rather than within a word
LINES = f"    \n    \n ── \n    \n {ROW}{ROW} \n {ROW}{ROW} \n    \n    \n"  # below the names, rows, the last row
_PART = re.compile(r"(?<=[,;:/_×])(?=\S)")


def text_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, width: int, title: str = "", footer: Sequence[Any] = ()
) -> str:
    """A table as text, whose lines have at most `width` characters where its numbers allow it.

    A column name that starts with '>' is aligned to the right, and never broken. One that starts with '+' goes below its row,
    with its name, where there is no room. Raises MissingPackageError where rich is not installed: graphc-runtime does not require it.
    """
    try:
        from rich.box import Box
        from rich.cells import cell_len
        from rich.padding import Padding
        from rich.table import Table
    except ImportError:
        raise MissingPackageError("tables of text need rich", hint="pip install rich") from None

    cells = [[_printable(c) for c in row] for row in rows]
    names, foot = [name.lstrip(">+") for name in columns], [_printable(c) for c in footer]
    fixed = [name.lstrip("+").startswith(">") for name in columns]
    widths = [max(1, *(cell_len(row[i]) for row in (names, *cells, foot) if row)) for i in range(len(columns))]
    least = [w if right else min(w, LEAST) for w, right in zip(widths, fixed)]
    shown = list(range(len(columns)))
    for i in reversed([i for i in shown if columns[i].startswith("+")]):
        if _total(widths, shown) > width:
            shown.remove(i)
    below = [i for i in range(len(columns)) if i not in shown]

    gap = (0, GAP - 1, 0, 0)  # beside the blank that stands for the line between two columns
    table = Table(box=Box(LINES), show_edge=False, pad_edge=False, padding=gap, show_lines=True, show_footer=bool(foot))
    for i in shown:
        side: Any = "right" if fixed[i] else "left"
        table.add_column(names[i], foot[i] if foot else "", justify=side, no_wrap=fixed[i], overflow="fold")
    for row in cells:
        table.add_row(*(_PART.sub(MAY_BREAK, row[i]) for i in shown))
    parts = re.split(f"{ROW}+\n", _drawn(table, max(width, _total(least, shown))))
    end = ["─" * cell_len(parts[0].partition("\n")[0]) + "\n", parts.pop()] if foot else []
    details = ["; ".join(f"{names[i]} {row[i]}" for i in below if row[i]) for row in cells]
    drawn = [_drawn(Padding(_PART.sub(MAY_BREAK, d), (0, 0, 0, INDENT)), width) if d else "" for d in details]
    whole = "".join([*(part + detail for part, detail in zip_longest(parts, drawn, fillvalue="")), *end])
    return "\n".join([*([title] if title else []), *(line.rstrip() for line in whole.splitlines())])


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


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[i] for i in shown) + GAP * (len(shown) - 1)


def _drawn(what: RenderableType, width: int) -> str:
    """Text as it is: names of nodes may hold brackets and colons."""
    from rich.console import Console

    plain: dict[str, Any] = {"color_system": None, "markup": False, "emoji": False, "highlight": False}
    file = StringIO()  # for which rich must take neither a terminal nor a notebook, whatever is around
    Console(file=file, width=width, force_terminal=False, force_jupyter=False, **plain).print(what)
    return file.getvalue().replace(MAY_BREAK, "")
