"""Plans whose results are put together from tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.bundles import Made, put_together
from graphc.executable import Executable
from graphc.objects import box, unbox

if TYPE_CHECKING:
    from graphc.report import Plan


class Bundled(Executable):
    """A plan of a graph after `graphc.bundles.closed`, which says what its results make up."""

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
        buffers = None if out is None else [out[self._of_tensors[m]] if m in self._of_tensors else None for m in range(self._count)]
        results = self.inner.run_on(stream, arrays, buffers)
        held = [a if m in self._of_tensors else unbox(np.asarray(a)) for m, a in enumerate(results)]
        return [held[m] if isinstance(m, int) else box(put_together(m, held)) for m in self._made]
