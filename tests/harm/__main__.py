"""python -m tests.harm: files that mean harm. See --help."""

from __future__ import annotations

import argparse
import sys
import time

from . import corpus  # noqa: F401  (finds the other helpers)
from .campaign import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.harm", description="Files that mean harm: none may.")
    parser.add_argument("--files", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first")
    parser.add_argument("--only", type=int, nargs="+", help="these files only")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    args = parser.parse_args()
    started, last, count = time.monotonic(), [0.0], [0]

    def shown(line: dict) -> None:
        count[0] += 1
        for f in line["faults"]:
            print(
                f"file {line['i']} ({line['kind']} {line['name']}): {f['kind']} {f['where']}",
                file=sys.stderr,
                flush=True,
            )
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"{count[0]} after {last[0] - started:.0f} s", file=sys.stderr, flush=True)

    summary = run(args.seed, args.only or range(args.start, args.start + args.files), args.jobs, shown)
    print(summary)
    print(f"\n{time.monotonic() - started:.0f} s")
    return bool(summary.faults)


if __name__ == "__main__":
    sys.exit(main())
