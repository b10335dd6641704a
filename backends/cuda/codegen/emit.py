"""LLVM IR for the GPU: what graphc/backends/llvm emits, in the dialect of libNVVM."""

from __future__ import annotations

from llvmlite import ir

from graphc.backends.llvm.emit import F32, F64, I64, Emit

LIBDEVICE = {"roundeven": "rint", "fmuladd": "fma"} | {n: n for n in ("fabs", "floor", "ceil", "trunc", "sqrt", "fma")}
LOWEST, HIGHEST = -(2.0**63), 2.0**63


class CudaEmit(Emit):
    """One lane: a thread is scalar. Loads and stores are of whole elements at addresses that their size divides."""

    @property
    def converts_half(self) -> bool:
        return True

    def slot(self, block: ir.Value, index: int) -> ir.Value:
        return self.load_raw(self.offset(block, 8 * index), I64, 1)

    def slot_f32(self, block: ir.Value, index: int) -> ir.Value:
        return self.load_raw(self.offset(block, 8 * index), F32, 1)

    def load_raw(self, pointer: ir.Value, element: ir.Type, lanes: int) -> ir.Value:
        assert lanes == 1
        return self.b.load(self._of(pointer, element), align=_nbytes(element), typ=element)

    def store_raw(self, value: ir.Value, pointer: ir.Value) -> None:
        self.b.store(value, self._of(pointer, value.type), align=_nbytes(value.type))

    def _of(self, pointer: ir.Value, element: ir.Type) -> ir.Value:
        return self.b.bitcast(pointer, element.as_pointer())

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


def _nbytes(element: ir.Type) -> int:
    if isinstance(element, ir.IntType):
        return max(1, element.width // 8)
    if isinstance(element, ir.PointerType):
        return 8
    return {F32: 4, F64: 8}.get(element, 2)
