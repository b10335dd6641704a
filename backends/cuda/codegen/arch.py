"""Architectures of GPUs."""

from __future__ import annotations

Arch = tuple[int, int] | tuple[int, int, str]  # a compute capability; 'a': with what only that one has
EMULATED: Arch = (9, 0)  # what emulated kernels are compiled for
WITH_GROUPS: Arch = (9, 0, "a")  # whose groups of warps multiply by wgmma
