"""graphc run: compile a model, run it once or over files, say what came out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from graphc.cli.answers import ROWS, TOP, Classes, read_names
from graphc.cli.console import progress_bars, seconds
from graphc.cli.described import described
from graphc.cli.feeds import input_files, make_feeds
from graphc.cli.files import expanded
from graphc.cli.machine import Record, json_option
from graphc.cli.options import Tolerance, compile_options, feed_options, model_argument, open_model
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.cli.paths import PathParam
from graphc.cli.results import arrays_of, print_results, save_arrays
from graphc.cli.run_files import run_on, run_over, samples
from graphc.cli.run_record import array_record, output_records
from graphc.cli.run_told import Telling
from graphc.cli.samples import paths_of
from graphc.cli.sources import Reader
from graphc.cli.specs import names_of, spec_named, split_name
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
    type=PathParam(exists=True, dir_okay=False),
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
@click.option(
    "--on",
    metavar="ADDRESS",
    help="Run over FILEs in other processes: dask://HOST:PORT, or dask://local?workers=2 for some of this machine.",
)
@compile_options
@json_option
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
    on: str | None,
    **settings: Any,
) -> Record:
    """Run MODEL over FILEs and print a line for each; without any, run it once and summarize its outputs.

    A FILE is a picture, a sound (WAV), a table (CSV), an array (.npy, .npz, .pb), a folder of these or of ONNX test data, a pattern
    ('*.jpg'), or '-' for stdin. NAME=FILE is the same as --input NAME=FILE. A FILE that can't be used is told, and the others go on;
    the exit code is 4 then. It is 1 where ONNX test data expect other results.

    The best classes are told of outputs that have `labels`, that a softmax or log_softmax gives, or that are named logits or
    probabilities.
    """
    refuse_inputs([output], (model, *input_files((*inputs, *files))))
    if on is not None:
        from graphc.fleet.engine import address

        settings["threads"] = settings["threads"] or address(on).threads
        if not files:
            raise InputError("--on is for files, and none is given", hint="graphc run MODEL FILE… --on ADDRESS")
    start = time.perf_counter()
    with progress_bars() as progress:
        compiled = open_model(model, **settings, progress=progress)
        refuse_inputs([output], compiled.files)
        names = None if named is None else read_names(named)
        classes = Classes(compiled.labels, compiled.scores, names, named or "", top)
        classes.require_output(compiled.outputs)
        how = described(how, compiled.described, model)
        inputs, files = _parted(compiled, inputs, files)
        if not files:
            _check_count(output, compiled)
            feeds = make_feeds(compiled.inputs, inputs, dict(shapes), batch, seed, cast, how)
            results = compiled.run(feeds)
    if files:
        base = _same_for_all(compiled, inputs, dict(shapes), seed, cast, how)
        reader = Reader([s for s in compiled.inputs if s.name not in base and not s.optional], how, cast)
        if not reader.specs:
            raise InputError(f"all inputs are given, and '{files[0]}' is for none", hint=names_of(compiled.inputs))
        found = list(expanded(files))
        refuse_inputs([output], paths_of(found))
        if compiled.described.get("random_weights"):
            click.echo(
                f"the weights of {compiled.name} are random: what it answers means nothing (weights: in its YAML file)",
                err=True,
            )
        read = samples(found, reader, compiled.outputs)
        answers = run_over(compiled, read, base, batch) if on is None else run_on(on, compiled, read, base)
        keep = bool(click.get_current_context().params.get("as_json"))
        return Telling(compiled.name, classes, tolerance, keep).say_all(answers, output)
    first = time.perf_counter() - start
    again = None if settings["target"] == "reference" else _again(compiled, feeds)
    _print_feeds(feeds)
    print_results(compiled, results, classes)
    warm = "" if again is None else f"; the next run took {seconds(again)}"
    click.echo(f"loaded, compiled and ran in {seconds(first)}{warm}")
    if output:
        write_file(output, partial(save_arrays, arrays_of(results), single=output.suffix.lower() == ".npy"))
        click.echo(f"wrote {output}")
    return {
        "name": compiled.name,
        "inputs": [array_record(name, array) for name, array in arrays_of(feeds).items()],
        "outputs": output_records(classes, results),
        "seconds": {"first": first, "again": again},
        "written": output,
    }


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
    others = [n for n in shapes if n not in names]
    if others:
        raise InputError(
            f"--shape {others[0] and others[0] + '='}{','.join(map(str, shapes[others[0]]))} is for inputs that are made up, and FILEs give these",
            hint="leave it away; --resize makes pictures of another size",
        )
    return make_feeds(specs, inputs, {n: d for n, d in shapes.items() if n in names}, None, seed, cast, how)


def _again(compiled: Model, feeds: Mapping[str, np.ndarray]) -> float:
    """Seconds that a run takes once everything is there."""
    start = time.perf_counter()
    compiled.run(feeds)
    return time.perf_counter() - start


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


def _print_feeds(feeds: Mapping[str, Any]) -> None:
    for name, value in feeds.items():
        given = tensors_of(name, value)
        for key, array in list(given.items())[:ROWS]:
            click.echo(f"input {key}: {dtype_name(array.dtype)}{list(array.shape)}")
        if len(given) > ROWS:
            click.echo(f"input {name}: … and {len(given) - ROWS} more")
