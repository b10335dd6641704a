"""Are the CUDA tests run?"""

from __future__ import annotations

from importlib.util import find_spec

import pytest


@pytest.mark.skipif(find_spec("numba_cuda") is None, reason="numba-cuda is missing: pip install '.[test,cuda]'")
def test_what_cuda_kernels_need_is_installed():
    from graphc.backends.cuda.codegen.compiler import require_numba_cuda

    require_numba_cuda()
