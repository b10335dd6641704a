"""graphc run: compile a model, run it once or over files, say what came out."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from graphc.cli.answers import ROWS, TOP, Classes, read_names
from graphc.cli.console import many, print_table, progress_bars, seconds, stop
from graphc.cli.feeds import input_files, make_feeds
from graphc.cli.files import expanded
from graphc.cli.options import Tolerance, compile_options, feed_options, model_argument, open_model
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.cli.run_files import Answer, mismatches, run_over, samples
from graphc.cli.samples import paths_of
from graphc.cli.sources import Reader
from graphc.cli.specs import spec_named, split_name
from graphc.errors import InputError
from graphc.objects import tensors_of
from graphc.types import dtype_name

if TYPE_CHECKING:
    from graphc.cli.preparation import Preparation
    from graphc.model import Model


@click.command()
@model_argument
@click.argument("files", nargs=-1, metavar="[FILE]...")
@feed_options
@click.option(
    "--labels",
    "named",
    type=click.Path(exists=True, dir_okay=False),
    help="Names of the classes: one a line, or a JSON list or dict.  [default: those of the model]",
)
@click.option("--top", type=click.IntRange(min=1), default=TOP, show_default=True, help="Best classes that are told.")
@click.option(
    "--tolerance",
    type=Tolerance(min=0),
    default=1e-3,
    show_default=True,
    help="Of ONNX test data: the largest error, over the result's scale.",
)
@click.option(
    "--output",
    type=OutputFile(".npz", ".npy"),
    help="Write the results to this .npz file, or a single one to a .npy file; those of FILEs as FILE/OUTPUT.",
)
@compile_options
def run(
    model: str,
    files: tuple[str, ...],
    inputs: tuple[str, ...],
    shapes: tuple,
    batch: int | None,
    seed: int,
    cast: bool,
    how: Preparation,
    named: str | None,
    top: int,
    tolerance: float,
    output: Path | None,
    **settings: Any,
) -> None:
    """Run MODEL over FILEs and print a line for each; without any, run it once and summarize its outputs.

    A FILE is a picture, a sound (WAV), a table (CSV), an array (.npy, .npz, .pb), a folder of these or of ONNX test data, a pattern
    ('*.jpg'), or '-' for stdin. NAME=FILE is the same as --input NAME=FILE. A FILE that can't be used is told, and the others go on;
    the exit code is 1 then, and where ONNX test data expect other results.

    The best classes are told of outputs that have `labels`, that a softmax or log_softmax gives, or that are named logits or
    probabilities.
    """
    refuse_inputs([output], (model, *input_files((*inputs, *files))))
    start = time.perf_counter()
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        refuse_inputs([output], compiled.files)
        names = None if named is None else read_names(named)
        classes = Classes(compiled.labels, compiled.scores, names, named or "", top)
        classes.require_output(compiled.outputs)
        how = how.of(compiled.pictures)
        inputs, files = _parted(compiled, inputs, files)
        if not files:
            _check_count(output, compiled)
            feeds = make_feeds(compiled.inputs, inputs, dict(shapes), batch, seed, cast, how)
            results = compiled.run(feeds)
    if not files:
        took = seconds(time.perf_counter() - start)
        again = "" if settings["target"] == "reference" else _again(compiled, feeds)
        _print_feeds(feeds)
        _print_results(compiled, results, classes)
        click.echo(f"loaded, compiled and ran in {took}{again}")
        if output:
            write_file(output, partial(save_arrays, _arrays(results), single=output.suffix.lower() == ".npy"))
            click.echo(f"wrote {output}")
        return
    base = _same_for_all(compiled, inputs, dict(shapes), seed, cast, how)
    reader = Reader([s for s in compiled.inputs if s.name not in base and not s.optional], how, cast)
    found = list(expanded(files))
    refuse_inputs([output], paths_of(found))
    answers = run_over(compiled, samples(found, reader, compiled.outputs), base, batch)
    _print_answers(answers, classes, tolerance, output)


def _print_results(compiled: Model, results: Mapping[str, Any], classes: Classes) -> None:
    types = {spec.name: str(spec.type) for spec in compiled.outputs}
    rows = [row for name, value in results.items() for row in summary(name, value, types.get(name, ""))]
    print_table(("output", "shape", "dtype", ">min", ">mean", ">max", ">NaN"), rows)
    for name, value in results.items():
        if not isinstance(value, np.ndarray) and not tensors_of(name, value):
            click.echo(f"{name} is {'no value' if value is None else 'empty'}")
    for name, value in results.items():
        for line in classes.told(name, value):
            click.echo(line)


def _parted(compiled: Model, inputs: Sequence[str], files: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(inputs, files), where a file NAME=… is an input."""
    named = [f for f in files if not Path(f).exists() and any(f.startswith(f"{s.name}=") for s in compiled.inputs)]
    return (*inputs, *named), tuple(f for f in files if f not in named)


def _same_for_all(
    compiled: Model, inputs: Sequence[str], shapes: dict, seed: int, cast: bool, how: Preparation
) -> dict[str, Any]:
    """The inputs that every file is run with. Raises InputError for one without a name."""
    names = []
    for text in inputs:
        name, source = split_name(compiled.inputs, text)
        if not name:
            raise InputError(f"which input is '{source}'? Beside files it needs a name", hint=f"write NAME={source}")
        names.append(spec_named(compiled.inputs, name).name)
    specs = [s for s in compiled.inputs if s.name in names]
    return make_feeds(specs, inputs, {n: d for n, d in shapes.items() if n in names}, None, seed, cast, how)


def _print_answers(answers: Iterable[Answer], classes: Classes, tolerance: float, output: Path | None) -> None:
    """A line for each row of each file. Ends with code 1 where one has failed, or was expected to be otherwise."""
    failed = different = count = 0

    def said(answers: Iterable[Answer]) -> Iterator[Answer]:
        nonlocal failed, different, count
        for answer in answers:
            count += 1
            name = answer.sample.name
            if answer.error is not None:
                failed += 1
                hint = f"\n  {answer.error.hint}" if answer.error.hint else ""
                click.echo(f"{name}: {answer.error.message}{hint}", err=True)
                continue
            if answer.sample.expected:
                worst, wrong = mismatches(answer, tolerance)
                different += bool(wrong)
                click.echo(f"{name}  as expected, error {worst:.2g}" if not wrong else f"{name}  differs: {wrong[0]}")
                for more in wrong[1:]:
                    click.echo(f"{' ' * len(name)}  {more}")
            else:
                for line in classes.lines(name, answer.results):
                    click.echo(line)
            yield answer

    if output is None:
        for _ in said(answers):
            pass
    else:
        if output.suffix.lower() == ".npy":
            raise InputError(f"'{output}' holds one array", hint="write the results of files to a .npz file")
        arrays = (pair for answer in said(answers) for pair in _of_file(answer))
        write_file(output, partial(save_stream, arrays))
        click.echo(f"wrote {output}", err=True)
    if failed or different:
        parts = [f"{failed} of {count} failed"] * bool(failed) + [f"{different} of {count} differ"] * bool(different)
        stop(1, f"graphc: {', '.join(parts)}")


def _of_file(answer: Answer) -> Iterator[tuple[str, np.ndarray]]:
    return ((f"{answer.sample.name}/{name}", array) for name, array in _arrays(answer.results).items())


def _print_feeds(feeds: Mapping[str, Any]) -> None:
    for name, value in feeds.items():
        given = tensors_of(name, value)
        for key, array in list(given.items())[:ROWS]:
            click.echo(f"input {key}: {dtype_name(array.dtype)}{list(array.shape)}")
        if len(given) > ROWS:
            click.echo(f"input {name}: … and {len(given) - ROWS} more")


def _arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays by name; those of a sequence or a map under names of their own."""
    return {key: a for name, value in values.items() for key, a in tensors_of(name, value).items()}


def _again(compiled: Model, feeds: Mapping[str, np.ndarray]) -> str:
    """How long a run takes once everything is there."""
    start = time.perf_counter()
    compiled.run(feeds)
    return f"; the next run took {seconds(time.perf_counter() - start)}"


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
