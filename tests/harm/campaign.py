"""Many files, in processes of their own, and a summary."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from fuzz.process import Worker

PATIENCE = 150.0  # seconds without a word from a process: those of other processes are among them
PER_PROCESS = 2000  # files
OUTCOMES = ("refused", "loaded", "compiled", "run refused", "ran", "ended")


@dataclass
class Summary:
    """What all files gave. faults: by what tells them apart, numbers of files and a text."""

    table: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    names: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    faults: dict[tuple[str, str], tuple[list[int], str]] = field(default_factory=dict)

    def add(self, line: dict) -> None:
        self.table[line["kind"]][line["outcome"]] += 1
        self.names[line["kind"]][line["name"]] += 1
        for f in line["faults"]:
            self.faults.setdefault((f["kind"], f["where"]), ([], f["text"]))[0].append(line["i"])

    @property
    def files(self) -> int:
        return sum(sum(row.values()) for row in self.table.values())

    def __str__(self) -> str:
        lines = [f"{'':<10}" + "".join(f"{o:>13}" for o in OUTCOMES)]
        lines += [f"{k:<10}" + "".join(f"{row[o]:>13}" for o in OUTCOMES) for k, row in sorted(self.table.items())]
        lines += ["", f"{self.files} files, {len(self.faults)} kinds of faults"]
        for (kind, where), (numbers, text) in sorted(self.faults.items(), key=lambda f: -len(f[1][0])):
            shown = "\n    ".join(text.strip().splitlines()[-14:])
            lines.append(f"\n{kind}: {where}; {len(numbers)} files: {numbers[:12]}\n    {shown}")
        return "\n".join(lines)


def run(
    seed: int,
    files: Sequence[int],
    jobs: int,
    on_line: Callable[[dict], None] = lambda line: None,
    module: str = f"{__package__}.worker",
) -> Summary:
    """All files. on_line: called with what each gave. module: has the `serve` of a process."""
    queue: SimpleQueue[int] = SimpleQueue()
    for i in files:
        queue.put(i)
    summary, lock = Summary(), threading.Lock()

    def done(line: dict) -> None:
        with lock:
            summary.add(line)
            on_line(line)

    threads = [threading.Thread(target=_work, args=(seed, module, queue, done)) for _ in range(jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return summary


def _work(seed: int, module: str, queue: SimpleQueue[int], done: Callable[[dict], None]) -> None:
    worker: Worker | None = None
    while True:
        try:
            i = queue.get_nowait()
        except Empty:
            break
        worker = worker or Worker(module, f"serve({seed})", PATIENCE)
        line, at = worker.check(i)
        if line is None:
            hung, text = worker.close()
            worker = None
            kind = "hang" if hung or "exit status -27" in text else "crash"
            endless = kind == "hang" and "run loops on" in at  # as the file says: nobody promises that they end
            found = [] if endless else [{"kind": kind, "where": at, "text": text}]
            line = {
                "i": i,
                "kind": at.split()[0].rstrip(":"),
                "name": at.split()[1].rstrip(":"),
                "outcome": "ended",
                "faults": found,
            }
        elif worker.done >= PER_PROCESS:
            worker.close()
            worker = None
        done(line)
    if worker:
        worker.close()
