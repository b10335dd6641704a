"""A process that is given numbers and tells a line of JSON of each; what ends it is told from its last line."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile


class Worker:
    """One process that runs `call` of a module, and what it says. patience: seconds without a word before it is ended."""

    def __init__(self, module: str, call: str, patience: float) -> None:
        self.patience = patience
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self.process = start(module, call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.pending = b""
        self.done = 0

    def check(self, i: int) -> tuple[dict | None, str]:
        """The line about number i; or None and what was running when the process ended or hung."""
        at = "start"
        try:
            self.process.stdin.write(b"%d\n" % i)
            self.process.stdin.flush()
        except OSError:
            return None, at
        while (text := self._line()) is not None:
            line = json.loads(text)
            if "at" not in line:
                self.done += 1
                return line, ""
            at = line["at"]
        return None, at

    def _line(self) -> bytes | None:
        fd = self.process.stdout.fileno()
        while b"\n" not in self.pending:
            if not select.select([fd], [], [], self.patience)[0]:
                return None
            more = os.read(fd, 1 << 16)
            if not more:
                return None
            self.pending += more
        line, _, self.pending = self.pending.partition(b"\n")
        return line

    def close(self) -> tuple[bool, str]:
        """Ends the process. (Was it still running, the end of what it printed.)"""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(1.0)
            hung = False
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            hung = True
        self.process.stdout.close()
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        self.log.close()
        return hung, f"exit status {self.process.returncode}\n{_what_happened(text)}"


def _what_happened(printed: str) -> str:
    """The report of faulthandler, or the end of what was printed."""
    before, fatal, report = printed.rpartition("Fatal Python error")
    lines = (before[-500:] + fatal + report).strip().splitlines() if fatal else printed.strip().splitlines()[-20:]
    return "\n".join(line for line in lines[:30] if not line.startswith("Extension modules"))


def start(module: str, call: str, **pipes) -> subprocess.Popen:
    """A process that runs `call`, with this process's paths."""
    code = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {module} import *; {call}"
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps([p for p in sys.path if isinstance(p, str)])], **pipes
    )
