"""Products on tensor cores: which ones, in which tiles, and where their operands lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from graphc import expr
from graphc.backends.cuda.codegen.widths import power_that_divides, sure_divisor
from graphc.backends.cuda.kernel import THREADS
from graphc.backends.cuda.lower.epilogue import Ending
from graphc.backends.cuda.product.costs import LEAST as DEEP
from graphc.backends.cuda.product.costs import Choice, Problem, beside, on_cuda_cores, ranked, whole_tiles
from graphc.backends.cuda.product.matrices import Matrices, Result, words_of
from graphc.backends.cuda.product.product_block import PARTS, TENSOR, TILE_SUMS, PartSums, TensorProduct, TileSums
from graphc.backends.cuda.product.tile import Run, Tile, WarpTile, group_tiles, tile_for, warp_tiles
from graphc.graph import Value
from graphc.lower.storage import Buffer, Ref, Storage
from graphc.report import StepInfo
from graphc.sizes import example, hint_of, is_size, need
from graphc.types import dtype_from_name

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering

CHUNK = 16  # bytes of the widest copy
LEAST = 4  # of the narrowest
GAIN = 0.9  # of the time on CUDA cores, at most
MOST = 8  # elements of a run
FLOAT = np.dtype(np.float32)
FLOATS = ("float16", "bfloat16", "float32")


def chunk_of(ref: Ref, strides: Sequence[int]) -> int:
    """Bytes that divide every address of an operand: CHUNK or fewer, a value. Buffers begin at multiples of it: arrays of the caller's,
    too, or they are copied (runtime/run.py)."""
    return power_that_divides(CHUNK, ref.offset, *strides)


def _sure_chunk(ref: Ref, strides: Sequence[int]) -> int:
    """The same, as a number."""
    return sure_divisor(CHUNK, ref.offset, *strides)


def aligned(lo: CudaLowering, v: Value, s: Storage, columns: bool) -> Storage:
    """A constant matrix with its columns (or rows) in pieces that begin at multiples of CHUNK."""
    item = v.dtype.itemsize
    lines, length = v.shape[::-1] if columns else v.shape
    whole = -(-length * item // CHUNK) * CHUNK

    def make() -> np.ndarray:
        out = np.zeros((lines, whole // item), v.dtype)
        out[:, :length] = v.data.T if columns else v.data
        return out

    ref = Ref(lo.weights.pack(v.data, ("lines", columns), make))
    return replace(s, ref=ref, strides=(item, whole) if columns else (whole, item))


def choices_of(lo: CudaLowering, m: Matrices, dtype: np.dtype, before: float = 0.0) -> list[Choice | None]:
    """Tiles of a product on tensor cores, and None, the one of CUDA cores; the model's choice first. float32 is none for tensor
    cores where the model has it hardly slower on CUDA cores, which round less. Where sizes are open, those of the example
    decide: any tile computes any product. before: seconds of copies without which it is none for them."""
    if dtype.name not in FLOATS:
        return [None]
    item = dtype.itemsize
    p = problem_of(m, item, products_of(lo, dtype))
    groups = groups_of(lo, m, item)
    found = ranked(lo.card, p, (*groups, *warp_tiles(item, p.products)), dealing=True)
    if item < 4 and not before:
        return beside(found, False, False)
    others = on_cuda_cores(lo.card, p, tile_for(p.m, p.n, p.batch, item))
    return beside(found, True, found[0].seconds + before > GAIN * others)


def groups_of(lo: CudaLowering, m: Matrices, item: int) -> tuple[WarpTile, ...]:
    """Tiles of groups of warps. They read float32 down the sum alone, and make digits of it by CHUNK bytes."""
    lies = m.of_left[1] == m.of_right[0] == item and (
        _sure_chunk(m.left, (m.of_left[0], *m.left_batch))
        == _sure_chunk(m.right, (m.of_right[1], *m.right_batch))
        == CHUNK
    )
    return group_tiles(item, products_of(lo, FLOAT)) if lo.has_groups and (item == 2 or lies) else ()


def on_cores(lo: CudaLowering, m: Matrices, tile: Tile) -> str:
    """For a person: what the model says of float32 on CUDA cores."""
    return f"{on_cuda_cores(lo.card, problem_of(m, FLOAT.itemsize), tile) * 1e6:.1f} µs on {lo.card} by the model"


def problem_of(m: Matrices, item: int, products: int = 1) -> Problem:
    """Where sizes are open, those of the example."""
    return Problem(hint_of(m.m), hint_of(m.n), hint_of(m.k), prod(map(hint_of, m.batch)), item, products)


def products_of(lo: CudaLowering, dtype: np.dtype) -> int:
    """See `TensorProduct`."""
    return 3 if dtype.itemsize == 4 and lo.precision == "float32" else 1


def told(info: StepInfo, said: str) -> StepInfo:
    """With one more reason."""
    return replace(info, reason="; ".join(filter(None, [info.reason, said])))


@dataclass(frozen=True)
class Operands:
    """How the operands of a product are copied: as `TensorProduct` has it; lines: as `TENSOR` has them."""

    left_chunk: int
    right_chunk: int
    across: bool
    lines: tuple[int, int]


def run_of(n: int, result: Result, dtype: np.dtype, others: Sequence[tuple[Result, str]]) -> Run:
    """How results of rows of n are written. others: the operands of the ending, and their dtypes."""
    item, count = dtype.itemsize, 1
    if result.column == item:
        chunk = _sure_chunk(result.ref, (result.row, *result.batch))
        count = sure_divisor(max(1, min(MOST, chunk // item)), n)

    def walk(operand: Result, name: str) -> str:
        own = dtype_from_name(name).itemsize
        if operand.column == 0:
            return "s"
        whole = min(CHUNK, count * own)
        in_row = operand.column == own and _sure_chunk(operand.ref, (operand.row, *operand.batch)) >= whole
        return "r" if in_row else "e"

    return Run(count, "".join(walk(o, name) for o, name in others))


def emit_tensor(
    lo: CudaLowering, m: Matrices, dtype: np.dtype, ending: Ending, o: Operands, c: Choice, said: str, info: StepInfo
) -> None:
    """The step of a product; of one in parts, their sums, and a step that adds them up and has the ending. said: of the choice."""
    tile, batch, others = c.tile, prod(m.batch), [*zip(m.results[1:], ending.dtypes)]
    run = run_of(m.n, m.results[0], ending.expression.dtype, others)
    expression, operands, results, part, rows = ending.expression, ending.dtypes, m.results, m.k, 0
    info = told(info, said or c.on(lo.card))
    if c.parts > 1:
        if is_size(m.k):  # parts that have nothing to do are right, too, but slow
            need(m.k >= tile.depth * c.parts)
        part, rows = -(-m.k // (tile.depth * c.parts)) * tile.depth, batch * m.m
        row, whole = FLOAT.itemsize * m.n, FLOAT.itemsize * m.n * m.m
        parts = Ref(Buffer(f"{info.output}/parts", FLOAT.itemsize * m.n * rows * c.parts))
        steps = tuple(whole * prod(m.batch[i + 1 :]) for i in range(len(m.batch)))
        expression, operands, results = expr.arg(0, FLOAT), (), (Result(parts, FLOAT.itemsize, row, steps),)
        own, run = run, run_of(m.n, results[0], FLOAT, [])
    tiles_m, tiles_n = -(-m.m // tile.m), -(-m.n // tile.n)
    if c.blocks:
        _emit_dealt(lo, m, dtype, ending, o, c, run, info)
        return
    args = TENSOR(
        grid=tiles_m * tiles_n * c.parts * batch, tiles_m=tiles_m, tiles_n=tiles_n, parts=c.parts, part=part, part_rows=rows,
        whole=0, dealt=0, each=0, source=0,
        left_line=o.lines[0], right_line=o.lines[1], **words_of(replace(m, results=results)),
    )  # fmt: skip
    kernel = TensorProduct(
        dtype.name, tile, o.left_chunk, o.right_chunk, o.across, expression, operands, run, products_of(lo, dtype)
    )
    how = f"{kernel.how}, tiles of {tile}" + (f", sums in {c.parts} parts" if c.parts > 1 else "")
    lo.emit(kernel, args, replace(info, kernel=str(example(kernel)), algorithm=how), writes=[results[0].ref])
    if c.parts > 1:
        words = words_of(m)
        runs = rows * (m.n // own.count)
        args = PARTS(
            grid=-(-runs // THREADS), runs=runs, width=m.n // own.count, rows=m.m, source=parts, parts=c.parts,
            part_bytes=whole * batch, dims=words["dims"], records=words["records"],
        )  # fmt: skip
        together = PartSums(ending.expression, ending.dtypes, own)
        info = replace(info, kernel=str(example(together)), algorithm="sums of parts", reason="", flops=0)
        lo.emit(together, args, info, parts.buffer.nbytes, writes=[m.results[0].ref])


def _emit_dealt(
    lo: CudaLowering, m: Matrices, dtype: np.dtype, ending: Ending, o: Operands, c: Choice, run: Run, info: StepInfo
) -> None:
    """The step of a product whose tiles' steps are dealt to blocks, and the one that adds up what these share."""
    tile, batch, words = c.tile, prod(m.batch), words_of(m)
    tiles_m, tiles_n, steps = -(-m.m // tile.m), -(-m.n // tile.n), -(-m.k // tile.depth)
    if is_size(m.k):
        need(m.k >= DEEP)
    tiles = tiles_m * tiles_n * batch
    whole = whole_tiles(tiles, c.blocks)
    left = (tiles - whole) * steps
    shares = {"whole": whole, "dealt": left, "each": -(-left // c.blocks), "tiles_m": tiles_m, "tiles_n": tiles_n}
    parts = Ref(Buffer(f"{info.output}/parts", 2 * c.blocks * tile.m * tile.n * FLOAT.itemsize))
    args = TENSOR(
        grid=c.blocks, parts=1, part=m.k, part_rows=0, source=parts, left_line=o.lines[0], right_line=o.lines[1], **shares, **words
    )  # fmt: skip
    kernel = TensorProduct(
        dtype.name, tile, o.left_chunk, o.right_chunk, o.across, ending.expression, ending.dtypes, run, products_of(lo, dtype), True
    )  # fmt: skip
    how = f"{kernel.how}, tiles of {tile} dealt to {c.blocks} blocks"
    to = m.results[0].ref
    lo.emit(kernel, args, replace(info, kernel=str(example(kernel)), algorithm=how), writes=[to, parts])
    runs, places = tile.m * tile.n // run.count, c.blocks - 1
    args = TILE_SUMS(
        grid=-(-places * runs // THREADS), places=places, runs=runs, tile_m=tile.m, tile_n=tile.n, steps=steps, source=parts, **shares,
        **{name: words[name] for name in ("m", "n", "dims", "records")},
    )  # fmt: skip
    together = TileSums(ending.expression, ending.dtypes, run)
    info = replace(info, kernel=str(example(together)), algorithm="sums of parts", reason="", flops=0)
    lo.emit(together, args, info, parts.buffer.nbytes, writes=[to])
