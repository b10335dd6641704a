"""LLVM IR that backends share: addresses, vectors of any dtype, scalar expressions, mathematical functions."""
