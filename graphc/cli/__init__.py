"""The `graphc` command."""

from graphc.cli.app import main

__all__ = ["main"]
