"""Constant masks that hide what lies outside a window around each query: causal ones, and those of sliding windows."""

from __future__ import annotations

import numpy as np

from graphc.ops._masks import hidden_from
from graphc.ops.attention import Window


def window_of_mask(mask: np.ndarray, queries: int, keys: int) -> Window | None:
    """The window outside of which a mask that is added to scores hides everything, and inside of which it changes nothing.
    None for other masks, and where a query sees nothing."""
    if mask.shape[-2:] != (queries, keys) or mask.size != queries * keys:
        return None
    rows = mask.reshape(queries, keys)
    seen = rows == 0
    if not (seen | (rows <= hidden_from(mask.dtype))).all() or not seen.any(1).all():
        return None
    numbers = np.arange(queries)
    first, end = seen.argmax(1) - numbers, keys - seen[:, ::-1].argmax(1) - numbers  # from the query's own number on
    starts, ends = set(first[~seen[:, 0]].tolist()), set(end[~seen[:, -1]].tolist())
    if len(starts) > 1 or len(ends) > 1:
        return None
    start, stop = min(starts, default=None), min(ends, default=None)
    if stop is None:
        window = Window(-1 if start is None else 0, -1, start or 0)
    else:
        window = Window(-1 if start is None else stop - 1 - start, 0, stop - 1)
    return window if np.array_equal(window.seen(queries, keys), seen) else None
