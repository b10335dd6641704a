"""control/branch_driver.py."""

from __future__ import annotations

from graphc.backends.cpu.control.subprogram_block import SUBPROGRAM, TEAM
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# condition: address of the byte that takes the first program. Then the words of TEAM, and two of SUBPROGRAM.
BRANCH = Block("condition")
TEAM_AT = BRANCH.size
THEN_AT = TEAM_AT + TEAM.size
ELSE_AT = THEN_AT + SUBPROGRAM.size
HEAD = ELSE_AT + SUBPROGRAM.size


class Branch(Kernel, name="branch"):
    """One of two programs."""
