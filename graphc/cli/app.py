"""The command group: what every command shares when it ends badly.

graphc/cli/exits.py has the exit codes. With --json an error is an object on stdout, too.

Commands import what they need when they run, so that `graphc --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from graphc import __version__
from graphc.cli.bench import bench
from graphc.cli.build import build
from graphc.cli.check import check
from graphc.cli.compare import compare
from graphc.cli.compile import compile_
from graphc.cli.excerpt import shown
from graphc.cli.exits import BUG, INTERRUPTED, MACHINE, NO_READER, code_of
from graphc.cli.explain import explain
from graphc.cli.export import export
from graphc.cli.help import help_
from graphc.cli.init import init
from graphc.cli.language import layers_
from graphc.cli.machine import error_record, print_json
from graphc.cli.operators import operators
from graphc.cli.quantize import quantize
from graphc.cli.reduce import reduce
from graphc.cli.report import report
from graphc.cli.run import run
from graphc.cli.schema import schema
from graphc.cli.show import show
from graphc.cli.shrink import shrink
from graphc.cli.test import test
from graphc.cli.zoo import zoo
from graphc.errors import GraphcError, GraphcWarning

GIVEN = "graphc.cli.given"  # the arguments of the command line, in a context's `meta`


class Application(click.Group):
    """A group that turns errors into messages and exit codes."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Any:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:  # closed by who started the command
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
            elif hasattr(stream, "reconfigure"):  # names of files may be any bytes, and terminals lack characters
                stream.reconfigure(errors="backslashreplace")
        with _telling_warnings():
            return super().main(args, *rest, **kwargs)

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **kwargs: Any) -> click.Context:
        given = tuple(args)
        with _ending(None, given):
            ctx = super().make_context(info_name, args, *rest, **kwargs)  # prints help
        ctx.meta[GIVEN] = given
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        with _ending(ctx, ctx.meta[GIVEN]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _telling_warnings() -> Iterator[None]:
    """Graphc's warnings as messages: the line of its source says nothing to who typed a command."""
    others = warnings.showwarning

    def tell(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, GraphcWarning):
            click.echo(f"warning: {message}", err=True)
        else:
            others(message, category, *rest, **named)

    warnings.showwarning = tell
    try:
        yield
    finally:
        warnings.showwarning = others


@contextlib.contextmanager
def _ending(ctx: click.Context | None, args: Sequence[str]) -> Iterator[None]:
    """Turns errors into messages, and ends with their exit codes. args: of the command line, for errors before it is read."""

    def end(code: int, error: BaseException, message: str) -> NoReturn:
        click.echo(message, err=True)
        tell(code, error)
        raise click.exceptions.Exit(code)

    def tell(code: int, error: BaseException) -> None:
        if "--json" in args:
            print_json(ctx.invoked_subcommand if ctx else None, code, {"error": error_record(error)})

    try:
        yield
    except (click.exceptions.Exit, click.Abort):
        raise
    except click.ClickException as error:
        tell(error.exit_code, error)
        raise
    except KeyboardInterrupt as error:
        end(INTERRUPTED, error, "graphc: interrupted")
    except GraphcError as error:
        end(code_of(error), error, f"graphc: error: {shown(error)}")
    except MemoryError as error:
        end(MACHINE, error, f"graphc: error: out of memory{f': {error}' if str(error) else ''}")
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:  # a reader that left
            _drop_output()
            raise click.exceptions.Exit(NO_READER) from None
        code = code_of(error)
        if not isinstance(error, OSError) or code == BUG:
            trace = "".join(traceback.format_exception(error))
            said = "this is a bug in graphc: please report it with the lines above and the model file"
            end(code, error, f"{trace}\n{said}")
        if error.filename is None:
            _drop_output()
        name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        end(code, error, f"graphc: error: {name}{error.strerror}")


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
    build,
    check,
    show,
    explain,
    bench,
    report,
    compare,
    reduce,
    export,
    quantize,
    shrink,
    schema,
    operators,
    layers_,
    test,
    zoo,
    init,
    help_,
):
    main.add_command(command)
