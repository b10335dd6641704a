"""What a second process runs to compile kernels: see compile_process.py."""

from __future__ import annotations

import pickle
import sys
from functools import lru_cache, partial

from graphc.backends.cpu.codegen.toolchain import Toolchain
from graphc.backends.cpu.families import load


def serve() -> None:
    """Build what standard input names until it ends."""
    load("driver")  # before anybody waits for it
    toolchain = lru_cache(partial(Toolchain, cache=False))
    results, sys.stdout = sys.stdout.buffer, sys.stderr  # whatever prints must not disturb the results
    while True:
        try:
            target, kernel = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            built = toolchain(target).build(kernel)
        except Exception:  # the caller builds it itself and sees why
            built = None
        pickle.dump(built, results)
        results.flush()
