"""Calls of a model with values that are no tensors: the models for the tensors that these consist of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.bundles import MOST_TENSORS, Structure, Whole, form, structure, tensors
from graphc.errors import GraphcError
from graphc.executable import PLANNING, remember

if TYPE_CHECKING:
    from graphc.model import Model
    from graphc.signature import Spec

FEW = 8  # models that are made without asking whether it is worth it


class TakenApart:
    """The models of a source for each structure that its inputs have had. Where hardly two calls are alike, there are no more."""

    def __init__(
        self, inputs: Sequence[Spec], read: Callable[[tuple[tuple[str, Structure], ...]], Model]
    ) -> None:
        """read: the model in which these inputs are the tensors that they consist of."""
        self._read = read
        self._objects = [(i, s.name, s.content) for i, s in enumerate(inputs) if s.content is not None and s.content.kind != "map"]
        self.names = {name for _, name, _ in self._objects}
        self._models: dict[Any, Model | None] = {}
        self._made = self._calls = 0

    def model_for(self, arrays: Sequence[np.ndarray]) -> Model | None:
        """The model for inputs of their structure; None where they stay whole."""
        if not self._objects:
            return None
        key = tuple([form(arrays[i][()]) for i, *_ in self._objects])
        self._calls += 1
        if key not in self._models:
            with PLANNING:
                if key not in self._models:
                    if self._made >= max(FEW, self._calls // 4):
                        return None
                    self._made += 1
                    remember(self._models, key, self._model(arrays))
        return self._models.get(key)

    def _model(self, arrays: Sequence[np.ndarray]) -> Model | None:
        try:
            if sum(1 for i, *_ in self._objects for _ in tensors(arrays[i][()])) > MOST_TENSORS:
                return None
            return self._read(tuple((name, structure(name, arrays[i][()], of)) for i, name, of in self._objects))
        except (Whole, GraphcError):
            return None

    def tensors(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The inputs of `model_for`."""
        objects = {i for i, *_ in self._objects}
        parts = (tensors(a[()]) if i in objects else (a,) for i, a in enumerate(arrays))
        return [a for part in parts for a in part]
