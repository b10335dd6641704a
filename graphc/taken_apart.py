"""Calls of a model with values that are no tensors: inputs are taken apart into tensors, results are put together from such."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import GraphcError
from graphc.executable import PLANNING, Executable, remember
from graphc.objects import box, own, unbox
from graphc.structures import MOST_TENSORS, Made, Structures, Whole, form, put_together, structure, tensors

if TYPE_CHECKING:
    from graphc.model import Model
    from graphc.report import Plan
    from graphc.signature import Spec

FEW = 8  # models that are made without asking whether it is worth it


class TakenApart:
    """The models of a source for each structure that its inputs have had. Where hardly two calls are alike, there are no more."""

    def __init__(self, inputs: Sequence[Spec], read: Callable[[Structures], Model]) -> None:
        """read: the model in which these inputs are the tensors that they consist of."""
        self._read = read
        self._objects = [
            (i, s.name, s.content) for i, s in enumerate(inputs) if s.content is not None and s.content.kind != "map"
        ]
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


class Bundled(Executable):
    """A plan of a graph after `graphc.bundles.closed`, which says what its results make up. They share memory with nothing."""

    def __init__(self, inner: Executable, made: Sequence[Made], count: int) -> None:
        """count: of the results of `inner`."""
        self.inner, self._made, self._count = inner, made, count
        self._of_tensors = {m: k for k, m in enumerate(made) if isinstance(m, int)}

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        return self.inner.holds(arrays)

    def refusal(self, arrays: Sequence[np.ndarray]) -> str:
        return self.inner.refusal(arrays)

    @property
    def plan(self) -> Plan:
        return self.inner.plan

    def plan_for(self, arrays: Sequence[np.ndarray]) -> Plan:
        return replace(self.inner.plan_for(arrays), because=self.because)

    def run(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None] | None = None) -> list[np.ndarray]:
        return self.run_on(None, arrays, out)

    def run_on(self, stream: Any, arrays: Sequence[Any], out: Sequence[Any | None] | None = None) -> list[Any]:
        """Tensors in objects are NumPy's, wherever the inputs are."""
        buffers = (
            None
            if out is None
            else [out[self._of_tensors[m]] if m in self._of_tensors else None for m in range(self._count)]
        )
        results = self.inner.run_on(stream, arrays, buffers)
        held = [a if m in self._of_tensors else unbox(own(np.asarray(a))) for m, a in enumerate(results)]
        return [held[m] if isinstance(m, int) else box(put_together(m, held)) for m in self._made]
