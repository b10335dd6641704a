"""From a kernel to machine code of a GPU: libNVVM makes PTX of numba-cuda's LLVM IR, ptxas a cubin. Neither needs a GPU."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from graphc.backends.cuda.codegen.arch import Arch
from graphc.backends.cuda.codegen.build import compilers, cubin_cache, device_code
from graphc.backends.cuda.codegen.compiler import REMEDY, DeviceCode, require_numba_cuda
from graphc.backends.cuda.kernel import Code, code_of
from graphc.errors import MissingPackageError

if TYPE_CHECKING:
    from graphc.backends.cuda.codegen.figures import Card
    from graphc.lower.kernel import Kernel


THREADS = 2048  # of a multiprocessor at a time, at most
BLOCKS = (32, 24, 16, 12, 8, 6, 4, 3, 2, 1)


@dataclass(frozen=True)
class Cubin:
    """A kernel's machine code. threads: of a block; dynamic: bytes of its dynamic shared memory. registers: of a thread; stack, spilled: bytes of a thread in local memory, and of registers that
    are kept there; shared: bytes of a block's static shared memory. together: see `Code`."""

    code: bytes
    entry: str
    threads: int
    dynamic: int
    registers: int
    stack: int
    spilled: int
    shared: int
    together: bool = False

    def occupancy(self, card: Card) -> float:
        """See there."""
        return card.occupancy(self.threads, self.registers, self.shared + self.dynamic)


def cubin_of(kernel: Kernel, arch: Arch, cache: bool = True) -> Cubin:
    """From the cache, or compiled now. What other versions of the compilers have made serves where there are none.

    Raises MissingPackageError where the packages that compile are missing, and the code is not in the cache.
    """
    kept, spec = cubin_cache(cache), f"{arch} {kernel.spec}"
    blob = kept.get(kernel.symbol, spec)
    if blob is not None:
        head, _, code = blob.partition(b"\n")
        facts = json.loads(head)
        if facts.pop("compilers") == compilers() or not _can_compile():
            return Cubin(code, **facts)
    cubin, ptx = _compiled(kernel, arch)
    facts = asdict(cubin) | {"compilers": compilers()}
    del facts["code"]
    kept.put(kernel.symbol, spec, json.dumps(facts).encode() + b"\n" + cubin.code, ptx, ".ptx")
    return cubin


@lru_cache(maxsize=1)
def _can_compile() -> bool:
    try:
        require_numba_cuda()
        _libdevice()
        _ptxas()
    except MissingPackageError:
        return False
    return find_spec("cuda.bindings.nvvm") is not None


def _compiled(kernel: Kernel, arch: Arch) -> tuple[Cubin, str]:
    """Also its PTX. Where ptxas spills registers of its own accord, so that more blocks fit, it is told how many are to: the most with
    which it spills none (findings/ptxas-spills-below-its-limit.sh)."""
    made, source = device_code(kernel, arch), code_of(kernel)
    name = "".join(map(str, arch))
    ptx = _ptx(made, f"compute_{name}")
    found = _assembled(kernel, ptx, name, made.entry, source, source.blocks)
    if found[0].spilled and not source.blocks:
        fewer = (n for n in BLOCKS if n * source.threads <= THREADS)
        others = (_assembled(kernel, ptx, name, made.entry, source, n) for n in fewer)
        found = next((other for other in others if not other[0].spilled), found)
    return found


def _assembled(
    kernel: Kernel, ptx: tuple[str, str], arch: str, entry: str, source: Code, blocks: int
) -> tuple[Cubin, str]:
    """ptx: up to the end of the entry's parameters, and from its body on. blocks: see `Code`."""
    head, body = ptx
    least = f".minnctapersm {blocks}\n" if blocks else ""
    whole = f"{head}\n)\n.maxntid {source.threads}, 1, 1\n{least}{{{body}"
    with tempfile.TemporaryDirectory(prefix="graphc-cubin-") as folder:
        text, to = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        text.write_text(whole)
        run = subprocess.run(
            [_ptxas(), f"-arch=sm_{arch}", "-v", str(text), "-o", str(to)], capture_output=True, text=True
        )
        if run.returncode:
            raise AssertionError(f"ptxas refuses {kernel}: {run.stderr.strip()[:2000]}")
        taken = _resources(run.stderr)
        return Cubin(to.read_bytes(), entry, source.threads, source.shared, *taken, together=source.together), whole


def _ptx(code: DeviceCode, arch: str) -> tuple[str, str]:
    """PTX of numba-cuda's IR: up to the end of the entry's parameters, and from its body on."""
    try:
        from cuda.bindings import nvvm
    except ImportError:
        raise MissingPackageError("compiling for a GPU needs libNVVM, which is not installed", hint=REMEDY) from None
    options = [f"-arch={arch}"]
    program = nvvm.create_program()
    try:
        for module in code.modules:
            nvvm.add_module_to_program(program, module.encode(), len(module.encode()), "")
        library = _libdevice()
        nvvm.lazy_add_module_to_program(program, library, len(library), "")
        try:
            nvvm.compile_program(program, len(options), options)
        except nvvm.nvvmError as error:
            log = bytearray(nvvm.get_program_log_size(program))
            nvvm.get_program_log(program, log)
            raise AssertionError(f"libNVVM refuses {code.entry}: {error} {log.decode().strip()[:2000]}") from None
        text = bytearray(nvvm.get_compiled_result_size(program))
        nvvm.get_compiled_result(program, text)
    finally:
        nvvm.destroy_program(program)
    head, end, body = (
        text.decode().strip("\0").partition("\n)\n{")
    )  # behind the parameters of the entry, which comes first
    assert end and ".entry" in head
    return head, body


@lru_cache(maxsize=1)
def _libdevice() -> bytes:
    found = [p for root in _nvidia() for p in root.glob("*/nvvm/libdevice/libdevice.10.bc")]
    if not found:
        raise MissingPackageError("compiling for a GPU needs libdevice, which is not installed", hint=REMEDY)
    return found[0].read_bytes()


def _nvidia() -> list[Path]:
    """Where NVIDIA's packages lie."""
    spec = find_spec("nvidia")
    return [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []


def _resources(report: str) -> tuple[int, int, int, int]:
    """Registers, stack, spilled, shared, from what `ptxas -v` says."""

    def number(pattern: str) -> int:
        found = re.search(pattern, report)
        return int(found[1]) if found else 0

    return (
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes stack frame"),
        number(r"(\d+) bytes spill stores"),
        number(r"(\d+) bytes smem"),
    )


@lru_cache(maxsize=1)
def _ptxas() -> str:
    """The assembler of the package nvidia-cuda-nvcc, or the one on the path."""
    found = [p for root in _nvidia() for p in root.glob("*/bin/ptxas")]
    path = str(found[0]) if found else shutil.which("ptxas")
    if path is None:
        raise MissingPackageError("compiling for a GPU needs ptxas, which is not installed", hint=REMEDY)
    return path
