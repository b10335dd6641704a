"""Cuts a failing model to the smallest one that still fails in the same way (docs/wrong-answer.md)."""

from __future__ import annotations

from graphc.reduce.case import Case
from graphc.reduce.reducer import Reduced, reduce
from graphc.reduce.verdict import Trial, Verdict

__all__ = ["Case", "Reduced", "Trial", "Verdict", "reduce"]
