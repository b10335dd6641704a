"""A kernel's object code with what a launch has to know of it, as bytes: a line of JSON, then the code."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from graphc.backends.cpu.target import Target
from graphc.backends.cuda.emulator import libdevice
from graphc.backends.cuda.emulator.host import Host, imports
from graphc.backends.cuda.emulator.ir_text import NAME, size_of
from graphc.backends.cuda.emulator.linking import link
from graphc.backends.cuda.emulator.records import GAP, STACK
from graphc.backends.cuda.emulator.retarget import ENTRY, retarget
from graphc.backends.cuda.emulator.services import fingerprint
from graphc.documents import digest_of
from graphc.errors import UnsupportedError

_ALLOCA = re.compile(r" = alloca ([^,\n]+)(?:, i(?:32|64) (\S+?))?(?:,|$)", re.M)
_FUNCTION = re.compile(rf"^define [^\n]*?@({NAME})\([^\n]*\{{\n(.*?)^\}}", re.M | re.S)


class ObjectCode(NamedTuple):
    """static: bytes of shared memory that are not dynamic; grain: see Watch; stack: bytes of a fiber's stack, with the gap to the
    next; check: do accesses tell the checker?; version: of the runtime that it calls, and the processor that it is for."""

    version: str
    static: int
    grain: int
    stack: int
    check: bool
    code: bytes

    def to_bytes(self) -> bytes:
        head = self._asdict()
        del head["code"]
        return json.dumps(head).encode() + b"\n" + self.code

    @classmethod
    def from_bytes(cls, data: bytes, version: str) -> ObjectCode:
        """Raises ValueError for what is none, or of another version."""
        head, _, code = data.partition(b"\n")
        found = json.loads(head)
        if not isinstance(found, dict) or found.get("version") != version:
            raise ValueError("object code of another emulator, or for another processor")
        return cls(**found, code=code)


def version_on(target: Target) -> str:
    """Of the emulator, on a processor."""
    return digest_of(f"{fingerprint()} {target.cpu} {target.features}")


def compile_kernel(modules: Sequence[str], entry: str, check: bool, host: Host) -> ObjectCode:
    """Raises UnsupportedError for what the emulator does not know."""
    linked = link(modules, entry, host)
    made = retarget(linked, entry, check)
    try:
        module = host.llvm.parse_assembly(made.text)
        module.verify()
    except RuntimeError as error:
        raise UnsupportedError(f"the emulator can't rewrite the kernel's LLVM IR: {error}") from error
    code = host.compile(module, ENTRY, 1 if check else 2)
    unknown = sorted(imports(code, ENTRY) - libdevice.CALLED)
    if unknown:
        raise UnsupportedError(f"the emulator does not know what the kernel calls: {', '.join(unknown)}")
    return ObjectCode(version_on(host.target), linked.static, made.grain, stack_of(str(module)), check, code)


def stack_of(text: str) -> int:
    """Bytes of stack for an optimised module: local variables of all functions, and what is always there.

    Raises UnsupportedError where nobody can say, for recursion and variables of a size that is not known.
    """
    bodies = {m[1]: m[2] for m in _FUNCTION.finditer(text)}
    calls = {name: {c for c in re.findall(rf"@({NAME})\(", body) if c in bodies} for name, body in bodies.items()}
    done: set[str] = set()
    while ready := [name for name, called in calls.items() if name not in done and called <= done]:
        done.update(ready)
    if len(done) < len(calls):
        raise UnsupportedError(f"the emulator does not know recursion: {', '.join(sorted(calls.keys() - done))}")
    local = 0
    for m in _ALLOCA.finditer(text):
        if m[2] and not m[2].isdigit():
            raise UnsupportedError(
                f"the emulator does not know local memory of a size that is not constant: {m[0].strip(' =,')}"
            )
        local += size_of(m[1].strip()) * int(m[2] or 1) + 16
    return -(-(STACK + local) // 128) * 128 + GAP


assert (GAP // 64) % 2 == 1  # with an even number of cache lines before, stacks spread over the cache's sets
