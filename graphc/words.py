"""Numbers as people read them."""

from __future__ import annotations


def many(n: int, what: str) -> str:
    """(1, 'node') -> '1 node', (2, 'node') -> '2 nodes'."""
    return f"{n} {what}{'s' * (n != 1)}"


def count(n: float) -> str:
    """1234567 -> '1.23 M'."""
    for unit in ("", " k", " M", " G", " T"):
        if abs(n) < 1000:
            return f"{n:.0f}" if unit == "" else f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:.3g} P"


def seconds(s: float) -> str:
    """0.00123 -> '1.23 ms'."""
    if s >= 1:
        return f"{s:.2f} s"
    return f"{s * 1e3:.3g} ms" if s >= 1e-3 else f"{s * 1e6:.3g} µs"
