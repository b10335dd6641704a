"""libdevice, the GPU's library of mathematics: each function by LLVM's intrinsic, an instruction, or the C library.

Results are those of the C library, which is more exact; approximations (`fast_…`) are exact too.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.cuda.emulator.ir_text import suffix_of
from graphc.errors import UnsupportedError

PREFIX = "__nv_"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_INTRINSICS = {
    "fma": "fma",
    "sqrt": "sqrt",
    "fabs": "fabs",
    "fmax": "maxnum",
    "fmin": "minnum",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "rint": "rint",
    "nearbyint": "rint",
    "copysign": "copysign",
}
_LIBRARY = _names("""
    acos acosh asin asinh atan atan2 atanh cbrt cos cosh erf erfc exp exp10 exp2 expm1 fdim fmod hypot lgamma log log10 log1p
    log2 pow remainder round sin sinh tan tanh tgamma
""")
_FAST = {"exp", "exp10", "log", "log2", "log10", "sin", "cos", "tan", "pow", "tanh"}
_ROUNDED = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}  # __nv_fadd_rn, __nv_dmul_rn …
# functions of the C library that compiled kernels may call
CALLED = {*(f"{name}{f}" for name in (*_LIBRARY, "ldexp") for f in ("", "f")), "memcpy", "memset", "memmove"}

# functions on integers, and others that are one intrinsic or one instruction
_WORDS = {
    "popc": "%r = call i32 @llvm.ctpop.i32(i32 %x0)",
    "popcll": "%w = call i64 @llvm.ctpop.i64(i64 %x0)\n%r = trunc i64 %w to i32",
    "clz": "%r = call i32 @llvm.ctlz.i32(i32 %x0, i1 false)",
    "clzll": "%w = call i64 @llvm.ctlz.i64(i64 %x0, i1 false)\n%r = trunc i64 %w to i32",
    "brev": "%r = call i32 @llvm.bitreverse.i32(i32 %x0)",
    "brevll": "%r = call i64 @llvm.bitreverse.i64(i64 %x0)",
    "ffs": "%t = call i32 @llvm.cttz.i32(i32 %x0, i1 false)\n%z = icmp eq i32 %x0, 0\n%n = add i32 %t, 1\n"
    "%r = select i1 %z, i32 0, i32 %n",
    "ffsll": "%t = call i64 @llvm.cttz.i64(i64 %x0, i1 false)\n%z = icmp eq i64 %x0, 0\n%n = add i64 %t, 1\n"
    "%s = select i1 %z, i64 0, i64 %n\n%r = trunc i64 %s to i32",
    "abs": "%r = call i32 @llvm.abs.i32(i32 %x0, i1 false)",
    "llabs": "%r = call i64 @llvm.abs.i64(i64 %x0, i1 false)",
    "isnanf": "%c = fcmp uno float %x0, 0.0\n%r = zext i1 %c to i32",
    "isnand": "%c = fcmp uno double %x0, 0.0\n%r = zext i1 %c to i32",
    "isinff": "%m = call float @llvm.fabs.f32(float %x0)\n%c = fcmp oeq float %m, 0x7FF0000000000000\n%r = zext i1 %c to i32",
    "isinfd": "%m = call double @llvm.fabs.f64(double %x0)\n%c = fcmp oeq double %m, 0x7FF0000000000000\n%r = zext i1 %c to i32",
    "finitef": "%m = call float @llvm.fabs.f32(float %x0)\n%c = fcmp olt float %m, 0x7FF0000000000000\n%r = zext i1 %c to i32",
    "isfinited": "%m = call double @llvm.fabs.f64(double %x0)\n%c = fcmp olt double %m, 0x7FF0000000000000\n"
    "%r = zext i1 %c to i32",
    "signbitf": "%b = bitcast float %x0 to i32\n%r = lshr i32 %b, 31",
    "signbitd": "%b = bitcast double %x0 to i64\n%s = lshr i64 %b, 63\n%r = trunc i64 %s to i32",
    "float_as_int": "%r = bitcast float %x0 to i32",
    "float_as_uint": "%r = bitcast float %x0 to i32",
    "int_as_float": "%r = bitcast i32 %x0 to float",
    "uint_as_float": "%r = bitcast i32 %x0 to float",
    "double_as_longlong": "%r = bitcast double %x0 to i64",
    "longlong_as_double": "%r = bitcast i64 %x0 to double",
    "float2half_rn": "%h = fptrunc float %x0 to half\n%r = bitcast half %h to i16",
    "half2float": "%h = bitcast i16 %x0 to half\n%r = fpext half %h to float",
    "saturatef": "%m = call float @llvm.maxnum.f32(float %x0, float 0.0)\n%r = call float @llvm.minnum.f32(float %m, float 1.0)",
    "frcp_rn": "%r = fdiv float 1.0, %x0",
    "drcp_rn": "%r = fdiv double 1.0, %x0",
    "fsqrt_rn": "%r = call float @llvm.sqrt.f32(float %x0)",
    "dsqrt_rn": "%r = call double @llvm.sqrt.f64(double %x0)",
    "fmaf_rn": "%r = call float @llvm.fma.f32(float %x0, float %x1, float %x2)",
    "fma_rn": "%r = call double @llvm.fma.f64(double %x0, double %x1, double %x2)",
    "fast_fdividef": "%r = fdiv float %x0, %x1",
    "fdividef": "%r = fdiv float %x0, %x1",
}
_EXTREMES = {"min": "smin", "max": "smax", "umin": "umin", "umax": "umax"}
for _name, _intrinsic in _EXTREMES.items():
    _WORDS[_name] = f"%r = call i32 @llvm.{_intrinsic}.i32(i32 %x0, i32 %x1)"
    _wide = f"ull{_name[1:]}" if _name.startswith("u") else f"ll{_name}"
    _WORDS[_wide] = f"%r = call i64 @llvm.{_intrinsic}.i64(i64 %x0, i64 %x1)"
for _name, _bits, _extend in (
    ("mulhi", 32, "sext"),
    ("umulhi", 32, "zext"),
    ("mul64hi", 64, "sext"),
    ("umul64hi", 64, "zext"),
):
    _WORDS[_name] = (
        f"%a = {_extend} i{_bits} %x0 to i{2 * _bits}\n%b = {_extend} i{_bits} %x1 to i{2 * _bits}\n"
        f"%p = mul i{2 * _bits} %a, %b\n%h = lshr i{2 * _bits} %p, {_bits}\n%r = trunc i{2 * _bits} %h to i{_bits}"
    )


def definition(name: str, returns: str, args: Sequence[str]) -> str:
    """A function of libdevice as LLVM IR. name: without `PREFIX`. Raises UnsupportedError."""
    params = ", ".join(f"{kind} %x{i}" for i, kind in enumerate(args))
    body = "\n".join(f"  {line.strip()}" for line in _body(name, returns, args).splitlines())
    end = "ret void" if returns == "void" else f"ret {returns} %r"
    return f"define internal {returns} @{PREFIX}{name}({params}) alwaysinline {{\n{body}\n  {end}\n}}\n"


def _body(name: str, returns: str, args: Sequence[str]) -> str:
    if name in _WORDS:
        return _WORDS[name]
    single = returns == "float"
    base = name[:-1] if single and name.endswith("f") else name
    operands = ", ".join(f"{kind} %x{i}" for i, kind in enumerate(args))
    if base.startswith("fast_") and base.removeprefix("fast_") in _FAST:
        base = base.removeprefix("fast_")
    if base in _INTRINSICS:
        return f"%r = call {returns} @llvm.{_INTRINSICS[base]}.{suffix_of(returns)}({operands})"
    if base in _LIBRARY:
        return f"%r = call {returns} @{base}{'f' if single else ''}({operands})"
    if base == "rsqrt":
        return f"%s = call {returns} @llvm.sqrt.{suffix_of(returns)}({operands})\n%r = fdiv {returns} 1.0, %s"
    if base == "ldexp":
        return f"%r = call {returns} @ldexp{'f' if single else ''}({operands})"
    if base == "powi":
        return f"%w = sitofp i32 %x1 to {returns}\n%r = call {returns} @pow{'f' if single else ''}({returns} %x0, {returns} %w)"
    if name in ("fast_sincosf", "sincosf", "sincos"):
        f = "f" if args[0] == "float" else ""
        return (
            f"%s = call {args[0]} @sin{f}({args[0]} %x0)\nstore {args[0]} %s, ptr %x1\n"
            f"%c = call {args[0]} @cos{f}({args[0]} %x0)\nstore {args[0]} %c, ptr %x2"
        )
    rounded = name[1:].removesuffix("_rn")
    if name.endswith("_rn") and name[0] in "fd" and rounded in _ROUNDED:
        return f"%r = {_ROUNDED[rounded]} {returns} %x0, %x1"
    raise UnsupportedError(f"the emulator does not know the function {PREFIX}{name} of libdevice")
