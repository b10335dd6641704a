"""graphc run: compile a model, run it once, say what came out."""

from __future__ import annotations

import math
import time
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from graphc.cli.console import many, print_table, progress_bars, seconds
from graphc.cli.feeds import input_files, make_feeds
from graphc.cli.machine import Record, json_option
from graphc.cli.options import compile_options, feed_options, model_argument, open_model
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.cli.run_record import array_record, best, numbers
from graphc.errors import InputError
from graphc.objects import tensors_of
from graphc.types import dtype_name

if TYPE_CHECKING:
    from pathlib import Path

    from graphc.model import Model

TOP = 5  # best classes shown
ROWS = 4  # of so many rows of a batch


@click.command()
@model_argument
@feed_options
@click.option(
    "--output",
    type=OutputFile(".npz", ".npy"),
    help="Write the results to this .npz file, or a single one to a .npy file.",
)
@compile_options
@json_option
def run(
    model: str,
    inputs: tuple[str, ...],
    shapes: tuple,
    batch: int | None,
    seed: int,
    cast: bool,
    output: Path | None,
    **settings: Any,
) -> Record:
    """Run MODEL once and summarize its outputs.

    The best classes are told of outputs that have `labels`, that a softmax or log_softmax gives, or that are named logits or
    probabilities.
    """
    refuse_inputs([output], (model, *input_files(inputs)))
    start = time.perf_counter()
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        refuse_inputs([output], compiled.files)
        _check_count(output, compiled)
        feeds = make_feeds(compiled.inputs, inputs, dict(shapes), batch, seed, cast)
        results = compiled.run(feeds)
    first = time.perf_counter() - start
    again = None if settings["target"] == "reference" else _again(compiled, feeds)
    for name, value in feeds.items():
        given = tensors_of(name, value)
        for key, array in list(given.items())[:ROWS]:
            click.echo(f"input {key}: {dtype_name(array.dtype)}{list(array.shape)}")
        if len(given) > ROWS:
            click.echo(f"input {name}: … and {len(given) - ROWS} more")
    arrays = _arrays(results)
    types = {spec.name: str(spec.type) for spec in compiled.outputs}
    rows = [row for name, value in results.items() for row in summary(name, value, types.get(name, ""))]
    print_table(("output", "shape", "dtype", ">min", ">mean", ">max", ">NaN"), rows)
    for name, value in results.items():
        if not isinstance(value, np.ndarray) and not tensors_of(name, value):
            click.echo(f"{name} is {'no value' if value is None else 'empty'}")
    for name, value in results.items():
        for line in best_entries(value):
            click.echo(f"{name}{line}")
    for name, array in arrays.items():
        for line in best_classes(array, compiled.labels.get(name), name in compiled.scores):
            click.echo(f"{name}{line}")
    warm = "" if again is None else f"; the next run took {seconds(again)}"
    click.echo(f"loaded, compiled and ran in {seconds(first)}{warm}")
    if output:
        write_file(output, partial(save_arrays, arrays, single=output.suffix.lower() == ".npy"))
        click.echo(f"wrote {output}")
    return {
        "model": compiled.name,
        "inputs": [array_record(name, array) for name, array in _arrays(feeds).items()],
        "outputs": [_output(compiled, name, array) for name, array in arrays.items()],
        "seconds": {"first": first, "again": again},
        "written": output,
    }


def _output(compiled: Model, name: str, array: np.ndarray) -> Record:
    classes = array.shape[1] if name in compiled.scores and top_classes(array) else None
    return array_record(name, array) | numbers(array) | {"best": best(array, compiled.labels.get(name), classes)}


def _arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays by name; those of a sequence or a map under names of their own."""
    return {key: a for name, value in values.items() for key, a in tensors_of(name, value).items()}


def _again(compiled: Model, feeds: Mapping[str, np.ndarray]) -> float:
    """Seconds that a run takes once everything is there."""
    start = time.perf_counter()
    compiled.run(feeds)
    return time.perf_counter() - start


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


def best_classes(array: np.ndarray, labels: Sequence[str] | None, scores: bool) -> list[str]:
    """What to say of the best classes of an output: lines for the first rows, and how many more there are."""
    lines = best_labels(array, labels) if labels is not None else top_classes(array) if scores else []
    rows = array.size // len(labels) if labels is not None else len(array) if lines else 0
    return [*lines, f": … and {many(rows - ROWS, 'more row')}"] if rows > ROWS else lines


def best_entries(value: Any) -> list[str]:
    """'[row] top 3: key (score) …' of the first of a sequence of maps from the same keys to floats, and how many more there are."""
    if not isinstance(value, list) or not value or not all(isinstance(m, dict) for m in value):
        return []
    keys = list(value[0])
    if len(keys) < 2 or not all(list(m) == keys and all(isinstance(x, float) for x in m.values()) for m in value):
        return []
    return best_classes(np.array([list(m.values()) for m in value]), list(map(str, keys)), True)


def top_classes(array: np.ndarray) -> list[str]:
    """'[row] class: score …', best first, where the array looks like scores: floats [N, classes], ones behind."""
    scores = array.astype(np.float32) if array.dtype.kind == "f" else array
    if scores.dtype.kind != "f" or scores.ndim < 2 or scores.shape[1] < TOP or math.prod(scores.shape[2:]) != 1:
        return []
    lines = []
    for i, row in enumerate(scores.reshape(scores.shape[:2])[:ROWS]):
        best = np.argsort(-row, kind="stable")[:TOP]
        lines.append(f"[{i}] top {TOP}: " + ", ".join(f"class {c} ({row[c]:.4g})" for c in best))
    return lines


def best_labels(array: np.ndarray, labels: Sequence[str]) -> list[str]:
    """'[row] top 5: name (score) …', best first, of an output whose last axis has these names."""
    rows = array.reshape(-1, len(labels))[:ROWS].astype(np.float64)
    lines = []
    for at, row in zip(np.ndindex(array.shape[:-1]), rows):
        best = np.argsort(-row, kind="stable")[:TOP]
        place = f"[{', '.join(map(str, at))}]" if at else ""
        lines.append(f"{place} top {len(best)}: " + ", ".join(f"{labels[c]} ({row[c]:.4g})" for c in best))
    return lines


def _check_count(output: Path | None, compiled: Model) -> None:
    """Raises InputError where several results would go into a .npy file."""
    objects = [spec for spec in compiled.outputs if spec.content is not None]
    if output is not None and output.suffix.lower() == ".npy" and (len(compiled.outputs) > 1 or objects):
        names = ", ".join(spec.name for spec in compiled.outputs)
        raise InputError(
            f"'{output}' holds one array, and there are {len(compiled.outputs)} results: {names}"
            if not objects
            else f"'{output}' holds one array, and '{objects[0].name}' is a {objects[0].content}",
            hint="write them to a .npz file",
        )


def save_arrays(arrays: Mapping[str, np.ndarray], stream: IO[bytes], single: bool = False) -> None:
    """Write arrays under any names as .npz (`np.savez` takes them as keywords: 'file' is not free), or the one as .npy."""
    if single:
        (array,) = arrays.values()
        np.lib.format.write_array(stream, _plain(array), allow_pickle=False)
        return
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as f:
                np.lib.format.write_array(f, _plain(array), allow_pickle=False)


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in a dtype that .npy files have: strings of a fixed width, float32 for bfloat16 and float8."""
    if array.dtype.kind == "O":
        array = array.astype(str)
    return np.asarray(array.astype(np.float32) if array.dtype.kind == "V" else array, order="C")
