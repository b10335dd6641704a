"""A table of exported models: python -m tests.exporters [--kind KIND] [--only NAME …]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from exporters.catalog import KINDS, cases  # noqa: E402
from exporters.frame import TITLE, compare, missing  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.exporters", description=__doc__)
    parser.add_argument("--kind", choices=KINDS, action="append", help="what the models come from; may be given again")
    parser.add_argument("--only", action="append", help="a part of the name or exporter; may be given again")
    parser.add_argument(
        "--target", default="cpu", help="as that of graphc.compile; 'reference' is the fastest to start"
    )
    arguments = parser.parse_args()
    print(TITLE)
    wrong = total = 0
    for kind in arguments.kind or KINDS:
        if lacks := missing(KINDS[kind].packages):
            print(f"{kind:12} needs {lacks}")
            continue
        for case in cases(kind):
            if not arguments.only or any(o in str(case) for o in arguments.only):
                row = compare(case, arguments.target)
                print(row, flush=True)
                wrong, total = wrong + bool(row.wrong), total + (not row.skipped)
    print(f"{total} models, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
