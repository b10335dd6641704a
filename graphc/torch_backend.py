"""graphc as a backend of torch.compile: `torch.compile(module, backend="graphc")` (docs/front-doors.md).

What TorchDynamo captures goes through PyTorch's exporter to ONNX, and so to graphc, at its first call. Parameters and buffers
become constants; where one has changed since, the next call compiles again. Calls that need gradients, write to their inputs or
draw random numbers run in PyTorch, which a warning says.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

import graphc
from graphc.errors import GraphcError, GraphcWarning, InputError, UnsupportedError
from graphc.types import dtype_from_name

FALLBACK = "fallback"  # the option that is not one of graphc.compile
MOST_NUMBERS = 16  # that calls choose, before PyTorch runs those with others
_OPERATOR = re.compile(r"(?:OpOverload\(op='|OpOverload: )?\b((?:aten|prims|torchvision|quantized)[.:]+[\w.]+)")
Run = Callable[..., Any]


class Argument(NamedTuple):
    """What an argument of a captured graph is: captured (a parameter or buffer), a tensor with axes whose sizes are open, or a
    number: the size of argument `of[0]` along axis `of[1]`, or, where that is None, one that calls choose."""

    captured: bool = False
    tensor: bool = False
    open: tuple[int, ...] = ()
    of: tuple[int, int] | None = None


class Output(NamedTuple):
    """What an output is: the argument `given` itself or, with strides, a view of it; result number `made` (a number where
    `number`), or None."""

    given: int | None = None
    made: int | None = None
    number: bool = False
    view: tuple[tuple[int, ...], int] | None = None


def backend(
    gm: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Run:
    """The entry point 'graphc' of the group torch_dynamo_backends.

    options: of `graphc.compile` (threads: those of PyTorch, where it is not given), and fallback: run what has no form in ONNX,
    or is not supported, in PyTorch instead of raising UnsupportedError.

    Raises InputError for a mode, which is Inductor's.
    """
    if mode not in (None, "default"):
        raise InputError(f"torch.compile's mode '{mode}' is for its backend inductor", hint="give options={…} instead")
    return Captured(gm, example_inputs, dict(options or {}))


class Captured:
    """A graph that TorchDynamo captured, and the models that it became: one for each value of the numbers that calls choose."""

    def __init__(self, gm: torch.fx.GraphModule, examples: Sequence[Any], options: dict[str, Any]) -> None:
        self.gm, self.fallback, self.options = gm, bool(options.pop(FALLBACK, False)), options
        self.arguments = _arguments(gm, examples)
        self.outputs, self.unsure = _outputs(gm, self.arguments)
        self.captured = [i for i, a in enumerate(self.arguments) if a.captured]
        self.tensors = [i for i, a in enumerate(self.arguments) if a.tensor and not a.captured]
        self.numbers = [i for i, a in enumerate(self.arguments) if not a.tensor and a.of is None]
        called = [str(n.target) for n in gm.graph.nodes if n.op == "placeholder"]
        self.names = {f"tensors_{k}": called[i] for k, i in enumerate(self.tensors)}  # by those that the exporter gives
        self.names |= {f"captured_{i}": called[i] for i in self.captured}
        self.eager = ""  # why calls run in PyTorch
        self._own = [*gm.parameters(), *gm.buffers()]
        self._state: list[Any] = []  # of what is captured, when it was compiled
        self._models: dict[tuple[Any, ...], tuple[graphc.Model, tuple[str, ...]]] = {}

    def __call__(self, *args: Any) -> Any:
        reason = self.eager or self._unfit(args)
        if reason:
            return self._eagerly(args, reason)
        state = [_state(t) for t in (*self._own, *(args[i] for i in self.captured))]
        if len(state) != len(self._state) or any(
            a[0] is not b[0] or a[1:] != b[1:] for a, b in zip(state, self._state)
        ):
            self._state, self._models = state, {}
        key = tuple([args[i] for i in self.numbers])
        found = self._models.get(key)
        if found is None:
            if len(self._models) == MOST_NUMBERS:
                values = ", ".join(map(str, key))
                return self._eagerly(
                    args, f"numbers that it takes change from call to call ({values} now): make them tensors"
                )
            try:
                found = self._models[key] = self._compiled(args)
            except _Eager as error:
                return self._eagerly(args, str(error))
            except UnsupportedError as error:
                if not self.fallback:
                    raise
                return self._eagerly(args, str(error))
        model, names = found
        results = [*model.run({name: to_array(args[i]) for name, i in zip(names, self.tensors)}).values()]
        return tuple([_given(o, args, results) for o in self.outputs])

    def _eagerly(self, args: Sequence[Any], reason: str) -> Any:
        if not self.eager:
            warnings.warn(GraphcWarning(f"torch.compile, backend graphc: PyTorch runs this: {reason}"), stacklevel=3)
        self.eager = reason
        return self.gm(*args)

    def _unfit(self, args: Sequence[Any]) -> str:
        """Why these arguments are not for graphc, or ''."""
        tensors = [*self._own, *(args[i] for i in self.captured), *(args[i] for i in self.tensors)]
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return "it needs gradients, which graphc does not compute; use torch.no_grad() or torch.inference_mode()"
        for t in tensors:
            if not t.is_cpu or t.layout is not torch.strided:
                return f"a tensor is on device '{t.device}' with layout {t.layout}; graphc takes dense ones on the CPU"
            if t.is_complex():
                return "a tensor is complex"
        return self.unsure

    def _compiled(self, args: Sequence[Any]) -> tuple[graphc.Model, tuple[str, ...]]:
        """With the names of its inputs. Raises _Eager for what PyTorch has to run, UnsupportedError where ONNX or graphc lack an operator."""
        if all(o.made is None for o in self.outputs):
            raise _Eager("it computes nothing")
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = self._exported(args)
            _require_pure(exported, self.names)
            try:
                program = torch.onnx.export(exported, dynamo=True, verbose=False)
            except Exception as error:
                raise _unsupported(error) from error
        assert program is not None
        try:
            model = graphc.compile(program.model_proto, **{"threads": torch.get_num_threads(), **self.options})
            return model, tuple(s.name for s, _ in zip(model.inputs, self.tensors, strict=True))
        except UnsupportedError:
            raise
        except GraphcError as error:
            problems = getattr(error, "problems", ())
            if any(isinstance(p, UnsupportedError) for p in problems):
                raise UnsupportedError(str(error), hint=_HINT) from error
            raise

    def _exported(self, args: Sequence[Any]) -> torch.export.ExportedProgram:
        whole = _Whole(self, args)
        tensors = tuple(args[i].detach() for i in self.tensors)
        dims = tuple(dict.fromkeys(self.arguments[i].open, torch.export.Dim.AUTO) for i in self.tensors)
        try:
            return torch.export.export(whole, tensors, dynamic_shapes=(dims,), strict=False)
        except Exception as error:
            raise _unsupported(error) from error


class _Whole(torch.nn.Module):
    """The captured graph as a module of tensors alone: it has what was captured, and finds sizes out."""

    def __init__(self, of: Captured, args: Sequence[Any]) -> None:
        super().__init__()
        self.gm, self.arguments, self.outputs = of.gm, of.arguments, of.outputs
        self.place = {i: k for k, i in enumerate(of.tensors)}
        self.numbers = {i: args[i] for i in of.numbers}
        for i in of.captured:
            self.register_buffer(f"captured_{i}", args[i].detach())

    def forward(self, *tensors: torch.Tensor) -> tuple[Any, ...]:
        args: list[Any] = []
        for i, a in enumerate(self.arguments):
            if a.captured:
                args.append(getattr(self, f"captured_{i}"))
            elif a.tensor:
                args.append(tensors[self.place[i]])
            elif a.of is None:
                args.append(self.numbers[i])
            else:
                args.append(tensors[self.place[a.of[0]]].shape[a.of[1]])
        results, found = self.gm(*args), {}
        for o, result in zip(self.outputs, results):
            if o.made is not None:
                found[o.made] = result
        return tuple(found[k] for k in sorted(found))


class _Eager(Exception):
    """Why PyTorch has to run it."""


_HINT = "options={'fallback': True} of torch.compile runs what is captured in PyTorch where graphc can't"
_WHOLE_LAYERS = (
    "aten._transformer_encoder_layer_fwd",
    "aten._native_multi_head_attention",
)  # operators of torch.backends.mha


def _arguments(gm: torch.fx.GraphModule, examples: Sequence[Any]) -> list[Argument]:
    holders = [n for n in gm.graph.nodes if n.op == "placeholder"]
    fakes = [n.meta.get("example_value", e) for n, e in zip(holders, examples)]
    found: list[Argument] = []
    sizes: dict[Any, tuple[int, int]] = {}
    for i, (fake, example) in enumerate(zip(fakes, examples)):
        if not isinstance(fake, torch.Tensor):
            found.append(Argument())
            continue
        captured = isinstance(example, torch.nn.Parameter) or hasattr(example, "_dynamo_static_input_type")
        axes = tuple(axis for axis, d in enumerate(fake.shape) if isinstance(d, torch.SymInt))
        found.append(Argument(captured, True, () if captured else axes))
        if not captured:
            for axis in axes:
                sizes.setdefault(fake.shape[axis].node.expr, (i, axis))
    for i, fake in enumerate(fakes):
        if isinstance(fake, torch.SymInt) and fake.node.expr in sizes:
            found[i] = Argument(of=sizes[fake.node.expr])
    return found


def _outputs(gm: torch.fx.GraphModule, arguments: Sequence[Argument]) -> tuple[list[Output], str]:
    """And why PyTorch has to run it, or ''."""
    (last,) = [n for n in gm.graph.nodes if n.op == "output"]
    holders = [n for n in gm.graph.nodes if n.op == "placeholder"]
    storages = {_storage(n.meta.get("example_value")): i for i, n in enumerate(holders)}
    found: list[Output] = []
    made: dict[Any, int] = {}
    unsure = ""
    for node in last.args[0]:
        if node is None:
            found.append(Output())
        elif node in holders:
            found.append(Output(given=holders.index(node)))
        else:
            fake = node.meta.get("example_value")
            number = isinstance(fake, (int, torch.SymInt)) and not isinstance(fake, bool)
            if not number and not isinstance(fake, torch.Tensor):
                unsure = f"one of its results is {type(fake).__name__}"
            elif not number and fake.is_complex():  # the exporter makes it pairs of floats
                unsure = "one of its results is complex"
            of = storages.get(_storage(fake)) if isinstance(fake, torch.Tensor) else None
            view = None
            if of is not None:
                steps = (*fake.stride(), fake.storage_offset())
                own = holders[of].meta["example_value"]
                if not all(isinstance(s, int) for s in steps):
                    unsure = "one of its results is a view of an input, with strides that follow from sizes"
                if (fake.dtype, fake.is_conj(), fake.is_neg()) != (own.dtype, own.is_conj(), own.is_neg()):
                    unsure = "one of its results is a view of an input, with elements of another type"
                view = (tuple(steps[:-1]), steps[-1]) if not unsure else None
            found.append(Output(given=of, made=made.setdefault(node, len(made)), number=number, view=view))
    return found, unsure


def _storage(fake: Any) -> Any:
    """What tells memory from other memory."""
    return fake.untyped_storage()._cdata if isinstance(fake, torch.Tensor) else object()


def _given(o: Output, args: Sequence[Any], results: Sequence[np.ndarray]) -> Any:
    if o.made is None:
        return None if o.given is None else args[o.given]
    result = results[o.made]
    if o.view is not None and o.given is not None:
        return torch.as_strided(args[o.given], result.shape, *o.view)
    return int(result) if o.number else to_tensor(result)


def _state(t: torch.Tensor) -> tuple[Any, int, int]:
    """What changes where a tensor's elements do, but for writing through `t.data`."""
    return t, t.data_ptr(), 0 if t.is_inference() else t._version


def _require_pure(exported: torch.export.ExportedProgram, names: Mapping[str, str]) -> None:
    """Raises _Eager where a graph does more than compute its results. names: of tensors that it is given, by the exporter's."""
    called = [n for n in exported.graph.nodes if isinstance(n.target, torch._ops.OpOverload)]
    for node in called:
        if torch.Tag.nondeterministic_seeded in node.target.tags and not _idle(node):
            raise _Eager(f"{node.target} draws random numbers; where it is a dropout: call eval()")
    if any(n.target._schema.is_mutable for n in called):  # of values of its own, or of what it was given
        signature = exported.run_decompositions({}).graph_signature
        written = [*signature.user_inputs_to_mutate.values(), *signature.buffers_to_mutate.values()]
        if written:
            told = ", ".join(names.get(w, w) for w in written[:3])
            raise _Eager(f"it writes to {told}; where that is what a module counts in training: call eval()")


def _idle(node: torch.fx.Node) -> bool:
    """Is it an operator that draws numbers in training, or for a probability, and neither is the case?"""
    formal = [a.name for a in node.target._schema.arguments]
    defaults = {a.name: a.default_value for a in node.target._schema.arguments}
    given = {**defaults, **dict(zip(formal, node.args)), **node.kwargs}
    training = [given[name] for name in ("train", "training") if name in given]
    probability = [given[name] for name in ("dropout_p", "dropout") if name in given]
    return training == [False] or probability == [0.0]


def _unsupported(error: BaseException) -> UnsupportedError:
    """Names the operator that the exporter stumbled over."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    for found in reversed(chain):  # the first cause last
        named = _OPERATOR.search(str(found))
        if named is not None:
            name = named[1].replace("::", ".")
            whole = (
                "torch.backends.mha.set_fastpath_enabled(False) before the first call; or "
                if name in _WHOLE_LAYERS
                else ""
            )
            return UnsupportedError(f"operator '{name}' of PyTorch has no form in ONNX", hint=whole + _HINT)
    line = (str(chain[-1]).strip().splitlines() or [type(chain[-1]).__name__])[0]
    return UnsupportedError(f"PyTorch's exporter can't export what was captured: {line}", hint=_HINT)


# --- tensors and arrays of the same memory ------------------------------------------------------------------------------
_RAW = {
    torch.bfloat16: ("bfloat16", torch.int16),
    torch.float8_e4m3fn: ("float8_e4m3fn", torch.uint8),
    torch.float8_e4m3fnuz: ("float8_e4m3fnuz", torch.uint8),
    torch.float8_e5m2: ("float8_e5m2", torch.uint8),
    torch.float8_e5m2fnuz: ("float8_e5m2fnuz", torch.uint8),
}  # types that NumPy has from ml_dtypes only, and what carries their bits
_TENSORS = {name: (dtype, raw) for dtype, (name, raw) in _RAW.items()}


def to_array(t: torch.Tensor) -> np.ndarray:
    """Of the tensor's memory, where it is contiguous."""
    if t.requires_grad:
        t = t.detach()
    if t.dtype in _RAW:
        name, raw = _RAW[t.dtype]
        return t.contiguous().view(raw).numpy().view(dtype_from_name(name))
    return t.resolve_conj().resolve_neg().numpy() if t.is_conj() or t.is_neg() else t.numpy()


def to_tensor(a: np.ndarray) -> torch.Tensor:
    """Of the array's memory."""
    found = _TENSORS.get(a.dtype.name)
    if found is not None:
        return torch.from_numpy(a.view(np.int16 if a.itemsize == 2 else np.uint8)).view(found[0])
    return torch.from_numpy(a)
