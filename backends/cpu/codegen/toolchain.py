"""From a kernel's specification to its address: emit, optimise, assemble, cache, link into the process.

A cached kernel needs neither Numba nor its generator (see kernel.py).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from graphc.backends.cpu.codegen.cache import ObjectCache
from graphc.backends.cpu.codegen.compile_process import Other, build_all
from graphc.backends.cpu.families import load
from graphc.backends.cpu.kernel import Built, Driver, Micro, generator_of, is_micro
from graphc.backends.cpu.runtime.code_memory import CodeMemory
from graphc.backends.cpu.runtime.object_file import CantLink
from graphc.backends.cpu.target import Target
from graphc.lower.kernel import Kernel


class Toolchain:
    """Compiles and links kernels for one target; thread-safe. A process has one per target: runtime/process.py."""

    def __init__(self, target: Target, cache: bool = True) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.llvm = llvm
        self.target = target
        self.cache = ObjectCache(target, cache)
        self._machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="default"
        )
        self._memory = CodeMemory()
        self._addresses: dict[str, int] = {}  # by symbol
        self._other: Other | None = None
        self._lock = threading.RLock()

    @contextmanager
    def expecting(self, kernels: Iterable[Kernel]) -> Iterator[None]:
        """Until the end, a second process is ready to compile for `addresses`, if all these kernels still have to be."""
        other = None
        with self._lock:
            if self._other is None and not any(
                k.symbol in self._addresses or self.cache.has(k.name, k.spec) for k in kernels
            ):
                other = self._other = Other.start(self.target)
        try:
            yield
        finally:
            if other is not None:
                with self._lock:
                    self._other = None
                other.close()

    def addresses(
        self, kernels: Iterable[Kernel], progress: Callable[[str, int, int], None] | None = None
    ) -> dict[Kernel, int]:
        """Addresses of kernels; those that neither this process nor the cache has are compiled."""
        with self._lock:
            wanted = dict.fromkeys(kernels)
            missing = [k for k in wanted if k.symbol not in self._addresses]
            codes = {k: self.cache.get(k.name, k.spec) for k in missing}
            to_build = [k for k, code in codes.items() if code is None]
            finished = 0

            def done(k: Kernel, built: Built) -> None:
                nonlocal finished
                self.cache.put(k.name, k.spec, *built)
                codes[k] = built.code
                finished += 1
                if progress:
                    progress("compiling kernels", finished, len(to_build))

            if to_build:
                if progress:
                    progress("compiling kernels", 0, len(to_build))
                load("micro")
                quick = [k for k in to_build if is_micro(k)]
                build_all(self.target, self.build, quick, [k for k in to_build if k not in quick], done, self._other)
            self._link({k.symbol: code for k, code in codes.items() if code is not None})
            return {k: self._addresses[k.symbol] for k in wanted}

    def kept(self, names: Sequence[tuple[str, str, str]]) -> list[int] | None:
        """Addresses of kernels by (name, specification, symbol); None where the cache lacks one."""
        with self._lock:
            missing = {s: self.cache.get(name, spec) for name, spec, s in names if s not in self._addresses}
            codes = {s: code for s, code in missing.items() if code is not None}
            if len(codes) < len(missing):
                return None
            self._link(codes)
            return [self._addresses[s] for _, _, s in names]

    def address(self, kernel: Kernel) -> int:
        return self.addresses([kernel])[kernel]

    def function(self, kernel: Kernel, restype: Any, *argtypes: Any) -> Callable:
        """A kernel as a ctypes function (the GIL is released while it runs)."""
        return ctypes.CFUNCTYPE(restype, *argtypes)(self.address(kernel))

    def _link(self, codes: Mapping[str, bytes]) -> None:
        if not codes:
            return
        try:
            self._addresses.update(self._memory.load(codes))
        except CantLink:  # another machine than x86-64
            for code in codes.values():
                self._engine.add_object_file(self.llvm.ObjectFileRef.from_data(code))
            self._engine.finalize_object()
            self._addresses.update((s, self._engine.get_function_address(s)) for s in codes)

    @cached_property
    def _engine(self) -> Any:
        """LLVM's loader."""
        linker = self.llvm.Target.from_default_triple().create_target_machine()
        return self.llvm.create_mcjit_compiler(self.llvm.parse_assembly(""), linker)

    def build(self, kernel: Kernel) -> Built:
        """Generate and compile a kernel."""
        generator = generator_of(kernel)
        thorough = isinstance(generator, Driver) and generator.computes
        options = self.llvm.create_pipeline_tuning_options(speed_level=3 if thorough else 2)
        options.slp_vectorization = False
        if isinstance(generator, Micro):
            source, texts = self._micro_ir(generator, kernel)
            suffix = ".ll"
            options.loop_vectorization = False  # vectors are explicit already
            options.loop_unrolling = generator.unroll
        else:
            source, texts = self._driver_ir(generator, kernel)
            suffix = ".py"
        return Built(self._compiled(kernel.symbol, texts, options, 2 if thorough else 1), source, suffix)

    def compile_ir(self, symbol: str, text: str) -> bytes:
        """Object code of LLVM IR that defines `symbol`."""
        return self._compiled(symbol, [text], self.llvm.create_pipeline_tuning_options(speed_level=2), 1)

    def _compiled(self, symbol: str, texts: Sequence[str], options: Any, rounds: int) -> bytes:
        """texts: modules that are linked into one. rounds: how often it is optimised."""
        self.llvm.initialize_native_asmparser()
        module, *called = map(self.llvm.parse_assembly, texts)
        for other in called:
            module.link_in(other)
        module.verify()
        # Numba's names repeat between processes ('winograd.<locals>.winograd' of any m): nothing but the entry is exported
        for item in (*module.functions, *module.global_variables):
            if not item.is_declaration and item.name != symbol:
                item.linkage = "internal"
        passes = self.llvm.create_pass_builder(self._machine, options)
        for _ in range(rounds):
            passes.getModulePassManager().run(module, passes)
        return self._machine.emit_object(module)

    def _micro_ir(self, generator: Micro, kernel: Kernel) -> tuple[str, list[str]]:
        from llvmlite import ir

        module = ir.Module(kernel.symbol)
        module.converts_half, module.permutes_bytes = self.target.converts_half, self.target.permutes_bytes
        module.triple = self.llvm.get_default_triple()
        module.data_layout = str(self._machine.target_data)
        generator.emit(module, kernel.symbol, self.target, **kernel.by_field)
        text = str(module)
        return f"; {kernel.spec} for {self.target}\n{text}", [text]

    def _driver_ir(self, generator: Driver, kernel: Kernel) -> tuple[str, list[str]]:
        import inspect

        from graphc.backends.cpu.codegen.numba_ir import driver_ir

        function, signature = generator.make(self.target, **kernel.by_field)
        (text, *called), inner = driver_ir(function, signature)
        source = f"# {kernel.spec} for {self.target}\n{inspect.getsource(function)}"
        return source, [text + _entry(kernel.symbol, inner, signature), *called]


def _entry(symbol: str, inner: str, signature: Any) -> str:
    """A C entry point to a Numba function, whose own ABI has two pointers more (result, exception)."""
    kinds = ["i64" if str(t).startswith("int64") else "ptr" for t in signature.args]
    formal = ", ".join(f"{k} %a{i}" for i, k in enumerate(kinds))
    returns = str(signature.return_type) == "int64"
    body = f'  %r = alloca i64\n  %e = alloca ptr\n  %s = call i32 @"{inner}"(ptr %r, ptr %e, {formal})\n'
    body += "  %v = load i64, ptr %r\n  ret i64 %v\n" if returns else "  ret void\n"
    return f"\ndefine {'i64' if returns else 'void'} @{symbol}({formal}) {{\n{body}}}\n"
