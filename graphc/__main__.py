"""The command, as `graphc` and as `python -m graphc`."""

from __future__ import annotations

import sys


def run() -> None:
    """Runs the command. An interrupt while Python still loads modules ends it as quietly as one later."""
    try:
        from graphc.cli import main
    except KeyboardInterrupt:
        print("graphc: interrupted", file=sys.stderr)
        sys.exit(130)
    main(prog_name="graphc")


if __name__ == "__main__":
    run()
