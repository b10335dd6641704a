"""python -m tests.conformance: ONNX's backend suite. See --help."""

from __future__ import annotations

import argparse
import warnings

from .cases import write_list
from .figures import outcomes, table, write_page


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description="ONNX's backend suite in figures.")
    parser.add_argument("words", nargs="*", metavar="WORD", help="part of the names of the cases to run")
    parser.add_argument("--list", action="store_true", help="print each case that fails or has a step in NumPy")
    parser.add_argument("--page", action="store_true", help="write the figures into docs/conformance.md")
    parser.add_argument("--update", action="store_true", help="rewrite the list of cases that pass by the reference")
    args = parser.parse_args()
    if (args.page or args.update) and args.words:
        parser.error("--page and --update are of all cases: leave the words out")
    warnings.simplefilter("ignore")
    found = []
    for one in outcomes(args.words):
        found.append(one)
        if args.list and (one.wrong or one.compiled or one.host):
            print(f"{one.name}: {one.wrong or one.compiled or '; '.join(one.host)}", flush=True)
    print("\n".join(table(found)))
    if args.page:
        write_page(found)
    if args.update:
        write_list(one.name for one in found if one.wrong is None)


if __name__ == "__main__":
    main()
