"""What kernels are written in, piece by piece, plain and in the checking mode, against NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import ptx
import pytest
from emulated import ArrayKernel, array_of
from numba import cuda
from numba.cuda import libdevice
from numba.cuda.types import float16, float32, float64, int8, int32, int64, uint32

MODES = pytest.mark.parametrize("check", [False, True], ids=["plain", "checked"])
ALL = 0xFFFFFFFF
T = np.arange(64)
LANE = T % 32
WARP = T - LANE


def result(
    function: Callable, params: tuple, blocks: int, threads: int, args: Sequence, check: bool, shared: int = 0
) -> np.ndarray:
    """The last argument, after the kernel."""
    given = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    ArrayKernel(function, params, threads, shared, check)(blocks, *given)
    return given[-1]


@MODES
def test_votes(check: bool):
    def votes(a, o):
        i = cuda.threadIdx.x
        p = a[i] > 10
        ballot = cuda.ballot_sync(ALL, p)
        o[i] = (
            cuda.popc(ballot)
            + 100 * (1 if cuda.any_sync(ALL, p) else 0)
            + 1000 * (1 if cuda.all_sync(ALL, p) else 0)
            + 10000 * (1 if cuda.eq_sync(ALL, p) else 0)
        )

    got = result(votes, (array_of(int32),) * 2, 1, 64, (T.astype(np.int32), np.zeros(64, np.int32)), check)
    np.testing.assert_array_equal(got, np.where(T < 32, 121, 11132))


@MODES
def test_shuffles_of_64_bits(check: bool):
    def shuffles(a, o):
        i = cuda.threadIdx.x
        o[i, 0] = cuda.shfl_up_sync(ALL, a[i], 3)
        o[i, 1] = cuda.shfl_down_sync(ALL, a[i], 5)
        o[i, 2] = cuda.shfl_sync(ALL, a[i], 7)
        o[i, 3] = cuda.shfl_xor_sync(ALL, a[i], 9)

    got = result(shuffles, (array_of(float64), array_of(float64, 2)), 1, 64, (T * 1.5, np.zeros((64, 4))), check)
    sources = [np.where(LANE >= 3, LANE - 3, LANE), np.where(LANE + 5 < 32, LANE + 5, LANE), 7 + 0 * T, LANE ^ 9]
    np.testing.assert_array_equal(got, 1.5 * (WARP[:, None] + np.stack(sources, 1)))


@MODES
def test_halves_of_a_warp_go_apart(check: bool):
    def halves(a, o):
        i = cuda.threadIdx.x
        if i & 31 < 16:
            o[i] = cuda.shfl_xor_sync(0xFFFF, a[i], 1)
        else:
            o[i] = cuda.shfl_xor_sync(0xFFFF0000, a[i], 2)

    args = T.astype(np.float32), np.zeros(64, np.float32)
    got = result(halves, (array_of(float32),) * 2, 1, 64, args, check)
    np.testing.assert_array_equal(got, np.where(LANE < 16, T ^ 1, T ^ 2))


@MODES
def test_a_block_with_part_of_a_warp(check: bool):
    def odd(a, o):
        i = cuda.threadIdx.x
        v = a[i]
        v += cuda.shfl_xor_sync(ALL, v, 1)
        cuda.syncthreads()
        o[i] = v

    t = np.arange(44)
    args = t.astype(np.float32), np.zeros(44, np.float32)
    np.testing.assert_array_equal(result(odd, (array_of(float32),) * 2, 1, 44, args, check), t + (t ^ 1))


@MODES
def test_matches(check: bool):
    def matches(a, o):
        i = cuda.threadIdx.x
        o[i] = cuda.match_any_sync(ALL, a[i])

    a = np.random.default_rng(3).integers(0, 4, 64).astype(np.int32)
    got = result(matches, (array_of(int32), array_of(int64)), 1, 64, (a, np.zeros(64, np.int64)), check)
    want = [sum(1 << k for k in range(32) if a[w + k] == a[i]) for i, w in enumerate(WARP)]
    np.testing.assert_array_equal(got & ALL, want)


@MODES
def test_votes_of_the_block(check: bool):
    def votes(a, o):
        i = cuda.threadIdx.x
        count = cuda.syncthreads_count(a[i])
        every = cuda.syncthreads_and(a[i])
        some = cuda.syncthreads_or(a[i])
        o[i] = count * 100 + (10 if every else 0) + (1 if some else 0)

    a = (np.arange(96) % 3 == 0).astype(np.int32)
    got = result(votes, (array_of(int32),) * 2, 1, 96, (a, np.zeros(96, np.int32)), check)
    np.testing.assert_array_equal(got, 3201)


@MODES
def test_where_a_thread_is(check: bool):
    def place(o):
        i = cuda.grid(1)
        o[i, 0] = cuda.threadIdx.x + 1000 * cuda.threadIdx.y
        o[i, 1] = cuda.blockIdx.x + 1000 * cuda.blockIdx.z
        o[i, 2] = cuda.blockDim.x + 1000 * cuda.blockDim.y
        o[i, 3] = cuda.gridDim.x + 1000 * cuda.gridDim.z
        o[i, 4] = cuda.laneid

    got = result(place, (array_of(int64, 2),), 5, 48, (np.zeros((240, 5), np.int64),), check)
    i = np.arange(240)
    want = [i % 48, i // 48, 1048 + 0 * i, 1005 + 0 * i, i % 48 % 32]
    np.testing.assert_array_equal(got, np.stack(want, 1))


@MODES
def test_atomics_of_float(check: bool):
    def atomics(x, o):
        i = cuda.grid(1)
        cuda.atomic.add(o, 0, x[i])
        cuda.atomic.max(o, 1, x[i])
        cuda.atomic.min(o, 2, x[i])
        cuda.atomic.sub(o, 3, x[i])

    x = np.random.default_rng(0).integers(-50, 50, 512).astype(np.float32)
    got = result(atomics, (array_of(float32),) * 2, 4, 128, (x, np.zeros(4, np.float32)), check)
    np.testing.assert_array_equal(got, [x.sum(), x.max(), x.min(), -x.sum()])


@MODES
def test_atomics_of_int(check: bool):
    def atomics(x, o):
        i = cuda.grid(1)
        cuda.atomic.add(o, 0, x[i])
        cuda.atomic.or_(o, 1, x[i])
        cuda.atomic.xor(o, 2, x[i])
        cuda.atomic.max(o, 3, x[i])
        cuda.atomic.cas(o, 4, 0, 7)
        cuda.atomic.exch(o, 5, 9)

    x = np.random.default_rng(0).integers(0, 1 << 20, 512).astype(np.int32)
    got = result(atomics, (array_of(int32),) * 2, 4, 128, (x, np.zeros(6, np.int32)), check)
    np.testing.assert_array_equal(got, [x.sum(), np.bitwise_or.reduce(x), np.bitwise_xor.reduce(x), x.max(), 7, 9])


@MODES
def test_static_and_dynamic_shared_memory(check: bool):
    def both(a, o):
        s = cuda.shared.array(64, float64)
        d = cuda.shared.array(0, int8)
        i = cuda.threadIdx.x
        s[i] = a[i]
        d[i] = int8(a[i] + 1)
        cuda.syncthreads()
        o[i] = s[63 - i] * 1000 + d[63 - i]

    args = T.astype(np.int8), np.zeros(64)
    got = result(both, (array_of(int8), array_of(float64)), 1, 64, args, check, shared=64)
    np.testing.assert_array_equal(got, (63 - T) * 1000 + 64 - T)


@MODES
def test_large_local_arrays(check: bool):
    def local(a, o):
        i = cuda.threadIdx.x
        kept = cuda.local.array(4000, float64)
        for k in range(4000):
            kept[k] = a[i] + k
        cuda.syncthreads()
        total = float64(0)
        for k in range(0, 4000, 500):
            total += kept[(k + i) % 4000]
        o[i] = total

    got = result(local, (array_of(float64),) * 2, 1, 64, (T * 1.0, np.zeros(64)), check)
    np.testing.assert_array_equal(got, 8 * T + sum(range(0, 4000, 500)) + 8 * T)


@MODES
def test_float16(check: bool):
    def halves(a, o):
        i = cuda.threadIdx.x
        o[i] = a[i] * a[i] + float16(float32(a[i]) * float32(0.5))

    h = (T / 7).astype(np.float16)
    got = result(halves, (array_of(float16),) * 2, 1, 64, (h, np.zeros(64, np.float16)), check)
    np.testing.assert_allclose(got, h * h + (h.astype(np.float32) * np.float32(0.5)).astype(np.float16), rtol=2e-3)


@MODES
def test_matrices_for_lanes(check: bool):
    straight, turned = ptx.make_ldmatrix(4, False), ptx.make_ldmatrix(4, True)

    def lanes(a, o):
        s = cuda.shared.array(256, float16, alignment=16)
        i = int32(cuda.threadIdx.x)
        for k in range(8):
            s[i + 32 * k] = a[i + 32 * k]
        cuda.syncwarp()
        r = straight(s, int32(i * 8))
        t = turned(s, int32(i * 8))
        for k in range(4):
            o[k, i] = r[k]
            o[k + 4, i] = t[k]

    m = np.arange(256, dtype=np.float16).reshape(4, 8, 8)
    args = m.ravel(), np.zeros((8, 32), np.uint32)
    got = result(lanes, (array_of(float16), array_of(uint32, 2)), 1, 32, args, check)

    def pairs(q: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(q.reshape(4, 32, 2)).view(np.uint32)[..., 0]

    np.testing.assert_array_equal(got, np.concatenate([pairs(m), pairs(np.ascontiguousarray(m.transpose(0, 2, 1)))]))


@MODES
def test_fragments_of_mma(check: bool):
    mma = ptx.make_mma("m16n8k16", "f16")

    def one(a, b, o):
        i = int32(cuda.threadIdx.x)
        g, t = int32(i >> 2), int32(i & 3)
        of_a = (a[g, t], a[g + 8, t], a[g, t + 4], a[g + 8, t + 4])
        d = mma(of_a, (b[g, t], b[g, t + 4]), (float32(1), float32(2), float32(3), float32(4)))
        o[g, 2 * t] = d[0]
        o[g, 2 * t + 1] = d[1]
        o[g + 8, 2 * t] = d[2]
        o[g + 8, 2 * t + 1] = d[3]

    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((16, 16)).astype(np.float16), rng.standard_normal((8, 16)).astype(np.float16)
    args = a.view(np.uint32), b.view(np.uint32), np.zeros((16, 8), np.float32)
    got = result(one, (array_of(uint32, 2), array_of(uint32, 2), array_of(float32, 2)), 1, 32, args, check)
    c = np.where(np.arange(8) % 2, 2.0, 1.0) + np.where(np.arange(16) >= 8, 2.0, 0.0)[:, None]
    np.testing.assert_allclose(got, a.astype(float) @ b.T.astype(float) + c, atol=1e-5)


@MODES
def test_vectors_of_global_memory(check: bool):
    def move(a, o):
        i = int32(cuda.threadIdx.x)
        v = ptx.load_four(a, int32(4 * i))
        ptx.store_two(o, int32(2 * i), v[0] + v[1], v[2] + v[3])

    a = np.arange(256, dtype=np.float32)
    got = result(move, (array_of(float32),) * 2, 1, 64, (a, np.zeros(128, np.float32)), check)
    np.testing.assert_array_equal(got, a.reshape(-1, 2).sum(1))


@MODES
def test_divisions_as_python_has_them(check: bool):
    def divide(a, b, o):
        i = cuda.threadIdx.x
        o[i, 0] = a[i] // b[i]
        o[i, 1] = a[i] % b[i]

    rng = np.random.default_rng(5)
    a, b = rng.integers(-1000, 1000, 64), rng.integers(1, 20, 64) * rng.choice([-1, 1], 64)
    args = a, b, np.zeros((64, 2), np.int64)
    got = result(divide, (array_of(int64), array_of(int64), array_of(int64, 2)), 1, 64, args, check)
    np.testing.assert_array_equal(got, np.stack([a // b, a % b], 1))


def test_float_to_int_gives_the_nearest_number():
    def convert(a, o):
        i = cuda.threadIdx.x
        o[i, 0] = int32(a[i])
        o[i, 1] = int64(a[i])

    a = np.array([1e20, -1e20, 2.9, -2.9, np.inf, -np.inf, 3e9, 0.0])
    got = result(convert, (array_of(float64), array_of(int64, 2)), 1, 8, (a, np.zeros((8, 2), np.int64)), False)
    for column, bits in ((0, 32), (1, 64)):
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
        want = [int(min(max(x, low), high)) if abs(x) < 1e19 else low if x < 0 else high for x in a]
        assert got[:, column].tolist() == want


ONE = "acos acosh asin asinh atan atanh cbrt ceil cos cosh erf erfc exp exp2 expm1 fabs floor log log10 log1p log2"
ONE += " nearbyint rint round rsqrt sin sinh sqrt tan tanh trunc"
TWO = "atan2 fmax fmin fmod pow"
REFERENCES = {
    "cbrt": np.cbrt,
    "erf": np.vectorize(math.erf),
    "erfc": np.vectorize(math.erfc),
    "round": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
    "nearbyint": np.rint,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "atan2": np.arctan2,
    "pow": np.power,
    "fma": lambda x, y, z: x * y + z,
    **{f"a{n}": getattr(np, f"arc{n}") for n in ("cos", "cosh", "sin", "sinh", "tan", "tanh")},
}


def reference(name: str) -> Callable:
    return REFERENCES.get(name) or getattr(np, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_libdevice(dtype: type):
    suffix, kind = ("f", float32) if dtype is np.float32 else ("", float64)
    names = [(n, getattr(libdevice, n + suffix)) for n in ONE.split()]
    pairs = [(n, getattr(libdevice, n + suffix)) for n in TWO.split()]
    # one kernel: compiling is what takes long
    source = "def every(a, b, o):\n    i = cuda.threadIdx.x\n    x = a[i]\n    y = b[i]\n"
    scope: dict = {"cuda": cuda, "kind": kind}
    for k, (name, function) in enumerate(names):
        argument = "x + kind(1)" if name == "acosh" else "x"
        source += f"    o[{k}, i] = f{k}({argument})\n"
        scope[f"f{k}"] = function
    for k, (_, function) in enumerate(pairs, len(names)):
        source += f"    o[{k}, i] = f{k}(x, y)\n"
        scope[f"f{k}"] = function
    scope["fma"] = getattr(libdevice, "fma" + suffix)
    source += f"    o[{len(names) + len(pairs)}, i] = fma(x, y, x)\n"
    exec(source, scope)
    rng = np.random.default_rng(7)
    a, b = rng.uniform(0.01, 0.99, 32).astype(dtype), rng.uniform(-2, 2, 32).astype(dtype)
    o = np.zeros((len(names) + len(pairs) + 1, 32), dtype)
    ArrayKernel(scope["every"], (array_of(kind), array_of(kind), array_of(kind, 2)), 32)(1, a, b, o)
    tolerance = 4 * np.finfo(dtype).eps
    x, y = a.astype(np.float64), b.astype(np.float64)
    for row, (name, _) in zip(o, names):
        want = reference(name)(x + 1 if name == "acosh" else x)
        slack = 200 if name == "acosh" else 1  # near 1 it magnifies the rounding of its argument
        np.testing.assert_allclose(row, want, rtol=slack * tolerance, err_msg=name)
    for row, (name, _) in zip(o[len(names) :], pairs):
        np.testing.assert_allclose(row, reference(name)(x, y), rtol=tolerance, err_msg=name)
    np.testing.assert_allclose(o[-1], x * y + x, rtol=tolerance, atol=tolerance)


def test_fast_functions_and_integers_of_libdevice():
    def some(a, n, o, p):
        i = cuda.threadIdx.x
        x, k = a[i], n[i]
        o[0, i] = libdevice.fast_expf(x)
        o[1, i] = libdevice.fast_logf(x)
        o[2, i] = libdevice.fast_sinf(x)
        o[3, i] = libdevice.fast_cosf(x)
        o[4, i] = libdevice.fast_powf(x, float32(1.5))
        o[5, i] = libdevice.fast_fdividef(x, float32(3))
        o[6, i] = libdevice.fast_log2f(x)
        o[7, i] = libdevice.fast_tanf(x)
        p[0, i] = libdevice.popc(k)
        p[1, i] = libdevice.clz(k)
        p[2, i] = libdevice.ffs(k)
        p[3, i] = libdevice.brev(k)
        p[4, i] = libdevice.abs(k)
        p[5, i] = libdevice.min(k, int32(5))
        p[6, i] = libdevice.max(k, int32(5))
        p[7, i] = libdevice.mulhi(k, int32(1 << 20))
        p[8, i] = libdevice.float_as_int(x)

    rng = np.random.default_rng(8)
    a = rng.uniform(0.1, 3, 32).astype(np.float32)
    n = rng.integers(-(1 << 31), 1 << 31, 32).astype(np.int32)
    n[:3] = 0, 1, -1
    o, p = np.zeros((8, 32), np.float32), np.zeros((9, 32), np.int32)
    params = array_of(float32), array_of(int32), array_of(float32, 2), array_of(int32, 2)
    ArrayKernel(some, params, 32)(1, a, n, o, p)
    x = a.astype(float)
    want = [np.exp(x), np.log(x), np.sin(x), np.cos(x), x**1.5, x / 3, np.log2(x), np.tan(x)]
    np.testing.assert_allclose(o, want, rtol=1e-5, atol=1e-6)
    u = n.view(np.uint32).tolist()
    assert p[0].tolist() == [bin(k).count("1") for k in u]
    assert p[1].tolist() == [32 - k.bit_length() for k in u]
    assert p[2].tolist() == [(k & -k).bit_length() for k in u]
    assert p[3].view(np.uint32).tolist() == [int(f"{k:032b}"[::-1], 2) for k in u]
    np.testing.assert_array_equal(p[4:7], [np.abs(n), np.minimum(n, 5), np.maximum(n, 5)])
    np.testing.assert_array_equal(p[7], n.astype(np.int64) * (1 << 20) >> 32)
    np.testing.assert_array_equal(p[8], a.view(np.int32))
