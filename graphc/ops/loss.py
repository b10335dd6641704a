"""Losses over class labels: negative log likelihood and softmax cross entropy."""

from __future__ import annotations

import numpy as np

from graphc.errors import InputError
from graphc.op import FLOATS, Attr, Call, Case, Const, Op, Samples, Tensor, register
from graphc.ops.contract import FLOAT_NAMES, differ, require_dtype, require_same_dtype
from graphc.ops.precision import widen
from graphc.types import TensorType

ATTRS = {"reduction": Attr(str, "mean", ("none", "sum", "mean")), "ignore_index": Attr(int, None)}


def _loss_infer(call: Call) -> list[TensorType]:
    """Operand 0 [N, C, *d], labels [N, *d], weights [C]: the loss is [N, *d] or a scalar; then log_prob [N, C, *d]."""
    dtype, x, labels = require_dtype(call, 0, FLOAT_NAMES), call.shape(0), call.shape(1)
    require_dtype(call, 1, ("int32", "int64"))
    require_same_dtype(call, 0, 2)
    if len(x) < 2:
        raise call.fail(f"the scores have shape {x}", "give [N, C, …]: a batch axis, then the classes")
    want = (x[0], *x[2:])
    if len(labels) != len(want) or any(differ(a, b) for a, b in zip(labels, want)):
        raise call.fail(f"the labels have shape {labels}, the scores {x}", f"labels need shape {want}")
    if call.has(2) and (call.rank(2) != 1 or differ(call.shape(2)[0], x[1])):
        raise call.fail(f"the weights have shape {call.shape(2)}", f"give one number for each of {x[1]} classes")
    return [TensorType(dtype, labels if call.attrs.reduction == "none" else ()), TensorType(dtype, x)]


def _nll(logp: np.ndarray, labels, weights, reduction: str, ignore_index: int | None) -> np.ndarray:
    ignored = np.zeros(labels.shape, bool) if ignore_index is None else labels == ignore_index
    labels = np.where(ignored, 0, labels)
    if labels.size and not (labels.min() >= 0 and labels.max() < logp.shape[1]):
        raise InputError(f"labels from {labels.min()} to {labels.max()} do not name one of {logp.shape[1]} classes")
    weights = np.ones(logp.shape[1], logp.dtype) if weights is None else weights
    share = np.where(ignored, 0, weights[labels]).astype(logp.dtype)
    loss = -np.take_along_axis(logp, np.expand_dims(labels, 1), 1).squeeze(1) * share
    if reduction == "none":
        return loss
    return np.asarray(loss.sum() if reduction == "sum" else loss.sum() / share.sum(), logp.dtype)


def _nll_reference(logp, labels, weights=None, *, reduction, ignore_index):
    """-weights[label] · logp[label]; the mean is over the weights of labels that are not ignored."""
    return _nll(widen(logp), labels, widen(weights), reduction, ignore_index).astype(logp.dtype)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def _cross_entropy_reference(scores, labels, weights=None, *, reduction, ignore_index):
    logp = _log_softmax(widen(scores))
    loss = _nll(logp, labels, widen(weights), reduction, ignore_index)
    return loss.astype(scores.dtype), logp.astype(scores.dtype)


def _emit_nll(b, call: Call, logp):
    dtype, labels, weights = logp.dtype, call.inputs[1], call.inputs[2] if call.has(2) else None
    one, nothing = b.constant([1], np.int64), b.constant(0, dtype)
    ignored = None
    if call.attrs.ignore_index is not None:
        ignored = b.add("Equal", labels, b.constant(call.attrs.ignore_index, labels.dtype))
        labels = b.add("Where", ignored, b.constant(0, labels.dtype), labels)
    picked = b.add("GatherElements", logp, b.add("Unsqueeze", labels, one), axis=1)
    loss = b.add("Neg", b.add("Squeeze", picked, one))
    share = None if weights is None else b.add("Gather", weights, labels, axis=0)
    if ignored is not None:
        share = b.add("Where", ignored, nothing, b.constant(1, dtype) if share is None else share)
    if share is not None:
        loss = b.add("Mul", loss, share)
    if call.attrs.reduction == "none":
        return loss
    if call.attrs.reduction == "mean" and share is None:
        return b.add("ReduceMean", loss, keepdims=False)
    total = b.add("ReduceSum", loss, keepdims=False)
    return total if call.attrs.reduction == "sum" else b.add("Div", total, b.add("ReduceSum", share, keepdims=False))


def _cross_entropy_expand(b, call: Call):
    logp = b.add("LogSoftmax", call.inputs[0], axis=1)
    return (_emit_nll(b, call, logp), logp)[: call.n_outputs]


def _cases(n_outputs: int) -> tuple[Case, ...]:
    x, labels = Tensor((5, 7)), Const([0, 6, 3, 3, 1])
    maps, map_labels = Tensor((2, 4, 3, 5)), Tensor((2, 3, 5), 0, 3, "int64")
    weights = Tensor((7,), 0.1, 1)
    uses = (
        Case((x, labels)),
        Case((x, labels), {"reduction": "none"}),
        Case((x, labels, weights), {"reduction": "sum"}),
        Case((x, labels, weights), {"ignore_index": 3}),
        Case((x, labels), {"ignore_index": 3}),
        Case((x, Const([0, -1, 3, -1, 1], "int32")), {"ignore_index": -1, "reduction": "none"}),
        Case((maps, map_labels, Tensor((4,), 0.1, 1))),
        Case((maps, map_labels), {"reduction": "none", "ignore_index": 2}),
    )
    return tuple(Case(c.inputs, c.attrs, n_outputs) for c in uses)


register(
    Op(
        "NegativeLogLikelihoodLoss",
        ("x", "target", "weight?"),
        lambda call: _loss_infer(call)[:1],
        _nll_reference,
        ATTRS,
        ("loss",),
        expand=lambda b, call: _emit_nll(b, call, call.inputs[0]),
        samples=Samples(FLOATS, cases=_cases(1)),
    )
)
register(
    Op(
        "SoftmaxCrossEntropyLoss",
        ("scores", "labels", "weights?"),
        _loss_infer,
        _cross_entropy_reference,
        ATTRS,
        ("loss", "log_prob"),
        expand=_cross_entropy_expand,
        samples=Samples(FLOATS, cases=_cases(2)),
    )
)
