"""FusedAttention: both products and the softmax between them in one step."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from graphc.backends.cpu.attention.attention_block import (
    ATTENTION,
    ATTENTION_PAIRS,
    ATTENTION_ROWS,
    BLOCKS,
    ROWS_BLOCK_BYTES,
    TABLE,
    TILE_ROW,
    VECTORS,
    Attention,
    AttentionPairs,
    AttentionRows,
    KeyDots,
    SoftmaxTile,
    ValueSums,
)
from graphc.backends.cpu.conv.conv_row_micro import BLOCK_BYTES
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.product.gemm import kinds
from graphc.backends.cpu.product.gemm_block import ProductTile
from graphc.backends.cpu.product.pairs_block import PairColumns, PairRow
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA, PAIRS
from graphc.backends.cpu.tile.tile_micro import max_rows
from graphc.backends.cpu.tile.tile_model import ATTENTION as LOOP
from graphc.backends.cpu.tile.tile_model import efficiency
from graphc.backends.cpu.tile.tiles import heights_of
from graphc.backends.cpu.verbs.copy_block import TransposePanel
from graphc.graph import Node
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.kernel import Kernel
from graphc.lower.storage import Ref, Storage
from graphc.ops.fused_attention import Heads, heads_of, window_of
from graphc.sizes import choose, is_size, most_of
from graphc.types import dtype_name, number, numbers

FEW = 8  # queries up to which keys and values are read in place: packing them pays where more read them
MOST_ROWS = 8  # of a tile that reads in place
MOST_VECTORS = 8  # of a row of values that one run reads
ALL = 1 << 40  # keys before or behind a query: more than there can be

Words = dict[str, Any]


def attention_supported(node: Node, target: Target) -> str | None:
    if node.output.dtype != np.float32:
        return f"attention has no {node.output.dtype} kernel"
    s = heads_of(node.call)
    if node.inputs[1].dtype != np.float32 and not (target.converts_half and number(s.queries) <= FEW):
        return f"attention has no {node.inputs[1].dtype} kernel for many queries"
    return None if s.keys else "there are no keys"


def query_rows(target: Target, queries: int) -> int:
    """Rows of a tile of which little is wasted in the last one."""
    most = max_rows(target, VECTORS)
    heights = heights_of(most) if queries > most else (*range(1, most + 1),)
    if is_size(queries) and queries <= most:
        heights = (2, 4, 8, most)
    return choose(lambda n: _best_rows(target, n, heights), queries)


@lru_cache(maxsize=4096)
def _best_rows(target: Target, queries: int, heights: tuple[int, ...]) -> int:
    rows = [h for h in heights if h <= queries] or [min(heights)]

    def worth(mr: int) -> float:
        return queries / (-(-queries // mr) * mr) * efficiency(target, mr, VECTORS, LOOP)

    return max(rows, key=worth)


def few_rows(target: Target, rows: int) -> int:
    """Rows of a tile of `key_dots`: as many as there are, up to the next power of 2, if that leaves two keys to reduce together."""
    most = min(MOST_ROWS, target.vl // 2)
    return choose(lambda n: next((h for h in (1, 2, 4) if n <= h <= most), most), rows)


@lowers("FusedAttention", supported=attention_supported)
def lower_attention(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    y = lo.write(node.output)
    if 0 in node.output.shape:
        return
    s, call = heads_of(node.call), node.call
    operands = [lo.strided(v) for v in node.inputs[:3]]
    walks = [_walk(x, axis) for x, axis in zip((*operands, y), call.attrs.head_axes)]
    refs = [x.ref + first * walk[1] for x, first, walk in zip(operands, call.attrs.first_heads, walks)]
    mask, mask_kind, mask_walk = _mask(lo, node)
    window = window_of(call)
    windowed, cap = call.has(4) or window.hides(s.queries, s.keys), call.attrs.softcap
    lengths = lo.read(node.inputs[4]) if call.has(4) else None
    words = dict(
        zip("qkv", refs), mask=mask, y=y.ref, batch=s.batch, heads=s.heads, group=s.heads // s.kv_heads,
        queries=s.queries, keys=s.keys, lengths=lengths.ref if lengths else 0,
        lengths_stride=lengths.strides[0] if lengths else 0, size=s.size, v_size=s.v_size,
        scale=_bits(call.attrs.scale / (cap or 1.0)), softcap=_bits(cap), windowed=int(windowed),
        first_seen=window.offset - window.before if window.before >= 0 else -ALL,
        end_seen=window.offset + window.after + 1 if window.after >= 0 else ALL,
        q_strides=walks[0], k_strides=walks[1], v_strides=walks[2], y_strides=walks[3], mask_strides=mask_walk,
    )  # fmt: skip
    softmax = {"mask": mask_kind, "zeros": call.attrs.zeros, "windowed": windowed, "capped": bool(cap)}
    lower = _in_rows if number(s.queries) <= FEW else _in_tiles
    kernel, args, tile = lower(lo, node.output.name, s, words, softmax, node.inputs[1].dtype)
    reason = f"{s.queries} queries, {s.keys} keys of {s.heads} heads of {s.size}; {tile}"
    lo.emit(kernel, args, lo.info(group, "attention", "fused", reason), writes=[y.ref])


def _in_tiles(
    lo: CpuLowering, name: str, s: Heads, words: Words, softmax: Words, dtype: np.dtype
) -> tuple[Kernel, list[Any], str]:
    """Keys and values, float32, are packed for tiles of many queries."""
    dot = PAIRS if lo.policy.precision == "bf16" else FMA
    rounds = dot is PAIRS
    vl, mr = lo.target.vl, query_rows(lo.target, number(s.queries))
    key_blocks, v_blocks = (-(-n // vl) for n in numbers((s.keys, s.v_size)))
    size_depth, key_depth = (-(-dot.steps(n) // vl) for n in numbers((s.size, s.keys)))
    nv_v = min(VECTORS, v_blocks)
    k_tiles, v_tiles = -(-key_blocks // VECTORS), -(-v_blocks // nv_v)
    last_k, last_v = (key_blocks - 1) % VECTORS + 1, (v_blocks - 1) % nv_v + 1
    lanes = number(s.v_size) - (v_blocks - 1) * vl

    def product(nv: int, masked: bool = False) -> Kernel:
        return ProductTile(mr=mr, nv=nv, epilogue=None, masked=masked, lines=0, dot=dot.name)

    tiles = -(-number(s.queries) // mr)
    # few heads are cut, so that threads can level out: each packs the keys that it needs
    chunk = lo.rows_per_work_unit(tiles, number(s.batch) * s.heads)
    floats = size_depth * mr * vl + key_blocks * mr * vl  # a tile of queries and its scores
    floats += vl * (k_tiles * size_depth * VECTORS + v_tiles * key_depth * nv_v) * vl
    assert TABLE + 8 * TILE_ROW.size * most_of(mr) <= BLOCK_BYTES
    scratch, stride = lo.scratch(name, BLOCKS * BLOCK_BYTES + FMA.item * floats)
    block, kernel = (ATTENTION_PAIRS, AttentionPairs()) if rounds else (ATTENTION, Attention())
    more = {"pair_row": PairRow()} if rounds else {}
    args = block(
        **words, **more, scores=product(VECTORS), scores_one=product(1), values=product(nv_v), values_last=product(last_v, lanes < vl),
        softmax=SoftmaxTile(rows=mr, **softmax, pairs=rounds),
        transpose=PairColumns() if rounds else TransposePanel(vl, FMA.item),
        zeros=Ref(channel_vector(lo, None, VECTORS * vl, vl)), mr=mr, last_k=last_k, nv_v=nv_v, last_v=last_v,
        last_lanes=lanes, chunk=chunk, scratch=scratch, scratch_stride=stride,
    )  # fmt: skip
    return kernel, args, f"tile {mr}x{VECTORS}{kinds(dot)}"


def _in_rows(
    lo: CpuLowering, name: str, s: Heads, words: Words, softmax: Words, dtype: np.dtype
) -> tuple[Kernel, list[Any], str]:
    """Keys and values, of a dtype, are read where they lie."""
    target, vl, kind = lo.target, lo.target.vl, dtype_name(dtype)
    rows = few_rows(target, number(s.queries) * words["group"])
    size_blocks, key_blocks, v_blocks = (-(-n // vl) for n in numbers((s.size, s.keys, s.v_size)))
    nv = min(max(1, target.registers // 2 // most_of(rows)), MOST_VECTORS, v_blocks)
    last = (v_blocks - 1) % nv + 1
    lanes = number(s.v_size) - (v_blocks - 1) * vl
    size_lanes = number(s.size) % vl
    nbytes = BLOCKS * ROWS_BLOCK_BYTES + rows * (8 * TILE_ROW.size + (size_blocks + key_blocks) * target.vector)
    scratch, stride = lo.scratch(name, nbytes)
    args = ATTENTION_ROWS(
        **words, dots=KeyDots(rows, size_lanes > 0, kind), softmax=SoftmaxTile(rows=rows, **softmax),
        sums=ValueSums(rows, nv, False, kind), sums_last=ValueSums(rows, last, lanes < vl, kind), rows=rows, nv=nv,
        size_lanes=size_lanes, last_lanes=lanes, kv_item=dtype.itemsize, scratch=scratch, scratch_stride=stride,
    )  # fmt: skip
    return (
        AttentionRows(),
        args,
        f"{rows} rows in place" + ("" if kind == "float32" else f"; keys and values in {kind}"),
    )


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def _walk(s: Storage, head_axis: int) -> tuple[int, int, int]:
    """Byte strides of batch, head and sequence."""
    return s.strides[0], s.strides[head_axis], s.strides[3 - head_axis]


def _mask(lo: CpuLowering, node: Node) -> tuple[Ref | int, str, tuple[int, int, int, int]]:
    """Address, kind as in `softmax_tile`, byte strides of batch, head, query and key."""
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return 0, "", (0, 0, 0, 0)
    s = lo.read(node.inputs[3])
    strides = [0 if d == 1 else st for d, st in zip(s.type.shape, s.strides)]
    batch, head, query, key = [0] * (4 - s.type.rank) + strides
    return s.ref, "v" if key else "s", (batch, head, query, key)
