"""For all tests: one cache of kernels, not the user's; samples of tests of many cases; what is skipped without numba-cuda, and
what has no time left."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import settings
from targets import CUDA, WITHOUT_CUDA

sys.path.append(str(Path(__file__).resolve().parents[1]))  # `benchmarks`; last, so that graphc is the installed one
from graphc import own  # noqa: E402

UNTIL = os.environ.get("GRAPHC_TESTS_UNTIL")  # seconds since the epoch: tests that would begin later are skipped

settings.register_profile("machines that do other things", deadline=None)
settings.load_profile("machines that do other things")


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _sample(items)
    if UNTIL:  # files in another order each time, so that all have their turn
        items.sort(key=lambda item: crc32(f"{UNTIL} {item.path.name}".encode()))
    if not CUDA:
        for item in filter(_needs_cuda, items):
            item.add_marker(pytest.mark.skip(reason=WITHOUT_CUDA))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    if UNTIL and time.time() > float(UNTIL):
        pytest.skip("no time left")


def _sample(items: list[pytest.Item]) -> None:
    """Of a test that is marked sample(n), n cases run by default, always the same ones of a list; the others are slow."""
    seen: Counter[tuple[Path, str]] = Counter()
    for item in sorted(items, key=lambda item: crc32(item.nodeid.encode())):
        mark = item.get_closest_marker("sample")
        if mark is not None and item.get_closest_marker("slow") is None:
            test = item.path, item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] > mark.args[0]:
                item.add_marker("slow")


def _needs_cuda(item: pytest.Item) -> bool:
    """Is it marked so, or is one of its parameters a target as 'cuda:emulate'?"""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return item.get_closest_marker("cuda") is not None or any(
        isinstance(p, str) and p.partition(":")[0] == "cuda" for p in parameters
    )


@pytest.fixture(autouse=True)
def own_operators() -> Iterator[None]:
    """Operators that a test registers are no part of what the plans of others follow from."""
    parts, files = [*own.PARTS], dict(own.FILES)
    yield
    own.PARTS[:] = parts
    own.FILES.clear()
    own.FILES.update(files)


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache's folder. Set GRAPHC_CACHE_DIR to keep kernels from one session to the next."""
    given = os.environ.get("GRAPHC_CACHE_DIR")
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # which the workers share
    folder = Path(given) if given else base / "kernels"
    os.environ["GRAPHC_CACHE_DIR"] = str(folder)
    yield folder
    if not given:
        del os.environ["GRAPHC_CACHE_DIR"]
