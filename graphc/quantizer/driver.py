"""From a float graph and data to a quantised one and its report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphc import pipeline
from graphc.dtypes import find, is_float
from graphc.errors import InputError, UnsupportedError
from graphc.graph import Graph, Node
from graphc.quantizer.calibration import calibrated
from graphc.quantizer.feeds import batches
from graphc.quantizer.insertion import Quantized, quantized
from graphc.quantizer.layers import BY_ERROR, BY_NAME, Trial, kept_by_name
from graphc.quantizer.noise import noises, weight_noise
from graphc.quantizer.placement import Placement, placed
from graphc.quantizer.ranges import Range
from graphc.quantizer.report import LayerReport, Report
from graphc.quantizer.running import Progress, Runner, silent
from graphc.quantizer.scheme import Scheme
from graphc.types import dtype_name

if TYPE_CHECKING:
    from graphc import ModelProto

BATCH = 32
INTEGER = ("QuantizeLinear", "DequantizeLinear", "QLinear", "Integer", "NBits", "QGemm", "QAttention", "BlockQuantized")


@dataclass(frozen=True)
class QuantizedModel:
    """graph: what `graphc.compile` takes; report: what became of each layer; domains: of operators that ONNX does not have."""

    graph: Graph
    report: Report
    domains: tuple[str, ...] = ()

    def to_onnx(self) -> ModelProto:
        """As an ONNX model of standard operators, and of those of its domains."""
        from graphc.frontends.onnx_export import to_onnx

        return to_onnx(self.graph, domains=self.domains)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as an ONNX file."""
        data = self.to_onnx().SerializeToString()
        with open(path, "wb") as file:
            file.write(data)


def quantize(
    graph: Graph,
    data: Any = None,
    *,
    scheme: Scheme | None = None,
    keep: Sequence[str] = (),
    max_error: float | None = None,
    sensitivity: bool = False,
    batch: int = BATCH,
    samples: int | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> QuantizedModel:
    """See `graphc.quantize`. options: of `graphc.compile`, for the runs over the data."""
    scheme = scheme or Scheme()
    _require_sensible(keep, max_error, batch, samples)
    require_float(graph, "quantise the model in float that it was made of")
    graph = pipeline.run(graph, pipeline.PORTABLE)
    placement = placed(graph, scheme)
    if not placement.layers:
        raise UnsupportedError(_nothing(graph, scheme))
    by_name = kept_by_name(placement.layers, keep)
    layers = [n for n in placement.layers if n not in by_name]
    if not layers:
        raise InputError("every layer that could be quantised is kept in float", hint="keep fewer")
    domains = ("com.microsoft",) if scheme.nbits else ()
    if data is None:
        _require_no_data(scheme, max_error, sensitivity)
        made = quantized(placement, layers, {}, scheme)
        rows = _rows(placement, made, dict.fromkeys(by_name, BY_NAME), {}, {}, {})
        report = Report(str(scheme), 0, rows, None, _sizes(graph, made.graph))
        return QuantizedModel(made.graph, report, domains)
    feeds, count = batches(data, graph.inputs, batch, samples)
    runner = Runner(feeds, options or {}, progress or silent)
    ranges = calibrated(graph, list(placement.bytes_of(layers)), runner, scheme)
    trial = Trial(placement, ranges, scheme, runner, list(runner.values(graph, graph.outputs, "float results")))
    alone = trial.alone(layers) if sensitivity or max_error is not None else {}
    kept = dict.fromkeys(by_name, BY_NAME)
    if max_error is not None:
        kept.update(dict.fromkeys(trial.below(max_error, layers, alone), BY_ERROR))
    chosen = [n for n in layers if n not in kept]
    made = quantized(placement, chosen, ranges, scheme)
    ends = list(placement.layers.values())
    shown = [made.seen.get(v, v) for v in ends]
    found = noises(runner.values(graph, ends), runner.values(made.graph, shown, "errors of layers"))
    outputs = {n: noise.relative for n, noise in zip(placement.layers, found)}
    extents = {n: ranges[v] for n, v in placement.layers.items() if v in ranges and n not in kept}
    rows = _rows(placement, made, kept, outputs, alone, extents)
    report = Report(str(scheme), count, rows, trial.error(chosen), _sizes(graph, made.graph))
    return QuantizedModel(made.graph, report, domains)


def _require_sensible(keep: Any, max_error: Any, batch: Any, samples: Any) -> None:
    if isinstance(keep, str) or not all(isinstance(name, str) for name in keep):
        raise InputError(f"keep must hold names of layers or operators, not be {keep!r}", hint="keep=['Conv']")
    if max_error is not None and not (isinstance(max_error, (int, float)) and max_error >= 0):
        raise InputError(f"max_error must be a number from 0 on, not {max_error!r}", hint="max_error=0.01")
    for name, number in (("batch", batch), ("samples", 1 if samples is None else samples)):
        if not isinstance(number, int) or number < 1:
            raise InputError(f"{name} must be a whole number from 1 on, not {number!r}")


def require_float(graph: Graph, hint: str) -> None:
    """Raises InputError for a model that is quantised already."""
    found = [n for n in graph.nodes if any(part in n.op.name for part in INTEGER)]
    if found:
        raise InputError(
            f"the model is quantised already: it has {len(found)} operators such as {found[0].op.name} '{found[0].name}'",
            hint=hint,
        )


def _nothing(graph: Graph, scheme: Scheme) -> str:
    wanted = "products of matrices" if scheme.in_blocks else "convolutions or products of matrices"
    others = sorted({dtype_name(v.dtype) for v in graph.values() if v.type is not None and is_float(v.dtype)})
    dtypes = f"; its floats are {', '.join(others)}" if others and others != ["float32"] else ""
    return f"the model has nothing to quantise: no {wanted} by constant weights in float32{dtypes}"


def _require_no_data(scheme: Scheme, max_error: float | None, sensitivity: bool) -> None:
    if not scheme.in_blocks:
        raise InputError(
            "activations in 8 bits want data to find their ranges with",
            hint="give samples as the model will see them, or take weights='int4', which needs none",
        )
    if max_error is not None or sensitivity:
        raise InputError("errors of results can't be measured without data", hint="give samples")


def _rows(
    placement: Placement,
    made: Quantized,
    kept: Mapping[Node, str],
    outputs: Mapping[Node, float],
    alone: Mapping[Node, float],
    extents: Mapping[Node, Range],
) -> tuple[LayerReport, ...]:
    weights = {n: weight_noise(*pair).relative for n, pair in made.weights.items()}
    return tuple(
        LayerReport(n.name, n.op.name, kept.get(n, ""), extents.get(n), weights.get(n), outputs.get(n), alone.get(n))
        for n in placement.layers
    )


def _sizes(*graphs: Graph) -> tuple[int, int]:
    """Bytes of constants, before and after."""
    before, after = (sum(v.data.size * _bits(v.dtype) for v in g.constants()) // 8 for g in graphs)
    return before, after


def _bits(dtype: Any) -> int:
    found = find(dtype)
    return 0 if found is None else found.bits
