"""Drivers as LLVM IR: Numba's front end, without what a driver has no use for.

Plain `njit` takes two to five times as long. It tries the operators of arrays, strings, lists and dates before those of
numbers, at each use of each operator; it looks for closures, array expressions and reference counts; and it optimises each
function by itself, twice, for machine code that nobody calls. Here types are those of the language itself, each combination
is resolved once, and a driver's helper functions are linked and optimised together with it, by the toolchain.

A target of its own (numba.core.target_extension) keeps this apart from what else the process does with Numba.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import codegen, cpu, registry, target_extension, types
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.typed_passes import NativeLowering, NoPythonBackend, NopythonTypeInference, PreLowerStripPhis
from numba.core.typing import mathdecl, templates
from numba.core.typing.context import Context
from numba.core.untyped_passes import DeadBranchPrune, FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode

TARGET = "graphc"
OPTIONS = {
    "nopython": True,
    "error_model": "numpy",
    "nogil": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "_nrt": False,
}
OVERLOADED = (min, max)  # functions that drivers call and that some versions of Numba write in Python
PASSES = (
    TranslateByteCode,
    FixupArgs,
    IRProcessing,
    DeadBranchPrune,
    ReconstructSSA,
    NopythonTypeInference,
    PreLowerStripPhis,
    NativeLowering,
    NoPythonBackend,
)


def driver_ir(function: Callable, signature: Any) -> tuple[list[str], str]:
    """A function's LLVM IR, and the symbol that it has there (with Numba's calling convention).

    The IR is not optimised. It is one module for the function and one for each function that it calls.

    Raises numba.core.errors.NumbaError if the function uses what drivers have no use for, or has an error.
    """
    dispatcher = _dispatcher(function)
    dispatcher.compile(signature)
    overloads: list[Any] = [*dispatcher.overloads.values()]
    (compiled,) = overloads
    return compiled.library.modules(), compiled.fndesc.llvm_func_name


class _Compiler(CompilerBase):
    def define_pipelines(self) -> list[PassManager]:
        passes = PassManager("driver")
        for each in PASSES:
            passes.add_pass(each, each.__name__)
        passes.finalize()
        return [passes]


class _Declared(templates.RegistryLoader):
    """What a registry declares, without what is written in Python itself (overloads of strings, lists, arrays)."""

    def new_registrations(self, name: str) -> Iterator:
        for item in super().new_registrations(name):
            value, kind = item if name == "globals" else (None, item)
            overloads = any(hasattr(t, "_overload_func") for t in (kind, *getattr(kind, "templates", ())))
            if not overloads or any(value is f for f in OVERLOADED):
                yield item


class _TypingContext(Context):
    """Types of the language itself."""

    def init(self) -> None:
        self._resolved: dict[tuple, Any] = {}

    def load_additional_registries(self) -> None:
        self.install_registry(mathdecl.registry)  # and not those of NumPy, lists, dictionaries, sets

    def install_registry(self, registry: templates.Registry) -> None:
        if registry not in self._registries:
            self._registries[registry] = _Declared(registry)
        super().install_registry(registry)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        key = func, tuple(args)
        signature, implementation = self._resolved.get(key, (None, None))
        if kws or signature is None or implementation is not _implementation(func, signature):
            signature = super().resolve_function_type(func, args, kws)
            if not kws and signature is not None:
                self._resolved[key] = signature, _implementation(func, signature)
        return signature

    def resolve_value_type(self, val: Any) -> Any:
        if isinstance(val, registry.CPUDispatcher) and not isinstance(val, _Dispatcher):
            val = _dispatcher(val.py_func)  # a helper function
        return super().resolve_value_type(val)


def _implementation(func: Any, signature: templates.Signature) -> Any:
    """What lowers a call. Contexts share types of functions, and with them this: the last one to resolve the call set it."""
    return func.get_impl_key(signature) if isinstance(func, types.Callable) else None


class _Library(codegen.CodeLibrary):
    """A function's IR and the libraries of the functions that it calls."""

    def __init__(self, generator: Any, name: str) -> None:
        super().__init__(generator, name)
        self._texts: list[str] = []
        self._called: dict[_Library, None] = {}

    def modules(self) -> list[str]:
        """The texts of all modules that the function needs, its own first."""
        libraries = [self]
        for library in libraries:  # grows meanwhile
            libraries.extend(called for called in library._called if called not in libraries)
        return [text for library in libraries for text in library._texts]

    def add_ir_module(self, ir_module: ir.Module) -> None:
        self._texts.append(str(ir_module))

    def add_linking_library(self, library: _Library) -> None:
        self._called[library] = None

    def finalize(self) -> None:
        self._finalized = True

    def get_llvm_str(self) -> str:
        return "\n".join(self.modules())

    def get_function(self, name: str) -> Any:
        raise NotImplementedError("the IR is text")

    def get_asm_str(self) -> str:
        raise NotImplementedError("the IR is not compiled here")


class _Codegen(codegen.Codegen):
    _library_class = _Library

    def __init__(self) -> None:
        self._triple = llvm.get_process_triple()
        self._machine = llvm.Target.from_triple(self._triple).create_target_machine()
        self._target_data = self._machine.target_data
        self._data_layout = str(self._target_data)

    def _create_empty_module(self, name: str) -> ir.Module:
        module = ir.Module(name)
        module.triple, module.data_layout = self._triple, self._data_layout
        return module

    def _add_module(self, module: Any) -> None:
        raise NotImplementedError("the IR is not compiled here")


class _TargetContext(cpu.CPUContext):
    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen: Any = _Codegen()

    def load_additional_registries(self) -> None:
        from numba.cpython import builtins, cmathimpl, iterators, mathimpl, numbers, rangeobj, tupleobj  # noqa: F401  (register themselves)

        self.install_registry(mathimpl.registry)
        self.install_registry(cmathimpl.registry)  # where Numba's own target keeps intrinsics

    def post_lowering(self, mod: ir.Module, library: _Library) -> None:
        pass  # no runtime to link

    def get_executable(self, library: _Library, fndesc: Any, env: Any) -> str:
        return fndesc.unique_name  # what other functions know it by


class _Target(registry.CPUTarget):
    @cached_property
    def _toplevel_target_context(self) -> _TargetContext:
        return _TargetContext(self.typing_context, TARGET)

    @cached_property
    def _toplevel_typing_context(self) -> _TypingContext:
        return _TypingContext()


class _Dispatcher(registry.CPUDispatcher):
    targetdescr = _Target(TARGET)

    def add_overload(self, cres: Any) -> None:
        self.overloads[tuple(cres.signature.args)] = cres  # not callable from Python


@cache
def _dispatcher(function: Callable) -> _Dispatcher:
    return _Dispatcher(function, targetoptions=OPTIONS, pipeline_class=_Compiler)


class _Extension(target_extension.CPU):
    """The target, as Numba's extensions know it."""


target_extension.target_registry[TARGET] = _Extension
target_extension.dispatcher_registry[_Extension] = _Dispatcher
target_extension.jit_registry[_Extension] = lambda *args, **kwargs: _dispatcher
