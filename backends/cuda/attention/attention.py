"""FusedAttention in tiles of queries that walk over tiles of keys and values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from graphc.backends.cuda.attention.attention_block import (
    ATTENTION,
    ATTENTION_SUMS,
    DOWN,
    EXTRA,
    SIZES,
    Attention,
    AttentionSums,
)
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.lowering import CudaLowering
from graphc.backends.cuda.lower.registry import lowers
from graphc.backends.cuda.lower.sizes import LONGEST, either, too_large
from graphc.backends.cuda.product.tile import MULTIPROCESSORS
from graphc.graph import Node
from graphc.lower.fuse import Group
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.ops.fused_attention import heads_of, window_of
from graphc.sizes import largest, smallest, where, whole
from graphc.types import numbers

LARGEST = 512  # elements of a head: more do not fit into shared memory
FLOAT = 4
LEAST_TILES = 4  # of keys in a split
BLOCKS = 2 * MULTIPROCESSORS  # with fewer, keys are split


def attention_supported(node: Node, target: Any = None) -> str | None:
    if node.output.dtype != np.float32:
        return f"attention has no {node.output.dtype} kernel"
    s = heads_of(node.call)
    if not s.keys:
        return "there are no keys"
    if any(isinstance(n, int) and n > LARGEST for n in (s.size, s.v_size)):
        return f"heads of more than {LARGEST} elements"
    return too_large(node)


@lowers("FusedAttention", supported=attention_supported)
def lower_attention(lo: CudaLowering, group: Group) -> None:
    node = group.nodes[0]
    y = lo.write(node.output)
    if 0 in node.output.shape:
        return
    s, attrs = heads_of(node.call), node.call.attrs
    batch, queries, keys, size, v_size = numbers((s.batch, s.queries, s.keys, s.size, s.v_size))
    shared, rows = s.heads // s.kv_heads, s.heads // s.kv_heads * queries
    tile_rows, tile_keys = tile_of(batch * s.kv_heads, rows, max(size, v_size))
    tiles = -(-rows // tile_rows)
    splits = splits_of(batch * s.kv_heads * tiles, -(-keys // tile_keys))
    parts: Ref | int = 0
    if splits > 1:
        nbytes = FLOAT * batch * s.kv_heads * rows * splits * (v_size + EXTRA)
        parts = Ref(Buffer(f"{node.output.name}/parts", nbytes))
    heads = {
        "parts": parts, "splits": splits, "kv_heads": s.kv_heads, "group": shared, "queries": queries,
        "v_size": v_size, "zeros": int(attrs.zeros), "y_strides": _walk(y, attrs.head_axes[3]),
    }  # fmt: skip
    args = ATTENTION(
        grid=batch * s.kv_heads * tiles * splits, y=0 if splits > 1 else y.ref, tiles=tiles, keys=keys,
        size=size, fours=-(-size // 4), key_fours=tile_keys // 4, **heads, **_operands(lo, node), **_seen(lo, node),
    )  # fmt: skip
    reason = f"{queries} queries, {keys} keys of {s.heads} heads of {size}"
    algorithm = f"tiles of {tile_rows}x{tile_keys}"
    kernel = Attention(in_shared(size), in_shared(v_size), tile_rows, tile_keys)
    info = replace(lo.info(group, str(kernel), algorithm, reason))
    if splits == 1:
        lo.emit(kernel, args, info, writes=[y.ref])
        return
    assert isinstance(parts, Ref)
    lo.emit(kernel, args, replace(info, algorithm=f"{algorithm}, keys in {splits} parts"), writes=[parts])
    total = batch * s.kv_heads * rows * v_size
    args = ATTENTION_SUMS(grid=-(-total // THREADS), y=y.ref, total=total, **heads)
    together = AttentionSums()
    lo.emit(
        together, args, replace(info, kernel=str(together), algorithm="", flops=0), parts.buffer.nbytes, writes=[y.ref]
    )


def tile_of(heads: int, rows: int, size: int) -> tuple[int, int]:
    """Rows and keys of a tile: many rows, so that each key and value that was fetched is used often, where that leaves
    every multiprocessor something to do. heads: of keys in all batch entries; size: of a head."""
    if rows <= DOWN:
        return DOWN, 64 if size <= 64 else 32 if size <= 128 else 16
    large = 8 * DOWN
    if size > 128:
        return (4 if size <= 256 else 2) * DOWN, 16
    enough = where(heads * -(-rows // large) - MULTIPROCESSORS + 1, 1, 0)
    return either(where(rows - large // 2, enough, 0), large, 4 * DOWN), 32


def in_shared(size: int) -> int:
    """Elements of a head in shared memory."""
    return -(-size // SIZES) * SIZES


def splits_of(blocks: int, key_tiles: int) -> int:
    """Parts of the keys that blocks of their own look at. blocks: that there are without; key_tiles: of all keys."""
    several = largest(1, smallest(BLOCKS // blocks, key_tiles // LEAST_TILES))
    return where(blocks - MULTIPROCESSORS + 1, 1, several)


def _operands(lo: CudaLowering, node: Node) -> dict[str, Any]:
    words: dict[str, Any] = {}
    attrs = node.call.attrs
    for name, v, axis, first in zip("qkv", node.inputs, attrs.head_axes, attrs.first_heads):
        x = lo.strided(v)
        walk = _walk(x, axis)
        words |= {name: x.ref + first * walk[1], f"{name}_strides": walk}
    return words


def _walk(s: Storage, head_axis: int) -> tuple[int, int, int]:
    """Byte strides of batch, head and sequence."""
    return s.strides[0], s.strides[head_axis], s.strides[3 - head_axis]


def _seen(lo: CudaLowering, node: Node) -> dict[str, Any]:
    """What becomes of the scores, and which there are."""
    call, window = node.call, window_of(node.call)
    cap = call.attrs.softcap
    words: dict[str, Any] = {
        "mask": 0, "mask_strides": (0, 0, 0, 0), "lengths": 0, "lengths_stride": 0,
        "scale": _bits(call.attrs.scale / (cap or 1.0)), "softcap": _bits(cap),
        "first_seen": _bounded(window.offset - window.before) if window.before >= 0 else -LONGEST,
        "end_seen": _bounded(window.offset + window.after + 1) if window.after >= 0 else 2 * LONGEST,
    }  # fmt: skip
    if call.has(3):
        s = lo.strided(node.inputs[3])
        strides = [0 if d == 1 else by for d, by in zip(s.type.extents, s.strides)]
        words |= {"mask": s.ref, "mask_strides": (*(0,) * (4 - len(strides)), *strides)}
    if call.has(4):
        s = lo.strided(node.inputs[4])
        words |= {"lengths": s.ref, "lengths_stride": s.strides[0]}
    return words


def _bounded(position: int) -> int:
    """The same keys are behind any position beyond."""
    return largest(-LONGEST, smallest(whole(position), 2 * LONGEST))


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))
