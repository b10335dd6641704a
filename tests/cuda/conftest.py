"""These tests compile CUDA kernels: with pip install '.[test,cuda]'. Without, test_available.py says that they are left out."""

from __future__ import annotations

from targets import CUDA

collect_ignore_glob = [] if CUDA else ["test_[!a]*.py"]  # most import numba.cuda
