"""Eight threads on one model, processes killed while they compile, damaged cache files, forks: counts runs and wrong results.

GRAPHC_ROBUSTNESS_SECONDS=600 pytest -m slow -s tests/model/test_robustness.py     # a quarter of it for each; default: 40
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import convnet
from scripts import run_script, start_script

import graphc
from graphc.frontends.onnx_export import to_onnx

pytestmark = pytest.mark.slow
SECONDS = float(os.environ.get("GRAPHC_ROBUSTNESS_SECONDS", "40")) / 4
SEED = int(os.environ.get("GRAPHC_ROBUSTNESS_SEED", "0"))
SIZES = (1, 2, 3, 5)

# the model file argv[1] for batches of several sizes, with the bits that it gives on this process's first runs
SETUP = """
import os, sys, threading, time
import numpy as np
import graphc
from graphc.backends.cpu.runtime import run

run.SHARED_STEP = run.SHARED_PROGRAM = 0  # threads share small steps too
model = graphc.compile(sys.argv[1], threads=2)
xs = [np.random.default_rng(n).random((n, 3, 28, 28), np.float32) for n in (1, 2, 3, 5)]
want = [model(x).tobytes() for x in xs]
end, counts = time.monotonic() + float(sys.argv[2]), []

def caller(k):
    runs = wrong = 0
    while time.monotonic() < end:
        i = (runs * (2 * k + 1) + k) % len(xs)
        runs, wrong = runs + 1, wrong + (model(xs[i]).tobytes() != want[i])
    counts.append((runs, wrong))

callers = [threading.Thread(target=caller, args=(k,)) for k in range(8)]
for c in callers: c.start()
"""
ENDING = """
for c in callers: c.join()
assert len(counts) == 8
print(sum(runs for runs, _ in counts), sum(wrong for _, wrong in counts))
"""
FORKS = """
forks = lost = 0
while time.monotonic() < end:
    child = os.fork()
    if child == 0:
        os._exit(0 if all(model(x).tobytes() == w for x, w in zip(xs, want)) else 1)
    forks, lost = forks + 1, lost + (os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0)
print(forks, lost)
"""


@pytest.fixture
def model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a model, and an empty cache."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "net.onnx"
    onnx.save(to_onnx(convnet()), path)
    return path


def batch(n: int) -> np.ndarray:
    return np.random.default_rng(n).random((n, 3, 28, 28), np.float32)


def answers(path: Path, **options) -> list[bytes]:
    model = graphc.compile(path, threads=2, **options)
    return [model(batch(n)).tobytes() for n in SIZES]


def test_eight_threads(model_file: Path):
    runs, wrong = map(int, run_script(SETUP + ENDING, model_file, SECONDS, limit=SECONDS + 240).split())
    print(f"\n{runs} runs of eight threads, {wrong} wrong")
    assert runs > 0 and wrong == 0


def test_forks_while_eight_threads_run(model_file: Path):
    out = run_script(SETUP + FORKS + ENDING, model_file, SECONDS, limit=SECONDS + 240)
    forks, lost, runs, wrong = map(int, out.split())
    print(f"\n{forks} forks, {lost} wrong; {runs} runs beside them, {wrong} wrong")
    assert forks > 0 and lost == wrong == 0


def test_kills_while_compiling(model_file: Path):
    """Each process dies somewhere between its start and its end; the next one finds whatever it left."""
    rng, want = random.Random(SEED), answers(model_file, cache=False)
    code = "import sys, graphc, numpy as np\nm = graphc.compile(sys.argv[1], threads=2)\n"
    code += "for n in map(int, sys.argv[2:]): m(np.zeros((n, 3, 28, 28), np.float32))"
    kills = wrong = 0
    end = time.monotonic() + SECONDS
    while kills == 0 or time.monotonic() < end:
        process = start_script(code, model_file, *rng.sample(SIZES, 3))
        time.sleep(rng.uniform(0.2, 3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills, wrong = kills + 1, wrong + (answers(model_file) != want)
    print(f"\n{kills} processes killed, {wrong} wrong results behind them (seed {SEED})")
    assert wrong == 0


def damage(path: Path, rng: random.Random) -> None:
    blob = bytearray(path.read_bytes())
    kind = rng.choice(["flip", "truncate", "empty", "delete", "noise"])
    if kind == "delete" or not blob:
        path.unlink()
        return
    if kind == "flip":
        blob[rng.randrange(len(blob))] ^= 1 << rng.randrange(8)
    elif kind == "noise":
        at = rng.randrange(len(blob))
        blob[at : at + 64] = rng.randbytes(len(blob[at : at + 64]))
    else:
        del blob[rng.randrange(len(blob)) if kind == "truncate" else 0 :]
    path.unlink()  # in its place another: who has mapped the old file keeps it
    path.write_bytes(blob)
    path.chmod(0o600)


def test_damaged_cache_files(model_file: Path):
    rng, want, cache = random.Random(SEED), answers(model_file), Path(os.environ["GRAPHC_CACHE_DIR"])
    damaged = wrong = 0
    end = time.monotonic() + SECONDS
    while damaged == 0 or time.monotonic() < end:
        files = sorted(f for f in cache.rglob("*") if f.is_file())
        damage(rng.choice(files), rng)
        damaged, wrong = damaged + 1, wrong + (answers(model_file) != want)
    print(f"\n{damaged} files damaged, {wrong} wrong results behind them (seed {SEED})")
    assert wrong == 0
