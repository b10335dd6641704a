#!/usr/bin/env bash
# Which LLVM IR libNVVM takes depends on the GPU that it compiles for, and of LLVM's rounding intrinsics it takes some.
#
# One libNVVM (CUDA 13.0) has two parsers behind one interface: up to compute_90 it reads the IR of LLVM 7 (typed pointers, no
# `fneg`), from compute_100 on that of a recent LLVM. A generator that was tried for Blackwell alone fails for Hopper with "parse
# expected type". Of intrinsics llvm.floor, llvm.sqrt and llvm.fma pass on all of them, llvm.fabs and llvm.rint on none.
#
# Seen with cuda-bindings 13.0.3, nvidia-nvvm 13.0.88 (no GPU):
#                    compute_80 compute_90 compute_100 compute_120
#   typed pointers   yes        yes        yes         yes
#   opaque pointers  no         no         yes         yes
#   fneg             no         no         yes         yes
#   llvm.floor       yes        yes        yes         yes
#   llvm.fabs        no         no         no          no
#   llvm.rint        no         no         no          no
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check cuda-bindings==13.0.3 nvidia-nvvm==13.0.88
"$work/venv/bin/python" - <<'PY'
from cuda.bindings import nvvm

ARCHS = ("compute_80", "compute_90", "compute_100", "compute_120")
HEAD = """target triple = "nvptx64-nvidia-cuda"
target datalayout = "e-p:64:64:64-i1:8:8-i8:8:8-i16:16:16-i32:32:32-i64:64:64-i128:128:128-f32:32:32-f64:64:64-v16:16:16-v32:32:32-v64:64:64-v128:128:128-n16:32:64"
!nvvmir.version = !{!0}
!0 = !{i32 2, i32 0, i32 3, i32 1}
!nvvm.annotations = !{!1}
"""


def kernel(step: str, pointer: str = "float*", declared: str = "") -> str:
    function = "ptr @k" if pointer == "ptr" else "void (float*)* @k"
    return f"""{HEAD}!1 = !{{{function}, !"kernel", i32 1}}
{declared}
define void @k({pointer} %p) {{
  %x = load float, {pointer} %p
  %y = {step}
  store float %y, {pointer} %p
  ret void
}}
"""


def call(name: str) -> str:
    return kernel(f"call float @{name}.f32(float %x)", declared=f"declare float @{name}.f32(float)")


def takes(text: str, arch: str) -> bool:
    program = nvvm.create_program()
    try:
        nvvm.add_module_to_program(program, text.encode(), len(text.encode()), "m")
        nvvm.verify_program(program, 1, [f"-arch={arch}"])
        nvvm.compile_program(program, 1, [f"-arch={arch}"])
        return True
    except nvvm.nvvmError:
        return False
    finally:
        nvvm.destroy_program(program)


CASES = {
    "typed pointers": (kernel("fadd float %x, %x"), "yyyy"),
    "opaque pointers": (kernel("fadd float %x, %x", "ptr"), "nnyy"),
    "fneg": (kernel("fneg float %x"), "nnyy"),
    "llvm.floor": (call("llvm.floor"), "yyyy"),
    "llvm.fabs": (call("llvm.fabs"), "nnnn"),
    "llvm.rint": (call("llvm.rint"), "nnnn"),
}
print(" " * 16, *ARCHS)
wrong = []
for name, (text, expected) in CASES.items():
    seen = "".join("y" if takes(text, arch) else "n" for arch in ARCHS)
    print(name.ljust(16), *("yes".ljust(len(a)) if s == "y" else "no".ljust(len(a)) for s, a in zip(seen, ARCHS)))
    wrong += [name] if seen != expected else []
assert not wrong, f"the behaviour has changed: {wrong}"
PY
