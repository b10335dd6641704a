"""Every model that an exporter makes; slow, and only where the packages of its kind are."""

from __future__ import annotations

import pytest

from exporters.catalog import KINDS, cases
from exporters.frame import Case, compare, missing

MISSING = {kind: missing(found.packages) for kind, found in KINDS.items()}


def _parameters():
    for kind, lacks in MISSING.items():
        if lacks:
            yield pytest.param(None, id=kind, marks=pytest.mark.skip(reason=f"{kind}: {lacks} is not installed"))
        else:
            yield from (pytest.param(case, id=f"{kind}: {case}") for case in cases(kind))


@pytest.mark.slow
@pytest.mark.parametrize("case", list(_parameters()))
def test_agrees_with_onnx_runtime_and_the_model(case: Case):
    row = compare(case)
    if row.skipped:
        pytest.skip(row.skipped)
    assert not row.wrong, row
