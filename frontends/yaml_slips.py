"""Slips in the writing itself, of people who are new to YAML or think in another language, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

_NO_SPACE = re.compile(r"([\w.$\-]+):(\S.*)", re.S)
_NO_COLON = re.compile(r"([A-Za-z_]\w*) +(-?[\d.]+|true|false)")
_EQUALS = re.compile(r"([A-Za-z_]\w*) *=(?!=) *(\S.*)", re.S)
_STUCK = re.compile(r"(?:- +)*([A-Za-z_][\w.]*):? *(\{[^{}]*)", re.S)
_BRACES = re.compile(r"\$?\{+ *([A-Za-z_]\w*) *\}+")
_TUPLE = re.compile(r"\((.*)\)", re.S)
_CALL = re.compile(r"([A-Za-z_][\w.]*)\((.*)\)", re.S)


def slip(text: object) -> str | None:
    """What to write instead of a text that can't be what it stands for: `dense:10`, `-relu`, `(batch, 3)`."""
    if not isinstance(text, str):
        return None
    if found := _BRACES.fullmatch(text):
        return f"write ${found[1]}, without braces"
    if found := _NO_COLON.fullmatch(text):
        return f"a ':' must follow the name: {found[1]}: {found[2]}"
    if found := _EQUALS.fullmatch(text):
        return f"':' stands between a name and its value: {found[1]}: {found[2]}"
    if re.match(r"-[A-Za-z{\[]", text):
        return f"a space must follow the '-': - {text[1:]}"
    if found := _NO_SPACE.fullmatch(text):
        return f"a space must follow the ':': {found[1]}: {found[2]}"
    if found := _TUPLE.fullmatch(text):
        return f"a list stands in [ ]: [{found[1].strip().rstrip(',')}]"
    return None


def stuck(key: str, value: object) -> str | None:
    """What to write instead of `conv {out: 16}` and `conv:{out: 16}`, whose key ends at the second colon."""
    found = _STUCK.fullmatch(key)
    if found is None:
        return None
    shown = str(value).lower() if isinstance(value, bool) else value if isinstance(value, (int, float, str)) else "…"
    return _apart(found[1], f"{found[2]}: {shown}")


def _apart(name: str, arguments: str) -> str:
    return f"a ':' and a space must follow the name: {name}: {arguments}"


def call(text: str) -> tuple[str, str] | None:
    """The name of a layer that is called as in Python, and its argument where it is one number: `dense(10)`, `ReLU()`."""
    found = _CALL.fullmatch(text)
    return None if found is None else (found[1], found[2] if found[2].isdigit() else "")


def opens(text: str) -> bool:
    """Does it open parentheses that it does not close? So a comma in braces or brackets cut it off."""
    return text.count("(") > text.count(")")


def cut(whole: str) -> tuple[str, str]:
    """What is wrong with a text that commas cut to pieces, and what to do."""
    if whole.startswith("("):
        return f"'{whole}' is no list: YAML has no tuples", str(slip(whole))
    hint = f'quote the text: "{whole}"'
    if (name := call(whole)) is not None and ("." in name[0] or name[0][0].isupper()):
        hint = "a layer is a name with arguments, not a call: {dense: {out: 10}}"
    return f"the comma in '{whole}' ends the text inside {{ }} and [ ]", hint


def pieces(whole: str) -> Sequence[str] | None:
    """The elements of what is meant as a tuple."""
    found = _TUPLE.fullmatch(whole)
    return None if found is None else [p.strip() for p in found[1].split(",") if p.strip()]


def not_yaml(error: yaml.MarkedYAMLError, text: str) -> tuple[str, str | None, yaml.Mark | None]:
    """What the parser's error means, what to do, and where."""
    mark, context = error.problem_mark or error.context_mark, error.context_mark
    problem = error.problem or ""
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    start = line[: mark.column] if mark is not None else ""
    opened = f"line {context.line + 1}, column {context.column + 1}" if context is not None else ""
    if r"'\t' that cannot start" in problem:
        return "a tab can't indent", "indent with spaces", mark
    if found := re.search(r"character '(.)' that cannot start", problem):
        return f"text can't begin with {found[1]}", f"quote it: '{found[1]}…'", mark
    if problem.startswith("mapping values are not allowed"):
        return *_colon(lines, mark, start), mark
    if problem.startswith("sequence entries are not allowed"):
        return "a list with '-' can't begin behind other text", "begin it on the next line, or write [a, b]", mark
    if "end of stream" in problem and "quoted scalar" in (error.context or ""):
        return "the quote that begins here is not closed", None, context
    if found := re.match(r"expected ',' or '([}\]])', but got '?([^']*)", problem):
        opening = {"}": "{", "]": "["}[found[1]]
        if start.endswith("$"):
            return "'{' is not expected behind '$'", "write $name, without braces", mark
        if (
            "end>" in found[2]
            or found[2] == ":"
            or (context is not None and mark is not None and mark.line > context.line)
        ):
            return f"the '{opening}' that begins here is not closed", f"a '{found[1]}' is missing", context
        return f"a ',' is missing between the items of the '{opening}' of {opened}", None, mark
    if found := re.match(r"expected <block end>, but found '?([^']*)", problem):
        if found[1] in ("}", "]"):
            return f"'{found[1]}' closes nothing", f"remove it, or open it with {dict(zip('}]', '{['))[found[1]]}", mark
        if "block" in found[1]:
            return (
                "this line is not indented as those beside it",
                "lines of one list or mapping begin in one column",
                mark,
            )
        return f"'{line[len(start) :].strip()}' is not expected here", "quote the text, or begin a new line", mark
    if problem.startswith("could not find expected ':'"):
        return "a ':' is missing in this line", "a step of a list begins with '- '", context
    if found := re.match(r"expected the node content, but found '([^']*)'", problem):
        return f"nothing stands before this '{found[1]}'", None, mark
    what = ": ".join(part for part in (error.context, error.problem) if part)
    return what, None, mark


def _colon(lines: Sequence[str], mark: yaml.Mark | None, start: str) -> tuple[str, str]:
    """A ':' where none can stand: a line before without a space behind its own, two in a line, or wrong indentation."""
    message = "a ':' can't stand here"
    before = [(i, t.strip()) for i, t in enumerate(lines[: mark.line if mark is not None else 0]) if t.strip()]
    if mark is not None and (
        found := re.match(r"(?:- +)*([A-Za-z_][\w.]*)(?: *|:)(\{.*\})$", lines[mark.line].strip())
    ):
        return message, _apart(found[1], found[2])
    if ": " in start:
        return message, "text that holds ': ' wants quotes; a mapping goes on the next line or into { }"
    if before and (hint := slip(before[-1][1])):
        return message, f"in line {before[-1][0] + 1} {hint}"
    return message, "is the line indented as those beside it?"
