"""Inputs that once failed, each a script of its own that exits 1 while its fault is there.

They lie outside of the repository: in the folder that GRAPHC_CASES names, or in shared/cases beside the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("GRAPHC_CASES", ROOT.parent / "shared" / "cases"))
SCRIPTS = sorted(FOLDER.glob("*.py"))
RUNNER = Path(__file__).with_name("case_runner.py")


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPTS, reason=f"no scripts in {FOLDER}: set GRAPHC_CASES")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_the_fault_is_mended(script: Path, tmp_path: Path):
    env = {**os.environ, "GRAPHC_CACHE_DIR": str(tmp_path)}  # some measure an empty cache
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(script)], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
