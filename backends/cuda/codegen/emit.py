"""LLVM IR for the GPU: what graphc/backends/llvm emits, in the dialect of libNVVM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from llvmlite import ir

from graphc.backends.llvm.emit import F32, F64, I8, I32, I64, Emit, memory_type

GLOBAL = 1  # the address space that argument blocks and tensors are in: its loads and stores need not look for theirs
CONSTANT = 4  # that of constants

LIBDEVICE = {"roundeven": "rint", "fmuladd": "fma"} | {n: n for n in ("fabs", "floor", "ceil", "trunc", "sqrt", "fma")}
WIDEST, WORD = 16, 4  # bytes of one load or store, and of a register
LOWEST, HIGHEST = -(2.0**63), 2.0**63


class CudaEmit(Emit):
    """A thread is scalar: vectors are only loaded, stored and taken apart. All lie at addresses that their bytes divide."""

    def pointer(self, address: ir.Value) -> ir.Value:
        return self.b.inttoptr(address, ir.PointerType(I8, GLOBAL))

    @property
    def converts_half(self) -> bool:
        return True

    @property
    def permutes_bytes(self) -> bool:
        return False

    def constant_bytes(self, data: bytes, space: int = CONSTANT) -> ir.Value:
        return super().constant_bytes(data, space)

    def slot(self, block: ir.Value, index: int) -> ir.Value:
        return self.load_fixed(self.offset(block, 8 * index), I64, 1)

    def slot_f32(self, block: ir.Value, index: int) -> ir.Value:
        return self.load_fixed(self.offset(block, 8 * index), F32, 1)

    def load_raw(self, pointer: ir.Value, element: ir.Type, lanes: int) -> ir.Value:
        kind = self.vector(element, lanes)
        return self.b.load(self._of(pointer, kind), align=min(WIDEST, _nbytes(kind)), typ=kind)

    def store_raw(self, value: ir.Value, pointer: ir.Value) -> None:
        self.b.store(value, self._of(pointer, value.type), align=min(WIDEST, _nbytes(value.type)))

    def load_run(self, pointer: ir.Value, dtype: np.dtype, count: int) -> list[ir.Value]:
        """Neighbours, in their register type: narrow ones by words, because libNVVM takes wider loads of them apart."""
        element, b = memory_type(dtype), self.b
        each = _of_a_word(element, count)
        if each == 1:
            raw = _taken_apart(b, self.load_raw(pointer, element, count))
        else:
            bits = 8 * _nbytes(element)
            words = _taken_apart(b, self.load_raw(pointer, ir.IntType(bits * each), count // each))
            shifted = (b.lshr(w, ir.Constant(w.type, bits * i)) for w in words for i in range(each))
            raw = [b.bitcast(b.trunc(w, ir.IntType(bits)), element) for w in shifted]
        return [self.widen(x, dtype, 1) for x in raw]

    def store_run(self, values: Sequence[ir.Value], pointer: ir.Value, dtype: np.dtype) -> None:
        """The inverse."""
        b, raw = self.b, [self.narrow(x, dtype, 1) for x in values]
        each, bits = _of_a_word(raw[0].type, len(raw)), 8 * _nbytes(raw[0].type)
        if each > 1:
            kind = ir.IntType(bits * each)
            wide = [b.zext(b.bitcast(x, ir.IntType(bits)), kind) for x in raw]
            shifted = [b.shl(x, ir.Constant(kind, bits * (i % each))) for i, x in enumerate(wide)]
            raw = [reduce(b.or_, shifted[i : i + each]) for i in range(0, len(raw), each)]
        together = raw[0]
        if len(raw) > 1:
            together = ir.Constant(ir.VectorType(raw[0].type, len(raw)), ir.Undefined)
            for i, x in enumerate(raw):
                together = b.insert_element(together, x, ir.Constant(I32, i))
        self.store_raw(together, pointer)

    def _of(self, pointer: ir.Value, element: ir.Type) -> ir.Value:
        return self.b.bitcast(pointer, element.as_pointer(pointer.type.addrspace))

    def intrinsic(self, name: str, *args: ir.Value, returns: ir.Type | None = None) -> ir.Value:
        """Of floats from libdevice: libNVVM has few of LLVM's."""
        kind = args[0].type
        if name in LIBDEVICE and kind in (F32, F64):
            return self.call(f"__nv_{LIBDEVICE[name]}{'f' if kind == F32 else ''}", kind, *args)
        return super().intrinsic(name, *args, returns=returns)

    def fneg(self, x: ir.Value) -> ir.Value:
        """libNVVM's LLVM is older than the instruction."""
        return self.b.fsub(ir.Constant(x.type, -0.0), x)

    def product(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """As it is named: other multiplications ptxas fuses with additions."""
        return self.call(f"llvm.nvvm.mul.rn.{'f' if x.type == F32 else 'd'}", x.type, x, y)

    def libm(self, name: str, *args: ir.Value) -> ir.Value:
        """From libdevice."""
        return self.call(f"__nv_{name}", F64, *args)

    def whole(self, x: ir.Value, lanes: int, signed: bool = True) -> ir.Value:
        """libNVVM has no saturating conversion, and another one of what is out of range is undefined."""
        b, kind = self.b, x.type
        low, high = (LOWEST, HIGHEST) if signed else (0.0, 2 * HIGHEST)
        small, large = (
            b.fcmp_ordered("<", x, ir.Constant(kind, low)),
            b.fcmp_ordered(">=", x, ir.Constant(kind, high)),
        )
        odd = b.or_(b.fcmp_unordered("uno", x, x), b.or_(small, large))
        safe = b.select(odd, ir.Constant(kind, 0.0), x)
        n = b.fptosi(safe, I64) if signed else b.fptoui(safe, I64)
        least, most = (-(1 << 63), (1 << 63) - 1) if signed else (0, (1 << 64) - 1)
        return b.select(small, ir.Constant(I64, least), b.select(large, ir.Constant(I64, most), n))


def _of_a_word(element: ir.Type, count: int) -> int:
    """Elements that are moved as one integer, of so many."""
    return max(1, min(count, WORD // _nbytes(element)))


def _taken_apart(b: ir.IRBuilder, value: ir.Value) -> list[ir.Value]:
    if not isinstance(value.type, ir.VectorType):
        return [value]
    return [b.extract_element(value, ir.Constant(I32, i)) for i in range(value.type.count)]


def _nbytes(element: ir.Type) -> int:
    if isinstance(element, ir.VectorType):
        return element.count * _nbytes(element.element)
    if isinstance(element, ir.IntType):
        return max(1, element.width // 8)
    if isinstance(element, ir.PointerType):
        return 8
    return {F32: 4, F64: 8}.get(element, 2)
