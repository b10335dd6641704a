"""Paths on the command line. What is wrong with one is no mistake in how the command is written: its error is an InputError."""

from __future__ import annotations

from typing import NoReturn

import click

from graphc.errors import InputError


class PathParam(click.Path):
    """click's Path, which raises InputError for what is not there, or not of that kind."""

    def fail(self, message: str, param: click.Parameter | None = None, ctx: click.Context | None = None) -> NoReturn:
        raise unusable(message, param, ctx)


def unusable(message: str, param: click.Parameter | None, ctx: click.Context | None) -> InputError:
    """The error for a path that can't be read or written: it names the option."""
    return InputError(click.BadParameter(message, ctx, param).format_message())
