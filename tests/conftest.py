"""One cache of kernels for the whole test session: tests neither read nor fill the user's. And samples of tests of many cases."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test that is marked sample(n), n cases run by default, always the same ones of a list; the others are slow."""
    seen: Counter[tuple[Path, str]] = Counter()
    for item in sorted(items, key=lambda item: crc32(item.nodeid.encode())):
        mark = item.get_closest_marker("sample")
        if mark is not None and item.get_closest_marker("slow") is None:
            test = item.path, item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] > mark.args[0]:
                item.add_marker("slow")


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
