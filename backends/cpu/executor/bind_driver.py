"""Binding a program to sizes: graphc/lower/binding.py's instructions on registers, then what they give goes where it belongs."""

from __future__ import annotations

from numba import njit

from graphc.backends.cpu.codegen.intrinsics import as_block, i64, load_i64, store_i64
from graphc.backends.cpu.executor.program_block import BIND, BOUND, TOO_SMALL, Bind
from graphc.backends.cpu.kernel import driver
from graphc.lower.codes import Code

CODE, GUARDS, COUNT, TABLES = BIND["code guards count tables"]
TARGETS, TARGET_COUNT, CHOICES, CHOICE_COUNT, KERNELS = BIND["targets target_count choices choice_count kernels"]
ARENA, CAPACITY = BIND["arena capacity"]
ADD, MULTIPLY, DIVIDE, MINIMUM, MAXIMUM = (
    int(c) for c in (Code.ADD, Code.MULTIPLY, Code.DIVIDE, Code.MINIMUM, Code.MAXIMUM)
)
BROADCAST, LOOK, POSITIVE = int(Code.BROADCAST), int(Code.LOOK), int(Code.POSITIVE)
LARGEST, MOST = 1 << 62, float((1 << 62) - (1 << 10))
LESS, LESS_EQUAL = int(Code.LESS), int(Code.LESS_EQUAL)
NOT_LESS, NOT_LESS_EQUAL = int(Code.NOT_LESS), int(Code.NOT_LESS_EQUAL)


@njit(error_model="numpy")
def _floor(x, y):
    if y == 0:
        return 0
    return x // y


@njit(error_model="numpy")
def _sum(x, y):
    """The sum, or a number that is too large for any memory: it must not come round to a small one."""
    if abs(float(x) + float(y)) > MOST:
        return LARGEST if float(x) + float(y) > 0 else -LARGEST
    return x + y


@njit(error_model="numpy")
def _product(x, y):
    if abs(float(x) * float(y)) > MOST:
        return LARGEST if (x > 0) == (y > 0) else -LARGEST
    return x * y


@njit(error_model="numpy")
def _evaluate(code, count, r, tables):
    """0, or 1 + the number of the guard that does not hold."""
    for k in range(count):
        op, x, b = code[4 * k], r[code[4 * k + 2]], code[4 * k + 3]
        if op >= LESS:
            plain = op - (NOT_LESS - LESS) if op >= NOT_LESS else op
            truth = x < 0 if plain == LESS else x <= 0 if plain == LESS_EQUAL else x == 0
            if truth == (op >= NOT_LESS):
                return k + 1
            continue
        if op == ADD:
            y = _sum(x, r[b])
        elif op == MULTIPLY:
            y = _product(x, r[b])
        elif op == DIVIDE:
            y = _floor(x, r[b])
        elif op == MINIMUM:
            y = min(x, r[b])
        elif op == MAXIMUM:
            y = max(x, r[b])
        elif op == BROADCAST:
            y = r[b] if x == 1 else x
        elif op == LOOK:
            y = load_i64(tables + 8 * (b + 1 + min(max(x, 0), load_i64(tables + 8 * b) - 1)))
        else:
            y = 1 if x > 0 else 0
        r[code[4 * k + 1]] = y
    return 0


@driver(Bind)
def bind(target):
    """(record, registers, only_guards): BOUND, or 1 + the guard that does not hold, or TOO_SMALL for an arena of fewer bytes
    than wanted: then nothing has been written but registers, which begin with the sizes."""

    def bind(record, registers, only_guards):
        a, r = as_block(record), as_block(registers)
        code = as_block(a[CODE])
        failed = _evaluate(code, a[GUARDS] if only_guards != 0 else a[COUNT], r, a[TABLES])
        if failed != 0 or only_guards != 0:
            return failed
        if r[a[ARENA]] > a[CAPACITY]:
            return TOO_SMALL
        targets = as_block(a[TARGETS])
        for k in range(a[TARGET_COUNT]):
            store_i64(targets[3 * k], r[targets[3 * k + 1]] + targets[3 * k + 2])
        choices = as_block(a[CHOICES])
        for k in range(a[CHOICE_COUNT]):
            kernel = choices[3 * k + 2] + r[choices[3 * k + 1]]
            store_i64(choices[3 * k], load_i64(a[KERNELS] + 8 * kernel))
        return BOUND

    return bind, i64(i64, i64, i64)
