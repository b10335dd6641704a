"""From the start of a process to its first result: a file that `graphc build` wrote beside ONNX Runtime. Whole processes, in turn.

python benchmarks/artefact_start.py resnet50.onnx --runs 9
python benchmarks/artefact_start.py resnet50.onnx --python /path/to/a/venv/with/numpy/alone/bin/python
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import graphc

SHIPPED = """
import sys, graphc, numpy as np
m = graphc.load(sys.argv[1])
m(*[np.zeros(s.shape, s.dtype) for s in m.inputs])
"""
ONNXRUNTIME = """
import sys, onnxruntime, numpy as np
m = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
m.run(None, {i.name: np.zeros(i.shape, np.float32) for i in m.get_inputs()})
"""


def seconds(python: str, code: str, model: Path, folder: str) -> float:
    """In another folder than the checkout, so that what is installed for the interpreter is what runs."""
    start = time.perf_counter()
    subprocess.run([python, "-c", code, str(model)], check=True, cwd=folder)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an ONNX file whose inputs are float32 of fixed shapes")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the built file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, "model.gcm")
        graphc.build(given.model, built)
        peer = given.model.resolve()
        times = [
            (seconds(given.python, SHIPPED, built, folder), seconds(sys.executable, ONNXRUNTIME, peer, folder))
            for _ in range(given.runs + 1)
        ][1:]
    ours, theirs = (statistics.median(column) for column in zip(*times))
    ratio = statistics.median(a / b for a, b in times)
    print(
        f"graphc {1000 * ours:.0f} ms, ONNX Runtime {1000 * theirs:.0f} ms, ratio {ratio:.2f} (medians of {given.runs})"
    )


if __name__ == "__main__":
    main()
