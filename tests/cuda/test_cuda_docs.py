"""docs/cuda.md names the operators that there are."""

from __future__ import annotations

import re
from pathlib import Path

from suite import OPS

from graphc.backends.cuda.lower.registry import RULES, load_lowerings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cuda.md"


def test_the_list_of_operators():
    load_lowerings()
    own = sorted(n for n in RULES.operators() if n in OPS)
    listed = re.search(r"<!-- operators: .*? -->\n(.*?)\n<!-- operators: end -->", PAGE.read_text(), re.S)
    assert listed and " ".join(listed[1].split()) == f"All elementwise operators, and {', '.join(own)}."
