"""Problems of a file with the line that they stand in, and a caret under the word."""

from __future__ import annotations

import re

from graphc.errors import CheckError, GraphcError, Location

WIDTH = 100  # characters of a line that are shown
_PLACE = re.compile(r"line (\d+), column (\d+)")
_WORD = re.compile(r"[^\s,:\[\]{}#]+")
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # as in YAML


def shown(error: GraphcError) -> str:
    """The error's text, and below its first part the lines of the file that it names."""
    if isinstance(error, CheckError):
        head = str(error).partition("\n")[0]
        return "\n".join([head, *(f"- {shown(problem)}" for problem in error.problems)])
    lines = excerpt(error.source) if error.source else []
    text, hint = str(error), f"\n  {error.hint}" if error.hint else ""
    return "\n".join([text.removesuffix(hint), *lines]) + hint


def line_and_column(source: Location | None) -> tuple[int, int] | None:
    """Both from 1 on; None where the place is another, or not known."""
    place = _PLACE.fullmatch(source.place or "") if source else None
    return (int(place[1]), int(place[2])) if place else None


def excerpt(source: Location) -> list[str]:
    """The line of the file, and carets under the word, as wide as a terminal writes it; nothing where the place or the file is
    not known."""
    from rich.cells import cell_len

    place = line_and_column(source)
    if place is None or source.file is None:
        return []
    try:
        with open(source.file, encoding="utf-8-sig", newline="") as file:
            lines = _BREAK.split(file.read())
    except (OSError, UnicodeDecodeError):
        return []
    number, column = place[0] - 1, place[1] - 1
    if number >= len(lines) or column >= len(lines[number]):
        return []
    line = lines[number].expandtabs(1).rstrip()
    found = _WORD.match(line, column)
    length = len(found[0]) if found else 1
    start = len(line) - len(line.lstrip())
    if column + length - start > WIDTH:  # so that the word can be seen
        start = column + length - WIDTH
    length = max(min(length, start + WIDTH - column), 1)
    cut = "…" if len(line) - start > WIDTH else ""
    before, word = cell_len(line[start:column]), cell_len(line[column : column + length])
    return [f"    {line[start : start + WIDTH]}{cut}", f"    {' ' * before}{'^' * max(word, 1)}"]
