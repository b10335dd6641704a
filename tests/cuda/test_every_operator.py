"""Every operator that has a CUDA kernel against its reference, in the emulator."""

from __future__ import annotations

import pytest
from suite import OPS, as_inputs, check, uses_of

from graphc.backends.cuda.lower.registry import RULES, load_lowerings
from graphc.errors import UnsupportedError
from graphc.testing import cases, use_of

load_lowerings()
# Operators without a kernel for some of their samples, and a part of what the error says of these.
WITHOUT = {"Unique": "distinct rows have no kernel"}
HOLD_GRAPHS = {"If", "Loop", "LoopRows", "Scan"}  # test_cuda_control.py
APART = {*HOLD_GRAPHS, "Raise"}  # an error in the place of a branch
COMPILED = sorted(n for n, op in OPS.items() if (op.elementwise or n in RULES.operators()) and n not in APART)


@pytest.mark.sample(48)
@pytest.mark.parametrize("name", COMPILED)
def test_every_case_and_dtype(name: str):
    op = OPS[name]
    others = [as_inputs(use_of(op, cases(op)[0], dtype, seed=1)) for dtype in op.samples.dtypes[1:]]
    uses, refused = [*uses_of(name), *others], []
    for one in uses:
        try:
            check(one, "cuda:emulate")
        except UnsupportedError as error:
            assert name in WITHOUT and WITHOUT[name] in str(error), one
            refused.append(one)
    assert bool(refused) == (name in WITHOUT) and len(refused) < len(uses)
