"""FusedAttention: both products and the softmax between them in one step."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from graphc.backends.cpu.attention.attention_block import ATTENTION, Attention, SoftmaxTile
from graphc.backends.cpu.attention.attention_micro import BLOCKS
from graphc.backends.cpu.conv.conv_row_micro import BLOCK_BYTES
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.product.gemm_block import ProductTile
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import FMA
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
from graphc.ops.fused_attention import heads_of
from graphc.sizes import choose, is_size
from graphc.types import number, numbers

VECTORS = 2  # of a register tile: few, so that its rows are many and each packed key and value is read by many queries


def attention_supported(node: Node, target: Target) -> str | None:
    if node.output.dtype != np.float32:
        return f"attention has no {node.output.dtype} kernel"
    return None if heads_of(node.call).keys else "there are no keys"


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


@lowers("FusedAttention", supported=attention_supported)
def lower_attention(lo: CpuLowering, group: Group) -> None:
    node = group.nodes[0]
    y = lo.write(node.output)
    if 0 in node.output.shape:
        return
    s, call, vl = heads_of(node.call), node.call, lo.target.vl
    operands = [lo.strided(v) for v in node.inputs[:3]]
    q_walk, k_walk, v_walk, y_walk = walks = [_walk(x, axis) for x, axis in zip((*operands, y), call.attrs.head_axes)]
    q, k, v = [x.ref + first * walk[1] for x, first, walk in zip(operands, call.attrs.first_heads, walks)]
    mask, mask_kind, mask_walk = _mask(lo, node)
    mr = query_rows(lo.target, number(s.queries))
    size_blocks, key_blocks, v_blocks = (-(-n // vl) for n in numbers((s.size, s.keys, s.v_size)))
    nv_k, nv_v = min(VECTORS, key_blocks), min(VECTORS, v_blocks)
    k_tiles, v_tiles = -(-key_blocks // nv_k), -(-v_blocks // nv_v)
    last_k, last_v = (key_blocks - 1) % nv_k + 1, (v_blocks - 1) % nv_v + 1
    lanes = number(s.v_size) - (v_blocks - 1) * vl

    def product(nv: int, masked: bool = False) -> Kernel:
        return ProductTile(mr=mr, nv=nv, epilogue=None, masked=masked, lines=0)

    scores, scores_last = product(nv_k), product(last_k)
    values, values_last = product(nv_v), product(last_v, lanes < vl)
    softmax = SoftmaxTile(rows=mr, mask=mask_kind, zeros=call.attrs.zeros)
    tiles = -(-number(s.queries) // mr)
    # few heads are cut, so that threads can level out: each packs the keys that it needs
    heads = number(s.batch) * s.heads
    chunk = lo.rows_per_work_unit(tiles, heads)
    floats = size_blocks * mr * vl + key_blocks * mr * vl  # a tile of queries and its scores
    floats += vl * (k_tiles * size_blocks * nv_k + v_tiles * key_blocks * nv_v) * vl
    scratch, stride = lo.scratch(node.output.name, BLOCKS * BLOCK_BYTES + FMA.item * floats)
    zeros = channel_vector(lo, None, VECTORS * vl, vl)
    args = ATTENTION(
        scores=scores, scores_last=scores_last, values=values, values_last=values_last,
        softmax=softmax, transpose=TransposePanel(vl, FMA.item), q=q, k=k, v=v, mask=mask, y=y.ref, zeros=Ref(zeros),
        batch=s.batch, heads=s.heads, group=s.heads // s.kv_heads, queries=s.queries, keys=s.keys, size=s.size,
        v_size=s.v_size, mr=mr, nv_k=nv_k, last_k=last_k, nv_v=nv_v, last_v=last_v, last_lanes=lanes, chunk=chunk,
        scale=int(np.float32(call.attrs.scale).view(np.uint32)), scratch=scratch, scratch_stride=stride,
        q_strides=q_walk, k_strides=k_walk, v_strides=v_walk, y_strides=y_walk, mask_strides=mask_walk,
    )  # fmt: skip
    reason = f"{s.queries} queries, {s.keys} keys of {s.heads} heads of {s.size}; tile {mr}x{VECTORS}"
    lo.emit(Attention(), args, lo.info(group, "attention", "fused", reason), writes=[y.ref])


def _walk(s: Storage, head_axis: int) -> tuple[int, int, int]:
    """Byte strides of batch, head and sequence."""
    return s.strides[0], s.strides[head_axis], s.strides[3 - head_axis]


def _mask(lo: CpuLowering, node: Node) -> tuple[Ref | int, str, tuple[int, int, int]]:
    """Address, kind as in `softmax_tile`, byte strides of batch, head and query."""
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return 0, "", (0, 0, 0)
    s = lo.read(node.inputs[3])
    strides = [0 if d == 1 else st for d, st in zip(s.type.shape, s.strides)]
    batch, head, query, key = [0] * (4 - s.type.rank) + strides
    return s.ref, "v" if key else "s", (batch, head, query)
