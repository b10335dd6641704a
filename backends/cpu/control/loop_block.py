"""control/loop_driver.py."""

from __future__ import annotations

from graphc.backends.cpu.control.subprogram_block import SUBPROGRAM, TEAM
from graphc.lower.block import Block
from graphc.lower.kernel import Kernel

# trips: at most. first: address of the first one's number, limit: of their number, or 0. condition: address of the byte that lets the loop begin, again: of the
# one that lets it go on, or 0 where nothing else ends it. counter: address of the iteration's number, or 0. done, going: addresses of what takes the number of trips and the last condition, or 0. moving, states,
# patches: how many records there are at which index. places: address of memory for the current addresses: one of each moving
# operand, two of each state. Then the words of TEAM and of the body's SUBPROGRAM.
LOOP = Block(
    "trips first limit condition again counter done going moving moving_at states states_at patches patches_at places"
)
TEAM_AT = LOOP.size
BODY_AT = TEAM_AT + TEAM.size
HEAD = BODY_AT + SUBPROGRAM.size
# an operand or a result of one element per iteration: address of the first, bytes to the next. clear: for a result whose elements
# lie side by side: is it to have zeros where there is no trip? In checked runs, which do not like what nobody has written
MOVING = Block("start step clear")
# a carried value: addresses of the initial one, of the result and of spare memory
STATE = Block("initial result spare nbytes")
PATCH = Block("word place")  # a word of the body that is an address: the place's, and what the word holds


class Loop(Kernel, name="loop"):
    """A program again and again, with values that it hands to its next run."""
