"""What a process that tries files may do, and what it does."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

MEMORY = 3 << 30  # bytes that a file may make the process take
SECONDS = 20.0  # of the CPU that a file may take
_RUNS_CODE = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "socket.connect",
    "pickle.find_class",
)


def limit_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as f:
        taken = int(f.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))


def start_clock() -> None:
    """The process ends with a traceback of all threads when a file takes too long, in machine code, too."""
    faulthandler.register(signal.SIGPROF, all_threads=False, chain=True)


def wind_clock(on: bool) -> None:
    signal.setitimer(signal.ITIMER_PROF, SECONDS if on else 0)


class Watch:
    """What the process opens and starts, by Python's audit events."""

    def __init__(self, allowed: tuple[Path, ...]) -> None:
        """allowed: folders that it may write in."""
        self.allowed, self.secret, self.found = allowed, "", list[str]()
        sys.addaudithook(self._event)

    def begin(self, folder: Path) -> None:
        """A new file, whose neighbour `outside` is not to be opened."""
        self.secret, self.found = str(folder.parent / "outside"), []

    def end(self) -> list[str]:
        self.secret = ""
        return self.found

    def _event(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.secret:
            return
        if event in _RUNS_CODE and not _is_own(event, args):
            self.found.append(f"{event} {args!r:.200}")
        elif event == "open" and isinstance(args[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(args[0]))
            if path.startswith(self.secret) or path == "/etc/passwd":
                self.found.append(f"opens {path}")
            elif args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not any(
                Path(path).is_relative_to(a) for a in self.allowed
            ):
                self.found.append(f"writes {path}")


def _is_own(event: str, args: tuple[Any, ...]) -> bool:
    """Does graphc compile kernels in a process of its own, and talk with it?"""
    if event == "pickle.find_class":
        return str(args[0]).split(".")[0] in ("graphc", "numpy")
    return event == "subprocess.Popen" and "graphc.backends.cpu.codegen.worker" in str(args[1])
