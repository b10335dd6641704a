"""The command group: what every command shares when it ends badly.

Exit codes: 0 done, 1 `compare` found a difference, 2 a mistake in the model, its inputs or the command line,
70 a bug in graphc (sysexits.h), 130 interrupted.

Commands import what they need when they run, so that `graphc --help` answers at once.
"""

from __future__ import annotations

import errno
import traceback
from typing import Any

import click

from graphc.cli.bench import bench
from graphc.cli.check import check
from graphc.cli.compare import compare
from graphc.cli.compile import compile_
from graphc.cli.console import stop
from graphc.cli.explain import explain
from graphc.cli.export import export
from graphc.cli.run import run
from graphc.cli.show import show
from graphc.errors import GraphcError


class Application(click.Group):
    """A group that turns errors into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GraphcError as error:
            stop(2, f"graphc: error: {error}")
        except KeyboardInterrupt:
            stop(130, "graphc: interrupted")
        except MemoryError as error:
            stop(2, f"graphc: error: out of memory{f': {error}' if str(error) else ''}")
        except OSError as error:
            if error.errno == errno.EPIPE or error.filename is None:  # a reader that left, or none of the user's files
                raise
            stop(2, f"graphc: error: {error.filename}: {error.strerror}")
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:
            trace = "".join(traceback.format_exception(error))
            stop(70, f"{trace}\nthis is a bug in graphc: please report it with the lines above and the model file")


@click.group(cls=Application, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="graphc")
def main() -> None:
    """Compile neural networks (ONNX or YAML files) to machine code and run them."""


for command in (run, compile_, check, show, explain, bench, compare, export):
    main.add_command(command)
