"""What runs a plan, freshly made or from disk: needs neither Numba nor LLVM."""
