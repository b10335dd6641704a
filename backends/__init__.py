"""Targets -> backends: `open_backend` picks one by the part of the target before its colon, and imports it only then.

A backend is a module or package here, or one that another distribution names in the entry-point group `graphc.backends`. It
has `TARGETS`, the targets as a person writes them, and `open_backend(request)`. See graphc/backend.py.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Protocol

from graphc.errors import UnsupportedError

if TYPE_CHECKING:
    from graphc.backend import Backend, Request

GROUP = "graphc.backends"
SHARED = ("llvm", "outlook", "tuned")  # modules here that are no backends


class BackendModule(Protocol):
    """What a module of a backend has."""

    TARGETS: tuple[str, ...]

    def open_backend(self, request: Request) -> Backend: ...


def _is_own(kind: str) -> bool:
    if not kind.isidentifier() or kind.startswith("_") or kind in SHARED:
        return False
    found = PathFinder.find_spec(f"{__name__}.{kind}", __path__)
    return found is not None and found.origin is not None


def _own() -> list[str]:
    import pkgutil

    return sorted({m.name for m in pkgutil.iter_modules(__path__)} - {*SHARED})


@lru_cache(maxsize=1)
def _added() -> dict[str, str]:
    """Modules of other distributions by kind of target. (Looking for them takes as long as loading a model.)"""
    from importlib.metadata import entry_points

    return {e.name: e.value for e in entry_points(group=GROUP)}


def _module(kind: str) -> BackendModule | None:
    name = f"{__name__}.{kind}" if _is_own(kind) else _added().get(kind)
    return None if name is None else import_module(name)


def targets() -> tuple[str, ...]:
    """Every target that `graphc.compile` takes."""
    modules = map(_module, (*_own(), *_added()))
    return tuple(t for m in modules if m is not None for t in m.TARGETS)


def open_backend(target: str, request: Request) -> Backend:
    """The backend of a target for one model.

    Raises UnsupportedError for a target that no backend has, InputError for options that the backend does not take.
    """
    module = _module(str(target).partition(":")[0])
    if module is None or target not in module.TARGETS:
        from difflib import get_close_matches

        close = get_close_matches(str(target), targets(), 1)
        guess = f"did you mean '{close[0]}'? " if close else ""
        raise UnsupportedError(f"unknown target '{target}'", hint=f"{guess}one of: {', '.join(targets())}")
    return module.open_backend(replace(request, variant=target.partition(":")[2]))
