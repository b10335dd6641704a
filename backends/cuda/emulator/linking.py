"""A kernel's modules become one, in LLVM's own printed form, with local variables in registers and shared memory laid out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from graphc.backends.cuda.emulator.host import Host
from graphc.backends.cuda.emulator.ir_text import NAME, size_of
from graphc.errors import UnsupportedError

SHARED_ADDRESS = "emu.shared."  # functions of that prefix give the addresses of shared arrays
_SHARED = re.compile(
    rf"^@({NAME}) = ([\w ]*?)addrspace\(3\) (?:externally_initialized )?(?:global|constant) (.+?)"
    r"(?: undef| poison| zeroinitializer)?, align (\d+)$",
    re.M,
)
_ANY_SHARED = re.compile(r"^@.* addrspace\(3\) .*$", re.M)
_NAMED = re.compile(rf"@({NAME})")


class Linked(NamedTuple):
    """text: of the module; places: of shared arrays, by name, in bytes; static: bytes of shared memory before the dynamic."""

    text: str
    places: dict[str, int]
    static: int


def link(modules: Sequence[str], entry: str, host: Host) -> Linked:
    """entry: the kernel, into which all that it calls is inlined: what has no lines of the source has those of its call.

    Raises UnsupportedError for what is no LLVM IR, or not as numba-cuda writes it.
    """
    llvm = host.llvm
    try:
        first, *others = map(llvm.parse_assembly, modules)
        for other in others:
            first.link_in(other)
        text = str(first)
        places, static = _lay_out(text)
        module = llvm.parse_assembly(_with_addresses(text, places))
    except RuntimeError as error:
        raise UnsupportedError(f"the emulator can't read the kernel's LLVM IR: {error}") from error
    for function in module.functions:
        if not function.is_declaration and function.name != entry and b"noinline" not in function.attributes:
            function.linkage = "internal"
            function.add_function_attribute("alwaysinline")
    passes = llvm.newpassmanagers.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_sroa_pass()  # again: iterators of range()
    passes.run(module, host.pass_builder(1))
    return Linked(str(module), places, static)


def _lay_out(text: str) -> tuple[dict[str, int], int]:
    """Places of shared arrays. All dynamic ones begin at the same place, as on a GPU."""
    places: dict[str, int] = {}
    end, alignment, dynamic = 0, 16, []
    for m in _SHARED.finditer(text):
        align = int(m[4])
        if "external" in m[2].split():
            dynamic.append(m[1])
            alignment = max(alignment, align)
            continue
        places[m[1]] = end = -(-end // align) * align
        end += size_of(m[3])
    for m in _ANY_SHARED.finditer(text):
        if not _SHARED.match(m[0]):
            raise UnsupportedError(f"the emulator does not know this shared memory: {m[0]}")
    if dynamic:
        end = -(-end // alignment) * alignment
        places.update(dict.fromkeys(dynamic, end))
    return places, end


def _with_addresses(text: str, places: dict[str, int]) -> str:
    """The text with calls for the addresses of shared arrays, which no pass can fold into constant expressions."""
    found: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith(("#dbg_", "call void @llvm.dbg.", "tail call void @llvm.dbg.")):
            continue
        if line.startswith(" ") and "@" in line:
            for name in dict.fromkeys(n for n in _NAMED.findall(line) if n in places):
                value = f"%emu.s{len(found)}"
                found.append(f"  {value} = call ptr addrspace(3) {_function(name)}()")
                line = re.sub(rf"@{re.escape(name)}(?![-\w.$\"])", value, line)
        found.append(line)
    found += [f"declare ptr addrspace(3) {_function(n)}() memory(none) nounwind willreturn" for n in places]
    return "\n".join(found)


def _function(name: str) -> str:
    return f'@"{SHARED_ADDRESS}{name}"' if not name.startswith('"') else f'@"{SHARED_ADDRESS}{name[1:-1]}"'
