"""The C header: the function's signature, and what a caller has to know."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from math import prod

from graphc.artefact.abi import version
from graphc.backends.cpu.executor.program_block import DONE, NO_CPU, NO_MEMORY, OUT_OF_RANGE
from graphc.errors import UnsupportedError
from graphc.types import TensorType, dtype_name

Ends = Sequence[tuple[str, TensorType]]
TYPES = {
    "float32": "float",
    "float64": "double",
    "float16": "uint16_t",
    "bfloat16": "uint16_t",
    "bool": "uint8_t",
    **{f"{u}int{n}": f"{u}int{n}_t" for u in ("", "u") for n in (8, 16, 32, 64)},
}
CODES = {"OK": DONE, "NO_MEMORY": NO_MEMORY, "OUT_OF_RANGE": OUT_OF_RANGE, "NO_CPU": NO_CPU}
_C_WORDS = frozenset(
    [
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
    ]
)


def identifier(text: str) -> str:
    """A name of C for any text."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "model"
    return f"_{name}" if name[0].isdigit() or name in _C_WORDS or keyword.iskeyword(name) else name


def header(name: str, inputs: Ends, results: Ends, needs: Sequence[str]) -> str:
    """Raises UnsupportedError for types that C has no name for."""
    big, taken = name.upper(), set[str]()
    parameters, lines = [], []
    for const, ends in (("const ", inputs), ("", results)):
        for given, t in ends:
            kind = TYPES.get(dtype_name(t.dtype))
            if kind is None:
                raise UnsupportedError(f"'{given}' is of type {dtype_name(t.dtype)}, which C has none for")
            argument = identifier(given)
            while argument in taken:
                argument += "_"
            taken.add(argument)
            parameters.append(f"{const}{kind} {argument}[{max(prod(t.extents), 1)}]")
            lines.append(f" *   {argument}: {'result' if not const else 'input'} '{_plain(given)}', {t}")
    instructions = f", with {', '.join(needs)}" if needs else ""
    codes = ", ".join(f"{big}_{n} = {value}" for n, value in CODES.items())
    return f"""/* {name}: a neural network, compiled by graphc {version()} for Linux on x86-64{instructions}.
 *
{chr(10).join(lines)}
 *
 * Arrays are dense, row after row, and the caller's; float16 and bfloat16 are handed over as their bits.
 * Safe to call from any number of threads at once: each call takes a workspace of its own, which is kept for later ones, and runs on
 * the thread that calls. Reads and writes nothing but its arguments and its workspace.
 *
 * Returns {big}_OK, or {big}_NO_MEMORY: nothing is written; {big}_OUT_OF_RANGE: an operator was to read or write at a position that
 * its data puts out of range, so results mean nothing; {big}_NO_CPU: this CPU lacks instructions that it was compiled for.
 */
#ifndef {big}_H
#define {big}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

enum {{ {codes} }};

int {name}_run({", ".join(parameters)});

#ifdef __cplusplus
}}
#endif

#endif
"""


def _plain(text: str) -> str:
    """Within a comment."""
    return text.encode("ascii", "backslashreplace").decode().replace("*/", "* /")
