"""The switch between stacks, in assembly: System V ABI, x86-64. Another processor needs another two dozen lines.

A fiber that waits has the registers that a call keeps on its stack. That of a new fiber looks as if it waited at the beginning
of START, with the function to call in r12 and its argument in rbx: `NEW_STACK` words, from the stack pointer up.
"""

from __future__ import annotations

from graphc.backends.cuda.emulator.records import WORD

SWITCH = "graphc_emulator_switch"
START = "graphc_emulator_start"
KEPT = ("r15", "r14", "r13", "r12", "rbx", "rbp")  # in the order in which they lie on the stack
NEW_STACK = 9 * WORD  # so that the stack is aligned to 16 bytes where START calls
FUNCTION_AT, ARGUMENT_AT, RETURN_AT = WORD * KEPT.index("r12"), WORD * KEPT.index("rbx"), WORD * len(KEPT)


def assembly() -> str:
    """As a module of LLVM's."""
    lines = [".text", f".globl {SWITCH}", f"{SWITCH}:"]
    lines += [f"pushq %{r}" for r in reversed(KEPT)]
    lines += ["movq %rsp, (%rdi)", "movq %rsi, %rsp"]
    lines += [f"popq %{r}" for r in KEPT]
    lines += ["retq", f".globl {START}", f"{START}:", "movq %rbx, %rdi", "callq *%r12", "ud2"]
    return "".join(f'module asm "{line}"\n' for line in lines)
