"""QEmbedLayerNormalization of com.microsoft: EmbedLayerNormalization of tables and factors in bytes."""

from __future__ import annotations

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, get_op
from graphc.ops.contrib.affine_bytes import emit_real, real, require_bytes, require_one, scale, some, zero
from graphc.ops.contrib.record import DOMAIN, composed, operands

_PARTS = ("word_embedding", "position_embedding", "segment_embedding?", "gamma", "beta")
_FIRST, _SCALES, _ZEROS = 2, 8, 13  # of the parts, their scales and their zero points among the operands
_NAMED = [p.replace("?", "_{}?") if p.endswith("?") else p + "_{}" for p in _PARTS]
_INPUTS = [
    *("input_ids", "segment_ids?", *_PARTS, "mask?"),
    *(n.format(kind) for kind in ("scale", "zero_point") for n in _NAMED),
]


def _check(call: Call) -> None:
    for i in range(len(_PARTS)):
        if call.has(_FIRST + i):
            require_bytes(call, _FIRST + i, _ZEROS + i)
            require_one(call, _SCALES + i, _ZEROS + i)


def _expand(b: Builder, call: Call) -> Value | tuple[Value, ...]:
    given = operands(call, len(_INPUTS))
    parts = [
        None if q is None else emit_real(b, q, given[_SCALES + i], given[_ZEROS + i])
        for i, q in enumerate(given[_FIRST : _FIRST + len(_PARTS)])
    ]
    normalized = f"{DOMAIN}::EmbedLayerNormalization"
    return b.add(normalized, *given[:_FIRST], *parts, given[7], epsilon=call.attrs.epsilon, outputs=call.n_outputs)


def _reference(*given, epsilon):
    given = (*given, *[None] * (len(_INPUTS) - len(given)))
    parts = [
        None if q is None else real(q, given[_SCALES + i], given[_ZEROS + i])
        for i, q in enumerate(given[_FIRST : _FIRST + len(_PARTS)])
    ]
    record = get_op(f"{DOMAIN}::EmbedLayerNormalization")
    return record.reference(*given[:_FIRST], *parts, given[7], **record.complete_attrs({"epsilon": epsilon}))[:2]


def _case(kind: str, segments: bool, mask: bool) -> Case:
    rows = (10, 8), (6, 8), (2, 8), (8,), (8,)
    there = (True, True, segments, True, True)
    ids = Const([[1, 2, 3], [4, 5, 6]], "int32")
    return Case(
        (
            ids,
            Const([[0, 0, 1], [1, 1, 0]], "int32") if segments else None,
            *(some(kind, *shape) if t else None for shape, t in zip(rows, there)),
            Const([[1, 1, 0], [1, 1, 1]], "int32") if mask else None,
            *(scale(0.25 / (i + 1)) if t else None for i, t in enumerate(there)),
            *(zero(kind, first=i) if t else None for i, t in enumerate(there)),
        ),
        {"epsilon": 1e-5},
        2,
    )


composed(
    "QEmbedLayerNormalization",
    " ".join(_INPUTS),
    _reference,
    _expand,
    [_case("uint8", True, True), _case("int8", True, False), _case("uint8", False, False)],
    {"epsilon": Attr(float, 1e-12)},
    outputs=("output", "mask_index"),
    check=_check,
    dtypes=("int32",),
    tolerance=1e-4,  # as LayerNormalization
)
