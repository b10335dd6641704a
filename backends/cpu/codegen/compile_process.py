"""A second process that compiles kernels, so that an empty cache is filled on two cores: Numba holds the GIL.

The process runs worker.py: kernels go in by its standard input, object code comes out by its standard output, pickled.
Without it nothing is lost but time.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphc.backends.cpu.hardware import cpu_count

if TYPE_CHECKING:
    from graphc.backends.cpu.kernel import Built
    from graphc.backends.cpu.target import Target
    from graphc.lower.kernel import Kernel

PATIENCE = 60.0  # seconds that a kernel may take in the other process
LONGEST = ("recurrent", "attention", "gemm", "winograd", "strassen", "pool", "conv")  # to compile, in this order
# what reading from a process raises that has ended, or that answers no pickle
NO_ANSWER = (OSError, EOFError, ValueError, AttributeError, ImportError, IndexError, pickle.PickleError)
CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from graphc.backends.cpu.codegen.worker import serve; serve()"


def build_all(
    target: Target,
    build: Callable[[Kernel], Built],
    quick: Sequence[Kernel],
    slow: Sequence[Kernel],
    done: Callable[[Kernel, Built], None],
    other: Other | None = None,
) -> None:
    """Build all kernels, those of `slow` on another core too, and call `done` with each, here. build: does it in this process.
    other: one that was started for this before; it is closed.

    Raises what building a kernel raises.
    """
    slow = sorted(slow, key=lambda k: LONGEST.index(k.name) if k.name in LONGEST else len(LONGEST))
    queue: deque[Kernel] = deque([*slow, *quick])
    if other is None and len(slow) > 2:
        other = Other.start(target)
    finished: list[tuple[Kernel, Built]] = []
    feeder = threading.Thread(target=_feed, args=(other, queue, finished), daemon=True) if other else None
    try:
        if feeder:
            feeder.start()
        while queue or (feeder and feeder.is_alive()):
            try:
                kernel = queue.pop()
            except IndexError:
                assert feeder is not None and other is not None  # who else has taken it?
                feeder.join(PATIENCE)
                other.close()  # if it is still busy, the feeder gives its kernel back
                feeder.join()
                continue
            done(kernel, build(kernel))
    finally:
        if other:
            other.close()
    for kernel, built in finished:
        done(kernel, built)


def _feed(other: Other, queue: deque[Kernel], finished: list[tuple[Kernel, Built]]) -> None:
    while queue:
        try:
            kernel = queue.popleft()
        except IndexError:
            return
        built = other.build(kernel)
        if built is None:
            queue.append(kernel)
            return
        finished.append((kernel, built))


class Other:
    """The other process, from here."""

    def __init__(self, process: subprocess.Popen[bytes], target: Target) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process, self._target = process, target
        self._requests, self._answers = process.stdin, process.stdout

    @classmethod
    def start(cls, target: Target) -> Other | None:
        """None where no Python can be started, or no second core is there."""
        if cpu_count() < 2:
            return None
        if not Path(sys.executable or "").name.startswith("python"):  # a program that embeds Python
            return None
        command = [sys.executable, "-c", CODE, json.dumps([p for p in sys.path if isinstance(p, str)])]
        try:
            pipe = subprocess.PIPE
            return cls(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL), target)
        except OSError:
            return None

    def build(self, kernel: Kernel) -> Built | None:
        """None where the process can't."""
        try:
            pickle.dump((self._target, kernel), self._requests)
            self._requests.flush()
            return pickle.load(self._answers)
        except NO_ANSWER:
            return None

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                stream.close()
