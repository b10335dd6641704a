"""One use of an operator on targets, against its reference in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.dtypes import is_float
from graphc.errors import GraphcError
from graphc.graph import Builder, Graph, Value
from graphc.interpret import run_graph
from graphc.op import Call
from graphc.own import mistakes
from graphc.testing.files import FOLDER, write_use
from graphc.testing.uses import Use
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.model import Model

FLOAT64_TOLERANCE = 1e-9
NARROW = {"float16": 2**-9, "bfloat16": 2**-6}  # two ulps: a rounded operand, a rounded result
SMALL = (
    1e-3  # of the largest operand: where all of a result is smaller, sums have cancelled, and rounding counts over that
)


def check(
    use: Use,
    targets: str | Sequence[str] = ("cpu",),
    *,
    tolerance: float | None = None,
    folder: str | Path | None = FOLDER,
    **options: Any,
) -> list[Model]:
    """Compile the use for each target and run it: dtypes and shapes of the results must be those of the type rule and of the
    reference, values those of the reference in float64.

    tolerance: over the largest magnitude of a result [default: that of the record, more where many elements go into one, and where
    float16 or bfloat16 round]. folder: where a program is written that does it again when it fails; None: nowhere. options: of
    `graphc.compile`. Gives the models. Raises AssertionError that says where results differ, and whether the operator's expansion
    does, and GraphcError where a target does not take the use.
    """
    import graphc

    targets = (targets,) if isinstance(targets, str) else targets
    graph, want, models = use.graph(), exact(use), []
    for target in targets:
        model = graphc.compile(graph, target=target, **options)
        got = list(model.run(dict(zip([s.name for s in model.inputs], use.inputs))).values())
        problems = list(_problems(use, graph, got, want, tolerance))
        if problems and [*_problems(use, graph, got, in_its_dtype(use), tolerance)]:  # of hashes, bits and steps, say
            text = [f"{use.op.name} on {target} is not its reference", str(use), *(f"  {p}" for p in problems)]
            nodes = expanded(use)
            if nodes is not None:
                same = not [*_problems(use, graph, nodes, want, tolerance)]
                text.append(f"  its expansion, node by node in NumPy, is {'right' if same else 'wrong, too'}")
            if folder is not None:
                text.append(f"  {write_use(use, targets, Path(folder), tolerance)}")
            raise AssertionError("\n".join(text))
        models.append(model)
    return models


def exact(use: Use) -> list[np.ndarray]:
    """What the reference gives in float64, or in the dtype of the operands where the operator takes no other."""
    try:
        return in_its_dtype(use.with_floats("float64"))
    except GraphcError:
        return in_its_dtype(use)


def in_its_dtype(use: Use) -> list[np.ndarray]:
    """What the reference gives of the operands as they are."""
    with np.errstate(all="ignore"):
        return run_graph(use.graph(), use.inputs, strict=False)


def expanded(use: Use) -> list[np.ndarray] | None:
    """Results of the expansion, node by node through the references; None where there is none, or it declines."""
    op = use.op
    if op.expand is None:
        return None
    b = Builder("expansion")
    with mistakes(op.name, "expand"):
        results = op.expand(b, Call(op, use.operands(b), op.complete_attrs(use.attrs), use.n_outputs))
    if results is None:
        return None
    values: tuple[Value, ...] = tuple(results) if isinstance(results, (tuple, list)) else (results,)
    assert len(values) == use.n_outputs, f"{use}: the expansion has {len(values)} results"
    for value, inferred in zip(values, use.graph().outputs):
        assert value.type == inferred.type, (
            f"{use}: the expansion gives {value.type}, and the type rule {inferred.type}"
        )
    return run_graph(b.build({f"y{i}": v for i, v in enumerate(values)}), use.inputs, strict=False)


def host_reasons(model: Model) -> set[str]:
    """Why steps of the model run on the host, in NumPy; nothing where none does."""
    return {s.reason for s in model.plan().steps if s.host and s.reason} if model.inputs else set()


def tolerance_of(use: Use, dtype: np.dtype) -> float:
    """Relative to the largest magnitude, growing with the root of how many elements go into one."""
    if dtype == np.float64:
        base = FLOAT64_TOLERANCE
    else:
        base = max(use.op.tolerance, NARROW.get(dtype.name, 0.0))
    ins = max((a.size for a in use.arrays if a is not None), default=1)
    types = [v.type for v in use.graph().outputs]
    outs = max((t.elements for t in types), default=1) if types[0].is_static else 1
    return base * max(1.0, (ins / max(outs, 1) / 64) ** 0.5)


def _problems(
    use: Use,
    graph: Graph,
    got: Sequence[np.ndarray],
    want: Sequence[np.ndarray],
    tolerance: float | None,
) -> Iterator[str]:
    if not len(got) == len(want) == len(graph.outputs):
        yield f"{len(got)} results, and not {len(want)}"
        return
    for value, a, w in zip(graph.outputs, got, want):
        actual, told = TensorType(a.dtype, a.shape), f"result {value.name}"
        if a.dtype != value.dtype or (value.type.is_static and a.shape != value.shape):
            yield f"{told} is {actual}, and {value.type} by the type rule"
        elif a.shape != w.shape:
            yield f"{told} is {actual}, and of shape {list(w.shape)} by the reference"
        elif use.op.deterministic:
            most = tolerance_of(use, value.dtype) if tolerance is None else tolerance
            if problem := first_difference(a, w, most, SMALL * _largest(use.arrays)):
                yield f"{told}: {problem}"


def _largest(arrays: Sequence[np.ndarray | None]) -> float:
    """Magnitude of a finite element of the floats among them."""
    floats = [np.abs(a.astype(np.float64)) for a in arrays if a is not None and is_float(a.dtype)]
    return max((float(a[np.isfinite(a)].max(initial=0.0)) for a in floats), default=0.0)


def first_difference(got: np.ndarray, want: np.ndarray, tolerance: float, least: float = 0.0) -> str | None:
    """Where the first element lies that differs by more than the tolerance, over the largest finite magnitude, or `least` if that is
    more; None where none does. What is no float has to be equal."""
    if not is_float(got.dtype):
        wrong = np.asarray(got != want)
        allowed = ""
    else:
        a, w = got.astype(np.float64), np.asarray(want).astype(np.float64)
        scale = float(np.abs(w[np.isfinite(w)]).max(initial=max(least, 1e-300)))
        with np.errstate(all="ignore"):
            near = np.abs(a - w) <= tolerance * scale
        wrong = ~(near & np.isfinite(a) & np.isfinite(w) | (a == w) | (np.isnan(a) & np.isnan(w)))
        allowed = f"; {tolerance:.3g} of {scale:.6g} is allowed"
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    place = f"element {list(at)} " if at else ""
    return f"{place}is {got[at]}, and not {np.asarray(want)[at]}; {np.count_nonzero(wrong)} of {wrong.size} differ{allowed}"
