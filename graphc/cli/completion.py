"""What shells complete: passes and parts, targets, networks of the zoo. `graphc help commands` tells how to turn it on."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from glob import escape, glob

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from graphc.errors import GraphcError


def removable_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Of --disable: passes, and parts of the target."""
    from graphc.cli.passes import removable

    return _of_target(removable, ctx, incomplete)


def stage_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Of --stop-after: passes in either of their turns, and stages of the target."""
    from graphc.cli.passes import stops

    return _of_target(stops, ctx, incomplete)


def _of_target(names: Callable[[str], list[str]], ctx: click.Context, incomplete: str) -> list[str]:
    """Of the target that is chosen; nothing where this machine has none."""
    with suppress(GraphcError):
        return _starting(names(str(ctx.params.get("target") or "cpu")), incomplete)
    return []


def _starting(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def model_files(incomplete: str) -> list[CompletionItem]:
    """Files, and 'zoo:NAME' where that has begun."""
    from graphc import zoo

    names = _starting([f"{zoo.PREFIX}{name}" for name in zoo.names()], incomplete) if incomplete else []
    if names and not glob(f"{escape(incomplete)}*"):
        return [CompletionItem(name) for name in names]
    return [CompletionItem(incomplete, type="file")]


class Bash(BashComplete):
    """Bash takes 'zoo:resnet50' for three words, and replaces the last of them: see COMP_WORDBREAKS in its manual."""

    name = "bash"
    _before = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        words = os.environ["COMP_WORDS"].split("\n")
        words = words[: int(os.environ["COMP_CWORD"]) + 1]
        joined: list[str] = []
        for word in words:
            if joined and (word.startswith(":") or joined[-1].endswith(":")):
                joined[-1] += word
            else:
                joined.append(word)
        *args, incomplete = joined[1:] or [""]
        self._before = incomplete[: incomplete.rfind(":") + 1]
        return args, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{item.value.removeprefix(self._before)}"


add_completion_class(Bash)
