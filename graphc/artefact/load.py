"""A file that `build` wrote, as a model: of graphc it needs what runs plans, of other packages NumPy."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc import pickled
from graphc.artefact.abi import abi, version
from graphc.artefact.container import Container
from graphc.backend import Request, whole_number
from graphc.backends.cpu.backend import CpuBackend
from graphc.backends.cpu.hardware import cpu_count, cpu_flags
from graphc.backends.cpu.options import MAX_THREADS, CpuOptions
from graphc.backends.cpu.runtime.plans import CpuPlanFolder
from graphc.compiler import Compilation
from graphc.errors import InputError, LoadError, UnsupportedError
from graphc.executable import Executable
from graphc.lower.segment import Segment
from graphc.model import Model
from graphc.model_folder import ModelFolder
from graphc.origin import FileOrigin
from graphc.reading import AS_IT_IS
from graphc.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Collection

    from graphc.graph import Graph
    from graphc.reading import Reading
    from graphc.report import Pending
    from graphc.signature import Growth
    from graphc.structures import Structures
    from graphc.types import TensorType


def load(path: str | os.PathLike[str], threads: int | None = None, target: str | None = None) -> Shipped:
    """See `graphc.load`."""
    return _shipped(_opened(Path(path)), threads, target)


def _shipped(file: Container, threads: int | None, target: str | None) -> Shipped:
    model = Shipped(file, threads, target)
    if all(s.is_static for s in model.inputs):
        model.prepare()
    return model


def reopened(path: str, digest: str, threads: int | None, target: str | None) -> Model:
    """What a pickle calls: the process's model of the file. Raises LoadError where it is not there, or is another."""

    def make() -> Shipped:
        file = _opened(Path(path))
        if file.digest != digest:
            raise LoadError(
                f"'{path}' is not what it was when a model that is read from it was pickled",
                hint="put the file there as it was",
            )
        return _shipped(file, threads, target)

    return pickled.the_one((path, digest), {"threads": threads, "target": target}, make)


def _opened(path: Path) -> Container:
    try:
        file = Container(path)
    except OSError as error:
        raise LoadError(f"'{path}' can't be read: {error.strerror}") from error
    made, mine = file.header["abi"], abi()
    if made != mine:
        raise LoadError(
            f"'{path}' was built by graphc {file.header['graphc']} (format {made}), and this is graphc {version()} "
            f"(format {mine})",
            hint="build it again, or run it with the version that built it",
        )
    return file


def _chosen(file: Container, wanted: str | None) -> dict[str, Any]:
    """The part of the file that is for this machine, and the fastest such. Raises UnsupportedError."""
    parts: list[dict[str, Any]] = file.header["targets"]
    names = ", ".join(p["target"] for p in parts)
    system = f"{sys.platform} on {os.uname().machine}" if hasattr(os, "uname") else sys.platform
    if system != file.header["system"]:
        raise UnsupportedError(f"'{file.path}' is for {file.header['system']}, and this is {system}")
    if wanted is not None:
        parts = [p for p in parts if p["target"] == wanted]
        if not parts:
            raise UnsupportedError(f"'{file.path}' has nothing for target '{wanted}'", hint=f"it has: {names}")
    flags = cpu_flags()
    lacking = []
    for part in parts:
        missing = [f for f in part["needs"] if f not in flags]
        if not missing:
            return part
        lacking.append(f"{part['target']} needs {', '.join(missing)}")
    raise UnsupportedError(
        f"this CPU lacks instructions that '{file.path}' was built for: {'; '.join(lacking)}",
        hint="build it for this CPU, too: graphc build MODEL --target cpu:avx2,cpu:portable",
    )


class Contents(ModelFolder):
    """One target's part of a file, read as the cache's folder of a model is."""

    def __init__(self, file: Container, part: Mapping[str, Any]) -> None:
        self.file, self._documents = file, part["documents"]

    def plan(self, key: str) -> dict[str, Any] | None:
        import json

        name = self._documents.get(key)
        return None if name is None else json.loads(self.file.read(name))

    def has_plans(self) -> bool:
        return bool(self._documents)

    def has_plan(self, key: str) -> bool:
        return key in self._documents

    def plans(self, prefix: str) -> list[str]:
        return sorted(k for k in self._documents if k.startswith(f"{prefix}-"))

    def open_intact(self, name: str, facts: dict[str, Any]) -> int:
        """A part as a file of its own, which has no name: what loads shared objects wants one."""
        data = self.file.read(name)
        try:
            fd = os.memfd_create(name)
        except (AttributeError, OSError):  # a system without
            from tempfile import TemporaryFile

            with TemporaryFile() as f:
                fd = os.dup(f.fileno())
        with os.fdopen(os.dup(fd), "wb") as f:
            f.write(data)
        return fd


class Plans(CpuPlanFolder):
    """Weights stay in the file and are mapped, but for those that it has in Huffman codes."""

    def __init__(self, entry: Contents, document: dict[str, Any], threads: int) -> None:
        super().__init__(entry, document)
        self._contents, self.threads = entry, threads

    def _mapped(self, name: str, facts: dict[str, Any]) -> Segment:
        file, segment = self._contents.file, Segment(name)
        if facts.get("coded"):
            from graphc.coded_arrays import unpack_bytes

            segment.fill(unpack_bytes(file.read(name)))
            return segment
        file.check_mapped(name)
        offset, nbytes = file.extent(name)
        segment.map(file.fileno(), offset, nbytes)
        return segment


class _Kept(Compilation):
    """What a file has of a model: plans without a graph."""

    def __init__(self, file: Container, part: Mapping[str, Any], threads: int) -> None:
        self.file, self.part = file, part
        self.target, self.reading, self.states = part["target"], AS_IT_IS, {}
        self.request = Request(cache=False)
        self.origin = FileOrigin(file.path)
        backend = CpuBackend(CpuOptions(part["target"].partition(":")[2], threads), cache=False)
        if backend.checked:
            raise InputError(
                "runs that GRAPHC_CHECK checks need a graph, and a built file has none", hint="unset GRAPHC_CHECK"
            )
        backend.folder = Plans(Contents(file, part), {"weights": part["weights"], "code": part["code"]}, threads)
        self.backend = backend
        self.signature = Signature.from_json(file.header["signature"])

    @property
    def loaded(self) -> Graph:
        self._without("its graph is asked for")

    @property
    def graph(self) -> Graph:
        self._without("its graph is asked for")

    def _without(self, why: str) -> NoReturn:
        raise InputError(
            f"'{self.file.path}' holds plans and no graph, and {why}", hint="compile the model that it was built from"
        )

    def read(self, reading: Reading) -> Compilation:
        self._without("these inputs need another reading of it")

    def taken_apart(self, structures: Structures) -> Compilation:
        self._without("these inputs need another one")

    def outlook(self) -> tuple[Pending, ...]:
        return ()

    def forget(self) -> None:
        """It has nothing that plans do not need."""

    def find(self, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> Executable | None:
        from graphc.kept_segments import find

        key = self._plan_key(types, values)
        return self.backend.load(key) or find(self.backend, key, self._data_led_elsewhere)

    def find_many(self, arrays: Sequence[np.ndarray], valued: Collection[int]) -> Executable | None:
        from graphc.kept_segments import find_many

        pattern = self._pattern(arrays, valued)
        if pattern is None:
            return None
        key = self._many_key(pattern)
        return self.backend.load_many(key, arrays) or find_many(self.backend, key, self._data_led_elsewhere, arrays)

    def _data_led_elsewhere(self, arrays: Sequence[np.ndarray]) -> NoReturn:
        raise InputError(
            f"the values of these inputs lead to sizes that '{self.file.path}' has no plan for",
            hint="build it again with inputs of that kind, too: --input NAME=FILE",
        )

    def bind(self, types: Mapping[str, TensorType], values: Mapping[str, np.ndarray]) -> Executable:
        """Raises InputError: whatever was built would have been found."""
        shapes = " ".join(f"{n}={','.join(map(str, t.shape))}" for n, t in types.items())
        built = " and ".join(f"--shapes '{s}'" for s in self.file.header["shapes"]) or "the shapes of the model alone"
        raise InputError(
            f"'{self.file.path}' has no plan for inputs of shapes {shapes}",
            hint=f"it was built for {built}: build it again, with --shapes '{shapes}' too",
        )

    def bind_many(self, arrays: Sequence[np.ndarray], valued: Collection[int]) -> Executable | None:
        return None

    def bind_growing(
        self, arrays: Sequence[np.ndarray], valued: Collection[int], growing: Sequence[Growth]
    ) -> Executable | None:
        return None


class Shipped(Model):
    """A model from a file that `graphc build` wrote. It has plans for the shapes that it was built for, and no graph."""

    def __init__(self, file: Container, threads: int | None, target: str | None) -> None:
        self._origin = os.path.abspath(file.path), file.digest
        self._settings = {"threads": threads, "target": target}
        most = whole_number("threads", threads, MAX_THREADS) or cpu_count()
        part = _chosen(file, target)
        super().__init__(_Kept(file, part, most), {"target": part["target"]})

    def __reduce__(self) -> tuple:
        """Pickles the path of the file, and its digest."""
        pickled.note(self, self._origin, self._settings)
        return reopened, (*self._origin, *self._settings.values())
