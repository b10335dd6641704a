"""Every classical model of exporters/classical.py; slow, and only where its packages are."""

from __future__ import annotations

import pytest
from exporters.classical import compare, every_case, explained, missing_package

MISSING = missing_package()
CASES = {} if MISSING else every_case()
# Support vectors add up some hundred products in another order; the others end in an Exp or a division.
TOLERANCE = 2e-5


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed")
@pytest.mark.parametrize("name", CASES or ["all"])
def test_agrees_with_onnx_runtime_and_the_model(name: str):
    row = compare(name, CASES[name])
    if row.skipped:
        pytest.skip(row.skipped)
    assert row.runtime <= TOLERANCE and not row.labels_runtime, row
    if not explained(name):
        assert row.model <= TOLERANCE and not row.labels_model, row
