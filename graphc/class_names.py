"""Names of classes as files and metadata have them: lists, dicts by number, lines of text."""

from __future__ import annotations

import ast
import json

LONGEST = 1 << 22  # characters of such a text


def names_of(text: str) -> tuple[str, ...] | None:
    """Names of classes in a text: a list or dict of JSON or Python, or names between commas or on lines. None of anything else."""
    content = text.strip()
    if len(text) > LONGEST or not content:
        return None
    if content[:1] not in ("[", "{", "("):
        parts = content.split("\n" if "\n" in content else ",")
        return tuple(p.strip() for p in parts) if len(parts) > 1 else None
    for read in (json.loads, ast.literal_eval):
        try:
            return in_order(read(content))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return None


def in_order(given: object) -> tuple[str, ...] | None:
    """The names of a list, of {number: name}, or of {name: number}; numbers count from 0. None of anything else.

    A name may be a list of names, of which the last is taken: ImageNet's class index is {"0": ["n01440764", "tench"], …}. Of a
    dict with 'id2label', as the config.json of Hugging Face is, that entry counts.
    """
    if isinstance(given, dict) and isinstance(given.get("id2label"), dict):
        given = given["id2label"]
    if isinstance(given, (list, tuple)):
        names = [_name(v) for v in given]
        return tuple(n for n in names if n is not None) if given and None not in names else None
    if not isinstance(given, dict) or not given:
        return None
    if all(_is_number(n) and isinstance(name, str) and not name.isdecimal() for name, n in given.items()):
        given = {n: name for name, n in given.items()}
    try:
        numbered = {int(n): _name(v) for n, v in given.items()}
    except (ValueError, TypeError):
        return None
    if len(numbered) != len(given) or sorted(numbered) != list(range(len(given))):
        return None
    return in_order([numbered[n] for n in range(len(given))])


def _is_number(n: object) -> bool:
    return isinstance(n, int) and not isinstance(n, bool)


def _name(value: object) -> str | None:
    if isinstance(value, (list, tuple)) and value:
        value = value[-1]
    return str(value) if isinstance(value, str) or _is_number(value) else None
