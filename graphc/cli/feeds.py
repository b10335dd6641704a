"""Inputs for a run: shapes from the command line, arrays from files, or made up by a seed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.cli.files import File, TestSet, expanded
from graphc.cli.options import say_net
from graphc.cli.preparation import Preparation
from graphc.cli.sources import FILLS, Reader, converted
from graphc.cli.specs import ANY, Input, names_of, shape_text, spec_named, specs_of, split_name
from graphc.dtypes import is_float
from graphc.errors import InputError
from graphc.objects import Content, ObjectType
from graphc.reading import AS_IT_IS, Reading, open_type
from graphc.remedies import remedy
from graphc.signature import Spec
from graphc.types import Dim, Sym, TensorType

if TYPE_CHECKING:
    from graphc.graph import Graph
    from graphc.model import Model
    from graphc.report import Plan

MAX_ELEMENTS = 2**57  # of an array: more are past what addresses can tell
SEVERAL = "several files are one after the other: graphc run MODEL FILE FILE …; or one array in a .npy file"


def load_graph(model: Any, shapes: Mapping[str, Sequence[int]], reading: Reading = AS_IT_IS) -> Graph:
    """The graph of a model file. Inputs whose rank it does not give have that of their shape in `shapes`.

    Raises InputError where they have none, and what loading raises.
    """
    from graphc import frontends

    graph = frontends.load(model, reading)
    say_net(graph.meta.get("nets", ()), reading)
    types = {}
    for spec in specs_of(graph.inputs, graph.meta.get("dtypes", {})):
        if spec.type is None:
            shape = shapes.get(spec.name, shapes.get("") if len(graph.inputs) == 1 else None)
            if shape is None or spec.dtype is None:
                raise InputError(f"the file gives input '{spec.name}' no shape", hint=_give_shape(spec, "2,3"))
            types[spec.name] = open_type(spec.name, np.broadcast_to(np.zeros((), spec.dtype), tuple(shape)))
    return frontends.load(model, reading.also(types=types)) if types else graph


def _give_shape(spec: Spec, sizes: str) -> str:
    return f"give its sizes: --shape {spec.name}={sizes} with numbers"


def resolve_shapes(
    inputs: Sequence[Input], shapes: Mapping[str, Sequence[int]], batch: int | None = None
) -> dict[str, tuple[int, ...]]:
    """The shape of every input: from `shapes`; else with symbols that these bind; else first dims are `batch` (or 1).

    shapes: by name of an input, '' for the only one, or one size by name of a dim. Inputs that have a default are left out, unless
    `shapes` has them. Raises InputError for unknown names, shapes that do not fit, and all dims that stay open.
    """
    specs = specs_of(inputs)
    shapes, bound = _by_input(specs, shapes)
    for name, shape in shapes.items():
        _bind(spec_named(specs, name), shape, bound)
    taken = batch is None
    specs = [s for s in specs if not s.optional or s.name in shapes]
    for spec in specs:
        if not spec.shape or isinstance(spec.shape[0], int):
            continue
        if spec.name in shapes:
            taken |= shapes[spec.name][0] == batch
            continue
        first = str(spec.shape[0])
        taken |= first == ANY or bound.setdefault(first, batch or 1) == batch
    if not taken:
        fixed = ", ".join(f"{s.name}{shape_text(s.shape)}" for s in specs)
        raise InputError(f"no input takes a batch of {batch}: {fixed}", hint="leave --batch away")
    found = {s.name: tuple(shapes[s.name]) if s.name in shapes else _sizes(s, bound, batch or 1) for s in specs}
    _require_known([(s, found[s.name]) for s in specs])
    known = {name: tuple(map(int, sizes)) for name, sizes in found.items()}
    for name, shape in known.items():
        if math.prod(d for d in shape if d) > MAX_ELEMENTS:
            raise InputError(f"input '{name}' of shape {shape_text(shape)} is larger than any memory")
    return known


def _by_input(
    specs: Sequence[Spec], shapes: Mapping[str, Sequence[int]]
) -> tuple[dict[str, Sequence[int]], dict[str, int]]:
    """(shapes by the name of an input, sizes by the name of a dim)."""
    names = {s.name for s in specs}
    dims = {str(d) for s in specs for d in s.shape or () if str(d).isidentifier()}
    found: dict[str, Sequence[int]] = {}
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        if not name and len(specs) != 1:
            text = ",".join(map(str, shape))
            raise InputError(f"which input is of shape {text}?", hint=f"write NAME={text}; {names_of(specs)}")
        name = name or specs[0].name
        if name not in names and name in dims and len(shape) == 1:
            sizes[name] = shape[0]
        elif name in found:
            raise InputError(f"the shape of '{name}' is given twice")
        else:
            found[spec_named(specs, name, dims).name] = shape
    return found, sizes


def make_feeds(
    inputs: Sequence[Input],
    sources: Iterable[str] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    seed: int = 0,
    cast: bool | None = None,
    how: Preparation | None = None,
) -> dict[str, Any]:
    """An array for every input that has no default. A source is 'name=file.npy', 'file.npz', 'name=cat.jpg', 'name=16000', 'name=1,2',
    'name=random' …; the rest is random.

    Random floats lie in [0, 1), random integers in [0, 10). cast: convert numbers to the dtype that the model wants; None: leave
    them to the model. how: what is made of pictures. Raises InputError where a source can't be used.
    """
    specs = specs_of(inputs)
    reader = Reader(specs, how or Preparation(), cast)
    arrays: dict[str, Any] = {}
    fills: dict[str, str] = {}
    named: set[str] = set()  # with a default, and to be filled all the same
    for text in sources:
        name, source = split_name(specs, text)
        if source in FILLS:
            fills.update({s.name: source for s in specs} if not name else {spec_named(specs, name).name: source})
            named |= {name} - {""}
        else:
            found, pictured = _numbers(specs, name, source), False
            if found is None:
                file = _the_file(source)
                found, pictured = reader.read(file, name), isinstance(file, File) and file.kind == "picture"
            for twice in found.keys() & arrays.keys():
                raise InputError(
                    f"input '{twice}' is given twice", hint=SEVERAL if pictured else "leave one --input away"
                )
            arrays.update(found)
            if pictured and batch not in (None, 1):
                _refuse_batch(specs, found, batch)
    given = {name: np.shape(a) for name, a in arrays.items() if spec_named(specs, name).content is None}
    asked = {name or specs[0].name if len(specs) == 1 else name: tuple(d) for name, d in (shapes or {}).items()}
    for name, shape in given.items():
        if asked.get(name, shape) != shape:
            raise InputError(
                f"input '{name}' is given as {shape_text(shape)}, and --shape says {shape_text(asked[name])}",
                hint="leave --shape away: what is given has a shape",
            )
    known = {**given, **asked}
    wanted = [replace(s, optional=False) if s.name in named else s for s in specs]
    resolved = resolve_shapes(wanted, known, batch)
    rng = np.random.default_rng(seed)
    made = {
        n: _made(spec_named(specs, n), fills.get(n, "random"), shape, batch or 1, rng) for n, shape in resolved.items()
    }
    return {**made, **arrays}


def _the_file(source: str) -> File | TestSet:
    """The one that a source stands for. Raises InputError for several."""
    found = list(expanded([source]))
    if len(found) > 1:
        raise InputError(f"'{source}' is {len(found)} files, for one input", hint=SEVERAL)
    return found[0]


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
        hint = f"give its arrays: --input {spec.name}=FILE.npz, written with numpy.savez('FILE.npz', *arrays)"
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
        hint = f"give it: --input {held.name}=FILE.npz, written with numpy.savez('FILE.npz', *arrays)"
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


def _bind(spec: Spec, shape: Sequence[int], bound: dict[str, int]) -> None:
    if spec.shape is None:
        return
    fits, others = len(shape) == len(spec.shape), []
    for want, size in zip(spec.shape, shape):
        symbol = str(want)
        if isinstance(want, int):
            fits &= size == want
        elif symbol != ANY and bound.setdefault(symbol, size) != size:
            others.append(f"{symbol} = {bound[symbol]}")
    if not fits or others:
        where = f" with {', '.join(others)}" if others else ""
        raise InputError(
            f"input '{spec.name}' can't be {shape_text(shape)}: the model wants {shape_text(spec.shape)}{where}",
            hint=None if others else remedy(tuple(shape), TensorType(np.float32, tuple(map(_dim, spec.shape)))),
        )


def _dim(d: int | str) -> Dim:
    return d if isinstance(d, int) else Sym("any" if d == ANY else d)


def _sizes(spec: Spec, bound: Mapping[str, int], batch: int) -> tuple[int | str, ...]:
    """Numbers, and names of what is not known."""
    if spec.shape is None:
        raise InputError(f"the file gives input '{spec.name}' no shape", hint=_give_shape(spec, "2,3"))
    sizes = [d if isinstance(d, int) else bound.get(str(d), str(d)) for d in spec.shape]
    if sizes and sizes[0] == ANY:
        sizes[0] = batch
    return tuple(sizes)


def _require_known(found: Sequence[tuple[Spec, tuple[int | str, ...]]]) -> None:
    """Raises InputError that names all sizes that are open, and what says them."""
    missing = [(spec, sizes, [d for d in sizes if isinstance(d, str)]) for spec, sizes in found]
    missing = [(spec, sizes, names) for spec, sizes, names in missing if names]
    if not missing:
        return
    said = "; ".join(
        f"input '{s.name}' is {shape_text(s.shape)}, and {', '.join(n)} must be known" for s, _, n in missing
    )
    dims = list(dict.fromkeys(d for _, _, names in missing for d in names))
    options = " ".join(f"--shape {spec.name}={','.join(map(str, sizes))}" for spec, sizes, _ in missing)
    by_name = f", or {' '.join(f'--size {d}=…' for d in dims)}" if all(d.isidentifier() for d in dims) else ""
    raise InputError(
        said, hint=f"give {'its' if len(missing) == 1 else 'their'} sizes: {options} with numbers{by_name}"
    )


def _numbers(specs: Sequence[Spec], name: str, text: str) -> dict[str, np.ndarray] | None:
    """Numbers that are written out, '16000' or '1,2,3', as an array of the input's dtype and rank; None where it is something else.

    Raises InputError where they are none of that dtype or shape.
    """
    words = text.split(",")
    if Path(text).exists() or not (name or len(specs) == 1) or not all(map(_is_number, words)):
        return None
    spec = spec_named(specs, name) if name else specs[0]
    if spec.content is not None or spec.dtype is None or not (is_float(spec.dtype) or spec.dtype.kind in "iub"):
        raise InputError(
            f"input '{spec.name}' is {spec}, and '{text}' is numbers", hint=f"give a file: {spec.name}=FILE.npy"
        )
    values = [_number(word) for word in words]
    shape = spec.shape if spec.shape is not None else ("n",) * (len(values) > 1)
    if (len(values) > 1 and not shape) or any(d not in (1, ANY) for d in shape[:-1] if isinstance(d, int) or d == ANY):
        given = "a number" if len(values) == 1 else f"{len(values)} numbers in a row"
        hint = f"give an array: {spec.name}=FILE.npy, or one of {', '.join(FILLS)}"
        raise InputError(f"input '{spec.name}' is {shape_text(shape)}, and '{text}' is {given}", hint=hint)
    if any(isinstance(v, int) and abs(v) >= 2**63 for v in values):
        raise InputError(f"input '{spec.name}': '{text}' is beyond 64 bits", hint=f"give a file: {spec.name}=FILE.npy")
    array = np.array(values).reshape((1,) * (len(shape) - 1) + ((len(values),) if shape else ()))
    return {spec.name: converted(spec, array)}


def _is_number(word: str) -> bool:
    return (
        word.strip() in ("true", "false")
        or re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", word.strip()) is not None
    )


def _number(word: str) -> int | float:
    word = word.strip()
    return (
        word == "true" if word in ("true", "false") else int(word) if re.fullmatch(r"[-+]?\d+", word) else float(word)
    )


def _refuse_batch(specs: Sequence[Spec], pictures: Iterable[str], batch: int | None) -> None:
    """Raises InputError where the input of a picture would take a batch."""
    for name in pictures:
        if len(shape := spec_named(specs, name).shape or ()) == 4 and not isinstance(shape[0], int):
            raise InputError(
                f"input '{name}' is a picture, a batch of one, and can't be a batch of {batch}", hint=SEVERAL
            )


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
