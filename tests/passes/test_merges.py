"""Pads go into the windows that read them, chains of reshapes become one: where that is right, and only there."""

import numpy as np
import pytest
from passcheck import F32, bound, build, image, ints, left, refused, rewritten, weights

from graphc.graph import Builder, Value
from graphc.passes.log import Log
from graphc.passes.merge_pads import merge_pads
from graphc.passes.merge_reshapes import merge_reshapes
from graphc.types import Sym


def pad(b: Builder, x: Value, *amounts: int, value: float | None = None, **attrs) -> Value:
    """`amounts`: top, left, bottom, right."""
    top, left_, bottom, right = amounts or (1, 1, 1, 1)
    fill = None if value is None else b.constant(value, F32)
    return b.add("Pad", x, ints(b, 0, 0, top, left_, 0, 0, bottom, right), fill, name="pad", **attrs)


# --- pads ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "attrs", [{}, {"pads": [0, 1, 2, 0]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"auto_pad": "VALID"}], ids=str
)
def test_pad_into_conv(attrs):
    g = build(
        lambda b: b.add(
            "Conv", pad(b, image(b), 1, 0, 2, 1), weights(b, 3, 4, 3, 3), weights(b, 3), name="conv", **attrs
        )
    )
    after = rewritten(merge_pads, g)
    assert [n.op.name for n in after.nodes] == ["Conv"]
    assert after.nodes[0].name == "conv"
    assert after.nodes[0].attrs["auto_pad"] == "NOTSET"


def test_pad_with_axes_into_conv_of_one_axis():
    def make(b):
        y = b.add("Pad", image(b, 2, 4, 6), ints(b, 2, 1), None, ints(b, -1))
        return b.add("Conv", y, weights(b, 3, 4, 3))

    after = rewritten(merge_pads, build(make))
    assert after.nodes[0].attrs["pads"] == (2, 1)


def test_a_pad_that_is_read_twice_stays_for_the_other_reader():
    def make(b):
        y = pad(b, image(b))
        return b.add("Conv", y, weights(b, 3, 4, 3, 3)), b.add("Relu", y)

    after = rewritten(merge_pads, build(make))
    assert sorted(n.op.name for n in after.nodes) == ["Conv", "Pad", "Relu"]
    assert next(n for n in after.nodes if n.op.name == "Conv").inputs[0] is after.inputs[0]


def test_two_pads():
    assert left(merge_pads, build(lambda b: b.add("Conv", pad(b, pad(b, image(b))), weights(b, 3, 4, 3, 3)))) == [
        "Conv"
    ]


@pytest.mark.parametrize("include", [True, False])
def test_pad_into_average_pool(include):
    """The Pad's zeros count, so the merged padding must count too."""
    g = build(lambda b: b.add("AveragePool", pad(b, image(b)), kernel_shape=[3, 3], count_include_pad=include))
    after = rewritten(merge_pads, g)
    assert [n.op.name for n in after.nodes] == ["AveragePool"]
    assert after.nodes[0].attrs["count_include_pad"] is True


def test_pad_into_max_pool():
    lowest = build(lambda b: b.add("MaxPool", pad(b, image(b), value=-np.inf), kernel_shape=[3, 3]))
    assert left(merge_pads, lowest) == ["MaxPool"]
    not_negative = build(lambda b: b.add("MaxPool", pad(b, b.add("Relu", image(b))), kernel_shape=[3, 3]))
    assert left(merge_pads, not_negative) == ["Relu", "MaxPool"]


def average(b, x, **attrs):
    return b.add("AveragePool", x, kernel_shape=[3, 3], **attrs)


def maximum(b, x, **attrs):
    return b.add("MaxPool", x, kernel_shape=[3, 3], **attrs)


def conv(b, x, **attrs):
    return b.add("Conv", x, weights(b, 3, x.shape[1], 3, 3), **attrs)


KEPT = {
    "pads with 1": lambda b, x: conv(b, pad(b, x, value=1.0)),
    "mode reflect": lambda b, x: conv(b, pad(b, x, mode="reflect")),
    "mode edge": lambda b, x: average(b, pad(b, x, mode="edge"), count_include_pad=True),
    "crops": lambda b, x: conv(b, pad(b, x, -1, 0, 1, 0)),
    "pads the batch": lambda b, x: conv(b, b.add("Pad", x, ints(b, 0, 1, 0, 0, 0, 0, 0, 0))),
    "pads with 0.0": lambda b, x: maximum(b, pad(b, x)),
    "own padding does not count": lambda b, x: average(b, pad(b, x), pads=[1] * 4),
    "ceil_mode": lambda b, x: average(b, pad(b, x), strides=[2, 2], ceil_mode=True, count_include_pad=True),
    "windows depend": lambda b, x: maximum(b, pad(b, x, value=-np.inf), strides=[2, 2], ceil_mode=True),
    "dilated": lambda b, x: maximum(b, pad(b, x, value=-np.inf), dilations=[2, 2]),
    "wholly in the padding": lambda b, x: maximum(b, pad(b, b.add("Abs", x), 3, 0, 0, 0)),
    "indices": lambda b, x: maximum(b, pad(b, x, value=-np.inf), outputs=2),
}


@pytest.mark.parametrize("reason", KEPT)
def test_pads_that_stay(reason):
    assert reason in refused(merge_pads, build(lambda b: KEPT[reason](b, image(b))))


def test_a_pad_by_amounts_that_are_inputs_stays():
    def make(b):
        y = b.add("Pad", image(b), b.input("amounts", np.int64, (8,)))
        return b.add("Conv", y, weights(b, 3, 4, 3, 3))

    g = build(make)
    log = Log()
    assert merge_pads(g, log) is g
    assert "'amounts'" in log.refused()[0].reason or "not known before" in log.refused()[0].reason


# --- reshapes -----------------------------------------------------------------------------------------------------------
def test_chain_of_reshapes():
    def make(b):
        y = b.add("Unsqueeze", b.add("Flatten", b.add("Reshape", image(b), ints(b, 0, 2, -1))), ints(b, 0))
        return b.add("Squeeze", b.add("Reshape", y, ints(b, 2, 144, 1, 1)), ints(b, -1))

    after = rewritten(merge_reshapes, build(make))
    assert [n.op.name for n in after.nodes] == ["Reshape"]
    assert after.nodes[0].inputs[1].data.tolist() == [2, 144, 1]


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.add("Flatten", x),
        lambda b, x: b.add("Squeeze", b.add("Slice", x, ints(b, 0), ints(b, 1), ints(b, 2)), ints(b, 2)),
        lambda b, x: b.add("Unsqueeze", x, ints(b, 1, -1)),
    ],
)
@pytest.mark.parametrize("batch", [2, Sym("batch")], ids=["static", "symbolic"])
def test_one_form(make, batch):
    assert left(merge_reshapes, build(lambda b: make(b, image(b, batch, 4, 6, 6))))[-1] == "Reshape"


def test_symbolic_batch_becomes_minus_one():
    after = rewritten(merge_reshapes, build(lambda b: b.add("Flatten", image(b, Sym("batch"), 4, 6, 6))))
    assert after.nodes[0].inputs[1].data.tolist() == [-1, 144]
    assert after.outputs[0].shape == (Sym("batch"), 144)


def test_two_symbolic_dims_wait_for_binding():
    g = build(lambda b: b.add("Flatten", image(b, Sym("batch"), 4, Sym("h"), 6), axis=2))
    assert "more than one symbolic dim" in refused(merge_reshapes, g)
    assert left(merge_reshapes, bound(g)) == ["Reshape"]


def test_dims_copied_from_the_first_reshape_are_not_those_of_its_operand():
    """The second 0 copies h, which is dim 1 of what the first Reshape gives and dim 2 of its operand."""

    def make(b):
        y = b.add("Reshape", image(b, Sym("n"), 4, Sym("h"), 6), ints(b, 0, -1, 24))
        return b.add("Reshape", y, ints(b, 0, 0, 4, 6))

    g = build(make)
    assert "copies dims" in refused(merge_reshapes, g)
    assert left(merge_reshapes, bound(g)) == ["Reshape"]


def test_a_reshape_to_nothing():
    g = build(lambda b: b.add("Flatten", image(b, 0, 4, 6)))
    after = rewritten(merge_reshapes, g)
    assert after.nodes[0].attrs["allowzero"] is True
    assert after.outputs[0].shape == (0, 24)


def test_a_reshape_that_is_read_twice_stays_for_the_other_reader():
    def make(b):
        y = b.add("Reshape", image(b), ints(b, 2, -1))
        return b.add("Reshape", y, ints(b, 4, -1)), b.add("Relu", y)

    after = rewritten(merge_reshapes, build(make))
    assert sorted(n.op.name for n in after.nodes) == ["Relu", "Reshape", "Reshape"]
    assert all(n.inputs[0] is after.inputs[0] for n in after.nodes if n.op.name == "Reshape")
