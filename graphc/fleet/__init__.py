"""Many processes and machines, by an existing engine: functions that Dask, Ray, joblib and Spark call (docs/serving.md).

Models pickle as the path, digest and options of their file, and equal ones of a process are one, so they may be sent with every
task.
"""

from __future__ import annotations

from graphc.fleet.engine import Engine, engine
from graphc.fleet.functions import run, run_all

__all__ = ["Engine", "engine", "run", "run_all"]
