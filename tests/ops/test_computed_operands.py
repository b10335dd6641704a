"""Operands whose values decide shapes or kernels, computed from data: known neither when compiling nor from the inputs."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.dtypes import is_float
from graphc.graph import Builder
from graphc.op import Op, all_ops
from graphc.testing import cases, use_of

INTERNAL = ("Reorder",)
VALUED = {n: op for n, op in all_ops().items() if op.values and not op.holds_graphs and n not in INTERNAL}


def computed(b: Builder, name: str, array: np.ndarray, feeds: dict[str, np.ndarray]):
    """The array as a value that follows from an input of a higher rank, whose values no plan is made for."""
    feeds[name] = array.reshape(1, 1, 1, *array.shape)
    x = b.input(name, array.dtype, feeds[name].shape)
    return b.add("Squeeze", x, b.constant([0, 1, 2], np.int64))


def run_with_computed(op: Op, use) -> list[np.ndarray]:
    b, feeds, operands = Builder("computed"), {}, []
    for i, a in enumerate(use.arrays):
        if a is None:
            operands.append(None)
        elif i in op.values:
            operands.append(computed(b, f"x{i}", a, feeds))
        else:
            feeds[f"x{i}"] = a
            operands.append(b.input(f"x{i}", a.dtype, a.shape))
    outputs = b.add(op, *operands, name="node", outputs=use.n_outputs, **use.attrs)
    g = b.build((outputs,) if use.n_outputs == 1 else outputs)
    return list(graphc.compile(g, threads=1).run(feeds).values())


@pytest.mark.parametrize("name", VALUED)
def test_as_with_constants(name: str):
    op = VALUED[name]
    for case in cases(op)[:4]:
        use = use_of(op, case, op.samples.dtypes[0])
        for got, want in zip(run_with_computed(op, use), use.run()):
            assert got.dtype == want.dtype and got.shape == want.shape, use
            if is_float(want.dtype):
                np.testing.assert_allclose(
                    got.astype(float), want.astype(float), rtol=1e-4, atol=1e-4, err_msg=f"{use}"
                )
            else:
                np.testing.assert_array_equal(got, want, f"{use}")
