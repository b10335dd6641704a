"""Operations of the program that binds a plan to sizes: see graphc/lower/binding.py."""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """Operations on registers. The last six are guards: a program stops at the first that does not hold."""

    ADD, MULTIPLY, DIVIDE, MINIMUM, MAXIMUM, BROADCAST, LOOK, POSITIVE = range(8)
    LESS, LESS_EQUAL, EQUAL, NOT_LESS, NOT_LESS_EQUAL, NOT_EQUAL = range(8, 14)


GUARDS = {"<": Code.LESS, "<=": Code.LESS_EQUAL, "==": Code.EQUAL}
CONTRARY = Code.NOT_LESS - Code.LESS
