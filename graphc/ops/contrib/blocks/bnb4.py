"""MatMulBnb4 of com.microsoft: weights in bitsandbytes' tables of 16 numbers, the first of each byte in its upper half."""

from __future__ import annotations

import numpy as np

from graphc.graph import Builder, Value
from graphc.op import Attr, Call, Case, Const, Tensor
from graphc.ops.contract import differ, require_dtype, require_same_dtype
from graphc.ops.contrib.attention import expect
from graphc.ops.contrib.blocks.bits import emit_unpacked, unpacked
from graphc.ops.contrib.record import contrib, where_static
from graphc.ops.precision import FLOAT32, widen
from graphc.types import TensorType, prod

_FP4 = (0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4)
# QLoRA (arXiv:2305.14314): quantiles of a normal distribution, from -1 to 1
_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
TABLES = (np.array([*_FP4, *(-v for v in _FP4)], np.float32), np.array(_NF4, np.float32))


def _infer(call: Call) -> list[TensorType]:
    dtype, attrs = require_dtype(call, 0, ("float32", "float16", "bfloat16", "float64")), call.attrs
    require_dtype(call, 1, ("uint8",))
    require_same_dtype(call, 0, 2)
    if attrs.block_size < 1:
        raise call.fail(f"block_size is {attrs.block_size}", "1 or more")
    if call.rank(0) < 1 or differ(call.shape(0)[-1], attrs.K):
        raise call.fail(f"'a' has shape {call.shape(0)}", f"its last axis must have K={attrs.K} elements")
    count = attrs.N * attrs.K
    expect(call, 1, ((count + 1) // 2,), ((count + 1) // 2, 1))
    expect(call, 2, (-(-count // attrs.block_size),))
    columns = attrs.N if attrs.transB else attrs.K
    return [TensorType(dtype, (*call.shape(0)[:-1], columns))]


def _reference(a, packed, absmax, *, K, N, block_size, quant_type, transB, training_mode):
    wide = widen(a)
    q = unpacked(packed.reshape(-1), 4, high_first=True)[: N * K]
    w = TABLES[quant_type].astype(wide.dtype)[q] * absmax.astype(wide.dtype)[np.arange(N * K) // block_size]
    w = w.reshape(N, K)
    return (wide @ (w.T if transB else w)).astype(a.dtype)


@where_static
def _expand(b: Builder, call: Call) -> Value:
    (a, packed, absmax), attrs = call.inputs, call.attrs
    wide = FLOAT32 if a.dtype.itemsize < 4 else a.dtype
    count, size = attrs.N * attrs.K, attrs.block_size
    q = emit_unpacked(b, b.add("Reshape", packed, b.constant([-1], np.int64)), 4, high_first=True)
    w = b.add("Gather", b.constant(TABLES[attrs.quant_type], wide), b.add("Cast", q, to=np.int32), axis=0)
    full = -(-count // size) * size
    if w.shape[0] < full:
        w = b.add("Pad", w, b.constant([0, full - w.shape[0]], np.int64), b.constant(0, wide))
    elif w.shape[0] > full:
        w = b.add("Slice", w, *(b.constant([n], np.int64) for n in (0, full, 0)))
    w = b.add("Reshape", w, b.constant([-1, size], np.int64))
    w = b.add("Mul", w, b.add("Cast", b.add("Reshape", absmax, b.constant([-1, 1], np.int64)), to=wide))
    w = b.add("Reshape", w, b.constant([-1], np.int64))
    if full != count:
        w = b.add("Slice", w, *(b.constant([n], np.int64) for n in (0, count, 0)))
    w = b.add("Reshape", w, b.constant([attrs.N, attrs.K], np.int64))
    w = b.add("Transpose", w, perm=(1, 0)) if attrs.transB else w
    return b.add("Cast", b.add("MatMul", b.add("Cast", a, to=wide), w), to=a.dtype)


def _case(kind: int, n: int, k: int, size: int, lead: tuple[int, ...] = (3,)) -> Case:
    packed = np.random.default_rng(kind).integers(0, 256, (n * k + 1) // 2)
    return Case(
        (Tensor((*lead, k)), Const(packed, "uint8"), Tensor((-(-n * k // size),), 0.5, 1.5)),
        {"K": k, "N": n, "block_size": size, "quant_type": kind},
    )


contrib(
    "MatMulBnb4",
    "a b absmax",
    _infer,
    _reference,
    _expand,
    [_case(0, 4, 32, 16), _case(1, 5, 33, 32, (2, 3)), _case(1, 17, 64, 64, (1,))],
    {
        "K": Attr(int),
        "N": Attr(int),
        "block_size": Attr(int),
        "quant_type": Attr(int, choices=(0, 1)),
        "transB": Attr(bool, True),
        "training_mode": Attr(bool, False, settled=True),
    },
    macs=lambda call: prod((*call.shape(0), call.attrs.N)),
)
