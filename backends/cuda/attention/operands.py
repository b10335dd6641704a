"""A use of FusedAttention: its sizes, where its operands lie, and how steps that share the keys are emitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.backends.cuda.attention.attention_block import ATTENTION_SUMS, EXTRA, AttentionSums
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.sizes import LONGEST
from graphc.graph import Node
from graphc.lower.kernel import Kernel
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.ops.fused_attention import Heads, heads_of, window_of
from graphc.report import StepInfo
from graphc.sizes import largest, smallest, whole
from graphc.types import numbers

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering

FLOAT = 4
Words = dict[str, Any]


@dataclass(frozen=True)
class Operand:
    """Byte strides of batch, head and sequence; of a mask of batch, head, query and key."""

    ref: Ref
    strides: tuple[Any, ...]


@dataclass(frozen=True)
class Use:
    """kv_batch: heads of keys in all batch entries; rows: queries of all heads that share keys."""

    node: Node
    s: Heads
    queries: Any
    keys: Any
    size: Any
    v_size: Any
    kv_batch: Any
    rows: Any
    y: Operand
    operands: tuple[Operand, ...]  # q, k, v
    mask: Operand | None

    @property
    def dtype(self) -> np.dtype:
        return self.node.output.dtype

    def heads(self) -> Words:
        """What attention and the sums of its parts both have."""
        return {
            "kv_heads": self.s.kv_heads, "group": self.s.heads // self.s.kv_heads, "queries": self.queries,
            "v_size": self.v_size, "zeros": int(self.node.attrs["zeros"]), "y_strides": self.y.strides,
        }  # fmt: skip


def use_of(lo: CudaLowering, node: Node, y: Storage) -> Use:
    s, axes, firsts = heads_of(node.call), node.attrs["head_axes"], node.attrs["first_heads"]
    batch, queries, keys, size, v_size = numbers((s.batch, s.queries, s.keys, s.size, s.v_size))
    operands = []
    for v, axis, first in zip(node.inputs, axes, firsts):
        x = lo.strided(v)
        walk = _walk(x, axis)
        operands.append(Operand(x.ref + first * walk[1], walk))
    mask = None
    if node.call.has(3):
        x = lo.strided(node.inputs[3])
        strides = [0 if d == 1 else by for d, by in zip(x.type.extents, x.strides)]
        mask = Operand(x.ref, (*(0,) * (4 - len(strides)), *strides))
    rows = s.heads // s.kv_heads * queries
    own = Operand(y.ref, _walk(y, axes[3]))
    return Use(node, s, queries, keys, size, v_size, batch * s.kv_heads, rows, own, tuple(operands), mask)


def words_of(lo: CudaLowering, u: Use) -> Words:
    """Words that all kinds of attention have, but for those of `emit_in_parts`, and of tiles and scales."""
    call, window = u.node.call, window_of(u.node.call)
    words: Words = {
        "keys": u.keys, "size": u.size, "mask": 0, "mask_strides": (0, 0, 0, 0), "lengths": 0, "lengths_stride": 0,
        "first_seen": _bounded(window.offset - window.before) if window.before >= 0 else -LONGEST,
        "end_seen": _bounded(window.offset + window.after + 1) if window.after >= 0 else 2 * LONGEST,
    }  # fmt: skip
    for name, o in zip("qkv", u.operands):
        words |= {name: o.ref, f"{name}_strides": o.strides}
    if u.mask is not None:
        words |= {"mask": u.mask.ref, "mask_strides": u.mask.strides}
    if call.has(4):
        s = lo.strided(u.node.inputs[4])
        words |= {"lengths": s.ref, "lengths_stride": s.strides[0]}
    return words


def emit_in_parts(
    lo: CudaLowering, u: Use, kernel: Kernel, splits: Any, tiles: Any, args: Callable[..., list[Any]], info: StepInfo
) -> None:
    """The step of attention; with splits of the keys, and the step that adds their results. args: makes the block, but for the
    words that are given here. tiles: of rows."""
    heads, blocks = u.heads(), u.kv_batch * tiles * splits
    if splits == 1:
        lo.emit(kernel, args(grid=blocks, y=u.y.ref, parts=0, splits=1, tiles=tiles, **heads), info, writes=[u.y.ref])
        return
    nbytes = FLOAT * u.kv_batch * u.rows * splits * (u.v_size + EXTRA)
    heads |= {"parts": Ref(Buffer(f"{u.node.output.name}/parts", nbytes)), "splits": splits}
    parts = heads["parts"]
    split = replace(info, algorithm=f"{info.algorithm}, keys in {splits} parts")
    lo.emit(kernel, args(grid=blocks, y=0, tiles=tiles, **heads), split, writes=[parts])
    total = u.kv_batch * u.rows * u.v_size
    sums = ATTENTION_SUMS(grid=-(-total // THREADS), y=u.y.ref, total=total, **heads)
    together = AttentionSums(u.dtype.name)
    info = replace(info, kernel=str(together), algorithm="", flops=0)
    lo.emit(together, sums, info, parts.buffer.nbytes, writes=[u.y.ref])


def bits_of(value: float) -> int:
    """Of a float32, as a word."""
    return int(np.float32(value).view(np.uint32))


def _walk(s: Storage, head_axis: int) -> tuple[int, int, int]:
    return s.strides[0], s.strides[head_axis], s.strides[3 - head_axis]


def _bounded(position: int) -> int:
    """The same keys are behind any position beyond."""
    return largest(-LONGEST, smallest(whole(position), 2 * LONGEST))
