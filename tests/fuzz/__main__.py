"""python -m tests.fuzz: random models on every engine. See --help."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .campaign import Plan, all_runs, forget_findings, run
from .engines import ENGINES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Random ONNX models on every engine.")
    parser.add_argument("--models", type=int, default=300, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first")
    parser.add_argument("--only", type=int, nargs="+", help="these models only")
    parser.add_argument("--engines", default=",".join(ENGINES), help="names, with commas between")
    parser.add_argument(
        "--rotate", action="store_true", help="each model on one of the CPU targets in turn, not on all"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--seconds", type=float, default=30.0, help="for making a failing model small")
    parser.add_argument(
        "--out", type=Path, default=Path("fuzz-findings"), help="folder for failing models and progress"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what the folder knows of an earlier run")
    parser.add_argument("--again", action="store_true", help="check models again that had findings")
    parser.add_argument("--show", action="store_true", help="only sum up what the folder knows, of all seeds")
    args = parser.parse_args()
    folder = args.out / f"seed-{args.seed}"
    if args.fresh or args.only:
        (folder / "progress.jsonl").unlink(missing_ok=True)
    if args.again:
        forget_findings(folder)
    models = args.only or range(args.start, args.start + args.models)
    plan = Plan(args.seed, models, args.engines.split(","), folder, args.rotate, args.jobs, args.seconds)
    if args.show:
        print(all_runs(plan, args.out))
        return 0
    started, last = time.monotonic(), [0.0]

    def shown(line: dict) -> None:
        for f in line["findings"]:
            print(f"model {line['i']}: {f['engine']} {f['kind']} [{f['operators']}] {f['at']}", file=sys.stderr)
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"at {line['i']} after {last[0] - started:.0f} s", file=sys.stderr)

    summary = run(plan, shown)
    print(summary)
    print(f"\n{time.monotonic() - started:.0f} s")
    return bool(summary.findings)


if __name__ == "__main__":
    sys.exit(main())
