"""What the start of a process costs that runs a model whose plans are on disk: modules are most of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# What a run from disk imports of graphc. A name that is new here makes every start slower, by a fifth of a millisecond and
# what it imports in turn: import it where it is needed instead, or say why all runs do.
MODULES = """
    graphc graphc.arguments graphc.backend graphc.backends graphc.backends.cpu graphc.backends.cpu.backend
    graphc.backends.cpu.checked graphc.backends.cpu.executor graphc.backends.cpu.executor.program_block
    graphc.backends.cpu.hardware graphc.backends.cpu.options graphc.backends.cpu.parts
    graphc.backends.cpu.runtime graphc.backends.cpu.runtime.arenas graphc.backends.cpu.runtime.entry
    graphc.backends.cpu.runtime.plans graphc.backends.cpu.runtime.process graphc.backends.cpu.runtime.run
    graphc.backends.cpu.runtime.threads graphc.backends.cpu.sizes graphc.classes graphc.compiler graphc.dims
    graphc.documents graphc.errors graphc.executable graphc.fingerprint graphc.lower graphc.lower.aligned
    graphc.lower.assembled graphc.lower.block graphc.lower.codes graphc.lower.kernel graphc.lower.limits
    graphc.lower.plans graphc.lower.registers graphc.lower.segment graphc.model graphc.model_folder
    graphc.objects graphc.origin graphc.polynomial graphc.reading graphc.records graphc.signature graphc.sizes
    graphc.source_files graphc.store graphc.types graphc.dlpack graphc.installed graphc.own graphc.progress
    graphc.remedies graphc.words
"""
SLOW = {"numba", "llvmlite", "onnx", "yaml", "networkx", "difflib", "pkgutil", "importlib.metadata"}

RUN = """
import sys, numpy as np
before = set(sys.modules)
import graphc
x = np.zeros((2, 1, 28, 28), np.float32)
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
    assert {name for name in imported if name.partition(".")[0] == "graphc"} == {*MODULES.split()}
    assert not imported & SLOW
