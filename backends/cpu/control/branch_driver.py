"""If: one of two programs."""

from __future__ import annotations

from graphc.backends.cpu.codegen.intrinsics import STEP, load_u8
from graphc.backends.cpu.control.branch_block import BRANCH, ELSE_AT, TEAM_AT, THEN_AT, Branch
from graphc.backends.cpu.control.subprogram_njit import begin, dismiss, leads, run_steps
from graphc.backends.cpu.kernel import driver

(CONDITION,) = BRANCH["condition"]


@driver(Branch)
def branch(target):
    """The steps of the program that the condition takes."""

    def branch(a, tid, nth):
        if leads(a, TEAM_AT, nth):
            program = THEN_AT if load_u8(a[CONDITION]) != 0 else ELSE_AT
            begin(a, program)
            run_steps(a, program, TEAM_AT, nth)
            dismiss(a, TEAM_AT, nth)

    return branch, STEP
