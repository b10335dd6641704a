"""Files -> the arrays of a model's inputs: arrays, pictures, sounds, tables and ONNX test data."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np

from graphc.cli.files import File, TestSet
from graphc.cli.preparation import Preparation, prepared_picture
from graphc.cli.specs import names_of, spec_named, the_spec
from graphc.dtypes import is_float
from graphc.errors import GraphcError, InputError
from graphc.objects import ObjectType
from graphc.signature import Spec
from graphc.types import dtype_name

KINDS = "a .npy, .npz, .csv or .pb file, a picture (.jpg, .png …), a sound (.wav …)"
FILLS = ("random", "ones", "zeros")


def say(text: str) -> None:
    """What was done with a file, beside the results."""
    click.echo(text, err=True)


@dataclass
class Reader:
    """Reads files for these inputs.

    how: what is made of pictures
    cast: convert numbers to the dtypes that the model wants; None: leave them to the model; False: refuse others
    tell: is given what was done, once each
    """

    specs: Sequence[Spec]
    how: Preparation = field(default_factory=Preparation)
    cast: bool | None = None
    tell: Callable[[str], None] = say
    _told: set[str] = field(default_factory=set)

    def read(self, file: File | TestSet, name: str = "") -> dict[str, Any]:
        """The arrays of a file by the names of inputs; name: of the one that it is for. Raises InputError."""
        found = self._of_set(file) if isinstance(file, TestSet) else self._read(file, name)
        if self.cast is None:
            return found
        return {n: _cast(spec_named(self.specs, n), a, self.cast) for n, a in found.items()}

    def _read(self, file: File, name: str) -> dict[str, Any]:
        kind = file.kind
        if kind == "picture":
            spec = the_spec(self.specs, name, file.path)
            return {spec.name: prepared_picture(file.data, spec, file.path, self.how, self._tell)}
        if kind == "sound":
            from graphc.cli.sounds import prepared_sound, read_sound

            spec = the_spec(self.specs, name, file.path)
            return {spec.name: prepared_sound(read_sound(file.data, file.path), spec, file.path, self._tell)}
        if kind == "table":
            from graphc.cli.tables import feeds_of, read_table

            return feeds_of(read_table(file.data, file.path), self.specs, name, file.path, self._tell)
        if kind == "onnx":
            return self._test_data(file, name)
        return self._arrays(file, name)

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.tell(text)

    # --- ONNX test data ---------------------------------------------------------------------------------------------
    def _test_data(self, file: File, name: str) -> dict[str, Any]:
        if not name and len(self.specs) > 1:  # the file may tell which input it is for
            named = read_message(file, None)[0]
            name = named if any(s.name == named for s in self.specs) else ""
        spec = the_spec(self.specs, name, file.path)
        return {spec.name: read_message(file, spec)[1]}

    def _of_set(self, files: TestSet) -> dict[str, Any]:
        feeds = {}
        for i, file in sorted(files.inputs.items()):
            if i >= len(self.specs):
                raise InputError(f"'{file.path}' is for input {i}", hint=names_of(self.specs))
            named, value = read_message(file, self.specs[i])
            spec = next((s for s in self.specs if s.name == named), self.specs[i])
            feeds[spec.name] = value
        return feeds

    # --- .npy and .npz ----------------------------------------------------------------------------------------------
    def _arrays(self, file: File, name: str) -> dict[str, Any]:
        specs, path = self.specs, file.path
        arrays = {key or name: a for key, a in load_arrays(file).items()}
        taken = spec_named(specs, name) if name else specs[0] if len(specs) == 1 else None
        if taken is not None and taken.content is not None and taken.name not in arrays:
            return {taken.name: _object(taken, list(arrays.values()), path)}
        if len(arrays) == 1 and (name or len(specs) == 1):
            arrays = {name or specs[0].name: next(iter(arrays.values()))}
        elif "" in arrays:
            raise InputError(f"which input is '{path}'?", hint=f"write NAME={path}; {names_of(specs)}")
        elif name:
            raise InputError(f"'{path}' holds {len(arrays)} arrays ({', '.join(arrays)}): give it without '{name}='")
        return {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in arrays.items() if spec_named(specs, n)}


def read_message(file: File, spec: Spec | None) -> tuple[str, Any]:
    """(name, value) of a .pb file, of the type that an input or output has. Raises InputError."""
    from graphc.frontends.onnx_test_data import read_test_data

    try:
        return read_test_data(file.data, None if spec is None else spec.content)
    except InputError:
        raise
    except GraphcError as error:
        raise InputError(f"'{file.path}' {error.message}", hint=error.hint) from None


def load_arrays(file: File) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name, or the one of a .npy file under ''. Raises InputError."""
    path = file.path
    try:
        loaded = np.load(io.BytesIO(file.data) if file.is_stdin else path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"": loaded}
    except FileNotFoundError:
        hint = f"a source is {KINDS}, numbers (16000 or 1,2,3), or one of {', '.join(FILLS)}"
        raise InputError(f"no file or folder '{path}'", hint=hint) from None
    except OSError as error:
        raise InputError(f"can't read '{path}': {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):  # NumPy's own text tells how to unpickle
        known = str(path).lower().endswith((".npy", ".npz")) or file.is_stdin
        hint = "write it with numpy.save" if known else f"its suffix says what a file is: {KINDS}"
        raise InputError(f"'{path}' is no .npy or .npz file of numbers or text", hint=hint) from None
    if not arrays or not all(isinstance(a, np.ndarray) for a in arrays.values()):
        raise InputError(
            f"'{path}' holds {'what is no array' if arrays else 'no arrays'}", hint="write it with numpy.savez"
        )
    return arrays


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


def _cast(spec: Spec, a: Any, convert: bool) -> Any:
    """The array, converted where that is asked. Raises InputError where its dtype is another one and can't be, or must not."""
    if spec.content is not None or not isinstance(a, np.ndarray) or spec.dtype is None or a.dtype == spec.dtype:
        return a
    if a.dtype.kind not in "biufV" or not (is_float(spec.dtype) or spec.dtype.kind in "iub"):
        return a  # the model tells
    if not convert:
        raise InputError(
            f"input '{spec.name}' is {dtype_name(a.dtype)}, the model wants {spec.type}", hint="--cast converts it"
        )
    return converted(spec, a)


def converted(spec: Spec, a: np.ndarray) -> np.ndarray:
    """Numbers in the input's dtype: floats rounded. Raises InputError where they become others, as fractions do as integers."""
    assert spec.dtype is not None
    with np.errstate(all="ignore"):
        made = a.astype(spec.dtype)
        fits = np.array_equal(np.isfinite(made.astype(np.float64)), np.isfinite(a.astype(np.float64)))
    if not (fits if is_float(spec.dtype) else np.array_equal(made, a)):
        raise InputError(
            f"input '{spec.name}' is {dtype_name(a.dtype)} with numbers that are none of {dtype_name(spec.dtype)}",
            hint="give whole numbers in its range" if not is_float(spec.dtype) else "they lie out of its range",
        )
    return made
