"""What one tap of a convolution adds to a row of dense output pixels."""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from graphc.backends.cpu.conv.dense_window_block import AddScaled
from graphc.backends.cpu.kernel import micro
from graphc.backends.cpu.target import Target
from graphc.backends.llvm.emit import I64, define, i64, register_type
from graphc.dtypes import BY_NAME


@micro(AddScaled)
def add_scaled(module: ir.Module, symbol: str, target: Target, dtype: str) -> None:
    """void(x, y, n, address of a factor): y += factor * x over n neighbouring elements of a float dtype."""
    fn, q = define(module, symbol, [I64] * 4)
    x, y, n, factor = fn.args
    item, lanes = BY_NAME[dtype].item, target.lanes(BY_NAME[dtype])
    element = register_type(np.dtype(dtype))
    x, y = q.pointer(x), q.pointer(y)
    scale = q.splat(q.load_raw(q.pointer(factor), element, 1), lanes)
    whole = q.b.and_(n, i64(-lanes))
    with q.loop(whole, step=lanes) as i:
        at, to = (q.offset(p, q.b.mul(i, i64(item))) for p in (x, y))
        q.store_raw(q.fma(q.load_raw(at, element, lanes), scale, q.load_raw(to, element, lanes)), to)
    rest = q.b.sub(n, whole)
    with q.nonzero(rest):
        mask = q.lane_mask(rest, lanes)
        at, to = (q.offset(p, q.b.mul(whole, i64(item))) for p in (x, y))
        v = q.fma(q.masked_load(at, element, mask), scale, q.masked_load(to, element, mask))
        q.masked_store(v, to, mask)
    q.b.ret_void()
