"""What to do with an array that a model does not take: the expression that makes of it what is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.types import Sym, TensorType, dtype_name


def fits(a: np.ndarray, want: TensorType) -> bool:
    return _takes(want, a.shape)


def _takes(want: TensorType, shape: Sequence[int]) -> bool:
    return len(shape) == want.rank and all(isinstance(d, Sym) or d == n for d, n in zip(want.shape, shape))


def remedy(shape: tuple[int, ...], want: TensorType) -> str:
    """Of an array of a shape that does not fit."""
    step = _step(shape, want)
    if len(shape) != want.rank:
        told = f"it must have {want.rank} dims, not {len(shape)}"
        return f"{told}: {step[1]}: x{step[0]}" if step else f"{told}: reshape it"
    if step:
        return f"{step[1]}: x{step[0]}"
    wrong = [str(k) for k, (d, n) in enumerate(zip(want.shape, shape)) if not isinstance(d, Sym) and d != n]
    dims = f"dim {wrong[0]} differs" if len(wrong) == 1 else f"dims {', '.join(wrong)} differ"
    return f"{dims}; sizes that are numbers are fixed in the model, names may be any size"


def conversion(a: np.ndarray, dtype: np.dtype, want: TensorType | None) -> str:
    """Of an array of another dtype. want: the type, where its shape is known."""
    from graphc.dtypes import is_float

    step = None if want is None or _takes(want, a.shape) else _step(a.shape, want)
    behind = f"{step[0]} ({step[1]})" if step else ""
    if a.dtype.kind in "OUS" and dtype.kind not in "OUS":
        return f"give numbers: an array of {dtype_name(dtype)}"
    how = f"convert it: x.astype('{'str' if dtype.kind == 'O' else dtype_name(dtype)}'){behind}"
    if a.dtype == np.uint8 and a.ndim > 2 and is_float(dtype):  # a picture
        return f"{how}, and divide by 255 where the model was trained on 0 to 1"
    return how


def _step(shape: tuple[int, ...], want: TensorType) -> tuple[str, str] | None:
    """(what stands behind `x`, what it does) that makes an array of this shape fit."""
    rank = len(shape)
    if rank == want.rank and rank > 1:
        return _moved(shape, want, tuple(range(rank)), "")
    if rank < want.rank:
        for index, where in (("[None]", (0,)), ("[:, None]", (1,)), ("[..., None]", (rank,)), ("[None, None]", (0, 1))):
            if want.rank == rank + len(where) and _takes(want, np.expand_dims(_zeros(shape), where).shape):
                return index, "add a dim of a batch" if index == "[None]" else "add a dim"
        if want.rank == rank + 1 and rank > 1:  # a picture without its batch
            return _moved(shape, want, tuple(range(rank)), "[None]")
        return None
    for axis in range(rank):
        if shape[axis] == 1 and _takes(want, shape[:axis] + shape[axis + 1 :]):
            return f".squeeze({axis})", f"drop dim {axis}"
    flat = (shape[0], _zeros(shape[1:]).size)
    return (".reshape(len(x), -1)", "make a row of each element") if _takes(want, flat) else None


def _moved(shape: tuple[int, ...], want: TensorType, axes: tuple[int, ...], behind: str) -> tuple[str, str] | None:
    """Channels in another place. behind: an index that adds a batch."""
    first = 0 if behind else 1
    if len(axes) == 2 and not behind:
        return (".T", "swap its two dims") if _takes(want, shape[::-1]) else None
    rest = axes[:first]
    first_to_last, last_to_first = (*rest, *axes[first + 1 :], first), (*rest, axes[-1], *axes[first:-1])
    for order, said in ((last_to_first, "channels first"), (first_to_last, "channels last")):
        if _takes(want, (1,) * bool(behind) + tuple(shape[i] for i in order)):
            more = ", in a batch" if behind else ""
            return f".transpose({', '.join(map(str, order))}){behind}", f"put {said}{more}"
    return None


def _zeros(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.int8(0), shape)
