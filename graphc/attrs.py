"""The attributes of one use of an operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Attrs(dict[str, Any]):
    """Attributes of one use of an operator: a dict whose entries read as fields too, `attrs.axis`. One that is named as a method
    of a dict ('values') is read as an entry only.

    looked_at: the names that were asked for, while somebody watches (graphc/unread.py)."""

    __slots__ = ("looked_at",)

    def __init__(self, *args: Any, **entries: Any) -> None:
        super().__init__(*args, **entries)
        self.looked_at: set[str] | None = None

    def __getitem__(self, key: str) -> Any:
        if self.looked_at is not None:
            self.looked_at.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.ignore(key)
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:  # being there, it has `**attrs` ask for each entry
        return super().__iter__()

    def items(self) -> Any:  # as dict says it
        self.ignore(*self)
        return super().items()

    def ignore(self, *keys: str) -> None:
        """Say that these have no meaning beside the others, where code that would read them is not reached."""
        if self.looked_at is not None:
            self.looked_at.update(keys)

    def __reduce__(self) -> tuple[type[Attrs], tuple[dict[str, Any]]]:  # a copy is made before it has its slot
        return Attrs, (dict(self.items()),)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no attribute '{name}'; there are: {', '.join(self) or 'none'}") from None
