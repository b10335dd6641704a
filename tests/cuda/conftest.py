"""These tests compile CUDA kernels: with pip install '.[test,cuda]'. Without, test_available.py says that they are left out."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("numba_cuda") else ["test_[!a]*.py"]
