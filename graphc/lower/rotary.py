"""FusedRotary: an elementwise step per half of what is rotated."""

from __future__ import annotations

from graphc import expr as e
from graphc.lower.fuse import Group
from graphc.lower.lowering import Lowering
from graphc.lower.registry import lowers
from graphc.lower.storage import Storage
from graphc.lower.strides import collapse
from graphc.lower.verbs import Walk
from graphc.ops.fused_rotary import rotated
from graphc.types import number


@lowers("FusedRotary")
def lower_rotary(lo: Lowering, group: Group) -> None:
    """y = first · cos - second · sin, and second · cos + first · sin; elements behind those are copied."""
    node = group.nodes[0]
    call, t = node.call, node.output.type
    x, cos, sin = (lo.read(v) for v in node.operands)
    out = lo.write(node.output)
    if t.elements == 0:
        return
    width, size = number(rotated(call)), number(t.extents[3])
    half, item = width // 2, t.dtype.itemsize
    far = 0 if call.attrs.half_tables else half * item
    order = (0, 2, 1, 3) if call.attrs.transposed else (0, 1, 2, 3)
    x_strides = [x.strides[i] for i in order]
    x0, c0, x1, s0 = (e.arg(i, t.dtype) for i in range(4))

    def walk(s: Storage, at: int, strides: list[int]) -> Walk:
        return Walk(s.ref + at, t.dtype, strides)

    def table(s: Storage, at: int) -> Walk:
        return walk(s, at, [0 if d == 1 else st for d, st in zip(s.type.extents[:3], s.strides)] + [item])

    def emit(what: str, expression: e.Expr, length: int, walks: list[Walk]) -> None:
        dims, strides = collapse([*t.extents[:3]], [w.strides[:3] for w in walks])
        walks = [Walk(w.ref, w.dtype, [*st, item]) for w, st in zip(walks, strides)]
        lo.map(
            expression, [*dims, length], walks, 1, f"{node.output.name}/{what}", lo.info(group, "map", "rotary", what)
        )

    first, second = walk(x, 0, x_strides), walk(x, half * item, x_strides)
    for at, a, b, of_table, expression, what in (
        (0, first, second, 0, x0 * c0 - x1 * s0, "first half"),
        (half * item, second, first, far, x0 * c0 + x1 * s0, "second half"),
    ):
        y = walk(out, at, list(out.strides))
        emit(what, expression, half, [y, a, table(cos, of_table), b, table(sin, of_table)])
    if width < size:
        at = width * item
        emit("rest", e.arg(0, t.dtype), size - width, [walk(out, at, list(out.strides)), walk(x, at, x_strides)])
