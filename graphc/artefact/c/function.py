"""The function that C calls, as LLVM IR: looks at the CPU once, and hands its arguments to the kernel that runs a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from graphc.backends.cpu.executor.program_block import LIBRARY, NO_CPU

if TYPE_CHECKING:
    from graphc.lower.plans import CompiledPlan

SLOTS = 64  # workspaces that are kept
# Where cpuid tells of instructions (AMD64 manual, volume 3, appendix E): leaf, subleaf, register, bit.
BITS = {
    "fma": (1, 0, 2, 12), "movbe": (1, 0, 2, 22), "avx": (1, 0, 2, 28), "f16c": (1, 0, 2, 29),
    "bmi1": (7, 0, 1, 3), "avx2": (7, 0, 1, 5), "bmi2": (7, 0, 1, 8), "avx512f": (7, 0, 1, 16), "avx512dq": (7, 0, 1, 17),
    "avx512cd": (7, 0, 1, 28), "avx512bw": (7, 0, 1, 30), "avx512vl": (7, 0, 1, 31), "avx512vbmi": (7, 0, 2, 1),
    "avx512_vnni": (7, 0, 2, 11), "avx512_bf16": (7, 1, 0, 5), "abm": (0x80000001, 0, 2, 5),
}  # fmt: skip


def function_ir(
    name: str,
    runner: str,
    plan: CompiledPlan,
    counts: Mapping[str, int],
    constants: Mapping[str, bytes],
    needs: Sequence[str],
) -> str:
    """runner: symbol of the kernel. counts: rows of the tables, which are among the constants."""
    a = plan.assembled
    symbols = [k.symbol for k in plan.kernels]
    drivers = [symbols[i] for i in a.blocks[:, 0].tolist()]
    kernels = [f"ptr @{symbols[w]}" for w in a.kernel_slots.what.tolist()]
    assert not a.kernel_slots.offset.any(), "a kernel begins where it begins"
    words = {
        "allocate": "@aligned_alloc", "release": "@free", "slots": "@slots", "slot_count": SLOTS,
        "words": "@table_words", "word_count": counts["words"], "arena_bytes": a.arena,
        "drivers": "@drivers", "steps": "@table_steps", "step_count": counts["steps"],
        "kernels": "@kernels", "kernel_words": "@table_kernel_words", "kernel_count": len(kernels),
        "constants": "@table_constants", "constant_count": counts["constants"], "segments": "@segments",
        "places": "@table_places", "place_count": counts["places"], "ends": "@table_ends", "end_count": counts["ends"],
        "reports": "@table_reports", "report_count": counts["reports"],
    }  # fmt: skip
    record = [f"ptr {w}" if isinstance(w, str) else f"i64 {w}" for w in LIBRARY(**words)]
    types = [w.partition(" ")[0] for w in record]
    ends = len(plan.inputs) + len(plan.results)
    segments = [f"ptr @segment_{i}" for i in range(counts["segments"])]
    lines = [
        "declare ptr @aligned_alloc(i64, i64)",
        "declare void @free(ptr)",
        f"declare i64 @{runner}(i64, i64)",
        *(f"declare void @{s}()" for s in dict.fromkeys((*drivers, *(k.removeprefix("ptr @") for k in kernels)))),
        *(f"@{c} = external constant i8" for c in constants),
        f"@slots = internal global [{SLOTS} x ptr] zeroinitializer, align 64",
        _array("drivers", [f"ptr @{d}" for d in drivers]),
        _array("kernels", kernels),
        _array("segments", segments),
        f"@record = internal global {{{', '.join(types)}}} {{{', '.join(record)}}}, align 8",
        "@able = internal global i32 0",
        _able(needs),
        f"define i32 @{name}({', '.join(f'ptr %a{i}' for i in range(ends))}) {{",
        "  %able = call i32 @able_cpu()",
        "  %yes = icmp eq i32 %able, 1",
        "  br i1 %yes, label %run, label %no",
        f"no:\n  ret i32 {NO_CPU}\nrun:",
        f"  %list = alloca [{ends} x ptr], align 8",
    ]
    for i in range(ends):
        lines.append(f"  %p{i} = getelementptr [{ends} x ptr], ptr %list, i64 0, i64 {i}\n  store ptr %a{i}, ptr %p{i}")
    lines += [
        "  %record = ptrtoint ptr @record to i64",
        "  %arguments = ptrtoint ptr %list to i64",
        f"  %result = call i64 @{runner}(i64 %record, i64 %arguments)",
        "  %code = trunc i64 %result to i32",
        "  ret i32 %code\n}",
    ]
    return "\n".join(lines)


def _array(name: str, values: Sequence[str]) -> str:
    """Of pointers, in memory that the loader fills in."""
    return f"@{name} = internal global [{max(len(values), 1)} x ptr] " + (
        f"[{', '.join(values)}]" if values else "zeroinitializer"
    )


def _able(needs: Sequence[str]) -> str:
    """`able_cpu`: 1, or 2 where this CPU lacks one of the instructions; looked up once."""
    asked: dict[tuple[int, int], dict[int, int]] = {}
    for flag in needs:
        leaf, sub, register, bit = BITS[flag]
        bits = asked.setdefault((leaf, sub), {})
        bits[register] = bits.get(register, 0) | 1 << bit
    lines = ["define internal i32 @able_cpu() noinline {"]
    lines += ["  %known = load atomic i32, ptr @able monotonic, align 4", "  %fresh = icmp eq i32 %known, 0"]
    lines += ["  br i1 %fresh, label %ask, label %told", "told:\n  ret i32 %known", "ask:", "  %ok0 = add i1 0, 1"]
    n = 0
    for i, ((leaf, sub), registers) in enumerate(asked.items()):
        lines.append(
            f'  %r{i} = call {{i32, i32, i32, i32}} asm sideeffect "cpuid", "={{ax}},={{bx}},={{cx}},={{dx}},{{ax}},{{cx}}"'
            f"(i32 {leaf}, i32 {sub})"
        )
        for register, mask in registers.items():
            lines += [
                f"  %v{n} = extractvalue {{i32, i32, i32, i32}} %r{i}, {register}",
                f"  %m{n} = and i32 %v{n}, {mask}",
                f"  %e{n} = icmp eq i32 %m{n}, {mask}",
                f"  %ok{n + 1} = and i1 %ok{n}, %e{n}",
            ]
            n += 1
    lines += [f"  %found = select i1 %ok{n}, i32 1, i32 2", "  store atomic i32 %found, ptr @able monotonic, align 4"]
    return "\n".join([*lines, "  ret i32 %found\n}"])
