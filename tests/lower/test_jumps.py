"""Programs that jump: how long buffers live, and the runs that a program is cut into."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from graphc.lower.assembled import JumpCall
from graphc.lower.block import Block
from graphc.lower.checks import NotFinite
from graphc.lower.kernel import Kernel
from graphc.lower.plans import _run
from graphc.lower.program import Form, Jump, Program, Step, assemble, lives
from graphc.lower.storage import Buffer, Ref
from graphc.report import StepInfo

INFO = StepInfo(0, (), (), "")
CHECK = NotFinite("op", "node", None, "test")


@dataclass(frozen=True, eq=False)
class Copies(Kernel, name="copies"):
    block: ClassVar[Block] = Block("x y")


def step(x: Buffer, y: Buffer, check: bool = False) -> Step:
    words = (0, 0) if check else ()
    return Step(Copies(), (Ref(x), Ref(y), *words), INFO, (y,), (x,), CHECK if check else None)


def buffers(names: str) -> list[Buffer]:
    return [Buffer(n, 64) for n in names]


def test_what_outlasts_a_turn_lives_through_all_of_it():
    """`given` is read first of all, `made` written last: both live from the first step that is repeated to the jump."""
    given, inner, made, after = buffers("gima")
    steps = [step(given, given), step(given, inner), step(inner, made), Jump(-3, INFO, times=4, holds=(given, made))]
    found = lives([*steps, step(made, after)])
    assert found == {given: (0, 3), inner: (1, 2), made: (1, 4), after: (4, 4)}


def test_runs_begin_where_jumps_end():
    x, y, flag = buffers("xyf")
    steps = [
        step(x, y), Jump(2, INFO, Ref(flag, 8), 0), step(x, y, True), Jump(1, INFO), step(y, x), step(x, y, True),
        step(x, y), Jump(-3, INFO, Ref(flag)), Jump(-8, INFO, times=3),
    ]  # fmt: skip
    assembled, *_ = assemble(Program(steps), Form(cost=lambda info: 0), lambda b: b.place)
    first, otherwise, then, over, other, both, back, again = assembled.runs
    assert (first, then, other, both) == ((0, 1), (1, 1), (2, 1), (3, 2))
    jumps = [j for j in (otherwise, over, back, again) if isinstance(j, JumpCall)]
    assert [(j.when, j.times, j.to) for j in jumps] == [(0, 0, 4), (1, 0, 5), (1, 0, 5), (1, 3, 1)]
    assert over.word is again.word is None
    slots = dict(zip(assembled.arena_slots.at, assembled.arena_slots.offset))
    assert slots[otherwise.word] == slots[back.word] + 8
    starts = [where.start for where, _ in assembled.checks]
    assert [j.reports for j in jumps] == [(), (), (starts[1],), tuple(starts)]
    np.testing.assert_array_equal(assembled.words[starts], 0)


def test_a_jump_to_the_end():
    x, y, flag = buffers("xyf")
    assembled, *_ = assemble(
        Program([step(x, y), Jump(1, INFO, Ref(flag)), step(x, y)]), Form(cost=lambda info: 0), lambda b: b.place
    )
    assert assembled.runs[1].to == len(assembled.runs) == 3


def test_jumps_are_kept_with_a_plan():
    jump = JumpCall(3, 0, 0, 7, (1, 2))
    assert asdict(_run(json.loads(json.dumps(asdict(jump))))) == asdict(jump)
    assert _run([3, 4]) == (3, 4)
