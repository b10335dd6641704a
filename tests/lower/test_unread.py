"""An attribute or an operand that a lowering or an expansion passes over is an error."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from suite import OPS, as_inputs, compiled, use

import graphc
from graphc.errors import GraphcError, UnsupportedError
from graphc.graph import Builder
from graphc.interpret import interpret
from graphc.lower.registry import NEUTRAL
from graphc.op import _REGISTRY, Attr, Op, register
from graphc.passes.decompose import EXPANSION
from graphc.testing import Use, cases, use_of

PLAUSIBLE = {bool: (True, False), int: (-1, 0, 1, 2, 3), float: (-0.5, 0.3, 1.7)}
FEW = 8  # values of an attribute, and samples of an operator, that are combined


def _variants(op: Op) -> Iterator[Callable[[], Use]]:
    """Samples with an attribute changed: to those of other samples, its choices, or plausible numbers. A sample as it is first."""
    samples, dtype = cases(op), op.samples.dtypes[0]
    yield partial(use_of, op, samples[0], dtype)
    for key, attr in op.attrs.items():
        given = [c.attrs[key] for c in samples if key in c.attrs and not isinstance(c.attrs[key], np.ndarray)]
        values = [v for v in (*given, *attr.choices, *PLAUSIBLE.get(attr.type, ())) if isinstance(v, Hashable)]
        for sample in samples[:FEW]:
            for value in list(dict.fromkeys(values))[:FEW]:
                yield partial(use_of, op, replace(sample, attrs={**sample.attrs, key: value}), dtype)


SUMS = use("CumSum", np.ones((2, 3), np.float32), np.array(1), constants=[1], reverse=True)
WITH_ATTRIBUTES = sorted(
    n for n, op in OPS.items() if op.attrs and op.inputs and not op.holds_graphs and n != "Reorder"
)


@pytest.mark.sample(40)
@pytest.mark.parametrize("name", WITH_ATTRIBUTES)
def test_no_attribute_is_passed_over(name: str):
    tried = 0
    for variant in _variants(OPS[name]):
        try:
            one = as_inputs(variant())
            model = compiled(one)
            if one.inputs:
                model.plan()
        except GraphcError as error:  # some combinations make no sense
            assert "takes no account" not in str(error)
        else:
            tried += 1
    assert tried


@contextmanager
def _registered(op: Op) -> Iterator[Op]:
    try:
        yield register(op)
    finally:
        del _REGISTRY[op.name]


def _shifted(expand) -> Op:
    return Op(
        "Shifted",
        ("x", "by?"),
        lambda call: [call.type(0)],
        lambda x, by, reverse: x,
        {"reverse": Attr(bool, False)},
        expand=expand,
    )


def _use(op: Op, n: int, **attrs) -> Use:
    return Use(op, tuple(np.ones((2, 3), np.float32) for _ in range(n)), attrs, 1, frozenset())


def test_an_expansion_that_passes_over_an_attribute():
    with _registered(_shifted(lambda b, call: b.add("Relu", call.inputs[0]))) as op:
        compiled(_use(op, 1)).plan()
        compiled(_use(op, 1, reverse=False)).plan()
        with pytest.raises(UnsupportedError) as caught:
            compiled(_use(op, 1, reverse=True)).plan()
    assert f"{EXPANSION} takes no account of its attribute 'reverse' = True" in str(caught.value)
    assert "report it" in str(caught.value)


def test_an_expansion_that_passes_over_an_operand():
    with (
        _registered(_shifted(lambda b, call: b.add("Relu", call.inputs[0]))) as op,
        pytest.raises(UnsupportedError, match=f"{EXPANSION} takes no account of its operand 'by'"),
    ):
        compiled(_use(op, 2)).plan()


def test_what_an_expansion_ignores_is_no_error():
    def expand(b, call):
        call.ignore(1)
        call.attrs.ignore("reverse")
        return b.add("Relu", call.inputs[0])

    with _registered(_shifted(expand)) as op:
        compiled(_use(op, 2, reverse=True)).plan()


@pytest.mark.parametrize("forgotten", ["attribute 'reverse' = True", "operand 'x'"])
def test_a_kernel_that_passes_over_something(forgotten: str, monkeypatch: pytest.MonkeyPatch):
    def forgetful(lo, group):
        node = group.nodes[0]
        out = lo.write(node.output)
        if forgotten.startswith("attribute"):
            lo.copied(node.inputs[0], out)
        else:
            node.attrs.ignore(*node.attrs)

    compiled(SUMS).plan()
    monkeypatch.setitem(NEUTRAL._own, "CumSum", replace(NEUTRAL._own["CumSum"], lower=forgetful))
    with pytest.raises(UnsupportedError, match=f"its CPU kernel takes no account of its {forgotten}"):
        compiled(SUMS).plan()


def test_attributes_that_decided_the_layout_are_read():
    """A concatenation of channels that begin inside blocks: its kernel is for that axis alone."""
    b, rng = Builder("parts"), np.random.default_rng(0)

    def conv(x, channels):
        filters = rng.standard_normal((channels, x.shape[1], 3, 3), np.float32)
        return b.add("Conv", x, b.constant(filters), pads=[1, 1, 1, 1])

    x = b.input("x", np.float32, [1, 3, 12, 12])
    graph = b.build({"y": conv(b.add("Concat", conv(x, 20), conv(x, 7), axis=1), 5)})
    data = rng.standard_normal((1, 3, 12, 12), np.float32)
    want = interpret(graph, {"x": data})["y"]
    np.testing.assert_allclose(graphc.compile(graph)(data), want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_products_that_share_a_packed_operand_read_it():
    """Queries, keys and values: the first packs the rows, the others read what it packed."""
    b, rows, depth = Builder("projections"), 128, 256
    x = b.input("x", np.float32, [rows, depth])
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((depth, 512), np.float32) for _ in range(3)]
    model = graphc.compile(b.build({f"y{i}": b.add("MatMul", x, b.constant(w)) for i, w in enumerate(weights)}))
    assert sum(s.ops == ("Pack",) for s in model.plan().steps) == 1
    data = rng.standard_normal((rows, depth), np.float32)
    for y, w in zip(model(data), weights):
        np.testing.assert_allclose(y, data @ w, rtol=0, atol=1e-3)  # sums of up to 256 products of about 1


def test_a_scalar_body_takes_every_attribute():
    with pytest.raises(ValueError, match="'scalar' does not take slope"):
        Op("Leaky", ("x",), lambda call: [call.type(0)], lambda x, slope: x, {"slope": Attr(float)}, scalar=lambda x: x)
