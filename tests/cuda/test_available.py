"""Are the CUDA tests run?"""

from __future__ import annotations

import pytest


@pytest.mark.cuda
def test_what_cuda_kernels_need_is_installed():
    from graphc.backends.cuda.codegen.compiler import require_numba_cuda

    require_numba_cuda()
