"""Cases are tried in a process of their own, so that one that crashes or hangs ends that, and is found out.

Run as a program, it reads pickles from its standard input. It answers the first, a trial, with what is wrong with it or ''; then a
case with its verdict, or a case and numbers of nodes to skip with the results of its nodes, and each with a None behind.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from typing import Any, BinaryIO

from graphc.errors import InputError, LoadError
from graphc.own import load_file
from graphc.reduce.case import Case, Recording, recorded
from graphc.reduce.verdict import Trial, Verdict, judged

MOST_SKIPPED = 8  # nodes at which a process may end while values are recorded


class Worker:
    """The process, started when it is needed, and again after each crash. A context manager."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._process: subprocess.Popen[bytes] | None = None
        self.tried = 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *rest: object) -> None:
        self._end()

    def verdict(self, case: Case) -> Verdict:
        self.tried += 1
        found, fault = self._asked(case)
        return fault or found[0]

    def recording(self, case: Case) -> Recording:
        """The case with the values of its nodes. A node at which the process ends is left out."""
        skipped: list[int] = []
        while True:
            found, fault = self._asked(case, skipped)
            if fault is None or len(skipped) == MOST_SKIPPED:
                return Recording(case, found)
            skipped.append(len(found))

    def _asked(self, *question: Any) -> tuple[list[Any], Verdict | None]:
        """All answers, and how the process has ended, where it has."""
        process = self._process = self._process or self._started()
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._trial.limit, end)
        timer.start()
        answers: list[Any] = []
        try:
            pickle.dump(question, process.stdin)
            process.stdin.flush()
            while (answer := pickle.load(process.stdout)) is not None:
                answers.append(answer)
        except (EOFError, OSError, pickle.UnpicklingError):
            code = process.wait()
            self._process = None
            if late.is_set():
                return answers, Verdict("hang", "", f"it does not end within {self._trial.limit:g} s")
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return answers, Verdict("crash", name, f"the process ends with {name}")
        finally:
            timer.cancel()
        return answers, None

    def _started(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-m", "graphc.reduce.worker"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        )
        assert process.stdin is not None and process.stdout is not None
        pickle.dump(self._trial, process.stdin)
        process.stdin.flush()
        try:
            wrong = pickle.load(process.stdout)
        except EOFError:
            wrong = f"its process ends with exit code {process.wait()}"
        if wrong:
            self._process = process
            self._end()
            raise InputError(f"cases can't be tried: {wrong}")
        return process

    def _end(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):  # what was not written any more
                    pipe.close()
            self._process = None


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    trial: Trial = pickle.load(requests)
    wrong = ""
    for path in trial.imports:
        try:
            load_file(path)
        except LoadError as error:
            wrong = f"'{path}': {error.message}"
    pickle.dump(wrong, answers)
    answers.flush()
    while True:
        try:
            case, *skipped = pickle.load(requests)
        except EOFError:
            return
        for answer in recorded(case, *skipped) if skipped else [judged(case, trial)]:
            pickle.dump(answer, answers)
            answers.flush()
        pickle.dump(None, answers)
        answers.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what operators print is no answer
    serve(sys.stdin.buffer, answers)
