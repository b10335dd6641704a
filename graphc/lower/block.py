"""How an argument block is declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Block:
    """Words in order, each with a name; then records of words, if there are any, as many as the caller gives.

    fields: names, 'tiles*3' for three words. record: the names of a record's words.

    >>> SCALE = Block("x y n factor*2", record="ref stride")
    >>> SCALE(x=1, y=2, n=3, factor=(4, 5), records=[{"ref": 6, "stride": 7}])
    [1, 2, 3, 4, 5, 6, 7]
    >>> N, FACTOR = SCALE["n factor"]  # positions, for the driver
    >>> N, FACTOR, SCALE.size, SCALE.record_size
    (2, 3, 5, 2)
    """

    def __init__(self, fields: str, record: str = "") -> None:
        self.fields = _sizes(fields)
        self.record = _sizes(record)
        self.at = _positions(self.fields)
        self.record_at = _positions(self.record)
        self.size = sum(self.fields.values())
        self.record_size = sum(self.record.values())

    def __getitem__(self, names: str) -> tuple[int, ...]:
        """The first word of each field. Raises KeyError for a name that is none."""
        return tuple(self.at[n] for n in names.split())

    def in_record(self, names: str) -> tuple[int, ...]:
        """The same within a record."""
        return tuple(self.record_at[n] for n in names.split())

    def __call__(self, records: Any = (), **words: Any) -> list[Any]:
        """The block's words. Raises TypeError for a name that is missing, or none, and for too few or too many words.

        records: a sequence of mappings; Any, because to a type checker `**` of a mapping of words may hold it, too.
        """
        return [*_written(self.fields, words), *(w for r in records for w in _written(self.record, r))]


def _sizes(text: str) -> dict[str, int]:
    parts = [part.partition("*") for part in text.split()]
    sizes = {name: int(count or 1) for name, _, count in parts}
    if len(sizes) < len(parts):
        raise ValueError(f"a name stands twice in '{text}'")
    return sizes


def _positions(sizes: Mapping[str, int]) -> dict[str, int]:
    at, positions = 0, {}
    for name, count in sizes.items():
        positions[name] = at
        at += count
    return positions


def _written(sizes: Mapping[str, int], words: Mapping[str, Any]) -> list[Any]:
    if words.keys() != sizes.keys():
        missing, unknown = ", ".join(sizes.keys() - words.keys()), ", ".join(words.keys() - sizes.keys())
        raise TypeError(f"fields of an argument block: missing ({missing}), unknown ({unknown})")
    out: list[Any] = []
    for name, count in sizes.items():
        value = words[name]
        if count == 1:
            out.append(value)
            continue
        several = list(value)
        if len(several) != count:
            raise TypeError(f"'{name}' has {count} words, not {len(several)}")
        out += several
    return out
