"""Machine code for GPUs, compiled without one: networks as a whole, nothing spilled."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc import expr, zoo
from graphc.backends.cuda.codegen.cubin import cubin_of
from graphc.backends.cuda.conv.conv_block import TensorConv
from graphc.backends.cuda.conv.tensor_conv import TILES
from graphc.backends.cuda.product.tile import WarpTile

NETWORKS = {n.name: n for n in zoo.networks()}
EVERY = sorted(NETWORKS)


def check(name: str, arch: str) -> None:
    model = graphc.compile(f"zoo:{name}", target="cuda", arch=arch)
    steps = [s for s in model.plan(NETWORKS[name].shapes).steps if s.kernel != "jump"]
    assert steps and all("registers" in s.reason for s in steps)
    assert [(s.kernel, s.reason) for s in steps if "spilled" in s.reason] == []


@pytest.mark.sample(2)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("name", ["lenet5", "resnet18"])
def test_small_networks(name: str, arch: str):
    check(name, arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("name", EVERY)
def test_every_example(name: str, arch: str):
    check(name, arch)


@pytest.mark.slow
@pytest.mark.parametrize("arch", [(8, 0), (9, 0)])
@pytest.mark.parametrize("dtype, tile", [(d, t) for d in ("float16", "float32") for t in TILES[np.dtype(d).itemsize]])
def test_convolutions_on_tensor_cores(dtype: str, tile: WarpTile, arch: tuple[int, int]):
    """Of both orders of channels, with a residual: no spills, and as many blocks at once as the model of costs believes."""
    kind, sums = np.dtype(dtype), np.dtype(np.float32)
    ending = expr.cast(expr.arg(0, sums), kind) + expr.arg(1, kind)
    for flat, run in ((True, 4), (False, 0)):
        kernel = TensorConv(dtype, tile, False, flat, run, (run > 0,), ending, (dtype,), 3 if dtype == "float32" else 1)
        cubin = cubin_of(kernel, arch)
        assert cubin.spilled == cubin.stack == 0
        assert tile.blocks * tile.threads * -(-cubin.registers // 8) * 8 <= 1 << 16 or not flat
