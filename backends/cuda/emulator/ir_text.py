"""LLVM IR as LLVM prints it, taken apart: one instruction a line."""

from __future__ import annotations

import re

from graphc.errors import UnsupportedError

NAME = r'(?:"[^"]+"|[-\w.$]+)'  # of a value or function, without the sign before it
_OPENING, _CLOSING = "([{<", ")]}>"
_DEBUG = re.compile(r"!dbg (!\d+)")
_LOCATION = re.compile(r"^(!\d+) = (?:distinct )?!DILocation\(line: (\d+)", re.M)
_ATTACHED = re.compile(r"(?:,? ![\w.]+ !\d+)+(?= \{$|$)")
_SCALARS = {"half": 2, "bfloat": 2, "float": 4, "double": 8, "ptr": 8}
_SUFFIXES = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}
# what stands between `call` and the type
_RETURN_ATTRIBUTES = re.compile(
    r"\b(?:noundef|nonnull|noalias|signext|zeroext|inreg|fastcc|ccc|fast|nnan|ninf|nsz|arcp|contract|afn|reassoc) "
    r"|\b(?:range|nofpclass|dereferenceable|dereferenceable_or_null)\([^)]*\) |\balign \d+ |\bcc \d+ "
)


def split(text: str) -> list[str]:
    """At the commas that are in no brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c in _OPENING:
            depth += 1
        elif c in _CLOSING:
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def type_of(operand: str) -> str:
    """Of an operand: 'i32 noundef %x' -> 'i32'."""
    if operand[0] in _OPENING:
        depth = 0
        for i, c in enumerate(operand):
            depth += (c in _OPENING) - (c in _CLOSING)
            if depth == 0:
                return operand[: i + 1]
    return operand.split()[0]


def return_type(text: str) -> str:
    """What a call gives, of all that stands before the function's name."""
    return _RETURN_ATTRIBUTES.sub("", text + " ").strip()


def size_of(kind: str) -> int:
    """Bytes of a type in memory. Raises UnsupportedError."""
    return layout_of(kind)[0]


def layout_of(kind: str) -> tuple[int, int]:
    """Size and alignment."""
    if kind in _SCALARS:
        return _SCALARS[kind], _SCALARS[kind]
    if m := re.fullmatch(r"i(\d+)", kind):
        size = 1 << (max(1, -(-int(m[1]) // 8)) - 1).bit_length()
        return size, min(size, 16)
    if m := re.fullmatch(r"\[(\d+) x (.*)\]", kind):
        size, align = layout_of(m[2])
        return int(m[1]) * size, align
    if m := re.fullmatch(r"<(\d+) x (.*)>", kind):
        size = int(m[1]) * layout_of(m[2])[0]
        return size, 1 << (size - 1).bit_length()
    if m := re.fullmatch(r"\{(.*)\}", kind):
        at, align = 0, 1
        for size, own in map(layout_of, split(m[1])):
            at, align = -(-at // own) * own + size, max(align, own)
        return -(-at // align) * align, align
    raise UnsupportedError(f"the emulator does not know the type {kind}")


def suffix_of(kind: str) -> str:
    """LLVM's mangling of a scalar type in the names of intrinsics."""
    return _SUFFIXES.get(kind, kind)


class SourceLines:
    """Lines of the source, by the debug locations that instructions refer to."""

    def __init__(self, text: str) -> None:
        self._lines = {m[1]: int(m[2]) for m in _LOCATION.finditer(text)}

    def of(self, instruction: str) -> int:
        """0 where it has none."""
        m = _DEBUG.search(instruction)
        return self._lines.get(m[1], 0) if m else 0


def bare(line: str) -> str:
    """Without metadata."""
    return _ATTACHED.sub("", line)
