"""selection/sort_njit.py: the memory that a sort needs."""

from __future__ import annotations

KEY_BITS, DIGIT_BITS = 64, 8
DIGITS = 1 << DIGIT_BITS
DIGITS_BYTES = 8 * DIGITS * (KEY_BITS // DIGIT_BITS)
