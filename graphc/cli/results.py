"""Results of a run: the table of them, and files that hold them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from graphc.cli.answers import ROWS, Classes
from graphc.cli.console import many, print_table
from graphc.objects import tensors_of
from graphc.types import dtype_name

if TYPE_CHECKING:
    from graphc.model import Model


def arrays_of(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays by name; those of a sequence or a map under names of their own."""
    return {key: a for name, value in values.items() for key, a in tensors_of(name, value).items()}


def print_results(compiled: Model, results: Mapping[str, Any], classes: Classes) -> None:
    types = {spec.name: str(spec.type) for spec in compiled.outputs}
    rows = [row for name, value in results.items() for row in summary(name, value, types.get(name, ""))]
    print_table(("output", "shape", "dtype", ">min", ">mean", ">max", ">NaN"), rows)
    for name, value in results.items():
        if not isinstance(value, np.ndarray) and not tensors_of(name, value):
            click.echo(f"{name} is {'no value' if value is None else 'empty'}")
    for name, value in results.items():
        for line in classes.told(name, value):
            click.echo(line)


def summary(name: str, value: Any, of: str) -> list[tuple[str, ...]]:
    """Rows of the table for a result: one for a tensor, one for all numbers of maps, one each for the first of a sequence.

    of: the type of what is no tensor.
    """
    maps = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
    if maps and all(isinstance(m, dict) and m and not any(map(np.ndim, m.values())) for m in maps):
        sizes = sorted({len(m) for m in maps})
        entries = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
        shape = f"map of {entries}" if isinstance(value, dict) else f"{many(len(maps), 'map')} of {entries}"
        return [_row(name, np.array([x for m in maps for x in m.values()]), shape, of)]
    tensors = list(tensors_of(name, value).items())
    rows = [_row(key, array) for key, array in tensors[:ROWS]]
    left = len(tensors) - ROWS
    return [*rows, (f"{name}: … and {left} more", *[""] * 6)] if left > 0 else rows


def _row(name: str, array: np.ndarray, shape: str = "", dtype: str = "") -> tuple[str, ...]:
    shape, dtype = shape or "×".join(map(str, array.shape)) or "scalar", dtype or dtype_name(array.dtype)
    if array.dtype.kind in "OUS" or not array.size:
        return name, shape, dtype, "", "", "", ""
    x = array.astype(np.float64)
    bad = int(np.isnan(x).sum())
    if bad == x.size:
        return name, shape, dtype, "", "", "", str(bad)
    return (
        name,
        shape,
        dtype,
        f"{np.nanmin(x):.6g}",
        f"{np.nanmean(x):.6g}",
        f"{np.nanmax(x):.6g}",
        str(bad or ""),
    )


def save_arrays(arrays: Mapping[str, np.ndarray], stream: IO[bytes], single: bool = False) -> None:
    """Write arrays under any names as .npz (`np.savez` takes them as keywords: 'file' is not free), or the one as .npy."""
    if single:
        (array,) = arrays.values()
        np.lib.format.write_array(stream, _plain(array), allow_pickle=False)
        return
    save_stream(arrays.items(), stream)


def save_stream(arrays: Iterable[tuple[str, np.ndarray]], stream: IO[bytes]) -> None:
    """Write arrays as .npz, as they come."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                np.lib.format.write_array(f, _plain(array), allow_pickle=False)


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a dtype that .npy files have: strings of a fixed width, float32 for bfloat16 and float8."""
    if array.dtype.kind == "O":
        array = array.astype(str)
    return np.asarray(array.astype(np.float32) if array.dtype.kind == "V" else array, order="C")
