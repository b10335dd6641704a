"""Engines with faults, for tests of what finds them: see tests/fuzz/engines.py."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
from fuzz.case import Case
from fuzz.engines import Results, run

FAULTY = "Tanh"


def wrong(case: Case) -> Results:
    """The reference, wrong where the model has a Tanh."""
    results = run("reference", case)
    if FAULTY in case.operators():
        for world in results:
            world.update({n: a + np.ones((), a.dtype) for n, a in world.items()})
    return results


def ends(case: Case) -> Results:
    """Ends the process where the model has a Tanh."""
    if FAULTY in case.operators():
        os.kill(os.getpid(), signal.SIGSEGV)
    return run("reference", case)


def hangs(case: Case) -> Results:
    time.sleep(1000)
    return []
