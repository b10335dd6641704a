"""One cache of kernels for the whole test session: tests neither read nor fill the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache's folder. Set GRAPHC_CACHE_DIR to keep kernels from one session to the next."""
    given = os.environ.get("GRAPHC_CACHE_DIR")
    folder = Path(given) if given else tmp_path_factory.mktemp("kernels")
    os.environ["GRAPHC_CACHE_DIR"] = str(folder)
    yield folder
    if not given:
        del os.environ["GRAPHC_CACHE_DIR"]
