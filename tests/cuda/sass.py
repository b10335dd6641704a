"""Machine code of GPUs as text."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from graphc.backends.cuda.codegen.cubin import Cubin

_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.M)


def disassembler() -> str:
    """nvdisasm, of the package nvidia-cuda-nvdisasm or on the path."""
    roots = (find_spec("nvidia") or object()).__dict__.get("submodule_search_locations") or ()
    found = [str(p) for root in roots for p in Path(root).glob("*/bin/nvdisasm")] + [shutil.which("nvdisasm")]
    assert found[0], "nvdisasm is missing: pip install '.[test,cuda]'"
    return found[0]


def text_of(cubin: Cubin) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin.code)
        file.flush()
        command = [disassembler(), "-c", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def instructions(cubin: Cubin) -> Counter[str]:
    """How often each instruction, with its modifiers, stands in the code."""
    return Counter(_INSTRUCTION.findall(text_of(cubin)))


def target_of(cubin: Cubin) -> str:
    """The architecture that it is for."""
    return re.search(r"\.target\s+(\w+)", text_of(cubin))[1]


def waits_of(cubin: Cubin) -> list[int]:
    """How many groups of copies may still be on their way, of each wait for them."""
    return [int(n, 16) for n in re.findall(r"\sDEPBAR\.LE SB0, (0x[0-9a-f]+)", text_of(cubin))]


def of_kind(found: Counter[str], pattern: str) -> Counter[str]:
    """Those whose whole name fits."""
    return Counter({name: count for name, count in found.items() if re.fullmatch(pattern, name)})
