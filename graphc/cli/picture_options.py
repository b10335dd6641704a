"""Options that say what is made of pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

Command = Callable[..., Any]


class Numbers(click.ParamType):
    """`0.485,0.456,0.406` -> (0.485, 0.456, 0.406). whole: from 1 on, and two at most; else one or three."""

    def __init__(self, whole: bool = False) -> None:
        self.whole = whole
        self.name = "N[,N]" if whole else "X[,X,X]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple((int if self.whole else float)(word) for word in value.split(","))
        except ValueError:
            numbers = ()
        if self.whole and (len(numbers) not in (1, 2) or min(numbers) < 1):
            self.fail(f"'{value}' is no size: write the shorter side's pixels, or HEIGHT,WIDTH", param, ctx)
        if not self.whole and (len(numbers) not in (1, 3) or not all(abs(n) < float("inf") for n in numbers)):
            self.fail(f"'{value}' is not one number, or three with commas between", param, ctx)
        if param is not None and param.name == "std" and 0 in numbers:
            self.fail("nothing can be divided by 0", param, ctx)
        return numbers


def _prepared(command: Command) -> Command:
    """Give a command `how`: a Preparation of these options."""

    @wraps(command)
    def run(**options: Any) -> Any:
        from graphc.cli.preparation import Preparation

        given = {name: options.pop(name) for name in ("resize", "fit", "mean", "std", "scale", "pixels")}
        return command(how=Preparation(**given | {"resize": given["resize"] or ()}), **options)

    return run


_OPTIONS = (
    click.option(
        "--resize", type=Numbers(whole=True), help="Pictures: the shorter side's pixels, or HEIGHT,WIDTH, before the middle is "
        "cut out that the model wants."
    ),
    click.option(
        "--fit",
        type=click.Choice(["crop", "stretch", "pad"]),
        default="crop",
        show_default=True,
        help="Without --resize: how pictures get the size that the model wants.",
    ),
    click.option(
        "--mean", type=Numbers(), help="Pictures become (pixel · SCALE - MEAN) / STD: one number, or one for each channel."
    ),
    click.option("--std", type=Numbers(), help="See --mean.  [default: 1]"),
    click.option("--scale", type=float, help="See --mean.  [default: the model's metadata, or 1/255]"),
    click.option(
        "--pixels", type=click.Choice(["rgb", "bgr", "grey"]), help="Channels of pictures.  [default: the model's metadata, or rgb]"
    ),
)  # fmt: skip


def picture_options(command: Command) -> Command:
    """The options that say what is made of pictures, as `how` of the command."""
    command = _prepared(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
