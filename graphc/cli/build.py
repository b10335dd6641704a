"""graphc build: a model as one file for machines without a compiler, or as a C library."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.console import many, progress_bars, seconds
from graphc.cli.machine import Record, json_option
from graphc.cli.options import model_argument
from graphc.cli.output import OutputFile, refuse_inputs
from graphc.report import format_bytes

if TYPE_CHECKING:
    from graphc.reading import Reading

_DIM = re.compile(r"(\d+)(?:\.\.(\d+))?")


class ShapeSet(click.ParamType):
    """`ids=1..8,16 width=64` -> {'ids': (range(1, 9), 16), 'width': (64,)}."""

    name = "shapes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        found: dict[str, tuple[int | range, ...]] = {}
        for text in value.split():
            name, equals, dims = text.rpartition("=")
            matches = [_DIM.fullmatch(d) for d in dims.removesuffix(",").split(",")] if dims else []
            sizes = tuple(_size(m) for m in matches if m is not None)
            if not equals or not name or name in found or len(sizes) < len(matches) or range(0) in sizes:
                self.fail(
                    f"'{text}' is no shape of an input; write name=1..8,3,224,224, or width=224 for the dims of that name",
                    param,
                    ctx,
                )
            found[name] = sizes
        return found


def _size(m: re.Match[str]) -> int | range:
    """An empty range where the end comes first."""
    first, last = m.groups()
    return int(first) if last is None else range(int(first), max(int(last) + 1, int(first)))


def _targets(ctx: click.Context, param: click.Parameter, text: str) -> tuple[str, ...]:
    from graphc.backends.cpu import TARGETS

    names = tuple(text.replace(" ", "").split(","))
    for name in names:
        if name not in TARGETS:
            raise click.BadParameter(f"'{name}' is not one of {', '.join(TARGETS)}", ctx, param)
    return names


@click.command()
@model_argument
@click.option("-o", "--output", "out", required=True, type=OutputFile(".gcm", ".so"), help="The file to write.")
@click.option(
    "--shapes",
    type=ShapeSet(),
    multiple=True,
    metavar="'NAME=1..8,3,224,224 …'",
    help="Sizes of the inputs whose dims are open, by input or by the name of a dim, or ranges of sizes; may be repeated.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]SOURCE",
    help="Where data decides shapes: inputs to try it with, .npy or .npz files, pictures, or 'random'; may be repeated.",
)
@click.option(
    "--target",
    "targets",
    default="cpu",
    callback=_targets,
    help="cpu (for CPUs with all that this one has), cpu:avx512, cpu:avx2, cpu:portable; several with commas between.  "
    "[default: cpu]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one inference, at most.  [default: all cores]")
@click.option("--winograd", type=click.Choice(["6", "4", "2", "0"]), default="6", help="As of graphc compile.")
@click.option("--precision", type=click.Choice(["float32", "bf16", "bf16-weights"]), help="As of graphc compile.")
@click.option(
    "--coded", is_flag=True, help="Store weights of few different numbers (shrink --codebook) in Huffman codes."
)
@click.option("--c", "for_c", is_flag=True, help="Write a shared object (-o libNAME.so) and its C header, NAME.h.")
@json_option
def build(
    model: str,
    reading: Reading,
    out: Path,
    shapes: tuple[dict[str, Any], ...],
    inputs: tuple[str, ...],
    targets: tuple[str, ...],
    threads: int | None,
    winograd: str,
    precision: str | None,
    coded: bool,
    for_c: bool,
) -> Record:
    """Write MODEL, compiled, into one file: graphc.load runs it where NumPy is, and no compiler.

    With --c, a shared object with one function, for programs in C.
    """
    if for_c != (out.suffix.lower() == ".so"):
        raise click.UsageError("--c writes a .so, and without --c the file is a .gcm")
    refuse_inputs([out], [model])
    if for_c and inputs:
        raise click.UsageError("--input is for models whose shapes follow from data, which --c does not take")
    if for_c and coded:
        raise click.UsageError("--coded is for .gcm files: a C library has its weights as they are used")
    start = time.perf_counter()
    options: dict[str, Any] = {"threads": threads, "winograd": int(winograd)}
    options |= {} if precision is None else {"precision": precision}
    options |= {"coded": True} if coded else {}
    if inputs:
        options["samples"] = [_sample(model, reading, inputs)]
    with progress_bars() as progress:
        given = {"targets": targets, "shapes": shapes, "reading": reading, "progress": progress, **options}
        text, record = (_build_c if for_c else _build)(model, out, **given)
    took, size = time.perf_counter() - start, out.stat().st_size
    click.echo(f"wrote {out}, {format_bytes(size)}, {text}, {seconds(took)}")
    return {"written": str(out), "bytes": size, **record, "seconds": took}


def _sample(model: str, reading: Reading, sources: tuple[str, ...]) -> dict[str, Any]:
    from graphc.cli.feeds import load_graph, make_feeds

    return make_feeds(load_graph(model, {}, reading).inputs, sources)


def _build(model: str, out: Path, **options: Any) -> tuple[str, Record]:
    from graphc.artefact.build import build

    header = build(model, out, **options)
    found = [{"target": t["target"], "needs": t["needs"], "plans": len(t["documents"])} for t in header["targets"]]
    names = ", ".join(f"{t['target']} ({many(t['plans'], 'plan')})" for t in found)
    return f"for {names}", {"targets": found}


def _build_c(model: str, out: Path, **options: Any) -> tuple[str, Record]:
    from graphc.artefact.c.build import build_c

    beside = build_c(model, out, **options)
    return f"and {beside}", {"header": str(beside)}
