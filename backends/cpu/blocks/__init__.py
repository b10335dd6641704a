"""The argument blocks of drivers and micro-kernels: each is declared once, in a module free of Numba and llvmlite. A lowering
writes it by names, what it calls reads it by names."""
