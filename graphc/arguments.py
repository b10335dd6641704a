"""What callers give a model: their arrays, names and buffers, checked against its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.dlpack import array_of, shared_memory
from graphc.errors import InputError
from graphc.objects import Content, ObjectType, box, unbox
from graphc.remedies import conversion, fits, remedy
from graphc.signature import Signature, Spec, wrong_names
from graphc.types import TensorType, dtype_name

# what making an array raises: of uneven rows, a tensor of a GPU or one that needs its gradient
UNREADABLE = (TypeError, ValueError, RuntimeError, OverflowError, BufferError)


class Arguments:
    """The inputs and outputs of a model, and what may be given for them. Each check raises InputError."""

    def __init__(self, signature: Signature, device_array: Callable[[Any], Any | None] | None = None) -> None:
        """device_array: of the backend, see graphc/backend.py."""
        self._device_array = device_array
        self._valued = {*signature.valued}
        self.inputs: tuple[Spec, ...] = (*signature.inputs, *signature.optional)
        self.outputs: tuple[Spec, ...] = signature.outputs
        self.names = tuple(s.name for s in signature.inputs)  # of those that must be given
        self.dtypes = tuple(s.dtype for s in signature.inputs)
        self.output_names = tuple(s.name for s in signature.outputs)

    def checked(self, i: int, a: Any) -> np.ndarray:
        """Input i as a contiguous array of the right dtype. Conversions that could lose anything are refused."""
        spec, want = self.inputs[i], self.inputs[i].dtype
        found = None if self._device_array is None else self._on_device(i, a)
        if found is not None:
            return found
        if spec.content is not None:
            return box(self._object(f"input '{spec.name}'", spec.content, unbox(a) if isinstance(a, np.ndarray) else a))
        hint = self.how_to_run if isinstance(a, Mapping) else "give a NumPy array of numbers"
        return tensor(f"input '{spec.name}'", a, want, f"the model wants {wanted(spec)}", hint, spec.type)

    def checked_on_host(self, i: int, a: Any) -> np.ndarray:
        """The same, where it has to lie in the host's memory."""
        array = self.checked(i, a)
        if not isinstance(array, np.ndarray):
            raise InputError(f"input '{self.inputs[i].name}' lies on a device", hint="give NumPy arrays")
        return array

    def _object(self, what: str, want: ObjectType, given: Any) -> Any:
        """What a box is to hold: lists, dicts and None as they are, what they hold as arrays."""
        if want.kind == "optional":
            return None if given is None else self._content(what, want.of, given)
        if want.kind == "map":
            if not isinstance(given, Mapping):
                raise InputError(f"{what} is {_kind_of(given)}, the model wants {want}", hint="give a dict")
            key = int if want.key == np.int64 else str
            for k in given:
                if not isinstance(k, (int, np.integer) if key is int else str):
                    hint = f"its keys are {'whole numbers' if key is int else 'texts'}"
                    raise InputError(f"{what} has the key {k!r}, the model wants {want}", hint=hint)
            return {key(k): self._content(f"what {what} has of {k!r}", want.of, v) for k, v in given.items()}
        if not isinstance(given, (list, tuple)):
            raise InputError(f"{what} is {_kind_of(given)}, the model wants {want}", hint="give a list of arrays")
        return [self._content(f"element {i} of {what}", want.of, item) for i, item in enumerate(given)]

    def _content(self, what: str, want: Content, given: Any) -> Any:
        if isinstance(want, ObjectType):
            return self._object(what, want, given)
        if given is None:
            raise InputError(f"{what} is None, the model wants {want}", hint="give a NumPy array")
        found = None if self._device_array is None else self._device_array(given)
        array = tensor(what, given if found is None else found.numpy(), want.dtype, f"the model wants {want}")
        if isinstance(want, TensorType) and not fits(array, want):
            raise InputError(f"{what} has shape {array.shape}, the model wants {want}", hint=remedy(array.shape, want))
        return array

    def _on_device(self, i: int, a: Any) -> Any | None:
        """Input i where it lies on the device; of inputs whose values decide shapes, a copy in the host's memory."""
        spec, want = self.inputs[i], self.inputs[i].dtype
        try:
            found = self._device_array(a) if self._device_array is not None else None
        except InputError as error:
            raise InputError(f"input '{spec.name}': {error.message}", hint=error.hint) from error
        if found is None:
            return None
        if want is not None and found.dtype != want:
            hint = f"convert it to {dtype_name(want)}"
            raise InputError(
                f"input '{spec.name}' is {dtype_name(found.dtype)}, the model wants {wanted(spec)}", hint=hint
            )
        return found.numpy() if spec.name in self._valued else found

    def zeros(self, spec: Spec, shape: Any) -> np.ndarray:
        """An array of an input's dtype and this shape, which takes no memory. Raises InputError where it can't be the shape."""
        if shape is not None and not isinstance(shape, (Sequence, np.ndarray)):
            raise InputError(f"the shape of input '{spec.name}' can't be {shape!r}", hint="give a tuple of sizes")
        if shape is None or any(isinstance(d, str) for d in shape):
            hint = f"give shapes={{'{spec.name}': (…)}}"
            raise InputError(f"the shape of input '{spec.name}' is open: {wanted(spec)}", hint=hint)
        if not all(isinstance(d, (int, np.integer)) and not isinstance(d, bool) and d >= 0 for d in shape):
            raise InputError(
                f"the shape of input '{spec.name}' can't be {tuple(shape)}", hint="sizes are ints from 0 up"
            )
        if spec.dtype is None:
            raise InputError(f"the dtype of input '{spec.name}' is not known", hint="run the model instead")
        try:
            return np.broadcast_to(np.zeros((), spec.dtype), tuple(shape))  # of no memory: nobody reads it
        except ValueError as error:
            raise InputError(f"the shape of input '{spec.name}' can't be {tuple(shape)}: {error}") from None

    def buffers(self, out: Mapping[str, np.ndarray]) -> list[np.ndarray | None]:
        """The array of each output, None where the caller gives none."""
        for spec in self.outputs:
            if spec.content is not None and spec.name in out:
                raise InputError(f"output '{spec.name}' is a {spec.content}, which no array takes", hint="leave it out")
        unknown = [n for n in out if n not in self.output_names]
        if unknown:
            raise InputError(f"unknown output '{unknown[0]}'", hint=self.signature)
        given: dict[str, Any] = dict(out)
        for n, a in out.items():
            found = None if self._device_array is None else self._device_array(a)
            if found is not None:
                if not getattr(found, "writeable", True):
                    raise InputError(f"the array for output '{n}' may not be written to")
                given[n] = found
            else:
                given[n] = _buffer(n, a)
        # of results of one name, the last is the one that callers find under it
        return [given.pop(n, None) for n in reversed(self.output_names)][::-1]

    def by_name(self, out: Any) -> Mapping[str, Any]:
        """The arrays for results as `run` takes them: one for the only output, one or None for each of several, or by name."""
        if isinstance(out, Mapping):
            return out
        many = isinstance(out, (list, tuple))
        given = out if many else [out]
        if len(given) != len(self.output_names) or (many and len(given) == 1):
            names = ", ".join(f"'{n}': …" for n in self.output_names)
            how = (
                "out=y" if len(self.output_names) == 1 else f"out=({', '.join(self.output_names)}), or out={{{names}}}"
            )
            found = f"{len(given)} arrays in a {type(out).__name__}" if many else "one array"
            raise InputError(
                f"'out' is {found}, for {len(self.output_names)} output{'s' * (len(self.output_names) > 1)}", hint=how
            )
        return {n: a for n, a in zip(self.output_names, given) if a is not None}

    def check_overlap(self, arrays: Sequence[np.ndarray], out: Sequence[np.ndarray | None]) -> None:
        """Kernels read and write in any order: a result may lie neither on an input nor on another result."""
        taken = [(f"input '{n}'", a) for n, a in zip(self.names, arrays)]
        for name, buffer in zip(self.output_names, out):
            if buffer is None:
                continue
            for other, a in taken:
                if _overlap(buffer, a):
                    hint = "give each result memory of its own"
                    raise InputError(f"the array for output '{name}' and {other} share memory", hint=hint)
            taken.append((f"the one for output '{name}'", buffer))

    def joined(self, args: Sequence[np.ndarray], kwargs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs by name, of those given by position and by name."""
        feeds = {s.name: a for s, a in zip(self.inputs, args)}
        for name in kwargs:
            if name in feeds:
                raise InputError(f"input '{name}' is given twice, by position and by name", hint=self.signature)
        return {**feeds, **kwargs}

    def completed(self, feeds: Any) -> Any:
        """The inputs with None for each optional that is not given."""
        if not isinstance(feeds, Mapping):
            return feeds
        absent = [s.name for s in self.inputs if s.content is not None and s.content.kind == "optional"]
        added = {name: None for name in absent if name not in feeds}
        return {**added, **feeds} if added else feeds

    @property
    def how_to_run(self) -> str:
        """How `run` is called."""
        names = ", ".join(f"'{n}': …" for n in self.names)
        return f"model.run({{{names}}})"

    def wrong_names(self, feeds: Any) -> InputError:
        """What is wrong with inputs that are not those by name."""
        if feeds is None or isinstance(feeds, (list, tuple)) and all(isinstance(n, str) for n in feeds):
            hint = f"{self.how_to_run} gives all outputs by name; pick those that are wanted"
            return InputError("run takes no list of outputs, only the inputs by name", hint=hint)
        if not isinstance(feeds, Mapping):
            hint = f"{self.how_to_run}, or call the model with arrays by position: model(…)"
            return InputError(f"run takes the inputs by name, not {type(feeds).__name__}", hint=hint)
        missing = [n for n in self.names if n not in feeds]
        known = {s.name for s in self.inputs}
        extra = [n for n in feeds if n not in known]
        return InputError(wrong_names(missing, extra), hint=self.signature)

    @property
    def signature(self) -> str:
        return f"inputs: {'; '.join(map(str, self.inputs))} -> outputs: {'; '.join(map(str, self.outputs))}"


def tensor(
    what: str,
    a: Any,
    want: np.dtype | None,
    wish: str,
    hint: str = "give a NumPy array of numbers",
    whole: TensorType | None = None,
) -> np.ndarray:
    """A contiguous array of the dtype `want`. Conversions that could lose anything are refused by InputError, which says that
    `what` is wrong, and what is wished for. whole: the type, for what to do about it."""
    strings = want is not None and want.kind == "O"
    try:
        array = array_of(a)
    except UNREADABLE as error:
        raise InputError(f"{what} can't be made an array: {error}", hint="give a NumPy array") from None
    if type(array) is not np.ndarray and np.any(getattr(array, "mask", False)):
        raise InputError(f"{what} has masked elements, of which a network knows nothing", hint="fill them: x.filled(0)")
    if not hasattr(a, "dtype") and want not in (None, array.dtype) and array.dtype.kind in "biuf":
        assert want is not None
        array = _exactly(what, a, array, want)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == object and want is not None and not strings:
        raise InputError(f"{what} is {_kind_of(a)}, {wish}", hint=hint)
    if want is not None and array.dtype != want and not (strings and array.dtype.kind in "OUS"):
        raise InputError(f"{what} is {dtype_name(array.dtype)}, {wish}", hint=conversion(array, want, whole))
    if array.dtype.kind in "US":
        array = array.astype(object)
    return np.ascontiguousarray(array) if array.ndim else array


def _buffer(name: str, a: Any) -> np.ndarray:
    """An object's own memory, for an output of this name."""
    try:
        shared = shared_memory(a)
    except UNREADABLE as error:
        raise InputError(f"the array for output '{name}' can't be written to: {error}") from None
    if shared is None or not shared.flags.c_contiguous or not shared.flags.writeable:
        hint = "make it with numpy.empty(shape, dtype)"
        raise InputError(f"the array for output '{name}' must be a writable, C-contiguous numpy array", hint=hint)
    return shared


def _kind_of(a: Any) -> str:
    if not isinstance(a, np.ndarray):
        return type(a).__name__
    return "an array of objects" if a.dtype == object else f"an array of {dtype_name(a.dtype)}"


def _exactly(what: str, a: Any, given: np.ndarray, want: np.dtype) -> np.ndarray:
    """Numbers of a list, which has no dtype, in the one that is wanted, where that can hold each of them."""
    if want.kind == "O" or (want.kind == "b") != (given.dtype.kind == "b"):
        return given
    numbers = np.asarray(a, object)  # compared as Python compares them, without rounding
    try:
        with np.errstate(all="ignore"):
            array = numbers.astype(want)
        same = (array.astype(object) == numbers) | (numbers != numbers)  # NaN stays NaN
    except (OverflowError, ValueError):
        array, same = given, np.zeros(numbers.shape, bool)
    if not same.all():
        wrong = numbers[~same].reshape(-1)
        limits = f"holds {wrong[0]!r}" if len(wrong) < numbers.size or numbers.size == 1 else "holds numbers"
        raise InputError(
            f"{what} {limits}, which {dtype_name(want)} can't hold exactly",
            hint=f"round it: numpy.asarray(…, '{dtype_name(want)}')",
        )
    return array


def numbers(a: Any) -> np.ndarray:
    """A contiguous array of a dtype that models have, but strings. Raises InputError for anything else."""
    from graphc.dtypes import find

    try:
        array = array_of(a)
    except UNREADABLE as error:
        raise InputError(f"the array can't be read: {error}", hint="give a NumPy array") from None
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    found = find(array.dtype)
    if found is None or not found.item:
        what = f"an array of {array.dtype}" if isinstance(a, np.ndarray) else type(a).__name__
        raise InputError(f"memory of a GPU holds numbers, not {what}", hint="give a NumPy array of numbers")
    return np.ascontiguousarray(array).reshape(array.shape)


def _overlap(a: Any, b: Any) -> bool:
    """Of contiguous arrays, of the host or a device."""
    (a_first, a_end), (b_first, b_end) = _span(a), _span(b)
    return a_first < b_end and b_first < a_end


def _span(a: Any) -> tuple[int, int]:
    first = a.ctypes.data if isinstance(a, np.ndarray) else a.address
    return first, first + a.nbytes


def wanted(spec: Spec) -> str:
    """A type, as far as it is known."""
    return str(spec.type) if spec.type is not None else str(spec).removeprefix(f"{spec.name}: ")
