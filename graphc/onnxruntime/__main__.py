"""`python -m graphc.onnxruntime script.py …` and `-m module …`: run a program whose `import onnxruntime` gives graphc."""

from __future__ import annotations

import os
import runpy
import sys
from importlib.util import find_spec

from graphc.onnxruntime.swap import install

USAGE = "usage: python -m graphc.onnxruntime [-m MODULE | SCRIPT.py] [ARGUMENT …]"


def main(arguments: list[str]) -> None:
    """Raises SystemExit for a command line that names no program."""
    module = arguments[:1] == ["-m"]
    program, *_ = [*arguments[module:], ""]
    if not program or program.startswith("-"):
        print(USAGE, file=sys.stderr)
        raise SystemExit(2)
    install()
    if not (_is_module(program) if module else os.path.exists(program)):
        print(f"python -m graphc.onnxruntime: no {'module' if module else 'file'} '{program}'", file=sys.stderr)
        raise SystemExit(2)
    sys.argv = [*arguments[module:]]
    if module:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(program))
        runpy.run_path(program, run_name="__main__")


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of a package that it would be in
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
