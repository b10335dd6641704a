"""From a kernel's specification to machine code: needs LLVM, and Numba for drivers."""
