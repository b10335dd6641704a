"""Machine code of products on tensor cores, for GPUs that are not here: what it should be made of, and what not."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from sass import instructions, of_kind, target_of, text_of, waits_of

from graphc import expr
from graphc.backends.cuda.codegen.cubin import Cubin, cubin_of
from graphc.backends.cuda.conv.conv_block import TensorConv
from graphc.backends.cuda.conv.tensor_conv import WIDE, tiles_of
from graphc.backends.cuda.product.product_block import TensorProduct
from graphc.backends.cuda.product.tile import (
    GROUPS,
    GROUPS_FLOAT,
    GROUPS_TF32,
    WARPS_FLOAT,
    WARPS_HALF,
    WARPS_TF32,
    Run,
    WarpTile,
)
from graphc.types import dtype_from_name

REGISTERS = 65536  # of a multiprocessor
SHARED = {(8, 0): 164 << 10, (9, 0): 228 << 10}  # bytes of a multiprocessor
RESERVED = 1 << 10  # of each block
ARCHITECTURES = [(8, 0), (9, 0)]
GENERIC = r"(LD|ST)\.E.*|ATOM\..*"  # accesses that look for the address space first
EVERY_TILE = [  # with how many products there are of its elements
    (dtype, products, tile)
    for dtype, products, tiles in (
        ("float16", 1, WARPS_HALF),
        ("bfloat16", 1, WARPS_HALF),
        ("float32", 3, WARPS_FLOAT),
        ("float32", 1, WARPS_TF32),
    )
    for tile in tiles
]
OF_GROUPS = [  # the same; bfloat16 differs in the name of an instruction
    *(("float16", 1, tile) for tile in GROUPS),
    ("bfloat16", 1, GROUPS[0]),
    *(("float32", 1, tile) for tile in GROUPS_TF32),
    *(("float32", 3, tile) for tile in GROUPS_FLOAT),
]
SMALL = WarpTile(64, 64, 32, 32, 4, 4)


def kernel(dtype: str, products: int, tile: WarpTile, across: bool = False, chunk: int = 16) -> TensorProduct:
    """relu(sum + row), with rows of the widest loads and stores."""
    kind, sums = dtype_from_name(dtype), dtype_from_name("float32")
    total = expr.cast(expr.maximum(expr.arg(0, sums) + expr.cast(expr.arg(1, kind), sums), 0.0), kind)
    run = Run(16 // kind.itemsize, "r")
    return TensorProduct(dtype, tile, chunk, chunk, across, total, (dtype,), run, products)


@pytest.mark.sample(4)
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("dtype, products, tile", EVERY_TILE, ids=str)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_tiles(arch: tuple[int, int], dtype: str, products: int, tile: WarpTile, across: bool):
    cubin = cubin_of(kernel(dtype, products, tile, across), arch)
    found, item = instructions(cubin), dtype_from_name(dtype).itemsize

    # all sums stay in registers, and as many blocks as the model of costs counts on find theirs
    assert (cubin.spilled, cubin.stack, of_kind(found, r"(LDL|STL).*")) == (0, 0, {})
    assert tile.blocks * tile.threads * (-(-cubin.registers // 8) * 8) <= REGISTERS
    assert tile.blocks * (cubin.shared + cubin.dynamic + RESERVED) <= SHARED[arch]

    # each product once, fed by ldmatrix (words of right operands of float32 whose rows are lines can't be)
    name = {"float16": r"HMMA\.16816\.F32", "bfloat16": r"HMMA\.16816\.F32\.BF16", "float32": r"HMMA\.1688\.F32\.TF32"}
    depth = 2 if item == 2 else 4  # instructions down a tile
    assert of_kind(found, name[dtype]).total() == depth * products * (tile.wm // 16) * (tile.wn // 8)
    assert of_kind(found, "HMMA.*").total() == of_kind(found, name[dtype]).total()
    lefts, rights = depth * tile.wm // 16, depth * tile.wn // 16
    assert of_kind(found, r"LDSM\.16\.M?T?M?88\.4").total() == lefts + rights * (not (across and item == 4))

    # copies of 128 bits past L1, all but one stage ahead; the ending as wide
    assert waits_of(cubin) == [tile.stages - 2]
    assert of_kind(found, r"LDGSTS.*") == of_kind(found, r"LDGSTS\.E\.BYPASS\.128\.ZFILL")
    copied = (tile.m + tile.n) * 32 * item // 16 // tile.threads
    assert of_kind(found, r"LDGSTS.*").total() == copied
    assert of_kind(found, r"STG\..*") == of_kind(found, r"STG\.E\.128") and of_kind(found, r"LDG\.E\.128.*")
    assert of_kind(found, GENERIC) == {}


@pytest.mark.sample(2)
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("dtype, products, tile", EVERY_TILE, ids=str)
def test_tiles_whose_steps_are_dealt(dtype: str, products: int, tile: WarpTile, across: bool):
    """The same pipeline in a loop, and parts that leave as they are."""
    cubin = cubin_of(replace(kernel(dtype, products, tile, across), dealt=True), (9, 0))
    found, item = instructions(cubin), dtype_from_name(dtype).itemsize
    assert (cubin.spilled, cubin.stack, of_kind(found, r"(LDL|STL).*")) == (0, 0, {})
    assert tile.blocks * tile.threads * (-(-cubin.registers // 8) * 8) <= REGISTERS
    depth = 2 if item == 2 else 4
    assert of_kind(found, "HMMA.*").total() == depth * products * (tile.wm // 16) * (tile.wn // 8)
    assert waits_of(cubin) == [tile.stages - 2]
    assert of_kind(found, r"STG\..*") == of_kind(found, r"STG\.E\.128") and of_kind(found, GENERIC) == {}


@pytest.mark.parametrize("chunk, name", [(8, r"LDGSTS\.E\.64\.ZFILL"), (4, r"LDGSTS\.E\.ZFILL")])
def test_narrow_copies_are_asynchronous_too(chunk: int, name: str):
    found = instructions(cubin_of(kernel("float16", 1, SMALL, chunk=chunk), (9, 0)))
    assert of_kind(found, r"LDGSTS.*") == of_kind(found, name) != {}


def test_narrow_runs_store_what_they_are():
    """Two elements of float16 at once."""
    made = replace(kernel("float16", 1, SMALL), run=Run(2, "r"))
    found = instructions(cubin_of(made, (9, 0)))
    assert of_kind(found, r"STG\..*") == of_kind(found, r"STG\.E") != {}


def check_group(cubin: Cubin, dtype: str, products: int, tile: WarpTile) -> Counter[str]:
    """What kernels of groups of warps have in common. Gives the instructions."""
    found = instructions(cubin)
    assert (cubin.spilled, cubin.stack, of_kind(found, r"(LDL|STL).*")) == (0, 0, {})
    assert tile.blocks * tile.threads * (-(-cubin.registers // 8) * 8) <= REGISTERS
    assert tile.blocks * (cubin.shared + cubin.dynamic + RESERVED) <= SHARED[9, 0]
    # four products of 32 bytes down a stage, or three of digits for each, one of which may be on its way
    name = {"float16": "16.F32", "bfloat16": "16.F32.BF16", "float32": "8.F32.TF32"}[dtype]
    assert of_kind(found, "HG?MMA.*") == {f"HGMMA.64x{tile.n}x{name}": 4 * products}
    assert found["WARPGROUP.ARRIVE"] == 1 and found["WARPGROUP.DEPBAR.LE"] == 2
    assert of_kind(found, "FENCE.*").total() == 1
    # copies of 128 bits, to where the product before the one before was; digits are made of as much at once
    copies = (tile.m + tile.n) * 8 // tile.threads
    assert waits_of(cubin) == [tile.stages - 3]
    assert of_kind(found, r"LDGSTS.*") == of_kind(found, r"LDGSTS\.E\.BYPASS\.128(\.ZFILL)?")
    assert of_kind(found, r"LDGSTS.*").total() == copies
    assert found["LDS.128"] >= copies * (dtype == "float32") and found["STS.128"] == copies * tile.digits * (
        dtype == "float32"
    )
    assert of_kind(found, GENERIC) == {}
    return found


@pytest.mark.sample(3)
@pytest.mark.parametrize("dtype, products, tile", OF_GROUPS, ids=str)
@pytest.mark.parametrize("across", [False, True])
def test_tiles_of_groups(across: bool, dtype: str, products: int, tile: WarpTile):
    across = across and dtype != "float32"
    cubin = cubin_of(kernel(dtype, products, tile, across), (9, 0, "a"))
    found = check_group(cubin, dtype, products, tile)
    assert text_of(cubin).count(".tnspB") == 4 * across
    assert of_kind(found, r"STG\..*") == of_kind(found, r"STG\.E\.128") and of_kind(found, r"LDG\.E\.128.*")


def convolution(dtype: str, products: int, tile: WarpTile, deep: bool, flat: bool, run: int) -> TensorConv:
    """relu(sum + residual). run: see `TensorConv`."""
    kind, sums = dtype_from_name(dtype), dtype_from_name("float32")
    total = expr.cast(expr.maximum(expr.arg(0, sums) + expr.cast(expr.arg(1, kind), sums), 0.0), kind)
    return TensorConv(dtype, tile, deep, flat, run, (run > 0,), total, (dtype,), products)


@pytest.mark.sample(2)
@pytest.mark.parametrize("deep, flat, run", [(False, True, 4), (True, False, 4), (False, False, 0)])
@pytest.mark.parametrize(
    "dtype, products, tile",
    [
        (dtype, products, tile)
        for dtype, products in (("float16", 1), ("float32", 1), ("float32", 3))
        for tile in tiles_of(dtype_from_name(dtype).itemsize, products, True)
        if tile.group
    ],
    ids=str,
)
def test_convolutions_of_groups(dtype: str, products: int, tile: WarpTile, deep: bool, flat: bool, run: int):
    """Windows come by copies of 128 bits, or zeros, to where wgmma reads them."""
    found = check_group(
        cubin_of(convolution(dtype, products, tile, deep, flat, run), (9, 0, "a")), dtype, products, tile
    )
    item = dtype_from_name(dtype).itemsize
    name = f"STG.E.{32 * item}" if run else "STG.E.U16" if item == 2 else "STG.E"
    assert of_kind(found, r"STG\..*") == of_kind(found, re.escape(name)) != {}


@pytest.mark.sample(2)
@pytest.mark.parametrize("dtype, products, tile", [t for t in OF_GROUPS if t[0] != "bfloat16"], ids=str)
@pytest.mark.parametrize("across", [False, True])
def test_groups_whose_steps_are_dealt(across: bool, dtype: str, products: int, tile: WarpTile):
    across = across and dtype != "float32"
    check_group(
        cubin_of(replace(kernel(dtype, products, tile, across), dealt=True), (9, 0, "a")), dtype, products, tile
    )


@pytest.mark.sample(1)
@pytest.mark.parametrize("deep, flat, run", [(False, True, 4), (True, False, 4), (False, False, 0)])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_wide_convolutions_of_tf32(arch: tuple[int, int], deep: bool, flat: bool, run: int):
    cubin = cubin_of(convolution("float32", 1, WIDE, deep, flat, run), arch)
    found = instructions(cubin)
    assert (cubin.spilled, cubin.stack, of_kind(found, r"(LDL|STL).*")) == (0, 0, {})
    assert WIDE.threads * (-(-cubin.registers // 8) * 8) <= REGISTERS
    assert of_kind(found, "HMMA.*") == {"HMMA.1688.F32.TF32": 64} and waits_of(cubin) == [WIDE.stages - 2]


def test_sm_90_has_nothing_of_sm_90a():
    """So that it runs on what comes after it."""
    made = kernel("float16", 1, SMALL)
    assert target_of(cubin_of(made, (9, 0))) == "sm_90" and target_of(cubin_of(made, (9, 0, "a"))) == "sm_90a"
