"""From a kernel's specification to its address: emit, optimise, assemble, cache, link into the process.

Two kinds of native functions, both plain object files in the end:
- a *micro-kernel* is emitted as LLVM IR by a function registered with `@micro`: the inner loops, specialised by register
  tile, dtype and epilogue;
- a *driver* is a Numba function registered with `@driver`: the loops around micro-kernels, sizes at run time.
A cached kernel needs neither Numba nor its generator.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from graphc.backends.cpu.cache import ObjectCache
from graphc.backends.cpu.code_memory import CodeMemory
from graphc.backends.cpu.compile_process import Other, build_all
from graphc.backends.cpu.object_file import CantLink
from graphc.backends.cpu.target import Target


@dataclass(frozen=True, eq=False)
class Kernel:
    """Names a native function: the registered generator and what specialises it (with a faithful repr).

    Kernels are compared by that text: 0.0 and -0.0, or 1 and True, are equal as numbers and other code.
    """

    name: str
    params: tuple = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __str__(self) -> str:
        numbers = lambda p: ".".join(map(str, p)) if all(isinstance(n, int) for n in p) else None  # noqa: E731
        words = [numbers(p) if isinstance(p, tuple) else str(p) for p in self.params]
        text = "_".join(w for w in words if w)
        return f"{self.name}_{text}" if text else self.name

    @cached_property
    def spec(self) -> str:
        """What the kernel is, in full."""
        return repr(self)

    @cached_property
    def symbol(self) -> str:
        safe = "".join(c if c.isalnum() else "_" for c in str(self))[:48]
        return f"graphc_{safe}_{hashlib.sha256(self.spec.encode()).hexdigest()[:12]}"


class Built(NamedTuple):
    """A kernel's object code, and its readable source."""

    code: bytes
    source: str
    suffix: str


@dataclass(frozen=True)
class _Micro:
    emit: Callable  # (module, symbol, target, *params) -> None: adds the function to the llvmlite module
    unroll: bool


@dataclass(frozen=True)
class _Driver:
    make: Callable  # (target, *params) -> (Numba-compilable function, its signature)
    computes: bool


_GENERATORS: dict[str, _Micro | _Driver] = {}


def micro(name: str, unroll: bool = True) -> Callable:
    """Register a generator of LLVM IR. unroll: may LLVM unroll loops whose counts are arguments? It does not know which are
    short."""

    def register(emit: Callable) -> Callable:
        assert name not in _GENERATORS, name
        _GENERATORS[name] = _Micro(emit, unroll)
        return emit

    return register


def driver(name: str, computes: bool = False) -> Callable:
    """Register a maker of a Numba function. computes: its own loops do the work, no micro-kernel; they are worth more
    time to compile."""

    def register(make: Callable) -> Callable:
        assert name not in _GENERATORS, name
        _GENERATORS[name] = _Driver(make, computes)
        return make

    return register


@lru_cache
def load_generators(kind: str) -> None:
    """Import all modules of 'micro' or 'drivers'."""
    import importlib
    import pkgutil

    package = importlib.import_module(f"graphc.backends.cpu.{kind}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def _generator(name: str) -> _Micro | _Driver:
    load_generators("micro")
    if name not in _GENERATORS:
        load_generators("drivers")  # with Numba, which is slow to load
    return _GENERATORS[name]


class Toolchain:
    """Compiles and links kernels for one target. One a target a process; thread-safe."""

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
                load_generators("micro")
                quick = [k for k in to_build if isinstance(_GENERATORS.get(k.name), _Micro)]
                build_all(self, quick, [k for k in to_build if k not in quick], done, self._other)
            self._link({k.symbol: code for k, code in codes.items()})
            return {k: self._addresses[k.symbol] for k in wanted}

    def kept(self, names: Sequence[tuple[str, str, str]]) -> list[int] | None:
        """Addresses of kernels by (name, specification, symbol); None where the cache lacks one."""
        with self._lock:
            missing = {s: self.cache.get(name, spec) for name, spec, s in names if s not in self._addresses}
            if None in missing.values():
                return None
            self._link(missing)
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
        self.llvm.initialize_native_asmparser()
        generator = _generator(kernel.name)
        thorough = isinstance(generator, _Driver) and generator.computes
        options = self.llvm.create_pipeline_tuning_options(speed_level=3 if thorough else 2)
        options.slp_vectorization = False
        if isinstance(generator, _Micro):
            source, texts = self._micro_ir(generator, kernel)
            suffix = ".ll"
            options.loop_vectorization = False  # vectors are explicit already
            options.loop_unrolling = generator.unroll
        else:
            source, texts = self._driver_ir(generator, kernel)
            suffix = ".py"
        module, *called = map(self.llvm.parse_assembly, texts)
        for other in called:
            module.link_in(other)
        module.verify()
        # Numba's names repeat between processes ('winograd.<locals>.winograd' of any m): nothing but the entry is exported
        for item in (*module.functions, *module.global_variables):
            if not item.is_declaration and item.name != kernel.symbol:
                item.linkage = "internal"
        passes = self.llvm.create_pass_builder(self._machine, options)
        for _ in range(2 if thorough else 1):
            passes.getModulePassManager().run(module, passes)
        return Built(self._machine.emit_object(module), source, suffix)

    def _micro_ir(self, generator: _Micro, kernel: Kernel) -> tuple[str, list[str]]:
        from llvmlite import ir

        module = ir.Module(kernel.symbol)
        module.converts_half = self.target.converts_half
        module.triple = self.llvm.get_default_triple()
        module.data_layout = str(self._machine.target_data)
        generator.emit(module, kernel.symbol, self.target, *kernel.params)
        text = str(module)
        return f"; {kernel!r} for {self.target}\n{text}", [text]

    def _driver_ir(self, generator: _Driver, kernel: Kernel) -> tuple[str, list[str]]:
        import inspect

        from graphc.backends.cpu.numba_ir import driver_ir

        function, signature = generator.make(self.target, *kernel.params)
        (text, *called), inner = driver_ir(function, signature)
        source = f"# {kernel!r} for {self.target}\n{inspect.getsource(function)}"
        return source, [text + _entry(kernel.symbol, inner, signature), *called]


def _entry(symbol: str, inner: str, signature: Any) -> str:
    """A C entry point to a Numba function, whose own ABI has two pointers more (result, exception)."""
    kinds = ["i64" if str(t).startswith("int64") else "ptr" for t in signature.args]
    formal = ", ".join(f"{k} %a{i}" for i, k in enumerate(kinds))
    returns = str(signature.return_type) == "int64"
    body = f'  %r = alloca i64\n  %e = alloca ptr\n  %s = call i32 @"{inner}"(ptr %r, ptr %e, {formal})\n'
    body += "  %v = load i64, ptr %r\n  ret i64 %v\n" if returns else "  ret void\n"
    return f"\ndefine {'i64' if returns else 'void'} @{symbol}({formal}) {{\n{body}}}\n"


_TOOLCHAINS: dict[tuple[Target, bool], Toolchain] = {}
_TOOLCHAINS_LOCK = threading.Lock()


def toolchain(target: Target, cache: bool = True) -> Toolchain:
    """The process's toolchain for a target."""
    with _TOOLCHAINS_LOCK:
        if (target, cache) not in _TOOLCHAINS:
            _TOOLCHAINS[target, cache] = Toolchain(target, cache)
        return _TOOLCHAINS[target, cache]
