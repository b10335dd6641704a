#!/usr/bin/env bash
# numba-cuda makes PTX of Python with libNVVM, but not where NVRTC, a compiler of C++, is missing.
#
# NVRTC translates nothing of a plain Python kernel: numba-cuda looks for all of CUDA's libraries at once when it wants
# libdevice, and asks NVRTC for the name of the architecture. On a machine without a CUDA toolkit, with libNVVM and libdevice alone (the package nvidia-nvvm)
# `compile_ptx` fails for a kernel that calls nothing; with nvidia-cuda-nvrtc beside them it gives PTX. No GPU is needed.
#
# Seen with numba-cuda 0.30.4, numba 0.68.1, numpy 2.4.6, cuda-bindings 13.0.3, nvidia-nvvm 13.0.88, nvidia-cuda-nvrtc 13.0.88:
#   without NVRTC: DynamicLibNotFoundError, which names libnvrtc
#   with NVRTC:    .target sm_90
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
install() { "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
install numba-cuda==0.30.4 numba==0.68.1 numpy==2.4.6 cuda-bindings==13.0.3 nvidia-nvvm==13.0.88
cat > "$work/kernel.py" <<'PY'
from numba import cuda
from numba.cuda import types


def kernel(a):
    a[0] = 1


try:
    text, _ = cuda.compile_ptx(kernel, types.void(types.float32[::1]), cc=(9, 0))
    print(next(line for line in text.splitlines() if line.startswith(".target")))
except Exception as error:
    print(type(error).__name__, "libnvrtc" if "libnvrtc" in str(error) else error)
PY
without=$("$work/venv/bin/python" "$work/kernel.py")
echo "without NVRTC: $without"
install nvidia-cuda-nvrtc==13.0.88
with=$("$work/venv/bin/python" "$work/kernel.py")
echo "with NVRTC:    $with"
[ "$without" = "DynamicLibNotFoundError libnvrtc" ] && [ "$with" = ".target sm_90" ] || { echo "the behaviour has changed"; exit 1; }
