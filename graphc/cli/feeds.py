"""Inputs for a run: shapes from the command line, arrays from files, or made up by a seed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from graphc.cli.options import say_net
from graphc.dims import UNKNOWN
from graphc.errors import InputError
from graphc.objects import Content, ObjectType
from graphc.pictures import SUFFIXES as PICTURES
from graphc.pictures import decode
from graphc.reading import AS_IT_IS, Reading, open_type
from graphc.signature import Spec
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.graph import Graph, Value
    from graphc.model import Model
    from graphc.report import Plan

MAX_ELEMENTS = 2**57  # of an array: more are past what addresses can tell
FILLS = ("random", "ones", "zeros")
SEVERAL = "several pictures are one array, [batch, height, width, channels], in a .npy file: --input NAME=FILE.npy"
_ANY = str(UNKNOWN)  # a dim without a name: two of them are not the same


Input = Union[Spec, "Value"]


def load_graph(model: Any, shapes: Mapping[str, Sequence[int]], reading: Reading = AS_IT_IS) -> Graph:
    """The graph of a model file. Inputs whose rank it does not give have that of their shape in `shapes`.

    Raises InputError where they have none, and what loading raises.
    """
    from graphc import frontends

    graph = frontends.load(model, reading)
    say_net(graph.meta.get("nets", ()), reading)
    types = {}
    for spec in _specs(graph.inputs, graph.meta.get("dtypes", {})):
        if spec.type is None:
            shape = shapes.get(spec.name)
            if shape is None or spec.dtype is None:
                raise InputError(f"the file gives input '{spec.name}' no shape", hint=_give_shape(spec, "2,3"))
            types[spec.name] = open_type(spec.name, np.broadcast_to(np.zeros((), spec.dtype), tuple(shape)))
    return frontends.load(model, reading.also(types=types)) if types else graph


def _specs(inputs: Sequence[Input], dtypes: Mapping[str, np.dtype] | None = None) -> list[Spec]:
    return [s if isinstance(s, Spec) else Spec.of(s.name, s.type, (dtypes or {}).get(s.name)) for s in inputs]


def _give_shape(spec: Spec, sizes: str) -> str:
    return f"give its sizes: --shape {spec.name}={sizes} with numbers"


def resolve_shapes(
    inputs: Sequence[Input], shapes: Mapping[str, Sequence[int]], batch: int | None = None
) -> dict[str, tuple[int, ...]]:
    """The shape of every input: from `shapes`; else with symbols that these bind; else first dims are `batch` (or 1).

    Those that have a default are left out, unless `shapes` has them. Raises InputError for unknown names, shapes that do
    not fit, and dims that stay open.
    """
    specs = _specs(inputs)
    bound: dict[str, int] = {}
    for name, shape in shapes.items():
        _bind(_spec(specs, name), shape, bound)
    taken = batch is None
    specs = [s for s in specs if not s.optional or s.name in shapes]
    for spec in specs:
        if not spec.shape or isinstance(spec.shape[0], int):
            continue
        if spec.name in shapes:
            taken |= shapes[spec.name][0] == batch
            continue
        first = str(spec.shape[0])
        taken |= first == _ANY or bound.setdefault(first, batch or 1) == batch
    if not taken:
        fixed = ", ".join(f"{s.name}{_text(s.shape)}" for s in specs)
        raise InputError(f"no input takes a batch of {batch}: {fixed}", hint="leave --batch away")
    found = {s.name: tuple(shapes[s.name]) if s.name in shapes else _complete(s, bound, batch or 1) for s in specs}
    for name, shape in found.items():
        if math.prod(d for d in shape if d) > MAX_ELEMENTS:
            raise InputError(f"input '{name}' of shape {_text(shape)} is larger than any memory")
    return found


def make_feeds(
    inputs: Sequence[Input],
    sources: Iterable[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """An array for every input that has no default. A source is 'name=file.npy', 'file.npz', 'name=cat.jpg', 'name=random' …; the
    rest is random.

    Random floats lie in [0, 1), random integers in [0, 10). Raises InputError where a source can't be used.
    """
    specs = _specs(inputs)
    arrays: dict[str, Any] = {}
    fills: dict[str, str] = {}
    named: set[str] = set()  # with a default, and to be filled all the same
    for text in sources:
        name, source = _named(specs, text)
        if source in FILLS:
            fills.update({s.name: source for s in specs} if not name else {_spec(specs, name).name: source})
            named |= {name} - {""}
        else:
            found, pictured = _read(specs, name, source), _is_picture(source)
            for twice in found.keys() & arrays.keys():
                raise InputError(
                    f"input '{twice}' is given twice", hint=SEVERAL if pictured else "leave one --input away"
                )
            arrays.update(found)
            if pictured and batch not in (None, 1):
                _refuse_batch(specs, found, batch)
    known = {
        **{name: np.shape(a) for name, a in arrays.items() if _spec(specs, name).content is None},
        **dict(shapes or {}),
    }
    wanted = [replace(s, optional=False) if s.name in named else s for s in specs]
    resolved = resolve_shapes(wanted, known, batch)
    rng = np.random.default_rng(seed)
    made = {n: _made(_spec(specs, n), fills.get(n, "random"), shape, batch or 1, rng) for n, shape in resolved.items()}
    return {**made, **arrays}


def _made(spec: Spec, kind: str, shape: tuple[int, ...], size: int, rng: np.random.Generator) -> Any:
    if spec.content is not None:
        return _made_object(spec, spec.content, kind, size, rng)
    if spec.dtype is None:
        raise InputError(
            f"the file gives input '{spec.name}' no dtype", hint=f"give an array: --input {spec.name}=FILE.npy"
        )
    return _fill(kind, spec.dtype, shape, rng)


def _made_object(spec: Spec, want: Content, kind: str, size: int, rng: np.random.Generator) -> Any:
    """Two elements for a sequence, something for an optional, two entries for a map. size: of open dims."""
    if isinstance(want, ObjectType):
        one, other = (_made_object(spec, want.of, kind, size, rng) for _ in range(2))
        if want.kind == "map":
            keys = (0, 1) if want.key == np.int64 else ("text 0", "text 1")
            return dict(zip(keys, (one, other)))
        return [one, other] if want.kind == "sequence" else one
    if want.dtype is None or not isinstance(want, TensorType):
        hint = f"give its arrays: --input {spec.name}=FILE.npz"
        raise InputError(f"the file gives what input '{spec.name}' holds no shape: {spec.content}", hint=hint)
    return _fill(kind, want.dtype, tuple(d if isinstance(d, int) else size for d in want.shape), rng)


def make_plan(
    model: Model,
    sources: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
    batch: int | None,
    many: bool = False,
) -> Plan:
    """The plan for these shapes, and for the values that the sources give to inputs whose values decide shapes. many: the one that
    they share with others.

    Raises InputError where shapes stay open.
    """
    if model.valued and not sources:
        hint = f"give them: --input {model.valued[0]}=FILE.npy"
        raise InputError(f"shapes follow from the values of {', '.join(model.valued)}", hint=hint)
    held = next((s for s in model.inputs if s.content is not None and not sources), None)
    if held is not None:
        hint = f"give it: --input {held.name}=FILE.npz"
        raise InputError(f"which tensors input '{held.name}' holds is open: {held.content}", hint=hint)
    if not sources:
        return model.plan(resolve_shapes(model.inputs, shapes, batch), many=many)
    return model.plan(values=make_feeds(model.inputs, sources, shapes, batch), many=many)


def plan_of(model: Model, feeds: Mapping[str, np.ndarray]) -> Plan:
    """The plan by which these inputs are run."""
    return model.plan(values=feeds)


def input_files(sources: Iterable[str]) -> list[str]:
    """What may be a file of arrays in 'name=file', 'file', 'name=random' …"""
    return [path for text in sources for path in (text, text.partition("=")[2]) if path]


def read_arrays(inputs: Sequence[Input], path: str) -> dict[str, Any]:
    """The arrays of a file by the names of inputs, which may be any where there is one input and one array; of a picture as the only
    input has it. Raises InputError where the file can't be read, or has what is no input."""
    return _read(_specs(inputs), "", path)


def _named(specs: Sequence[Spec], text: str) -> tuple[str, str]:
    """(name, source); the name is '' where none is given. Names and paths may hold '='."""
    for spec in specs:
        if text.startswith(f"{spec.name}="):
            return spec.name, text[len(spec.name) + 1 :]
    name, equals, source = text.partition("=")
    return (name, source) if equals and not Path(text).is_file() else ("", text)


def _spec(specs: Sequence[Spec], name: str) -> Spec:
    for spec in specs:
        if spec.name == name:
            return spec
    close = get_close_matches(name, [s.name for s in specs], 1)
    guess = f"did you mean '{close[0]}'? " if close else ""
    raise InputError(f"the model has no input '{name}'", hint=f"{guess}{_names(specs)}")


def _names(specs: Sequence[Spec]) -> str:
    return f"inputs: {', '.join(s.name for s in specs)}"


def _bind(spec: Spec, shape: Sequence[int], bound: dict[str, int]) -> None:
    if spec.shape is None:
        return
    fits = len(shape) == len(spec.shape)
    for want, size in zip(spec.shape, shape):
        symbol = str(want)
        fits &= size == want if isinstance(want, int) else symbol == _ANY or bound.setdefault(symbol, size) == size
    if not fits:
        sizes = ", ".join(f"{dim} = {size}" for dim, size in bound.items())
        where = f" with {sizes}" if sizes else ""
        raise InputError(f"input '{spec.name}' can't be {_text(shape)}: the model wants {_text(spec.shape)}{where}")


def _complete(spec: Spec, bound: Mapping[str, int], batch: int) -> tuple[int, ...]:
    if spec.shape is None:
        raise InputError(f"the file gives input '{spec.name}' no shape", hint=_give_shape(spec, "2,3"))
    sizes = [d if isinstance(d, int) else bound.get(str(d), str(d)) for d in spec.shape]
    if sizes and sizes[0] == _ANY:
        sizes[0] = batch
    unbound = [d for d in sizes if isinstance(d, str)]
    if unbound:
        raise InputError(
            f"input '{spec.name}' is {_text(spec.shape)}, and {', '.join(unbound)} must be known",
            hint=_give_shape(spec, ",".join(str(d) for d in sizes)),
        )
    return tuple(int(d) for d in sizes)


def _text(shape: Sequence | None) -> str:
    if shape is None:
        return "[...]"
    return f"[{', '.join(map(str, shape))}]"


def _is_picture(path: str) -> bool:
    return Path(path).suffix.lower() in PICTURES


def _refuse_batch(specs: Sequence[Spec], pictures: Iterable[str], batch: int | None) -> None:
    """Raises InputError where the input of a picture would take a batch."""
    for name in pictures:
        if len(shape := _spec(specs, name).shape or ()) == 4 and not isinstance(shape[0], int):
            raise InputError(
                f"input '{name}' is a picture, a batch of one, and can't be a batch of {batch}", hint=SEVERAL
            )


def _picture(spec: Spec, path: str) -> np.ndarray:
    """A file as an input that takes pictures: uint8 [1, height, width, channels], [height, width, channels], or its bytes.

    Raises InputError where the input is none, and where the file can't be read.
    """
    shape = spec.shape or ()
    pixels = len(shape) in (3, 4) and shape[-1] in (1, 3)
    if spec.dtype != np.uint8 or not (pixels or len(shape) == 1):
        raise InputError(
            f"input '{spec.name}' is {_text(spec.shape)} of {spec.dtype}, and '{path}' a picture",
            hint="pictures are uint8 [1, height, width, 3]: a YAML file can make of them what a net wants, by `preprocess`",
        )
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"no file '{path}'", hint="check the path of the picture") from None
    except OSError as error:
        raise InputError(f"can't read '{path}': {error.strerror or error}") from None
    if len(shape) == 1:
        return np.frombuffer(data, np.uint8)
    try:
        array = decode(data, "Grayscale" if shape[-1] == 1 else "RGB", upright=True)
    except InputError as error:
        raise InputError(f"'{path}': {error.message}", hint=error.hint) from None
    return array if len(shape) == 3 else array[None]


def _read(specs: Sequence[Spec], name: str, path: str) -> dict[str, Any]:
    if _is_picture(path):
        if not name and len(specs) > 1:
            raise InputError(f"which input is '{path}'?", hint=f"write NAME={path}; {_names(specs)}")
        spec = _spec(specs, name) if name else specs[0]
        return {spec.name: _picture(spec, path)}
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {name: loaded}
    except FileNotFoundError:
        raise InputError(
            f"no file '{path}'", hint=f"a source is a .npy or .npz file, a picture, or one of {', '.join(FILLS)}"
        ) from None
    except OSError as error:
        raise InputError(f"can't read '{path}': {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):  # NumPy's own text tells how to unpickle
        raise InputError(
            f"'{path}' is no .npy or .npz file of numbers or text", hint="write it with numpy.save"
        ) from None
    if not arrays or not all(isinstance(a, np.ndarray) for a in arrays.values()):
        raise InputError(
            f"'{path}' holds {'what is no array' if arrays else 'no arrays'}", hint="write it with numpy.savez"
        )
    taken = _spec(specs, name) if name else specs[0] if len(specs) == 1 else None
    if taken is not None and taken.content is not None and taken.name not in arrays:
        return {taken.name: _object(taken, list(arrays.values()), path)}
    if len(arrays) == 1 and (name or len(specs) == 1):
        arrays = {name or specs[0].name: next(iter(arrays.values()))}
    elif "" in arrays:
        raise InputError(f"which input is '{path}'?", hint=f"write NAME={path}; {_names(specs)}")
    elif name:
        raise InputError(f"'{path}' holds {len(arrays)} arrays ({', '.join(arrays)}): give it without '{name}='")
    return {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in arrays.items() if _spec(specs, n)}


def _object(spec: Spec, arrays: list[np.ndarray], path: str) -> Any:
    """The arrays of a file as a sequence; the one of an optional tensor."""
    of = spec.content
    if of is not None and of.kind == "optional":
        of = of.of if isinstance(of.of, ObjectType) else None
    if of is None and len(arrays) == 1:
        return arrays[0]
    if of is None or of.kind != "sequence" or isinstance(of.of, ObjectType):
        raise InputError(f"'{path}' holds {len(arrays)} arrays, and input '{spec.name}' is {spec.content}")
    return arrays


def _fill(kind: str, dtype: np.dtype, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(dtype)
    if kind == "ones":
        return np.ones(shape, dtype)
    if kind == "zeros":
        return np.zeros(shape, dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        return rng.integers(0, 10, shape).astype(dtype)
    if dtype.kind in "OUS":
        return np.char.mod("text %d", rng.integers(0, 10, shape)).astype(object)
    return rng.random(shape).astype(dtype)
