"""LLVM IR building blocks for micro-kernels: addresses, vectors of any dtype, loops.

Addresses travel as int64 byte addresses between drivers and micro-kernels; they become pointers only here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import numpy as np
from llvmlite import ir

from graphc.backends.llvm.half import narrowed, widened
from graphc.backends.llvm.minifloat import decoded, encoded
from graphc.dtypes import BY_NAME, MOVED, STORED, is_float, is_integer, names

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
PTR = I8.as_pointer()
_WIDE = {"float32": F32, "float64": F64}
FLOATS = {name: _WIDE[BY_NAME[name].accumulates_in] for name in names("float") if name in MOVED}  # in registers


def i64(value: int) -> ir.Constant:
    return ir.Constant(I64, int(value))


def register_type(dtype: np.dtype) -> ir.Type:
    """Element type in registers: narrow floats are computed in float32, bool is one bit, small integers have their bits."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return I1
    if is_integer(dtype):
        return ir.IntType(BY_NAME[dtype.name].bits)
    if dtype.name in FLOATS:
        return FLOATS[dtype.name]
    raise TypeError(f"no machine type for {dtype}")


def memory_type(dtype: np.dtype) -> ir.Type:
    """Element type in memory: bool is a byte, what has 8 bits and less its code, bfloat16 the upper half of a float32."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_ or dtype.name in STORED:
        return I8
    return {"float16": F16, "bfloat16": I16}.get(dtype.name) or register_type(dtype)


def define(
    module: ir.Module, name: str, args: Sequence[ir.Type], returns: ir.Type | None = None
) -> tuple[ir.Function, Emit]:
    """A function in the module and an emitter at its entry."""
    fn = ir.Function(module, ir.FunctionType(returns or ir.VoidType(), args), name)
    return fn, Emit(ir.IRBuilder(fn.append_basic_block("entry")))


class Emit:
    """An IRBuilder with the idioms of kernels. Vectors have an explicit number of lanes; one lane is a scalar."""

    contracts = False  # may a product be fused with a sum?

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.b = builder
        self._entry = builder.function.entry_basic_block if builder.function.blocks else builder.block

    @property
    def converts_half(self) -> bool:
        """Has the target instructions between float16 and float32?"""
        return self.b.module.converts_half

    @property
    def permutes_bytes(self) -> bool:
        """Has the target an instruction that chooses any bytes of two registers (AVX-512 VBMI)?"""
        return self.b.module.permutes_bytes

    # --- addresses ---------------------------------------------------------------------------------------------------
    def pointer(self, address: ir.Value) -> ir.Value:
        return self.b.inttoptr(address, PTR)

    def offset(self, pointer: ir.Value, nbytes: int | ir.Value) -> ir.Value:
        """pointer + nbytes."""
        if isinstance(nbytes, int):
            if nbytes == 0:
                return pointer
            nbytes = i64(nbytes)
        return self.b.gep(pointer, [nbytes], source_etype=I8)

    def slot(self, block: ir.Value, index: int) -> ir.Value:
        """int64 number `index` of an argument block (a pointer)."""
        return self.b.load(self.offset(block, 8 * index), align=8, typ=I64)

    def slot_f32(self, block: ir.Value, index: int) -> ir.Value:
        """The float32 whose bits lie in the low half of slot `index` (little endian)."""
        return self.b.load(self.offset(block, 8 * index), align=4, typ=F32)

    # --- vectors -----------------------------------------------------------------------------------------------------
    @staticmethod
    def vector(element: ir.Type, lanes: int) -> ir.Type:
        return element if lanes == 1 else ir.VectorType(element, lanes)

    def splat(self, scalar: ir.Value, lanes: int) -> ir.Value:
        if lanes == 1:
            return scalar
        undef = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
        one = self.b.insert_element(undef, scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, undef, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))

    def const(self, value: int | float, element: ir.Type, lanes: int) -> ir.Constant:
        value = float(value) if isinstance(element, (ir.FloatType, ir.DoubleType)) else int(value)
        return (
            ir.Constant(element, value) if lanes == 1 else ir.Constant(ir.VectorType(element, lanes), [value] * lanes)
        )

    def intrinsic(self, name: str, *args: ir.Value, returns: ir.Type | None = None) -> ir.Value:
        """Call an LLVM intrinsic overloaded on the type of its first argument."""
        kind = args[0].type
        full = f"llvm.{name}.{type_suffix(kind)}"
        return self.call(full, returns or kind, *args)

    def call(self, name: str, returns: ir.Type, *args: ir.Value) -> ir.Value:
        module = self.b.module
        fn = module.globals.get(name) or ir.Function(module, ir.FunctionType(returns, [a.type for a in args]), name)
        return self.b.call(fn, args)

    def fneg(self, x: ir.Value) -> ir.Value:
        return self.b.fneg(x)

    def libm(self, name: str, *args: ir.Value) -> ir.Value:
        """A function of the C library, of float64."""
        return self.call(name, F64, *args)

    def whole(self, x: ir.Value, lanes: int, signed: bool = True) -> ir.Value:
        """float to int64 (or uint64), truncating; out of range the nearest number, NaN gives 0."""
        word = self.vector(I64, lanes)
        name = f"llvm.fpto{'s' if signed else 'u'}i.sat.{type_suffix(word)}.{type_suffix(x.type)}"
        return self.call(name, word, x)

    def product(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x * y of floats, rounded: never fused with a sum."""
        return self.b.fmul(x, y)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        return self.intrinsic("fmuladd", a, b, c)  # fused where the target has the instruction

    def load_raw(self, pointer: ir.Value, element: ir.Type, lanes: int) -> ir.Value:
        return self.b.load(pointer, align=1, typ=self.vector(element, lanes))

    def store_raw(self, value: ir.Value, pointer: ir.Value) -> None:
        self.b.store(value, self.b.bitcast(pointer, value.type.as_pointer()), align=1)

    def lane_mask(self, count: ir.Value, lanes: int) -> ir.Value:
        """Lanes 0 … count - 1."""
        numbers = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
        return self.b.icmp_signed("<", numbers, self.splat(count, lanes))

    def masked_load(self, pointer: ir.Value, element: ir.Type, mask: ir.Value) -> ir.Value:
        """Lanes outside the mask are zero and their memory is not touched."""
        kind = ir.VectorType(element, mask.type.count)
        name = f"llvm.masked.load.{type_suffix(kind)}.p0"
        pointer = self.b.bitcast(pointer, kind.as_pointer())
        return self.call(name, kind, pointer, ir.Constant(I32, 1), mask, ir.Constant(kind, None))

    def masked_store(self, value: ir.Value, pointer: ir.Value, mask: ir.Value) -> None:
        name = f"llvm.masked.store.{type_suffix(value.type)}.p0"
        pointer = self.b.bitcast(pointer, value.type.as_pointer())
        self.call(name, ir.VoidType(), value, pointer, ir.Constant(I32, 1), mask)

    def load(self, pointer: ir.Value, dtype: np.dtype, lanes: int) -> ir.Value:
        """`lanes` consecutive elements, in their register type."""
        return self.widen(self.load_raw(pointer, self.kept_type(dtype), lanes), dtype, lanes)

    def load_fixed(self, pointer: ir.Value, element: ir.Type, lanes: int) -> ir.Value:
        """What nobody writes while the kernel runs: it is read once, whatever is stored between its uses."""
        found = self.load_raw(pointer, element, lanes)
        found.set_metadata("invariant.load", self.b.module.add_metadata([]))
        return found

    def constant_bytes(self, data: bytes, space: int = 0) -> ir.Value:
        """Pointer to bytes that are part of the code, in an address space."""
        module, kind = self.b.module, ir.ArrayType(I8, len(data))
        made = ir.GlobalVariable(module, kind, module.get_unique_name("bytes"), space)
        made.linkage, made.global_constant, made.initializer = "internal", True, ir.Constant(kind, bytearray(data))
        return self.b.bitcast(made, ir.PointerType(I8, space))

    def kept_type(self, dtype: np.dtype) -> ir.Type:
        """Of an element in memory."""
        dtype = np.dtype(dtype)
        return I16 if dtype.name == "float16" and not self.converts_half else memory_type(dtype)

    def widen(self, raw: ir.Value, dtype: np.dtype, lanes: int) -> ir.Value:
        """What memory has, in its register type."""
        dtype, b = np.dtype(dtype), self.b
        if dtype.name == "float16" and not self.converts_half:
            return widened(self, raw, lanes)
        if dtype == np.bool_:
            return b.icmp_unsigned("!=", raw, self.const(0, I8, lanes))
        if dtype.name in STORED:
            small = self.vector(register_type(dtype), lanes)
            return decoded(self, raw, dtype.name, lanes) if is_float(dtype) else b.trunc(raw, small)
        if dtype.name == "float16":
            return b.fpext(raw, self.vector(F32, lanes))
        if dtype.name == "bfloat16":
            wide = b.zext(raw, self.vector(I32, lanes))
            return b.bitcast(b.shl(wide, self.const(16, I32, lanes)), self.vector(F32, lanes))
        return raw

    def store(self, value: ir.Value, pointer: ir.Value, dtype: np.dtype, lanes: int) -> None:
        """The inverse of load; narrow floats round to nearest even."""
        self.store_raw(self.narrow(value, dtype, lanes), pointer)

    def narrow(self, value: ir.Value, dtype: np.dtype, lanes: int) -> ir.Value:
        """The inverse of widen."""
        dtype, b = np.dtype(dtype), self.b
        if dtype == np.bool_:
            return b.zext(value, self.vector(I8, lanes))
        if dtype.name in STORED:
            return encoded(self, value, dtype.name, lanes) if is_float(dtype) else b.zext(value, self.vector(I8, lanes))
        if dtype.name == "float16" and not self.converts_half:
            return narrowed(self, value, lanes)
        if dtype.name == "float16":
            return b.fptrunc(value, self.vector(F16, lanes))
        if dtype.name == "bfloat16":
            bits = b.bitcast(value, self.vector(I32, lanes))
            odd = b.and_(b.lshr(bits, self.const(16, I32, lanes)), self.const(1, I32, lanes))
            rounded = b.add(bits, b.add(odd, self.const(0x7FFF, I32, lanes)))
            quiet = b.or_(bits, self.const(0x400000, I32, lanes))  # rounding must not turn a NaN into infinity
            bits = b.select(b.fcmp_unordered("uno", value, value), quiet, rounded)
            return b.trunc(b.lshr(bits, self.const(16, I32, lanes)), self.vector(I16, lanes))
        return value

    # --- control -----------------------------------------------------------------------------------------------------
    def variable(self, kind: ir.Type) -> ir.Value:
        """Stack slot for a value that changes in a loop; LLVM makes it a register."""
        with self.b.goto_entry_block():
            return self.b.alloca(kind)

    @contextmanager
    def loop(self, count: ir.Value, start: ir.Value | None = None, step: int = 1) -> Iterator[ir.Value]:
        """for i in range(start, count, step): yields i (int64)."""
        b = self.b
        head, body, done = (b.append_basic_block(n) for n in ("loop", "body", "done"))
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(I64)
        index.add_incoming(start if start is not None else i64(0), before)
        b.cbranch(b.icmp_signed("<", index, count), body, done)
        b.position_at_end(body)
        yield index
        index.add_incoming(b.add(index, i64(step)), b.block)
        b.branch(head)
        b.position_at_end(done)

    def nonzero(self, value: ir.Value) -> AbstractContextManager[None]:
        """Context: code that runs only when an int64 is not zero."""
        return self.b.if_then(self.b.icmp_signed("!=", value, ir.Constant(value.type, 0)))


def type_suffix(kind: ir.Type) -> str:
    """LLVM's mangling of a type in intrinsic names: f32, v16f32, i64 …"""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{type_suffix(kind.element)}"
    if isinstance(kind, ir.IntType):
        return f"i{kind.width}"
    return {"float": "f32", "double": "f64", "half": "f16"}[str(kind)]
