"""A libcuda.so.1 of a few hundred bytes, written and loaded by this process: its functions are those of Python.

cuda.bindings opens the library by this name, finds the one that is loaded already, and asks its cuGetProcAddress for all
that it ever calls. So that is all that is in it: a jump to an address that this process knows when it writes the file.
"""

from __future__ import annotations

import ctypes
import os
import struct
import tempfile
from collections.abc import Mapping

SONAME = "libcuda.so.1"
PAGE = 4096
JUMP = b"\x48\xb8%s\xff\xe0"  # mov rax, imm64; jmp rax


def load(functions: Mapping[str, int]) -> None:
    """functions: addresses, by the names that the library exports."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, SONAME)
        with open(path, "wb") as file:
            file.write(image(functions))
        ctypes.CDLL(path, os.RTLD_NOW | os.RTLD_GLOBAL)  # which stays when the file is gone


def image(functions: Mapping[str, int]) -> bytes:
    """The shared object (ELF, x86-64): a read-only page with tables and code, and one with what the loader changes."""
    names, name_at = bytearray(b"\0"), {}
    for name in [SONAME, *functions]:
        name_at[name] = len(names)
        names += name.encode() + b"\0"
    code = b"".join(JUMP % struct.pack("<Q", address) for address in functions.values())
    size, count = len(code) // len(functions), 1 + len(functions)
    code_at = 64 + 4 * 56
    symbols_at = -(-(code_at + len(code)) // 8) * 8
    hash_at = symbols_at + 24 * count
    names_at = hash_at + 4 * (3 + count)
    symbols = bytes(24)
    for i, name in enumerate(functions):
        symbols += struct.pack("<IBBHQQ", name_at[name], 0x12, 0, 1, code_at + i * size, size)  # a global function
    buckets = struct.pack(f"<{3 + count}I", 1, count, 1, 0, *range(2, count), 0)
    dynamic = b"".join(
        struct.pack("<qQ", tag, value)
        for tag, value in (
            (14, name_at[SONAME]), (4, hash_at), (5, names_at), (6, symbols_at), (10, len(names)), (11, 24), (0, 0),
        )
    )  # fmt: skip
    end = names_at + len(names)
    assert end <= PAGE
    segments = (
        (1, 5, 0, 0, 0, end, end, PAGE),  # read, execute
        (1, 6, PAGE, PAGE, PAGE, len(dynamic), len(dynamic), PAGE),
        (2, 6, PAGE, PAGE, PAGE, len(dynamic), len(dynamic), 8),
        (0x6474E551, 6, 0, 0, 0, 0, 0, 16),  # a stack that is not executable
    )
    ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
    head = struct.pack("<16sHHIQQQIHHHHHH", ident, 3, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 64, 0, 0)
    made = bytearray(PAGE + len(dynamic))
    for at, data in (
        (0, head), (64, b"".join(struct.pack("<IIQQQQQQ", *s) for s in segments)), (code_at, code),
        (symbols_at, symbols), (hash_at, buckets), (names_at, bytes(names)), (PAGE, dynamic),
    ):  # fmt: skip
        made[at : at + len(data)] = data
    return bytes(made)
