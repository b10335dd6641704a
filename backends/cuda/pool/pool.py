"""MaxPool, AveragePool, LpPool."""

from __future__ import annotations

from typing import Any

from graphc import expr
from graphc.backends.cuda.conv.conv import conv_supported
from graphc.backends.cuda.conv.window import axes_of, dhw, five, has_runs, is_deep, place_words, record, runs_of
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.epilogue import Walked, ending_of, summed
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.pool.pool_block import POOL, Pool
from graphc.expr import Expr
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.lower.storage import Ref
from graphc.ops.window import geometry
from graphc.types import numbers

OPS = {"MaxPool": "max", "AveragePool": "average", "LpPool": "power"}


def _channels_last(node: Node) -> str:
    return "any" if len(node.outputs) == 1 else "read"


@lowers(*OPS, supported=conv_supported, epilogue=lambda node: len(node.outputs) == 1, channels_last=_channels_last)
def lower_pool(lo: CudaLowering, group: Group) -> None:
    node = group.anchor
    x, ending = lo.strided(node.inputs[0]), ending_of(lo, group, _finish(node))
    writes, indices = [ending.result.ref], None
    if len(node.outputs) > 1:
        s = lo.write(node.outputs[1])
        assert s.contiguous, s
        indices = s.ref
        writes.append(indices)
    if 0 in group.output.shape:
        return
    axes, strides = axes_of(node), five(x.strides)
    run, wide = runs_of(ending, x.type.extents[1])
    if run > 1 and not has_runs(Walked(x.ref, x.type.dtype, x.strides)):
        run, wide = 1, (False,) * len(wide)
    total, pixels = group.output.type.elements // max(run, 1), axes[0].out * axes[1].out * axes[2].out
    d, h, w = (a.size for a in axes)
    steps = (1, d, d * h) if node.attrs.get("storage_order") else (h * w, w, 1)
    dilations = [a.taps[1] if len(a.taps) > 1 else 1 for a in axes]
    args = POOL(
        grid=-(-total // THREADS), total=total, channels=x.type.extents[1], pixels=pixels,
        x=x.ref, x_n=strides[0], x_c=strides[1], **place_words(axes, strides),
        **dhw("k d step", [len(a.taps) for a in axes], dilations, steps), **_counted(node), power=node.attrs.get("p", 0),
        indices=indices or 0, plane=d * h * w, records=[record(o, 0) for o in ending.every],
    )  # fmt: skip
    kernel = Pool(
        OPS[node.op.name],
        x.type.dtype.name,
        indices is not None,
        is_deep(axes),
        run,
        wide,
        ending.expression,
        ending.dtypes,
    )
    lo.emit(kernel, args, lo.info(group, str(kernel)), writes=writes)


def _finish(node: Node) -> Expr | None:
    """The root of a sum of powers."""
    if node.op.name != "LpPool" or node.attrs["p"] == 1:
        return None
    total: Any = expr.arg(0, summed(node.output.dtype))
    root: Expr = expr.sqrt(total) if node.attrs["p"] == 2 else expr.pow(total, 1 / node.attrs["p"])
    return root


def _counted(node: Node) -> dict[str, int | Ref]:
    """The positions that an average divides by."""
    g, rank = geometry(node.call), node.inputs[0].type.rank - 2
    sizes, begins, ends = numbers(node.inputs[0].shape[2:]), numbers(g.pads_begin), numbers(g.pads_end)
    padded = bool(node.attrs.get("count_include_pad"))
    low = [-b if padded else 0 for b in begins]
    high = [n + e if padded else n for n, e in zip(sizes, ends)]
    fill = 3 - rank
    return dhw("low high", [0] * fill + low, [1] * fill + high)
