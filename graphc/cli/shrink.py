"""graphc shrink: a smaller model, and what each layer loses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.console import progress_bars, table_width
from graphc.cli.export import require_one_file
from graphc.cli.machine import Record, json_option
from graphc.cli.options import model_argument, say_net
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.cli.paths import PathParam
from graphc.cli.picture_options import picture_options
from graphc.cli.samples import paths_of, read_samples, sample_files
from graphc.errors import InputError
from graphc.report import format_bytes

if TYPE_CHECKING:
    from graphc.cli.preparation import Preparation
    from graphc.reading import Reading


@click.command()
@model_argument
@click.argument("out", type=OutputFile(".onnx"))
@click.option("--channels", type=float, metavar="PART", help="Remove this part of every layer's output channels: 0.25 is a quarter.")  # fmt: skip
@click.option("--low-rank", type=float, metavar="ERROR", help="Factor layers, with a relative error of weights of this at most.")  # fmt: skip
@click.option("--sparse", type=float, metavar="PART", help="Set this part of the weights to zero, in blocks.")
@click.option(
    "--block", metavar="ROWSxCOLUMNS", help="With --sparse: the size of a block.  [default: 16x1, of convolutions 1x16]"
)
@click.option("--codebook", type=int, metavar="BITS", help="Store weights as indices of 1 to 8 bits into numbers they share.")  # fmt: skip
@click.option("--signs", type=click.Choice(["binary", "ternary"]), help="Store weights as -1 and 1, or -1, 0 and 1, and a scale for each channel.")  # fmt: skip
@click.option(
    "--keep",
    multiple=True,
    metavar="NAME",
    help="A layer to keep as it is, a pattern of names ('block1.*'), or an operator; may be repeated.",
)
@click.option(
    "--data",
    type=PathParam(exists=True, path_type=Path),
    help="Samples to measure the results' error over: a .npz or .npy file, or a folder of such files or pictures.",
)
@picture_options
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Samples of a run.")
@click.option("--samples", type=click.IntRange(min=1), help="Take so many from the beginning.  [default: all]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of a run.  [default: all cores]")
@click.option("--report", "written", type=OutputFile(".json"), help="Write what became of the layers to this file.")
@json_option
def shrink(
    model: str,
    out: Path,
    reading: Reading,
    how: Preparation,
    keep: tuple[str, ...],
    data: Path | None,
    batch: int,
    samples: int | None,
    threads: int | None,
    written: Path | None,
    **methods: Any,
) -> Record:
    """Make MODEL smaller without training, and write it as the ONNX file OUT.

    Methods follow each other: fewer channels, factors of low rank, zeros, and how the weights are stored. OUT is a model of standard
    operators, which graphc and other runtimes read.
    """
    from graphc import frontends, source_files
    from graphc.shrinker import methods_of
    from graphc.shrinker import shrink as run

    if methods["block"] is not None and methods["sparse"] is None:
        raise InputError("--block is the size of what --sparse sets to zero", hint="--sparse 0.5 --block 16x1")
    if all(value is None for value in methods.values()):
        hint = "name a method: --channels, --low-rank, --sparse, --codebook or --signs"
        raise InputError("nothing says how the model becomes smaller", hint=hint)
    wanted = methods_of(**methods)
    files = sample_files(data)
    refuse_inputs([out, written], [model, *paths_of(files)])
    with source_files.Files(mapped=False).reading() as read:
        graph = frontends.load(model, reading)
    refuse_inputs([out, written], read.paths)
    say_net(graph.meta.get("nets", ()), reading)
    with progress_bars() as progress:
        made = run(
            graph,
            wanted,
            read_samples(graph, files, how, Path(model)),
            keep=keep,
            batch=batch,
            samples=samples,
            options={"threads": threads},
            progress=progress,
        )
    require_one_file(made.report.bytes[1])
    content = made.to_onnx().SerializeToString()
    click.echo(made.report.text(table_width()))
    write_file(out, lambda f: f.write(content))
    click.echo(f"wrote {out}, {format_bytes(len(content))}")
    if written is not None:
        report = json.dumps(made.report.to_json(), indent=1, ensure_ascii=False).encode()
        write_file(written, lambda f: f.write(report))
        click.echo(f"wrote {written}")
    made_files = [out, *([] if written is None else [written])]
    return {"written": made_files, "bytes": len(content), "report": made.report.to_json()}
