"""Inline PTX: what the emulator knows of it, and what each instruction becomes.

An instruction that is not in the table, or whose operands are not numbered from $0 on as they appear, is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from graphc.backends.cuda.emulator import operations
from graphc.backends.cuda.emulator.faults import TRAP
from graphc.backends.cuda.emulator.helpers import (
    NOTHING,
    NOTHING_ELSE,
    Body,
    Use,
    access,
    barrier,
    collective,
    fault,
    lines,
    of_block,
)
from graphc.backends.cuda.emulator.ir_text import size_of, split, suffix_of
from graphc.backends.cuda.emulator.operations import ATOMIC, READ, VOLATILE, WRITE
from graphc.backends.cuda.emulator.records import B_DYNAMIC, B_EVENTS, F_BLOCK, F_WARP, W_ALIVE
from graphc.backends.cuda.emulator.special_registers import special_register
from graphc.errors import UnsupportedError

GROUP = r"\{[^{};]*\}"
ADDRESS = r"\[\$\d+\]"
STATE = r"(?:shared|shared::cta)"
Maker = Callable[[re.Match[str]], Body]

_LDMATRIX = re.compile(rf"ldmatrix\.sync\.aligned\.m8n8\.x([124])(\.trans)?\.{STATE}\.b16 (?:{GROUP}|\$0), {ADDRESS};")
_MMA = re.compile(
    r"mma\.sync\.aligned\.(?:m16n8k16\.row\.col\.f32\.(f16|bf16)\.\1|m16n8k8\.row\.col\.f32\.(tf32)\.tf32)\.f32 "
    rf"{GROUP}, {GROUP}, {GROUP}, {GROUP};"
)


def warp_operation(text: str) -> int | None:
    """The operation of a whole warp that needs no more than its operands and may share a meeting with others; None for others."""
    if m := _LDMATRIX.fullmatch(text):
        return operations.ldmatrix(int(m[1]), m[2] is not None)
    if m := _MMA.fullmatch(text):
        return operations.mma(m[1] or m[2])
    return None


def _together(m: re.Match[str]) -> Body:
    operation = warp_operation(m[0])
    assert operation is not None
    return collective(operation)


def _wgmma(m: re.Match[str]) -> Body:
    sums = int(m[1]) // 2
    named = [int(n) for n in re.findall(r"\$(\d+)", m[0])]
    if named != [2 * sums + 2, *range(sums), 2 * sums, 2 * sums + 1] or (m[2] == "tf32" and m[3] == "1"):
        raise UnsupportedError(f"the emulator does not know these operands of wgmma: {m[0]}")
    return collective(operations.wgmma(m[2], int(m[1]), m[3] == "1"))


def _copy_async(m: re.Match[str]) -> Body:
    given = "%given = zext i32 %a2 to i64" if m[2] else f"%given = add i64 0, {m[1]}"
    return lines(f"""
        %to = zext i32 %a0 to i64
        {given}
        call void @emu.copy_async(ptr %emu.fiber, i64 %to, i64 %a1, i64 {m[1]}, i64 %given, i64 %line)
        ret void""")


def _copy_wait(pending: str) -> Body:
    return lines(f"call void @emu.copy_wait(ptr %emu.fiber, i64 {pending}, i64 %line)\nret void")


_MEMORY = re.compile(
    r"(ld|st)(?:\.weak|\.(volatile|(?:relaxed|acquire|release)\.\w+))?(?:\.(?:global|shared|shared::cta))?(?:\.(?:nc|ca|cg|cs|lu|cv|wb|wt))?"
    r"(?:\.L1::\w+)?(?:\.L2::\w+)?(?:\.v([24]))?\.([busf])(8|16|32|64) (.*);"
)


def _address(use: Use, number: int) -> list[str]:
    kind = use.args[number]
    if kind == "ptr":
        return [f"%at = ptrtoint ptr %a{number} to i64"]
    return [f"%at = add i64 %a{number}, 0" if kind == "i64" else f"%at = zext {kind} %a{number} to i64"]


# what other blocks may wait for has happened
_EVENT = [f"%bp = getelementptr i8, ptr %emu.fiber, i64 {F_BLOCK}", "%block = load ptr, ptr %bp"]
_EVENT += [f"%ep = getelementptr i8, ptr %block, i64 {B_EVENTS}", "%ev = load i64, ptr %ep"]
_EVENT += ["%more = add i64 %ev, 1", "store i64 %more, ptr %ep"]


def _memory(m: re.Match[str]) -> Body:
    """Loads and stores of one element or of a vector; such as other threads may wait for are like atomic operations."""
    read, written = (VOLATILE, ATOMIC) if m[2] else (READ, WRITE)
    count, family, bits = int(m[3] or 1), m[4], int(m[5])
    element = {"f32": "float", "f64": "double"}.get(family + str(bits), f"i{bits}")
    group = r"\{(?:\$\d+(?:, )?)+\}" if m[3] else r"\$\d+"
    form = f"{group}, {ADDRESS}" if m[1] == "ld" else f"{ADDRESS}, {group}"
    if not re.fullmatch(form, m[6]):
        raise UnsupportedError(f"the emulator does not know these operands: {m[0]}")
    nbytes = count * bits // 8

    def load(use: Use) -> list[str]:
        found = [*_address(use, 0), *access("%at", nbytes, nbytes, read, use)]
        kinds = split(use.returns[1:-1]) if count > 1 else [use.returns]
        whole = "undef"
        for i, kind in enumerate(kinds):
            found += [f"%n{i} = add i64 %at, {i * bits // 8}", f"%p{i} = inttoptr i64 %n{i} to ptr"]
            found += [
                f"%e{i} = load {element}, ptr %p{i}, align 1",
                *_as(element, f"%e{i}", kind, f"%v{i}", family == "s"),
            ]
            found.append(f"%w{i} = insertvalue {use.returns} {whole}, {kind} %v{i}, {i}" if count > 1 else "")
            whole = f"%w{i}"
        return [f for f in found if f] + [f"ret {use.returns} {whole if count > 1 else '%v0'}"]

    def store(use: Use) -> list[str]:
        found = [*_address(use, 0), *access("%at", nbytes, nbytes, written, use)]
        for i, kind in enumerate(use.args[1:]):
            found += [f"%n{i} = add i64 %at, {i * bits // 8}", f"%p{i} = inttoptr i64 %n{i} to ptr"]
            found += [*_as(kind, f"%a{i + 1}", element, f"%v{i}", False), f"store {element} %v{i}, ptr %p{i}, align 1"]
        return [*found, *(_EVENT if m[2] else []), NOTHING_ELSE]

    return load if m[1] == "ld" else store


def _as(kind: str, value: str, wanted: str, name: str, signed: bool) -> list[str]:
    """The value in a register of another kind, as PTX moves bits between them."""
    have, want = 8 * size_of(kind), 8 * size_of(wanted)
    if have == want:
        return [f"{name} = bitcast {kind} {value} to {wanted}"]
    if not (kind[0] == wanted[0] == "i"):
        raise UnsupportedError(f"the emulator does not know a move of {kind} to {wanted}")
    return [f"{name} = {'trunc' if have > want else 'sext' if signed else 'zext'} {kind} {value} to {wanted}"]


# --- conversions ---------------------------------------------------------------------------------------------------------
# float32 to tf32: away from zero where it is halfway between two numbers, or to the even one
_TF32_AWAY = "%i = bitcast float %a0 to i32\n%j = add i32 %i, 4096\n%r = and i32 %j, -8192\nret i32 %r"
_TF32_EVEN = """
    %i = bitcast float %a0 to i32
    %s = lshr i32 %i, 13
    %odd = and i32 %s, 1
    %b = add i32 %odd, 4095
    %j = add i32 %i, %b
    %r = and i32 %j, -8192
    ret i32 %r"""


def _bf16_bits(value: str, name: str) -> str:
    """The bits of the nearest bfloat16, in the upper half of an i32."""
    return f"""
        %{name}.i = bitcast float {value} to i32
        %{name}.s = lshr i32 %{name}.i, 16
        %{name}.odd = and i32 %{name}.s, 1
        %{name}.b = add i32 %{name}.odd, 32767
        %{name}.j = add i32 %{name}.i, %{name}.b
        %{name}.nan = fcmp uno float {value}, 0.0
        %{name}.v = select i1 %{name}.nan, i32 2147418112, i32 %{name}.j
        %{name} = and i32 %{name}.v, -65536"""


def _pair(m: re.Match[str]) -> Body:
    """Two float32 as 16 bits each, the second one low."""
    if m[1] == "bf16":
        return lines(f"""{_bf16_bits("%a0", "high")}{_bf16_bits("%a1", "low")}
            %shifted = lshr i32 %low, 16
            %r = or i32 %high, %shifted
            ret i32 %r""")
    return lines("""
        %h = fptrunc float %a0 to half
        %l = fptrunc float %a1 to half
        %hi = bitcast half %h to i16
        %li = bitcast half %l to i16
        %hz = zext i16 %hi to i32
        %lz = zext i16 %li to i32
        %hs = shl i32 %hz, 16
        %r = or i32 %hs, %lz
        ret i32 %r""")


def _single(m: re.Match[str]) -> Body:
    """cvt between a 16-bit float and a wider one."""
    to, source = m[1], m[2]
    wide = {"32": "float", "64": "double"}
    if source == "f16":
        return lines(f"%h = bitcast i16 %a0 to half\n%r = fpext half %h to {wide[to[1:]]}\nret {wide[to[1:]]} %r")
    if source == "bf16":
        return lines("%w = zext i16 %a0 to i32\n%s = shl i32 %w, 16\n%r = bitcast i32 %s to float\nret float %r")
    if to == "f16":
        return lines(f"%h = fptrunc {wide[source[1:]]} %a0 to half\n%r = bitcast half %h to i16\nret i16 %r")
    return lines(f"{_bf16_bits('%a0', 'n')}\n%s = lshr i32 %n, 16\n%r = trunc i32 %s to i16\nret i16 %r")


# --- approximations, which are exact here --------------------------------------------------------------------------------
_APPROXIMATE = {"ex2": "exp2", "lg2": "log2", "sin": "sin", "cos": "cos", "sqrt": "sqrt"}


def _approximate(m: re.Match[str]) -> Body:
    name = m[1]

    def body(use: Use) -> list[str]:
        kind, suffix = use.returns, suffix_of(use.returns)
        if name == "rcp":
            return [f"%r = fdiv {kind} 1.0, %a0", f"ret {kind} %r"]
        if name == "tanh":
            return ["%r = call float @tanhf(float %a0)", "ret float %r"]
        if name == "rsqrt":
            return [f"%s = call {kind} @llvm.sqrt.{suffix}({kind} %a0)", f"%r = fdiv {kind} 1.0, %s", f"ret {kind} %r"]
        return [f"%r = call {kind} @llvm.{_APPROXIMATE[name]}.{suffix}({kind} %a0)", f"ret {kind} %r"]

    return body


_TABLE: list[tuple[re.Pattern[str], Maker]] = [
    (_LDMATRIX, _together),
    (_MMA, _together),
    (_MEMORY, _memory),
    *(
        (re.compile(pattern), make)
        for pattern, make in (
            (
                r"\{ \.reg \.pred p; setp\.ne\.b32 p, \$\d+, 0; wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k\d+\.f32\."
                rf"(f16|bf16|tf32)\.\2 {GROUP}, \$\d+, \$\d+, p, 1, 1(?:, 0, ([01]))?; \}}",
                _wgmma,
            ),
            (
                r"(?:wgmma\.fence\.sync\.aligned|wgmma\.commit_group\.sync\.aligned|wgmma\.wait_group\.sync\.aligned \d+"
                r"|fence\.proxy\.async(?:\.[\w:]+)?|nanosleep\.u32 (?:\d+|\$0)|membar\.\w+|fence\.[\w.]+);",
                lambda m: NOTHING,
            ),
            (
                rf"cp\.async\.c[ag]\.{STATE}\.global(?:\.L2::\w+)? {ADDRESS}, {ADDRESS}, (4|8|16)(, \$2)?;",
                _copy_async,
            ),
            (r"cp\.async\.commit_group;", lambda m: lines("call void @emu.copy_commit(ptr %emu.fiber)\nret void")),
            (r"cp\.async\.wait_group (\d+);", lambda m: _copy_wait(m[1])),
            (r"cp\.async\.wait_all;", lambda m: _copy_wait("-1")),
            (r"cvt\.rna\.tf32\.f32 \$0, \$1;", lambda m: lines(_TF32_AWAY)),
            (r"cvt\.rn\.tf32\.f32 \$0, \$1;", lambda m: lines(_TF32_EVEN)),
            (r"cvt\.rn\.(f16|bf16)x2\.f32 \$0, \$1, \$2;", _pair),
            (r"cvt\.(f32|f64)\.(f16) \$0, \$1;", _single),
            (r"cvt\.(f32)\.(bf16) \$0, \$1;", _single),
            (r"cvt\.rn\.(f16)\.(f32|f64) \$0, \$1;", _single),
            (r"cvt\.rn\.(bf16)\.(f32) \$0, \$1;", _single),
            (r"(ex2|lg2|sin|cos|sqrt|rsqrt|rcp)\.approx(?:\.ftz)?\.f32 \$0, \$1;", _approximate),
            (r"(tanh)\.approx\.f32 \$0, \$1;", _approximate),
            (r"mov\.u32 \$0, %dynamic_smem_size;", lambda m: of_block(B_DYNAMIC)),
            (r"mov\.(?:u32|b32|u64) \$0, %([a-z_]+(?:64)?(?:\.[xyz])?);", lambda m: special_register(m[1])),
            (r"bar\.sync 0;|barrier\.sync\.aligned 0;|barrier\.sync 0;", lambda m: barrier()),
            (r"activemask\.b32 \$0;", lambda m: of_block(W_ALIVE, F_WARP)),
            (r"griddepcontrol\.(?:wait|launch_dependents);", lambda m: NOTHING),
            (
                r"// waits for another block",
                lambda m: lines("call void @emu.pause(ptr %emu.fiber, i64 %line)\nret void"),
            ),
            (r"trap;", lambda m: fault(TRAP)),
            (r"", lambda m: lambda use: [f"ret {use.returns} %a0"] if use.args else [NOTHING_ELSE]),  # pins a register
        )
    ),
]


def body_of(text: str) -> Body:
    """What an inline assembly does. Raises UnsupportedError."""
    text = re.sub(r"\s+", " ", re.sub(r"\\(0A|09|0D)", " ", text)).strip()
    for pattern, make in _TABLE:
        if m := pattern.fullmatch(text):
            if make is not _wgmma:
                named = [int(n) for n in re.findall(r"\$(\d+)", text)]
                if named != [*range(len(named))]:
                    break
            return make(m)
    raise UnsupportedError(f"the emulator does not know this PTX: {text}")
