"""What graphc asks of a backend, and the stages that a bound graph passes through in one. docs/add-a-backend.md walks through it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol

from graphc.errors import InputError
from graphc.records import record

if TYPE_CHECKING:
    import numpy as np

    from graphc.classes import Many
    from graphc.executable import Executable
    from graphc.graph import Graph, Node
    from graphc.model_folder import ModelFolder
    from graphc.report import PassInfo, Pending, Roofline
    from graphc.room import Memory

Progress = Callable[[str, int, int], None]


@record(frozen=True, eq=False)
class Request:
    """What the caller of `graphc.compile` asks a backend for. Each parses `options` into a frozen dataclass of its own.

    variant   of the target, behind its colon: 'avx2' of 'cpu:avx2'
    disabled  names of passes, and of parts of the backend, to leave out
    cache     may it keep things on disk?
    """

    variant: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    disabled: Collection[str] = ()
    cache: bool = True
    progress: Progress | None = None


@record(frozen=True, eq=False)
class Stage:
    """One step of a backend's way from a bound graph to a program.

    run(draft)     does it, on the record that `Backend.draft` began
    show(draft)    what came of it, for a person (`graphc compile --stop-after NAME`)
    verify(draft)  checks what must hold after it; raises graphc.verify.BrokenInvariant (tests run it)
    """

    name: str
    run: Callable[[Any], None]
    show: Callable[[Any], str]
    verify: Callable[[Any], None]


@record(frozen=True, eq=False)
class Capabilities:
    """What a backend can do with a model, and what it needs of one.

    stores_plans         keeps plans on disk: then `identity`, `keep_in`, and all that load or keep are called
    maps_files           takes what it needs of constants while it plans: they may be views of mapped files
    needs_static_shapes  plans graphs whose shapes are all known: others are cut where data decides (graphc/segments.py)
    many_sizes           one plan for many sizes (graphc/sizes.py): then `load_many` is called, `executable` and `draft` with
                         a Many
    device_arrays        takes arrays in a device's memory, and gives results there: then it is a
                         DeviceBackend
    """

    stores_plans: bool = False
    maps_files: bool = False
    needs_static_shapes: bool = False
    many_sizes: bool = False
    device_arrays: bool = False


@record(frozen=True, eq=False)
class Part:
    """An optimisation of a backend that a caller may switch off, by its name. stage: the first one that it belongs to; without:
    what happens then."""

    name: str
    stage: str
    without: str


class Backend(Protocol):
    """A target, opened for one model: what the model's plans share (packed weights, memory) lives here.

    target        as a person names it
    capabilities  see there
    parts         what `disabled` may name beside passes
    """

    @property
    def target(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def parts(self) -> tuple[Part, ...]: ...

    def kernel_operators(self) -> frozenset[str]:
        """Operators that it runs as they are; others are decomposed."""
        ...

    def compiles(self, node: Node) -> bool:
        """Do kernels compute a node of a bound graph? An If for which they do is planned with both of its branches."""
        ...

    def stages(self) -> tuple[Stage, ...]:
        """From a bound graph to a program, in order. () where the graph itself is what runs."""
        ...

    def draft(self, graph: Graph, many: Many | None = None) -> Any:
        """What the first stage takes. many: the sizes of a graph that stands for many."""
        ...

    def executable(
        self, graph: Graph, passes: tuple[PassInfo, ...], key: str | None, many: Many | None = None
    ) -> Executable:
        """All stages, and what runs of it. key: under which it may be kept on disk. many: as for `draft`."""
        ...

    def outlook(self, graph: Graph) -> tuple[Pending, ...]:
        """What will become of every node, as far as it can be told without shapes."""
        ...

    def roofline(self) -> Roofline | None:
        """What the machine can do at most, measured; None where that means nothing."""
        ...

    def forget(self) -> None:
        """Let go of what only further plans would need."""
        ...

    def identity(self) -> list[Any]:
        """What a plan depends on besides the graph, as JSON."""
        ...

    def keep_in(self, entry: ModelFolder, document: dict[str, Any]) -> None:
        """Plans are read from and written to this folder. document: what its model.json is to say."""
        ...

    def load(self, key: str) -> Executable | None:
        """What was kept under a key; None where nothing was."""
        ...

    def keeps_plans(self) -> bool:
        """Are there plans of the model on disk?"""
        ...

    def load_many(self, key: str, arrays: Sequence[np.ndarray]) -> Executable | None:
        """What was kept under a key for many sizes, these among them; None where nothing was."""
        ...

    def keep_cut(self, key: str, document: dict[str, Any]) -> None:
        """Keep what a graph that was cut consists of: its 'programs' are keys of plans."""
        ...

    def load_cut(self, key: str) -> dict[str, Any] | None: ...

    def load_cuts(self, key: str) -> Iterable[tuple[str, dict[str, Any]]]:
        """Those for many sizes, with their keys, which begin so."""
        ...


class DeviceBackend(Backend, Protocol):
    """One with arrays and streams of a device, as its capabilities say."""

    def device_array(self, a: Any) -> Any | None:
        """What lies on the device, as executables take it (with a shape, a dtype and `numpy()`); None for what does not. Raises
        InputError where it can't be read."""
        ...

    def to_device(self, a: np.ndarray) -> Any:
        """A copy in the device's memory."""
        ...

    @property
    def state_memory(self) -> Memory:
        """Of sessions. That an input lies there does not bring results to the device."""
        ...

    def stream(self, given: Any) -> Any:
        """A caller's stream, as `Executable.run_on` takes it. Raises InputError for what is none."""
        ...


def whole_number(name: str, value: Any, most: int, why: str = "") -> int | None:
    """An option that is a count, from 1 on, or None. Raises InputError for anything else, and for more than `most`."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise InputError(f"{name} must be a positive int, not {value!r}")
    if value > most:
        raise InputError(f"{name} must be at most {most}, not {value}", hint=why or None)
    return int(value)


def after(stages: Sequence[Stage], name: str, draft: Any) -> str:
    """What a person sees after the stage of that name: `draft` goes through it and those before it."""
    for stage in stages:
        stage.run(draft)
        if stage.name == name:
            return stage.show(draft)
    raise ValueError(f"no stage is named '{name}'")
