"""Python programs in processes of their own, with a time limit: for what must not hang, crash or be imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 240  # seconds; generous, for machines that compile kernels anew


def run_script(code: str, *args: object, limit: float = LIMIT, **environment: str) -> str:
    """What the program prints. Fails where it takes longer than `limit` seconds or ends with another code than 0."""
    process = start_script(code, *args, **environment)
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its children too: they hold the pipes
        out, err = process.communicate()
        raise AssertionError(f"still running after {limit} s\n{out}\n{err}") from None
    assert process.returncode == 0, f"exit code {process.returncode}\n{out}\n{err}"
    return out


def start_script(code: str, *args: object, **environment: str) -> subprocess.Popen:
    """The program, started. It finds graphc and the test helpers as this process does."""
    paths = [p for p in sys.path if p] + [str(ROOT), str(Path(__file__).parent)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    command = [sys.executable, "-W", "error::graphc.errors.GraphcWarning", "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    )
