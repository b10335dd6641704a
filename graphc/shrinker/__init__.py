"""Smaller models after training: each method is a pass with a report of what it costs (docs/shrink.md)."""

from graphc.shrinker.binary import Signs
from graphc.shrinker.channels import Channels
from graphc.shrinker.codebook import Codebook
from graphc.shrinker.driver import ShrunkModel, shrink
from graphc.shrinker.low_rank import LowRank
from graphc.shrinker.methods import methods_of
from graphc.shrinker.report import LayerReport, Report, Step
from graphc.shrinker.sparse import Sparse

__all__ = [
    "Channels",
    "Codebook",
    "LayerReport",
    "LowRank",
    "Report",
    "ShrunkModel",
    "Signs",
    "Sparse",
    "Step",
    "methods_of",
    "shrink",
]
