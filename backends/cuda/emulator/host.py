"""LLVM for this machine: from modules to object code."""

from __future__ import annotations

import platform
import sys
from functools import cached_property, lru_cache
from typing import Any

from graphc.backends.cpu.runtime.object_file import read
from graphc.backends.cpu.target import detect
from graphc.errors import UnsupportedError


def require_host() -> None:
    """Raises UnsupportedError where fibers can't be switched."""
    if platform.machine() not in ("x86_64", "AMD64") or not sys.platform.startswith("linux"):
        raise UnsupportedError(
            f"kernels can't be emulated on {platform.machine()} with {platform.system()}",
            hint="the emulator switches stacks with instructions of x86-64 and wants Linux",
        )


class Host:
    """One for the process: `host()`."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
        self.llvm: Any = llvm
        self.target = detect()
        self.triple: str = llvm.get_default_triple()

    @cached_property
    def machine(self) -> Any:
        cpu, features = self.target.cpu, self.target.features
        made = self.llvm.Target.from_triple(self.triple)
        return made.create_target_machine(cpu=cpu, features=features, opt=2, reloc="pic", codemodel="default")

    def pass_builder(self, level: int) -> Any:
        options = self.llvm.create_pipeline_tuning_options(speed_level=level)
        return self.llvm.create_pass_builder(self.machine, options)

    def compile(self, module: Any, symbol: str, level: int) -> bytes:
        """Object code of a parsed module that exports nothing but `symbol`."""
        module.triple, module.data_layout = self.triple, str(self.machine.target_data)
        module.verify()
        for item in (*module.functions, *module.global_variables):
            if not item.is_declaration and item.name != symbol:
                item.linkage = "internal"
        self.pass_builder(level).getModulePassManager().run(module, self.pass_builder(level))
        code: bytes = self.machine.emit_object(module)
        return code


def imports(code: bytes, symbol: str) -> set[str]:
    """Functions of other libraries that an object file calls."""
    return {r.symbol.name for r in read(code, symbol).relocations if r.symbol.section is None}


@lru_cache(maxsize=1)
def host() -> Host:
    return Host()
