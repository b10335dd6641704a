"""Where a model's batch axis is, and how the rows of requests become one call and its results theirs again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.arguments import Arguments
from graphc.errors import InputError
from graphc.executable import value_key
from graphc.remedies import fits, remedy
from graphc.signature import Signature, Spec

if TYPE_CHECKING:
    from graphc.model import Model

Feeds = Mapping[str, np.ndarray]
APART = 2e-2  # of a result's scale: no rounding of float32 or bfloat16 lies between a row alone and in a batch


class Rows:
    """The inputs and outputs of a model that have a row for each of a batch: their first dim is open, and no value decides it.

    Raises InputError where there is none, and for an output that could not be given back row by row.
    """

    def __init__(self, model: Model, signature: Signature, arguments: Arguments) -> None:
        self._arguments, self._run = arguments, model.run
        self._specs = {s.name: s for s in arguments.inputs}
        for spec in (*arguments.inputs, *signature.outputs):
            if spec.content is not None:
                raise InputError(f"'{spec.name}' is a {spec.content}, which has no batch axis", hint=_ALONE)
        batched = [s for s in signature.inputs if _open(s) and s.name not in signature.valued]
        if not batched:
            raise InputError(
                f"{model.name} has no batch axis: no input's first dim is open ({arguments.signature})",
                hint="export it with a first dim that has a name, such as 'batch'",
            )
        self.sizes = {s.shape[0] for s in batched if s.shape}
        self._batched = {s.name for s in (*batched, *(s for s in signature.optional if self._of_batch(s)))}
        for spec in signature.outputs:
            if not self._of_batch(spec):
                raise InputError(
                    f"{model.name} has no batch axis: output '{spec.name}' does not begin with a dim of the inputs "
                    f"({arguments.signature})",
                    hint=_ALONE,
                )

    def _of_batch(self, spec: Spec) -> bool:
        return bool(spec.shape) and spec.shape is not None and spec.shape[0] in self.sizes

    def checked(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Feeds, int]:
        """What a caller gives, by name, and how many rows it has. Raises InputError."""
        if len(args) > len(self._specs):
            raise InputError(
                f"the model takes {len(self._specs)} inputs, not {len(args)}", hint=self._arguments.signature
            )
        given = self._arguments.joined(args, kwargs)
        if not set(self._arguments.names) <= given.keys() <= self._specs.keys():
            raise self._arguments.wrong_names(given)
        feeds = {s.name: self._array(i, s, given[s.name]) for i, s in self._in_order() if s.name in given}
        rows = {n: len(a) for n, a in feeds.items() if n in self._batched}
        if len(set(rows.values())) > 1:
            said = ", ".join(f"'{n}' {count}" for n, count in rows.items())
            raise InputError(f"inputs have unequal numbers of rows: {said}", hint="give each as many")
        return feeds, next(iter(rows.values()))

    def _in_order(self) -> list[tuple[int, Spec]]:
        return list(enumerate(self._arguments.inputs))

    def _array(self, i: int, spec: Spec, given: Any) -> np.ndarray:
        array, want = self._arguments.checked_on_host(i, given), spec.type
        if want is not None and not fits(array, want):
            raise InputError(
                f"input '{spec.name}' has shape {array.shape}, the model wants {want}", hint=remedy(array.shape, want)
            )
        return array

    def key(self, feeds: Feeds) -> tuple:
        """Requests of one key can be one call: shapes of their rows, and what inputs that have none hold."""
        return tuple((n, a.shape[1:]) if n in self._batched else (n, a.shape, value_key(a)) for n, a in feeds.items())

    def run_joined(self, requests: Sequence[Feeds]) -> dict[str, np.ndarray]:
        """The model's results of all their rows."""
        return self._run(self.joined(requests))

    def joined(self, requests: Sequence[Feeds]) -> Feeds:
        if len(requests) == 1:
            return requests[0]
        first = requests[0]
        return {n: np.concatenate([f[n] for f in requests]) if n in self._batched else first[n] for n in first}

    def run(self, requests: Sequence[Feeds], counts: Sequence[int]) -> list[tuple[np.ndarray, ...]]:
        """Results of each request. Raises what the model raises, and InputError where a result has not a row for each."""
        results = self.run_joined(requests)
        if len(requests) == 1:
            return [tuple(results.values())]
        total = sum(counts)
        for name, a in results.items():
            if len(a) != total:
                raise InputError(f"output '{name}' has {len(a)} rows for {total} of the inputs", hint=_ALONE)
        ends = np.cumsum(counts)
        # copies: a row that somebody keeps does not keep the whole batch
        return [tuple(a[end - n : end].copy() for a in results.values()) for n, end in zip(counts, ends)]

    def require_independent(self, feeds: Feeds, found: Sequence[np.ndarray]) -> None:
        """Raises InputError where a request alone has other results than it had in a batch."""
        for (name, want), a in zip(self._run(feeds).items(), found):
            if want.dtype.kind not in "fV" or not want.size:  # integers may be ties that rounding decides
                continue
            expected, actual = want.astype(np.float64), a.astype(np.float64)
            scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
            if not np.allclose(actual, expected, rtol=0, atol=APART * max(scale, 1e-30), equal_nan=True):
                raise InputError(
                    f"output '{name}' of a row depends on the other rows of its batch, or is random: alone it differs",
                    hint="run the model without a batcher; batcher(…, check=False) where this is meant",
                )


_ALONE = "call the model itself, a request at a time"


def _open(spec: Spec) -> bool:
    return spec.shape is not None and len(spec.shape) > 0 and isinstance(spec.shape[0], str)
