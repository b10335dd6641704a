"""Damage: to bytes, to fields of messages, to text."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Iterator

from google.protobuf.message import Message

NUMBERS = (
    *(0, 1, -1, 2, -2, 3, 7, 8, 16, 64, 127, 255, 256, 1000, 1 << 15, 1 << 16, 1 << 20, 1 << 24, (1 << 31) - 1, 1 << 31),
    *(-(1 << 31), 1 << 32, 1 << 40, 1 << 53, 1 << 62, (1 << 63) - 1, -(1 << 63), -(1 << 63) + 1),
)  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e-45, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", " ", "x", "y", "\n", "../x", "/etc/passwd", "a" * 5000, "ümlaut", "\x00", "%s%n{0}", "-1", "\u202e")


# --- bytes ------------------------------------------------------------------------------------------------------------
def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def remove(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 1, 4, 30))]


def repeat(data: bytearray, rng: random.Random) -> None:
    at, n = rng.randrange(len(data)), rng.choice((1, 8, 60))
    data[at:at] = data[at : at + n] * rng.choice((1, 2, 50))


def noise(data: bytearray, rng: random.Random) -> None:
    at, n = rng.randrange(len(data)), rng.choice((1, 4, 64))
    data[at : at + n] = rng.randbytes(n)


def number(data: bytearray, rng: random.Random) -> None:
    """A length, a size or a value that is another: a varint, or eight bytes."""
    at, value = rng.randrange(len(data)), rng.choice(NUMBERS) & (1 << 64) - 1
    if rng.random() < 0.3:
        data[at : at + 8] = struct.pack("<Q", value)
        return
    end = at
    while end < len(data) - 1 and data[end] & 0x80:
        end += 1
    data[at : end + 1] = varint(value)


def endless(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at:at] = b"\xff" * rng.choice((9, 10, 11, 300))


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


BYTES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip, flip, cut, remove, repeat, noise, number, number, endless
)  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if out:
            rng.choice(BYTES)(out, rng)
    return bytes(out)


# --- fields of messages -----------------------------------------------------------------------------------------------
def messages(message: Message) -> Iterator[Message]:
    """A message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if _repeated(field) else (value,):
                yield from messages(inner)


def _repeated(field) -> bool:
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def altered(message: Message, rng: random.Random) -> None:
    """Change some fields of some messages within."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        found = list(messages(message))
        weights = [3 if type(m).__name__ in ("NodeProto", "AttributeProto", "TensorProto") else 1 for m in found]
        _alter(rng.choices(found, weights)[0], found, rng)


def _alter(message: Message, all_of_them: list[Message], rng: random.Random) -> None:
    fields = message.DESCRIPTOR.fields
    present = [f for f, _ in message.ListFields()]
    field = rng.choice(present) if present and rng.random() < 0.9 else rng.choice(fields)
    if rng.random() < 0.1:
        message.ClearField(field.name)
    elif _repeated(field):
        _alter_list(message, field, all_of_them, rng)
    elif field.message_type is None:
        setattr(message, field.name, _scalar(field, getattr(message, field.name), all_of_them, rng))
    elif others := [m for m in all_of_them if type(m) is type(getattr(message, field.name))]:
        getattr(message, field.name).CopyFrom(_copy(rng.choice(others)))


def _alter_list(message: Message, field, all_of_them: list[Message], rng: random.Random) -> None:
    held, kind = getattr(message, field.name), rng.randrange(5)
    if not held:
        if field.message_type is None:
            held.extend(_scalar(field, None, all_of_them, rng) for _ in range(rng.choice((1, 1, 2, 9))))
        elif others := [m for m in all_of_them if m.DESCRIPTOR is field.message_type]:
            held.append(_copy(rng.choice(others)))
        return
    at = rng.randrange(len(held))
    if kind == 0:
        del held[at]
    elif kind == 1:
        for _ in range(rng.choice((1, 1, 3))):
            held.append(held[at] if field.message_type is None else _copy(held[at]))
    elif kind == 2:
        items = [i if field.message_type is None else _copy(i) for i in held]
        rng.shuffle(items)
        message.ClearField(field.name)
        held.extend(items)
    elif field.message_type is None:
        held[at] = _scalar(field, held[at], all_of_them, rng)
    else:
        _alter(held[at], all_of_them, rng)


def _copy(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _scalar(field, old, all_of_them: list[Message], rng: random.Random):
    """Another value of a field."""
    match field.cpp_type:
        case field.CPPTYPE_FLOAT | field.CPPTYPE_DOUBLE:
            return rng.choice(FLOATS)
        case field.CPPTYPE_ENUM:
            return rng.choice(field.enum_type.values).number
        case field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
            data = bytes(old or b"abcd")
            return rng.choice(
                (b"", data[:-1], data + b"\0", rng.randbytes(len(data)), damaged(data, rng) if data else b"")
            )
        case field.CPPTYPE_STRING:
            names = [t for m in all_of_them for t in _names(m)]
            return rng.choice(names) if names and rng.random() < 0.7 else rng.choice(TEXTS)
    near = (old or 0) + rng.choice((-1, 1))
    value = near if rng.random() < 0.3 else rng.choice(NUMBERS)
    bits = 32 if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 64
    if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        return value & (1 << bits) - 1
    return max(-(1 << bits - 1), min(value, (1 << bits - 1) - 1))


def _names(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.cpp_type == field.CPPTYPE_STRING and field.type != field.TYPE_BYTES:
            yield from value if _repeated(field) else (value,)


# --- text -------------------------------------------------------------------------------------------------------------
_NUMBER, _WORD = re.compile(r"-?\d+(?:\.\d+)?"), re.compile(r"[A-Za-z_]\w*")
SCRAPS = ("- ", ": ", "&a ", "*a", "[", "]", "{", "}", "!!python/object ", "|\n", "#", "\t", "'", '"', "$x", "<<: *a\n", "~", "\\ud83d", "\x07", "%", "? ", "---\n", "é")  # fmt: skip


def edited(text: str, rng: random.Random) -> str:
    """A YAML text after some edits."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        text = rng.choice((_other_number, _other_number, _other_word, _other_lines, _other_scrap, _other_indent))(
            text, rng
        )
    return text


def _replaced(pattern: re.Pattern, text: str, other: str, rng: random.Random) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text
    at = rng.choice(found)
    return text[: at.start()] + other + text[at.end() :]


def _other_number(text: str, rng: random.Random) -> str:
    values = (*map(str, NUMBERS), "1e999", "9" * 300, "-0.0", ".nan", "1_0", "0x10", "1e9", "2.5", "[]", "true")
    return _replaced(_NUMBER, text, rng.choice(values), rng)


def _other_word(text: str, rng: random.Random) -> str:
    words = _WORD.findall(text)
    return _replaced(_WORD, text, rng.choice([*words, "null", "x", "y"]), rng)


def _other_lines(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    some = lines[at : at + rng.choice((1, 1, 3))]
    match rng.randrange(3):
        case 0:
            del lines[at : at + len(some)]
        case 1:
            lines[at:at] = some * rng.choice((1, 1, 20))
        case _:
            to = rng.randrange(len(lines))
            lines[to:to] = some
    return "".join(lines)


def _other_scrap(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(SCRAPS) + text[at:]


def _other_indent(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = rng.choice(("  ", "    ", "")) + lines[at].lstrip(" ")
    return "".join(lines)
