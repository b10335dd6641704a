"""The command group: what every command shares when it ends badly.

Exit codes: 0 done, 1 `compare` found a difference, 2 a mistake in the model, its inputs or the command line,
70 a bug in graphc (sysexits.h), 130 interrupted, 141 the reader of the output has left.

Commands import what they need when they run, so that `graphc --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

import click

from graphc import __version__
from graphc.cli.bench import bench
from graphc.cli.check import check
from graphc.cli.compare import compare
from graphc.cli.compile import compile_
from graphc.cli.console import stop
from graphc.cli.excerpt import shown
from graphc.cli.explain import explain
from graphc.cli.export import export
from graphc.cli.init import init
from graphc.cli.operators import operators
from graphc.cli.quantize import quantize
from graphc.cli.reduce import reduce
from graphc.cli.run import run
from graphc.cli.schema import schema
from graphc.cli.show import show
from graphc.cli.shrink import shrink
from graphc.cli.zoo import zoo
from graphc.errors import GraphcError

EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class Application(click.Group):
    """A group that turns errors into messages and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:  # closed by who started the command
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
            elif hasattr(stream, "reconfigure"):  # names of files may be any bytes, and terminals lack characters
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)  # prints help
        except OSError as error:
            _end(error)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GraphcError as error:
            stop(2, f"graphc: error: {shown(error)}")
        except KeyboardInterrupt:
            stop(130, "graphc: interrupted")
        except MemoryError as error:
            stop(2, f"graphc: error: out of memory{f': {error}' if str(error) else ''}")
        except OSError as error:
            _end(error)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:
            _report(error)


def _end(error: OSError) -> NoReturn:
    """End after an error of the system that nobody has caught."""
    if error.errno == errno.EPIPE:  # a reader that left
        _drop_output()
        raise click.exceptions.Exit(128 + signal.SIGPIPE)
    if error.filename is not None:
        stop(2, f"graphc: error: {os.fsdecode(error.filename)}: {error.strerror}")
    if error.errno in EXHAUSTED:
        _drop_output()
        stop(2, f"graphc: error: {error.strerror}")
    _report(error)


def _report(error: Exception) -> NoReturn:
    trace = "".join(traceback.format_exception(error))
    stop(70, f"{trace}\nthis is a bug in graphc: please report it with the lines above and the model file")


def _drop_output() -> None:
    """What waits to be written can't be: Python would try it again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Application, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Compile neural networks (ONNX or YAML files) to machine code and run them."""


for command in (
    run,
    compile_,
    check,
    show,
    explain,
    bench,
    compare,
    reduce,
    export,
    quantize,
    shrink,
    schema,
    operators,
    zoo,
    init,
):
    main.add_command(command)
