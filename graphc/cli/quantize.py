"""graphc quantize: a float model as one of integers, and how much each layer loses by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.console import progress_bars, table_width
from graphc.cli.export import require_one_file
from graphc.cli.machine import Record, json_option
from graphc.cli.options import Tolerance, model_argument, say_net
from graphc.cli.output import OutputFile, refuse_inputs, write_file
from graphc.cli.paths import PathParam
from graphc.cli.picture_options import picture_options
from graphc.cli.samples import paths_of, read_samples, sample_files
from graphc.errors import InputError
from graphc.report import format_bytes

if TYPE_CHECKING:
    from graphc.cli.preparation import Preparation
    from graphc.quantizer import QuantizedModel
    from graphc.reading import Reading


@click.command()
@model_argument
@click.argument("out", type=OutputFile(".onnx"))
@click.option(
    "--data",
    type=PathParam(exists=True, path_type=Path),
    help="Samples to calibrate with: a .npz or .npy file, or a folder of such files or pictures.",
)
@picture_options
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "entropy"]),
    default="minmax",
    show_default=True,
    help="How the range of an activation follows from its values.",
)
@click.option(
    "--percentile",
    type=click.FloatRange(50, 100, min_open=True),
    default=99.99,
    show_default=True,
    help="With --method percentile: so many percent of all values lie in the range.",
)
@click.option(
    "--weights",
    type=click.Choice(["int8", "int4", "uint4"]),
    default="int8",
    show_default=True,
    help="int4 and uint4: weights of products of matrices in blocks, activations in float; wants no data.",
)
@click.option("--block", type=click.Choice(["16", "32", "64", "128", "256"]), default="32", show_default=True, help="Weights of a block of 4 bits.")  # fmt: skip
@click.option(
    "--nbits", is_flag=True, help="Write weights of 4 bits as MatMulNBits of com.microsoft, not in standard operators."
)
@click.option("--per-tensor", is_flag=True, help="One scale for all of a layer's weights, not one for each channel.")
@click.option(
    "--reduce-range",
    is_flag=True,
    help="int8 weights from -64 to 64: faster without AVX-512 VNNI, and exact in any runtime.",
)
@click.option(
    "--activations", type=click.Choice(["uint8", "int8"]), default="uint8", show_default=True, help="In 8 bits."
)
@click.option("--symmetric", is_flag=True, help="Activations whose zero point is 0 (of uint8: 128).")
@click.option(
    "--keep",
    multiple=True,
    metavar="NAME",
    help="A layer to keep in float, a pattern of names ('block1.*'), or an operator; may be repeated.",
)
@click.option(
    "--max-error",
    type=Tolerance(min=0),
    help="Keep the most sensitive layers in float until the results' relative error is at most this.",
)
@click.option(
    "--sensitivity", is_flag=True, help="Also quantise each layer alone, and rank them by the results' errors."
)
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Samples of a run.")
@click.option("--samples", type=click.IntRange(min=1), help="Take so many from the beginning.  [default: all]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of a run.  [default: all cores]")
@click.option(
    "--report", "drawing", type=OutputFile(".svg", ".png", ".json"), help="Write the errors of the layers to this file."
)
@json_option
def quantize(
    model: str,
    out: Path,
    reading: Reading,
    how: Preparation,
    data: Path | None,
    drawing: Path | None,
    threads: int | None,
    per_tensor: bool,
    block: str,
    keep: tuple[str, ...],
    max_error: float | None,
    sensitivity: bool,
    batch: int,
    samples: int | None,
    **scheme: Any,
) -> Record:
    """Quantise MODEL to 8 bits (or its weights to 4) after training, and write it as the ONNX file OUT.

    Ranges of activations are found by running it over samples. OUT has QuantizeLinear and DequantizeLinear around its layers, which
    graphc and other runtimes turn into layers of integers.
    """
    from graphc import frontends, source_files
    from graphc.quantizer import Scheme
    from graphc.quantizer import quantize as run

    if scheme["nbits"] and scheme["weights"] == "int8":
        raise InputError("--nbits is a form of weights of 4 bits", hint="--weights int4")
    if scheme["reduce_range"] and scheme["weights"] != "int8":
        raise InputError("--reduce-range is for weights of 8 bits", hint="--weights int8")
    files = sample_files(data)
    refuse_inputs([out, drawing], [model, *paths_of(files)])
    wanted = Scheme(per_channel=not per_tensor, block=int(block), **scheme)
    with source_files.Files(mapped=False).reading() as read:
        graph = frontends.load(model, reading)
    refuse_inputs([out, drawing], read.paths)
    if data is None and scheme["weights"] == "int8":
        hint = "--data FOLDER names samples as the model will see them; --weights int4 needs none"
        raise InputError("activations in 8 bits want data to find their ranges with", hint=hint)
    if data is None and (max_error is not None or sensitivity):
        raise InputError("errors of results can't be measured without data", hint="--data FOLDER names samples")
    say_net(graph.meta.get("nets", ()), reading)
    with progress_bars() as progress:
        made = run(
            graph,
            read_samples(graph, files, how, Path(model)),
            scheme=wanted,
            keep=keep,
            max_error=max_error,
            sensitivity=sensitivity,
            batch=batch,
            samples=samples,
            options={"threads": threads},
            progress=progress,
        )
    require_one_file(made.report.bytes[1])
    written = made.to_onnx().SerializeToString()
    click.echo(made.report.text(table_width()))
    write_file(out, lambda f: f.write(written))
    click.echo(f"wrote {out}, {format_bytes(len(written))}")
    if drawing is not None:
        content = _drawn(made, drawing)
        write_file(drawing, lambda f: f.write(content))
        click.echo(f"wrote {drawing}")
    made_files = [out, *([] if drawing is None else [drawing])]
    return {"written": made_files, "bytes": len(written), "report": made.report.to_json()}


def _drawn(made: QuantizedModel, file: Path) -> bytes:
    from graphc.draw.png import png_of
    from graphc.quantizer.picture import picture

    if file.suffix.lower() == ".json":
        return json.dumps(made.report.to_json(), indent=1, ensure_ascii=False).encode()
    svg = picture(made.report, f"{made.graph.name}, quantised")
    return png_of(svg) if file.suffix.lower() == ".png" else svg.encode()
