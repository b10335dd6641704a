"""What runs on a GPU, on a double of its driver: each file of on_double/ in a process of its own, which loads no other driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("on_double/double_*.py"))


@pytest.mark.parametrize("orders", ["late", pytest.param("others,in turns,at once", marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", FILES, ids=[p.stem.removeprefix("double_") for p in FILES])
def test_on_the_double(path: Path, orders: str):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(path)],
        capture_output=True,
        text=True,
        cwd=HERE.parents[1],
        env={name: v for name, v in os.environ.items() if not name.startswith("PYTEST_")} | {"DOUBLE_ORDERS": orders},
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    assert " passed" in run.stdout, run.stdout
