"""Tests that compile CUDA kernels are skipped where numba-cuda is not installed, and nowhere else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest_plugins = "pytester"

TESTS = Path(__file__).resolve().parents[1]
WITH = "import sys, types\nfrom importlib.machinery import ModuleSpec\n"
WITH += "sys.modules['numba_cuda'] = types.ModuleType('numba_cuda')\n"
WITH += "sys.modules['numba_cuda'].__spec__ = ModuleSpec('numba_cuda', None)\n"
WITHOUT = "import sys\nsys.modules['numba_cuda'] = None\n"
MODULE = """\
import pytest

@pytest.mark.parametrize("target", ["cpu", "reference", "cudalike", "cuda", "cuda:emulate"])
@pytest.mark.parametrize("n", [1, 2])
def test_parameters(target, n): ...

@pytest.fixture(params=["cpu:portable", "cuda:emulate"])
def target(request): ...

def test_fixtures(target): ...

@pytest.mark.cuda
def test_marked(): ...

def test_others(): ...
"""


@pytest.mark.parametrize(
    "installed, passed, skipped", [(WITH, 14, 0), (WITHOUT, 8, 6)], ids=["with numba-cuda", "without"]
)
def test_what_is_skipped(pytester: pytest.Pytester, installed: str, passed: int, skipped: int):
    for name in ("conftest.py", "targets.py"):
        shutil.copy(TESTS / name, pytester.path)
    pytester.makepyfile(installed=installed, test_module=MODULE)
    result = pytester.runpytest_subprocess("-p", "installed", "-rs")
    result.assert_outcomes(passed=passed, skipped=skipped, warnings=1)  # the mark cuda is known in pyproject.toml only
    if skipped:
        result.stdout.fnmatch_lines("SKIPPED * numba-cuda*is not installed: pip install '.[[]test,cuda]'")
