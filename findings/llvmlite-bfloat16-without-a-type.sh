#!/usr/bin/env bash
# llvmlite's IR has no bfloat16, and the instructions on it can be called all the same: by the signatures that they had before LLVM had the type.
#
# llvmlite.ir has HalfType, FloatType and DoubleType only, and LLVM's intrinsics of AVX512_BF16 take and give vectors of bfloat. A module that
# declares them as LLVM did before it had bfloat there, as the bits of integers, is no error: the parser's auto-upgrade rewrites the declarations and
# puts bitcasts around the calls. So vdpbf16ps takes <16 x i32> (two numbers to a word) and vcvtneps2bf16 gives <16 x i16>, which llvmlite can say.
# There is no note of it.
#
# Seen with llvmlite 0.50.0 (LLVM 22.1.0): hasattr(llvmlite.ir, "BFloatType") is False; the parsed module has
#   call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> ..., <32 x bfloat> ..., <32 x bfloat> ...)
#   call <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float> ...)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check llvmlite==0.50.0
"$work/venv/bin/python" - <<'PY'
import llvmlite.binding as llvm
from llvmlite import ir

word, half = ir.IntType(32), ir.IntType(16)
floats, words, halves = (ir.VectorType(t, 16) for t in (ir.FloatType(), word, half))
module = ir.Module()
products = ir.Function(module, ir.FunctionType(floats, [floats, words, words]), "llvm.x86.avx512bf16.dpbf16ps.512")
rounded = ir.Function(module, ir.FunctionType(halves, [floats]), "llvm.x86.avx512bf16.cvtneps2bf16.512")
f = ir.Function(module, ir.FunctionType(halves, [floats, words, words]), "f")
b = ir.IRBuilder(f.append_basic_block())
b.ret(b.call(rounded, [b.call(products, f.args)]))

parsed = llvm.parse_assembly(str(module))
parsed.verify()
calls = [line.strip() for line in str(parsed).splitlines() if " call " in line]
print(f"llvmlite.ir has a type of bfloat16: {hasattr(ir, 'BFloatType')}", *calls, sep="\n")
assert not hasattr(ir, "BFloatType")
assert "<32 x bfloat>" in calls[0] and "call <16 x bfloat>" in calls[1] and "bitcast <16 x bfloat>" in str(parsed)
PY
echo "as described"
