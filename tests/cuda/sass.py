"""Machine code of GPUs as text."""

from __future__ import annotations

import re
import shutil
import subprocess
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


def instructions(cubin: Cubin, folder: Path) -> Counter[str]:
    """How often each instruction, with its modifiers, stands in the code. folder: for files."""
    path = folder / "kernel.cubin"
    path.write_bytes(cubin.code)
    text = subprocess.run([disassembler(), "-c", str(path)], capture_output=True, text=True, check=True).stdout
    return Counter(_INSTRUCTION.findall(text))


def of_kind(found: Counter[str], pattern: str) -> Counter[str]:
    """Those whose whole name fits."""
    return Counter({name: count for name, count in found.items() if re.fullmatch(pattern, name)})
