"""The ONNX backend suite through the loader and the reference backend, against a committed list of what passes.

python -m tests.conformance --update     rewrites tests/conformance/passing.txt
"""

from __future__ import annotations

import warnings
from functools import cache

import onnx
from conformance.cases import cases, failure, listed

from graphc.errors import GraphcWarning


@cache
def outcomes() -> dict[str, str | None]:
    """Name -> why it fails, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case[0]: failure(case) for case in cases()}


def test_every_listed_case_passes():
    version, names = listed()
    assert len(names) > 1400, "the list is not complete: python -m tests.conformance --update"
    found = outcomes()
    failing = {name: found[name] for name in sorted(names & found.keys()) if found[name] is not None}
    assert not failing, "\n".join(f"{name}: {why.splitlines()[0]}" for name, why in failing.items())
    if version == onnx.__version__:
        assert names <= found.keys(), f"not in the suite: {sorted(names - found.keys())}"


def test_new_passes_are_reported():
    version, names = listed()
    new = sorted(name for name, why in outcomes().items() if why is None and name not in names)
    if new and version == onnx.__version__:
        text = f"{len(new)} cases pass and are not listed ({new[0]} …): python -m tests.conformance --update"
        warnings.warn(GraphcWarning(text), stacklevel=1)
