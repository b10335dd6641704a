"""What the start of a process costs that runs a model whose plans are on disk: modules are most of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# What a run from disk imports of graphc. A name that is new here makes every start slower, by a fifth of a millisecond and
# what it imports in turn: import it where it is needed instead, or say why all runs do.
MODULES = {
    "graphc",
}
SLOW = {"numba", "llvmlite", "onnx", "yaml", "networkx", "difflib", "pkgutil", "importlib.metadata"}

RUN = """
import sys, numpy as np
before = set(sys.modules)
import graphc
x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
model = graphc.compile(sys.argv[1], threads=1, shapes={"image": x.shape})
model(x)
print(*(set(sys.modules) - before))
"""


def test_a_run_from_disk_imports_these_modules(tmp_path: Path):
    environment = {**os.environ, "GRAPHC_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    environment.pop("GRAPHC_CHECK", None)  # then no plans are kept
    for _ in range(2):
        call = [sys.executable, "-c", RUN, str(ROOT / "examples" / "zoo" / "lenet5.yaml")]
        done = subprocess.run(call, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
    imported = {*done.stdout.split()}
    assert {name for name in imported if name.partition(".")[0] == "graphc"} == MODULES
    assert not imported & SLOW
