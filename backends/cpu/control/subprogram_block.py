"""control/subprogram_njit.py: a program within a step's argument block."""

from __future__ import annotations

from graphc.lower.block import Block

# steps, words, checks: how many. words_at: index of the block's first word of the program: a row of the executor's table for
# each step, then their argument blocks. copy: address of memory for these words. checks_at: index of records of the steps that
# check positions.
_SUBPROGRAM = "steps words words_at copy checks checks_at"
SUBPROGRAM = Block(_SUBPROGRAM)
# the first word of a step's reports, how many there are, and the number of the check
CHECK = Block("word pairs number")
# team: of threads that share the steps' work, or 0. control: address of its control block. report: index of the word that
# takes a report of the steps; number: of checks
TEAM = Block("team control report number")
