"""The register tile of products of any number dtype, whose operands are read where they lie."""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.product.gemm_block import MATMUL_ANY, PlainTile
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import I64, define, i64, register_type
from graphc.dtypes import BY_NAME


@micro(PlainTile)
def plain_tile(module: ir.Module, symbol: str, target: Target, dtype: str, mr: int, nv: int, masked: bool) -> None:
    """void(block of MATMUL_ANY, a, b, y, lanes): mr rows x nv vectors of y, sums over all of k. masked: of its one vector only the
    first `lanes` columns are there. Integers wrap around."""
    assert not masked or nv == 1, nv
    fn, q = define(module, symbol, [I64] * 5)
    block, a, panel, y, count = fn.args
    b, element = q.b, register_type(np.dtype(dtype))
    lanes, vector, is_float = target.lanes(BY_NAME[dtype]), target.vector, BY_NAME[dtype].family == "float"
    block, a, panel, y = (q.pointer(p) for p in (block, a, panel, y))
    depth, a_row, a_column, b_row, y_row = (q.slot(block, i) for i in MATMUL_ANY["k a_row a_column b_row y_row"])
    mask = q.lane_mask(count, lanes) if masked else None
    acc = [[q.variable(q.vector(element, lanes)) for _ in range(nv)] for _ in range(mr)]
    for total in (t for row in acc for t in row):
        b.store(q.const(0, element, lanes), total)
    with q.loop(depth) as k:
        row = q.offset(panel, b.mul(k, b_row))
        if mask is not None:
            weights = [q.masked_load(row, element, mask)]
        else:
            weights = [q.load_raw(q.offset(row, i64(j * vector)), element, lanes) for j in range(nv)]
        for m in range(mr):
            at = q.offset(a, b.add(b.mul(a_row, i64(m)), b.mul(k, a_column)))
            x = q.splat(q.load_raw(at, element, 1), lanes)
            for total, w in zip(acc[m], weights):
                have = b.load(total)
                b.store(q.fma(x, w, have) if is_float else b.add(have, b.mul(x, w)), total)
    for m in range(mr):
        for j in range(nv):
            to, value = q.offset(y, b.add(b.mul(y_row, i64(m)), i64(j * vector))), b.load(acc[m][j])
            if mask is not None:
                q.masked_store(value, to, mask)
            else:
                q.store_raw(value, to)
    b.ret_void()
