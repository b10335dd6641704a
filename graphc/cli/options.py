"""Options that several commands take, and the models that they open."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from graphc.cli.completion import model_files, removable_names
from graphc.cli.console import many
from graphc.cli.machine import GIVEN_MODEL
from graphc.cli.paths import PathParam
from graphc.cli.picture_options import picture_options

if TYPE_CHECKING:
    from graphc.backend import Backend
    from graphc.graph import Graph
    from graphc.model import Model
    from graphc.reading import Reading

Command = Callable[..., Any]


def stack(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator of several, applied so that they read from top to bottom in the help text."""

    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


class Shape(click.ParamType):
    """`name=2,3,224,224` -> ('name', (2, 3, 224, 224)); `name=` is a scalar; the name is '' where there is none."""

    name = "name=2,3,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        name, equals, dims = value.rpartition("=")
        try:
            shape = tuple(map(int, dims.removesuffix(",").split(","))) if dims.strip() else ()
        except ValueError:
            shape = (-1,)
        if bool(equals) != bool(name) or not (name or shape) or any(d < 0 for d in shape):
            self.fail(f"'{value}' is not a shape; write the input's name and its sizes: name=2,3,224,224", param, ctx)
        return name, shape


def _once(ctx: click.Context, param: click.Parameter, shapes: tuple) -> tuple:
    for name, _ in shapes:
        if [n for n, _ in shapes].count(name) > 1:
            raise click.BadParameter(f"the shape of '{name}' is given twice", ctx, param)
    return shapes


class ModelFile(PathParam):
    """The path of a file, or 'zoo:NAME', which becomes that of the network's page."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from graphc import zoo

        name = str(value).removesuffix(".yaml")
        if name in zoo.names() and not os.path.exists(value):
            self.fail(f"there is no file '{value}': did you mean {zoo.PREFIX}{name}?", param, ctx)
        if ctx is not None:
            ctx.meta[GIVEN_MODEL] = value
        return super().convert(os.fspath(zoo.resolved(value)), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return model_files(incomplete)


class TargetName(click.ParamType):
    """A target of one of the backends, which are looked for only when it is needed."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from graphc.backends import targets

        if value not in targets():
            self.fail(f"'{value}' is not one of {', '.join(targets())}", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from graphc.backends import targets

        return [CompletionItem(name) for name in targets() if name.startswith(incomplete)]


class Tolerance(click.FloatRange):
    """A number from 0 on."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("not a number", param, ctx)
        return number


class ParamOf(click.ParamType):
    """`classes=10` -> ('classes', 10): a number, true or false, or text."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not equals or not name:
            self.fail(f"'{value}' sets no param; write its name and its value: classes=10", param, ctx)
        return name, _plain(text)


def _plain(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _by_name(ctx: click.Context, param: click.Parameter, params: tuple) -> dict[str, Any]:
    for name, _ in params:
        if [n for n, _ in params].count(name) > 1:
            raise click.BadParameter(f"'{name}' is given twice", ctx, param)
    return dict(params)


def _read_as(command: Command) -> Command:
    """Give a command `reading`: how its options say that the model is read."""

    @wraps(command)
    def run(*, params: dict[str, Any], net: str | None, no_preprocess: bool, **rest: Any) -> Any:
        from graphc.reading import Reading

        reading = Reading(params=tuple(params.items()), net=net, preprocess=not no_preprocess)
        return command(reading=reading, **rest)

    return run


def _no_more_than_cpus(ctx: click.Context, param: click.Parameter, threads: int | None) -> int | None:
    """Warns where threads will have to wait for each other."""
    from graphc.backends.cpu.hardware import cpu_count

    if threads is not None and threads > (cpus := cpu_count()):
        said = f"{threads} threads are more than the {many(cpus, 'CPU')} of this process, and wait for each other"
        click.echo(f"warning: {said}; --threads {cpus} is likely to be faster", err=True)
    return threads


def _load(ctx: click.Context, param: click.Parameter, files: tuple[str, ...]) -> None:
    from graphc.own import load_file

    for file in files:
        load_file(file)


import_option = click.option(
    "--import",
    type=PathParam(exists=True, dir_okay=False),
    multiple=True,
    is_eager=True,  # the operators are there when other options are read
    expose_value=False,
    callback=_load,
    metavar="FILE.py",
    help="A Python file that registers operators of your own; may be repeated.",
)

model_argument = stack(
    click.argument("model", type=ModelFile()),
    import_option,
    click.option(
        "--param",
        "params",
        type=ParamOf(),
        multiple=True,
        callback=_by_name,
        help="A value for one of the params of a YAML file; may be repeated.",
    ),
    click.option("--net", metavar="NAME", help="Which of the nets of a YAML file.  [default: the first; check: all]"),
    click.option(
        "--no-preprocess", is_flag=True, help="Without the preprocess of a YAML file: inputs are prepared already."
    ),
    _read_as,
)

compile_options = stack(
    click.option(
        "--target",
        type=TargetName(),
        default="cpu",
        show_default=True,
        help="What to compile for: cpu (the best this machine has), cpu:avx512, cpu:avx2, cpu:portable, cuda, "
        "cuda:emulate, reference.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        callback=_no_more_than_cpus,
        help="Threads of one inference on target cpu.  [default: all cores]",
    ),
    click.option(
        "--disable",
        multiple=True,
        metavar="NAME",
        shell_complete=removable_names,
        help="Leave out a pass, or a part of target cpu: winograd, strassen, layout, fusion, epilogues, prologues, "
        "results_in_place, concat_in_place, image_runs, block_sparse, arena_reuse; may be repeated.",
    ),
    click.option(
        "--winograd",
        type=click.Choice(["6", "4", "2", "0"]),
        default="6",
        show_default=True,
        help="Largest output tile of Winograd convolutions; smaller ones are more exact, 0: none.",
    ),
    click.option("--tune", is_flag=True, help="Choose algorithms by measuring them here; kept on disk."),
    click.option(
        "--host", is_flag=True, help="Let the CPU run nodes that target cuda has no kernel for; others do so anyway."
    ),
    click.option(
        "--arch", metavar="NAME", help="Compile kernels for this GPU ahead, with target cuda: sm_80, sm_90, sm_90a, …"
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bf16", "bf16-weights", "tf32"]),
        help="Of float32 products: float32; on a CPU bf16 or bf16-weights, with target cuda tf32; faster, with 8 or 11 digits of 24.",
    ),
    click.option("--device", type=click.IntRange(min=0), help="Number of the GPU of target cuda.  [default: 0]"),
    click.option("--no-cache", is_flag=True, help="Neither read nor write kernels on disk."),
)

shape_options = stack(
    click.option(
        "--batch",
        type=click.IntRange(min=1),
        help="First dimension of the inputs, where the file leaves it open.",
    ),
    click.option(
        "--shape",
        "--size",
        "shapes",
        type=Shape(),
        multiple=True,
        callback=_once,
        help="Shape of an input, whose name the only one may leave away, or a size by its name (width=224); may be repeated.",
    ),
)

feed_options = stack(
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="[NAME=]SOURCE",
        help="A file (.npy, .npz, .csv, .pb, a picture, a sound), '-' for stdin, numbers (16000 or 1,2,3), 'random', 'ones' or "
        "'zeros'; may be repeated.  [default: random]",
    ),
    click.option("--cast", is_flag=True, help="Convert numbers of inputs to the dtypes that the model wants."),
    shape_options,
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of random inputs."),
    picture_options,
)

plan_options = stack(
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="[NAME=]SOURCE",
        help="Inputs whose values decide shapes: files as `graphc run` takes them, or numbers; may be repeated.",
    ),
    shape_options,
)


def open_backend(
    *,
    target: str,
    threads: int | None,
    disable: tuple[str, ...],
    no_cache: bool,
    winograd: str,
    tune: bool,
    host: bool,
    arch: str | None,
    precision: str | None,
    device: int | None,
    **of_model: Any,
) -> Backend:
    """The backend for the values of `compile_options`. Raises GraphcError."""
    from graphc.backend import Request
    from graphc.backends import open_backend

    options = {"threads": threads, "winograd": int(winograd), "tune": tune}
    of_gpu = _of_gpu(host, arch, device, precision)
    return open_backend(target, Request(options=options | of_gpu, disabled=disable, cache=not no_cache))


def _of_gpu(host: bool, arch: str | None, device: int | None, precision: str | None) -> dict[str, Any]:
    """Options that only target cuda has, where they are given."""
    given = {"host": host or None, "arch": arch, "device": device, "precision": precision}
    return {name: value for name, value in given.items() if value is not None}


def open_model(
    source: str | Graph,
    *,
    reading: Reading | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    **settings: Any,
) -> Model:
    """Compile a model file or a graph with the values of `compile_options`. Raises GraphcError."""
    import graphc

    if str(source).endswith(".gcm"):
        return graphc.load(str(source), settings.get("threads"))
    read = {} if reading is None else _as_arguments(reading)
    model = graphc.compile(source, **read, **compile_arguments(**settings), progress=progress)
    say_net(model.nets, reading)
    return model


def compile_arguments(
    *,
    target: str = "cpu",
    threads: int | None = None,
    disable: tuple[str, ...] = (),
    no_cache: bool = False,
    winograd: str = "6",
    tune: bool = False,
    host: bool = False,
    arch: str | None = None,
    precision: str | None = None,
    device: int | None = None,
) -> dict[str, Any]:
    """The values of `compile_options` as arguments of `graphc.compile`."""
    return {
        "target": target,
        "threads": threads,
        "cache": not no_cache,
        "disabled": disable,
        "winograd": int(winograd),
        "tune": tune,
        **_of_gpu(host, arch, device, precision),
    }


def _as_arguments(reading: Reading) -> dict[str, Any]:
    return {"params": dict(reading.params) or None, "net": reading.net, "preprocess": reading.preprocess}


def say_net(nets: Sequence[str], reading: Reading | None) -> None:
    """Say which of several nets is taken, where nobody has chosen one."""
    if len(nets) > 1 and reading is not None and reading.net is None:
        others = ", ".join(nets[1:])
        click.echo(f"net '{nets[0]}' is taken, the first of the file; --net NAME takes another: {others}", err=True)
