"""MatMul and Gemm: packed panels and register tiles in float32, tiles of operands as they lie in other dtypes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from graphc.backends.cpu.conv.conv_row_micro import BLOCK_BYTES
from graphc.backends.cpu.conv.window import Epilogue
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.registry import lowers
from graphc.backends.cpu.product.block_sparse import NAME as BLOCK_SPARSE
from graphc.backends.cpu.product.block_sparse import SparsePanels, packed_rows_of, panels_where_sparse
from graphc.backends.cpu.product.gemm_block import (
    GEMM,
    MATMUL_ANY,
    PACK_B,
    PACK_ROWS,
    Gemm,
    MatmulAny,
    PackB,
    PackRows,
    PlainTile,
    ProductTile,
    SparseTile,
)
from graphc.backends.cpu.product.matrices import Product, product_of
from graphc.backends.cpu.product.pairs import emit_rounded_columns, rounded_rows
from graphc.backends.cpu.product.panels import Panels, near_bytes, panels_of, product_tile
from graphc.backends.cpu.product.product_epilogue import operand_record, split_epilogue
from graphc.backends.cpu.product.product_micro import NEAR, NEXT_LINES
from graphc.backends.cpu.product.strassen import Halves, Matrix, Rows, emit_strassen, halves_of, serves
from graphc.backends.cpu.sizes import BATCH_DIMS
from graphc.backends.cpu.target import Target
from graphc.backends.cpu.tile.dot import BFLOAT16, BITS, DOTS, FLOAT16, FMA, PAIRS, Dot
from graphc.converted import origin
from graphc.dtypes import BY_NAME, is_narrow
from graphc.graph import Node, Value
from graphc.lower.constants import channel_vector
from graphc.lower.fuse import Group
from graphc.lower.kernel import Kernel
from graphc.lower.registry import native_dtypes
from graphc.lower.storage import Buffer, Ref, Storage, dense_strides
from graphc.passes.canonicalize import is_bias
from graphc.report import StepInfo
from graphc.sizes import hint_of, is_size, largest, smallest
from graphc.types import TensorType, dtype_name

BLOCKS_PER_THREAD = 4  # of rows; with fewer, several threads work on one
ALONE_BYTES = 32768  # of packed rows, up to which each thread packs its own rather than wait for others
REUSED = 4  # tiles of rows from which on there is time to fetch the next panel while one is in use
ROWS = 0.61  # of level 2 that a block of packed rows may fill: it stays there, beside a panel
PLAIN_TILE = (
    4,
    4,
)  # rows, vectors of columns of a tile whose operands are read where they lie; half as many vectors of few registers
ROWS_NEAR, ROWS_FAR = (
    2,
    8,
)  # up to which weights of half the bytes take less time: they leave level 2, or fill FAR of the last
FAR = 1 / 4
DEPTH = 1024  # reduction steps of a chunk: a chunk of a panel stays there too


def matmul_supported(node: Node, target: Target) -> str | None:
    if any(is_narrow(v.dtype) or v.dtype == np.bool_ for v in node.operands):
        return f"matrix products have no {node.inputs[0].dtype.name} kernel"
    if len(node.output.shape) - 2 > BATCH_DIMS:
        return f"it has more than {BATCH_DIMS} batch dims"
    if node.op.name == "Gemm" and node.output.dtype != np.float32:
        return f"Gemm has no {node.output.dtype.name} kernel"
    if 0 in node.inputs[0].shape and 0 not in node.output.shape:
        return "it sums over nothing"
    if node.op.name == "Gemm" and node.attrs["alpha"] == 0:
        return "alpha is 0"
    if node.op.name == "Gemm" and not is_bias(node.inputs[2:]):
        return "C is no constant number or row and was not split off (canonicalize is disabled)"
    return native_dtypes(node)


def keeps_dims(node: Node) -> bool:
    """A product with a vector has lost the dim that the operands of an epilogue would be read along."""
    return all(v.type.rank > 1 for v in node.operands[:2])


@lowers("MatMul", "Gemm", supported=matmul_supported, epilogue=keeps_dims)
def lower_matmul(lo: CpuLowering, group: Group) -> None:
    node = group.anchor
    a, b = lo.read(node.inputs[0]), lo.read(node.inputs[1])
    y = lo.write(group.output)
    if 0 in group.output.shape:
        return
    p = product_of(node, a, b, y)
    if group.output.dtype == np.float32:
        emit_gemm(lo, group, p, a, b, y)
    else:
        _emit_plain(lo, group, p, a, b, y)


def emit_gemm(lo: CpuLowering, group: Group, p: Product, a: Storage, b: Storage, y: Storage) -> None:
    node = group.anchor
    bias, epilogue, operands = split_epilogue(group, p.n)
    epilogue_operands = [operand_record(lo, v, group.output, p) for v in operands]
    size = f"{p.m}x{p.k} by {p.k}x{p.n}"
    dot = dot_of(lo, p, node.inputs[1])
    sparse = panels_where_sparse(lo, p, node.inputs[1]) if dot is FMA else None
    if sparse is not None:
        told = _told_sparse(lo.info(group, "gemm", BLOCK_SPARSE, size), p, sparse)
        places = (
            a.ref,
            packed_rows_of(lo, p, node.inputs[1], sparse),
            Ref(channel_vector(lo, bias, p.n, sparse.vl)),
            y.ref,
        )
        emit_product(lo, p, sparse, places, p.b_batch, told, epilogue, epilogue_operands)
        return
    halves = _halves(lo, node, p) if dot is FMA else None
    if halves is not None:
        info = lo.info(group, "", "", f"{size}; tile {halves.mr}x{halves.nv}, an eighth fewer multiplications")
        vector = lo.target.vector
        rows, result = Rows(a.ref, p.a[0], vector), Rows(y.ref, p.y_row, vector)
        near = [{"ref": e["ref"], "image": 0, "row": e["row"], "vector": e["vector"]} for e in epilogue_operands]
        matrix = Matrix.of(node.inputs[1].data, p.n, p.k, p.b[0] == FMA.item)
        start = Ref(channel_vector(lo, bias, p.n, lo.target.vl))
        emit_strassen(lo, halves, 1, rows, result, matrix, start, epilogue, near, info)
        return
    panels = panels_of(lo.target, p.m, p.n, dot.steps(p.k), dot)
    weights, b_batch = packed_b(lo, node.name, node.inputs[1], p, b, panels)
    reason = f"{size}; tile {panels.mr}x{panels.nv}{kinds(dot)}" + (
        "" if node.inputs[1].is_const else "; packed at run time"
    )
    info = dot.told(lo.info(group, "gemm", "gemm", reason), node.inputs[1])
    places = a.ref, weights, Ref(channel_vector(lo, bias, p.n, lo.target.vl)), y.ref
    emit_product(lo, p, panels, places, b_batch, info, epilogue, epilogue_operands)


def _told_sparse(info: StepInfo, p: Product, panels: SparsePanels) -> StepInfo:
    """What a person is told of a product that leaves blocks of zeros out."""
    part = panels.kept / (panels.tiles * p.k)
    moved = panels.nbytes - p.k * p.n * FMA.item
    reason = f"{info.reason}; tile {panels.mr}x{panels.nv}; {100 * part:.0f} % of the blocks of weights"
    return replace(info, reason=reason, nbytes=info.nbytes + moved)


def kinds(dot: Dot) -> str:
    """What a step's reason says of the operands' types."""
    if dot is FMA:
        return ""
    return "; both operands in bfloat16" if dot is PAIRS else f"; weights in {dot.name}"


def dot_of(lo: CpuLowering, p: Product, b: Value) -> Dot:
    """Weights that a file has in a narrow type stay in it where there is one row: it waits for their bytes. Else the type is the
    one that the caller asks for."""
    if lo.policy.precision == "bf16":
        return PAIRS
    if not b.is_const or is_size(p.m):
        return FMA
    given = DOTS.get(dtype_name(origin(b.data).dtype), FMA)
    if p.m == 1 and given is not FMA and lo.target.converts_half:
        return given
    return BFLOAT16 if lo.policy.precision == "bf16-weights" and waits_for_weights(lo.target, p) else FMA


def waits_for_weights(target: Target, p: Product) -> bool:
    """Are rows so few that the bytes of weights take the time of the product? Each is read once then, for one tile of rows."""
    nbytes = hint_of(p.k * p.n) * FMA.item
    rows = ROWS_FAR if nbytes > FAR * target.l3 else ROWS_NEAR if nbytes > target.l2 else 1
    return not is_size(p.m) and p.m <= rows and p.m <= panels_of(target, p.m, p.n, p.k, BFLOAT16).mr


def _halves(lo: CpuLowering, node: Node, p: Product) -> Halves | None:
    """How Strassen's algorithm cuts the product, where it serves."""
    b = node.inputs[1]
    item = FMA.item
    whole = p.a[1] == item and p.b in ((item * p.n, item), (item, item * p.k))
    if not b.is_const or math.prod(p.batch) > 1 or not whole:
        return None
    if not serves(lo, p.m, p.n, p.k):
        return None
    return halves_of(lo.target, p.m, p.n, p.k, partial(product_tile, lo.target))


def emit_product(
    lo: CpuLowering,
    p: Product,
    panels: Panels,
    places: tuple[Ref, Ref, Ref, Ref],
    b_batch: Sequence[int],
    info: StepInfo,
    epilogue: Epilogue = Epilogue(None),  # noqa: B008  (frozen)
    epilogue_operands: Sequence[Mapping[str, Any]] = (),
    kinds: tuple[tuple[str, str], ...] = (),
    y_item: int = FMA.item,
) -> None:
    """The step of a product. places: a, b as `panels` says, the bias (a number per column, in whole vectors), y. epilogue_operands:
    records of the block; kinds: `operands` of `product_tile`. y_item: bytes of an element of y. p.k: float32 in memory, of which an
    inner step of PAIRS takes two."""
    mr, nv, last_nv, tiles, lanes, vl = panels.mr, panels.nv, panels.last_nv, panels.tiles, panels.lanes, panels.vl
    dot, item = panels.dot.name, panels.dot.item
    row_tiles, steps = -(-p.m // mr), panels.padded // vl
    deep = not panels.sparse and panels.padded > DEPTH and hint_of(row_tiles) > 1
    assert not deep or panels.dot.weights(vl) == lo.target.vector, "chunks count in bytes of float32"
    chunks = -(-panels.padded // DEPTH) if deep else 1
    depth = -(-steps // chunks)
    m_blocks = -(-row_tiles // max(1, int(ROWS * lo.target.l2) // (item * depth * vl * mr)))
    m_block = -(-row_tiles // m_blocks) * mr
    batch = math.prod(p.batch)
    rounds = panels.dot is PAIRS
    packed: int | Ref = rounded_rows(lo, p, panels, places[0], info) if rounds else 0
    n_block, scratch_rows = tiles, 0 if rounds else m_block
    blocks, nbytes = batch * m_blocks, batch * p.m * panels.padded * item
    few = _few(lo, blocks)
    if few:
        n_block = smallest(tiles, largest(1, tiles * blocks // (8 * lo.threads)))
    rest = p.k % vl
    in_place = not is_size(rest) and rest == 0 and mr == 1 and p.a[1] == item
    if not rounds and not in_place and _packs_apart(lo, nbytes, blocks, few):
        packed, scratch_rows = _packed_rows(lo, p, panels, places[0], info), 0
    sums = m_block * n_block * nv * lo.target.vector if chunks > 1 else 0
    scratch, stride = lo.scratch(info.output, BLOCK_BYTES + scratch_rows * panels.padded * item + sums)
    near = p.m == 1 and hint_of(panels.nbytes) in near_bytes(lo.target) and not dot
    lines = NEXT_LINES if hint_of(m_block) > REUSED * hint_of(mr) else NEAR if near else 0

    def tile(nv: int, masked: bool, stage: str = "") -> Kernel:
        if panels.sparse:
            far = hint_of(panels.nbytes) > lo.target.l2
            return SparseTile(mr=mr, nv=nv, epilogue=epilogue.expression, masked=masked, fetches=far)
        ends = stage not in ("first", "middle")
        return ProductTile(
            mr=mr, nv=nv, epilogue=epilogue.expression if ends else None, masked=masked, lines=lines, stage=stage, dot=dot,
            operands=kinds if ends else (), rest=p.k % vl if ends and panels.dot is BITS else 0,
        )  # fmt: skip

    stages = ("first", "middle", "last") if chunks > 1 else ("",) * 3
    wide = [tile(nv, False, stage) for stage in stages]
    edge = [tile(last_nv, lanes < vl and stage in ("", "last"), stage) for stage in stages]
    a, weights, bias, y = places
    lower, upper = epilogue.bounds
    args = GEMM(
        stages=wide, edge_stages=edge, a=a, b=weights, bias=bias, y=y, m=p.m, n_tiles=tiles,
        k=PAIRS.steps(p.k) if rounds else p.k,
        a_row=p.a[0], a_column=p.a[1], y_row=p.y_row, y_vector=vl * y_item, mr=mr, nv=nv, last_nv=last_nv,
        last_lanes=lanes,
        m_block=m_block, n_block=n_block, chunk=depth, panel=panels.panel, packed=packed,
        scratch=scratch, scratch_stride=stride, lo=lower, hi=upper,
        dims=p.batch, a_batch=p.a_batch, b_batch=b_batch, y_batch=p.y_batch,
        epilogue_operands=len(epilogue_operands), records=epilogue_operands,
    )  # fmt: skip
    lo.emit(Gemm(), args, replace(info, kernel=str(wide[2])), writes=[y])


def _few(lo: CpuLowering, blocks: int) -> bool:
    """Are there so few blocks of rows that several threads work on one? Where they stand for many, what is right for few is not
    bad for more."""
    most = BLOCKS_PER_THREAD * lo.threads
    return lo.threads > 1 and (hint_of(blocks) < most or blocks < most)


def _packs_apart(lo: CpuLowering, nbytes: int, blocks: int, few: bool) -> bool:
    """Are rows packed in a step of its own? Of sizes that stand for many, only to be packed again and again by several threads
    would be bad."""
    if lo.threads == 1:
        return hint_of(nbytes) > ALONE_BYTES and hint_of(blocks) <= 1
    return few and (hint_of(nbytes) > ALONE_BYTES or nbytes > ALONE_BYTES)


def _packed_rows(lo: CpuLowering, p: Product, panels: Panels, a: Ref, info: StepInfo) -> Ref:
    """The left operand, packed in a step of its own: all threads take part, and products that share it share that."""
    key = a.buffer, a.offset, p.m, p.k, p.a, panels.mr, p.batch, p.a_batch
    if key not in lo.packed_rows:
        nbytes = math.prod(p.batch) * -(-p.m // panels.mr) * panels.mr * panels.padded * panels.dot.item
        to = lo.packed_rows[key] = Ref(Buffer(f"{info.output}/rows", nbytes))
        reason = "rows of a product, once for all its columns"
        step = StepInfo(0, info.nodes[:1], ("Pack",), "pack_rows", "", reason, info.output, 0, 2 * nbytes)
        args = PACK_ROWS(
            a=a, to=to, m=p.m, k=p.k, row=p.a[0], column=p.a[1], mr=panels.mr, dims=p.batch, a_batch=p.a_batch
        )
        lo.emit(PackRows(), args, step, writes=[to])
    return lo.packed_rows[key]


def packed_b(lo: CpuLowering, node: str, v: Value, p: Product, b: Storage, panels: Panels) -> tuple[Ref, list[int]]:
    """Address of the packed right operand v, and the strides of its batch dims. node: its name."""
    nv, last_nv, tiles, padded, panel, vl = (
        panels.nv, panels.last_nv, panels.tiles, panels.padded, panels.panel, panels.vl,
    )  # fmt: skip
    matrices = [d for d, s in zip(p.batch, p.b_batch) if s]
    count = math.prod(matrices)
    size = panels.nbytes
    strides, step = [], size
    for d, s in zip(p.batch, p.b_batch):
        strides.append(step if s else 0)
        step *= d if s else 1
    if v.is_const:

        def make() -> np.ndarray:
            # the logical [batch, k, n] view, then tiles of nv vectors, the last one narrower
            narrow = panels.dot in (FLOAT16, BFLOAT16)
            source = v.data
            if narrow:
                source = origin(v.data)
                if source.dtype != panels.dot.b.numpy:
                    source = panels.dot.in_type(v.data)
            data = np.ascontiguousarray(source).view(source.dtype if narrow else b.type.dtype)  # four bytes for a float
            item = data.itemsize
            shape = [d for d, s in zip(p.batch, p.b_batch) if s][::-1]
            steps = (s * item // FMA.item for s in (*[s for s in p.b_batch if s][::-1], *p.b))
            view = np.lib.stride_tricks.as_strided(data, (*shape, p.k, p.n), tuple(steps)).reshape(count, p.k, p.n)
            out = np.zeros((count, size // item), data.dtype)
            width = nv * vl
            for t in range(tiles):
                wide = width if t < tiles - 1 else last_nv * vl
                part = view[:, :, t * width : t * width + wide]
                if panels.dot is PAIRS:
                    part = np.ascontiguousarray(PAIRS.pack(part)).view(data.dtype)[..., 0]
                at = t * panel // item
                out[:, at : at + padded * wide].reshape(count, padded, wide)[:, : part.shape[1], : part.shape[2]] = part
            return out

        recipe = ("gemm", p.k, p.n, p.b, nv, last_nv, vl, tuple(strides), *panels.dot.recipe)
        return Ref(lo.weights.pack(v.data, recipe, make, element=panels.dot.b)), strides
    if sum(1 for s in p.b_batch if s) > 1:  # pack_b walks one batch dim: merge them
        outer = [(d, s) for d, s in zip(p.batch, p.b_batch) if s]
        assert all(outer[i + 1][1] == outer[i][0] * outer[i][1] for i in range(len(outer) - 1)), (
            "batch dims not contiguous"
        )
    first = next((s for s in p.b_batch if s), 0)
    packed = Buffer(f"{v.name}/packed", size * count)
    info = StepInfo(
        0,
        (node,),
        ("Pack",),
        "pack_b",
        "",
        "the right operand is computed at run time",
        v.name,
        0,
        2 * v.type.nbytes,
    )
    if panels.dot is PAIRS:
        emit_rounded_columns(lo, p, panels, b.ref, Ref(packed), count, first, replace(info, kernel="pack_pair_columns"))
        return Ref(packed), strides
    args = PACK_B(
        b=b.ref, to=Ref(packed), batch=count, b_batch=first, to_batch=size, k=p.k, n=p.n, row=p.b[0], column=p.b[1],
        nv=nv, last_nv=last_nv, panel=panel,
    )  # fmt: skip
    lo.emit(PackB(), args, info, writes=[Ref(packed)])
    return Ref(packed), strides


def _emit_plain(lo: CpuLowering, group: Group, p: Product, a: Storage, b: Storage, y: Storage) -> None:
    dtype = group.output.dtype
    if p.b[1] != dtype.itemsize:  # columns that are no neighbours
        b = _transposed(lo, group, p, b)
        p = replace(p, b=(p.n * dtype.itemsize, dtype.itemsize), b_batch=_packed_batch(p, dtype.itemsize))
    mr, nv = PLAIN_TILE if lo.target.registers >= 32 else (PLAIN_TILE[0], PLAIN_TILE[1] // 2)
    tiles = {
        f"{name}{'_edge' if masked else ''}": PlainTile(dtype.name, rows, 1 if masked else nv, masked)
        for name, rows in (("tile", mr), ("row", 1))
        for masked in (False, True)
    }
    tiles["edge"] = tiles.pop("tile_edge")
    args = MATMUL_ANY(
        a=a.ref, b=b.ref, y=y.ref, m=p.m, n=p.n, k=p.k, a_row=p.a[0], a_column=p.a[1], b_row=p.b[0], y_row=p.y_row,
        mr=mr, nv=nv, lanes=lo.target.lanes(BY_NAME[dtype.name]), **tiles,
        dims=p.batch, a_batch=p.a_batch, b_batch=p.b_batch, y_batch=p.y_batch,
    )  # fmt: skip
    info = lo.info(group, f"matmul_{dtype.name}", "operands as they lie")
    lo.emit(MatmulAny(dtype.name), args, info, writes=[y.ref])


def _packed_batch(p: Product, item: int) -> tuple[int, ...]:
    """Strides of the batch dims of b, where its matrices follow each other."""
    strides, step = [], p.k * p.n * item
    for d, s in zip(p.batch, p.b_batch):
        strides.append(step if s else 0)
        step *= d if s else 1
    return tuple(strides)


def _transposed(lo: CpuLowering, group: Group, p: Product, b: Storage) -> Storage:
    """b as [batch, k, n] in a row."""
    item = b.type.dtype.itemsize
    kept = [(d, s) for d, s in zip(p.batch, p.b_batch) if s][::-1]
    t = TensorType(b.type.dtype, (*(d for d, _ in kept), p.k, p.n))
    to = Ref(Buffer(f"{group.output.name}/columns", t.nbytes))
    info = lo.moving(group, t.nbytes, "columns side by side")
    lo.copy(b.ref, (*(s for _, s in kept), *p.b), to, dense_strides(t), t.extents, item, info)
    return Storage(to, t, dense_strides(t))
