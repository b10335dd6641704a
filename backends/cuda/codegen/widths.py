"""How many bytes one instruction can move."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

from graphc.lower.storage import Ref
from graphc.sizes import choose, is_size, smallest

WIDEST = 8  # bytes of one load or store here


def widest(refs: Sequence[Ref], *nbytes: int, most: int = WIDEST) -> int:
    """1, 2, 4 or 8 bytes that divide the addresses of all refs plus any multiples of `nbytes`; a value. most: 4 or 8.
    Buffers begin at multiples of these, as arrays of the caller's do, or they are copied (runtime/run.py)."""
    return power_that_divides(most, *nbytes, *(r.offset for r in refs))


def power_that_divides(most: int, *numbers: Any) -> Any:
    """The largest power of two up to `most`, which is one, that divides all numbers; a value, of which a kernel's field may be
    made."""
    known = gcd(most, *(n for n in numbers if not is_size(n)))
    logs = [known.bit_length()]
    logs += [_log_of_divisor(known, n) for n in filter(is_size, numbers)]
    return choose(lambda log: 1 << (log - 1), smallest(*logs))


def _log_of_divisor(most: int, n: Any) -> Any:
    """Bits of the largest power of two up to `most` that divides a size."""
    always = gcd(most, *n.expr.terms.values())
    left = most // always
    return choose(lambda rest: gcd(most, always * rest).bit_length(), n // always % left + left)


def sure_divisor(most: int, *numbers: Any) -> int:
    """The same, as a number: what divides sizes whatever they are."""
    return gcd(most, *(gcd(*n.expr.terms.values()) if is_size(n) else n for n in numbers))
