"""Property testing of operators and graphs, for those of users as for graphc's own: see docs/testing.md.

Needs Hypothesis: pip install 'graphc[testing]'.
"""

from __future__ import annotations

from graphc.errors import MissingPackageError

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise MissingPackageError("tests of operators need Hypothesis", hint="pip install 'graphc[testing]'") from error

from graphc.own import load_file
from graphc.testing.agreement import agree
from graphc.testing.checking import check
from graphc.testing.graphs import Net, graphs
from graphc.testing.operators import each_operator
from graphc.testing.strategies import uses
from graphc.testing.uses import Use, broadcasts, cases, use_of

__all__ = [
    "Net",
    "Use",
    "agree",
    "broadcasts",
    "cases",
    "check",
    "each_operator",
    "graphs",
    "load_file",
    "use_of",
    "uses",
]
