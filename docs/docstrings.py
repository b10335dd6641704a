"""A Sphinx extension: graphc's docstrings are plain text with columns of names and meanings; here they become markup."""

from __future__ import annotations

import re
from collections.abc import Iterator

COLUMNS = re.compile(r"([\w*,:./ ]*?\S) {2,}(\S.*)")
LONG = re.compile(r"(\w+) (\S.*)")  # a name that fills its column


def paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Lines between empty ones."""
    found: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            found.append(line)
        elif found:
            yield found
            found = []


def escaped(text: str) -> str:
    """Text without what reStructuredText takes for markup, but for `names` in backticks."""
    return re.sub(r"([\\*|]|_(?!\w))", r"\\\1", text)


def definitions(lines: list[str]) -> Iterator[str]:
    """A list of terms from lines of names and meanings, which continue where the next line begins below the meaning."""
    for line in lines:
        found = None if line.startswith(" ") else COLUMNS.fullmatch(line) or LONG.fullmatch(line)
        if found:
            yield from ("", f"``{found[1]}``", f"   {escaped(found[2])}")
        else:
            yield f"   {escaped(line.strip())}"
    yield ""


def markup(lines: list[str]) -> list[str]:
    """The docstring in reStructuredText."""
    made: list[str] = []
    for part in paragraphs(lines):
        if part[0].lstrip().startswith(">>>"):  # as it is: a block of Python
            made += ["", *part, ""]
        elif COLUMNS.fullmatch(part[0]):
            made += definitions(part)
        else:
            made += ["", *(escaped(line.strip()) for line in part), ""]
    return made


def _process(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = markup(lines)


def setup(app) -> dict[str, bool]:  # noqa: ANN001  (Sphinx calls it)
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
