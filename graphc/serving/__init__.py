"""Requests of several callers, run as one batch. `Model.batcher` opens it."""

from __future__ import annotations

from graphc.serving.batcher import Batcher

__all__ = ["Batcher"]
