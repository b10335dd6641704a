"""Jumps that the host counts."""

from __future__ import annotations

from graphc.lower.assembled import JumpCall
from graphc.lower.program import Jump


class Turns:
    """Of one run."""

    def __init__(self) -> None:
        self._left: dict[Jump | JumpCall, int] = {}

    def go_on(self, jump: Jump | JumpCall) -> bool:
        """Is a jump without a condition made this time?"""
        if jump.times == 0:
            return True
        left = self._left.pop(jump, jump.times)
        if left:
            self._left[jump] = left - 1
        return left > 0
