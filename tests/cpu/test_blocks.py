"""Argument blocks: written by names, read by names."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphc.backends.cpu import sizes
from graphc.backends.cpu.blocked import blocked_block
from graphc.backends.cpu.conv import conv_row_block
from graphc.backends.cpu.families import kind_of, load
from graphc.backends.cpu.recurrent import recurrent_block
from graphc.lower import limits
from graphc.lower.block import Block

CPU = Path(__file__).resolve().parents[2] / "backends" / "cpu"
SCALE = Block("x y n factor*2", record="ref stride")


def test_words_come_in_order_whatever_the_order_of_names():
    words = SCALE(n=3, factor=(4, 5), y=2, x=1, records=[{"stride": 7, "ref": 6}, {"ref": 8, "stride": 9}])
    assert words == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [words[at] for at in SCALE["factor x"]] == [4, 1]
    at = SCALE.size + SCALE.record_size
    assert [words[at + i] for i in SCALE.in_record("stride ref")] == [9, 8]


@pytest.mark.parametrize(
    "words, message",
    [
        ({"x": 1, "y": 2, "n": 3}, "missing .factor."),
        ({"x": 1, "y": 2, "n": 3, "factor": (4, 5), "z": 6}, "unknown .z."),
        ({"x": 1, "y": 2, "n": 3, "factor": (4,)}, "'factor' has 2 words, not 1"),
    ],
)
def test_what_does_not_fit_is_refused(words: dict, message: str):
    with pytest.raises(TypeError, match=message):
        SCALE(**words)


def test_names_are_those_of_the_declaration():
    with pytest.raises(KeyError):
        SCALE["x z"]
    with pytest.raises(ValueError, match="stands twice"):
        Block("x y x")


# --- every block that is declared --------------------------------------------------------------------------------------
def _declared() -> dict[str, Block]:
    load("block")
    modules = [
        m
        for name, m in sorted(sys.modules.items())
        if name.startswith("graphc.backends.cpu.") and kind_of(name) == "block"
    ]
    return {name: b for m in modules for name, b in vars(m).items() if isinstance(b, Block)}


def _readers() -> Iterator[ast.AST]:
    """Expressions of the modules that read blocks."""
    for path in sorted(CPU.glob("*/*.py")):
        if kind_of(path.stem) in ("driver", "micro", "njit"):
            yield from ast.walk(ast.parse(path.read_text()))


def _read() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Names of fields, and of words of a record, that are read of each block."""
    fields: dict[str, set[str]] = {}
    records: dict[str, set[str]] = {}
    for node in _readers():
        match node:
            case ast.Subscript(value=ast.Name(block), slice=ast.Constant(str(names))):
                fields.setdefault(block, set()).update(names.split())
            case ast.Call(func=ast.Attribute(ast.Name(block), "in_record"), args=[ast.Constant(str(names))]):
                records.setdefault(block, set()).update(names.split())
    return fields, records


BLOCKS = _declared()
HEADS = {
    "ANY_ATTENTION": ("ATTENTION", "ATTENTION_ROWS", "ATTENTION_PAIRS"),
    "ATTENTION": ("ATTENTION_PAIRS",),
    "LOOKUP": ("GATHER", "SCATTER"),
    "BLOCKED": ("LRN_BLOCKED", "PICK_PIXELS", "RESIZE_BLOCKED", "MAP_CHANNELS"),
    "DENSE_WINDOW": ("CONV_DENSE", "POOL_DENSE"),
}
UNREAD = {"CONV": {"out_w"}}
SIZES = {
    "dims": {
        "COPY_STRIDED": sizes.COPY_DIMS, "TRANSPOSE_TILES": sizes.COPY_DIMS, "GATHER": limits.INDEX_DIMS,
        "SCATTER": limits.INDEX_DIMS, "COPY_TABLES": sizes.TABLE_DIMS, "GEMM": sizes.BATCH_DIMS, "MAP_ROWS": sizes.ROW_DIMS,
        "PASSES": limits.PASS_DIMS,
    },
    "axes": {"GATHER": 2 * limits.INDEX_AXES, "SCATTER": 2 * limits.INDEX_AXES},
    "permute": {"MAP_CHANNELS": blocked_block.SOURCES},
    "pairs": {"SOURCE_BLOCKS": 2 * blocked_block.SOURCES},
    "epilogue_operands": {"CONV_ROW": conv_row_block.EPILOGUE_OPERAND_SIZE * conv_row_block.MAX_EPILOGUE_OPERANDS},
    "streams": {
        "STAGE": recurrent_block.STREAM.size * recurrent_block.MAX_STREAMS,
        "CELL_STAGE": recurrent_block.CELL_STREAM.size * recurrent_block.MAX_STREAMS,
    },
}  # fmt: skip


def _plain(fields: dict[str, list[int]]) -> dict[str, int | list[int]]:
    """Fields of one word as callers give them."""
    return {name: words if len(words) > 1 else words[0] for name, words in fields.items()}


@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_written_by_name_is_found_by_name(name: str):
    block = BLOCKS[name]
    words = iter(range(1000))
    given = {n: [next(words) for _ in range(size)] for n, size in block.fields.items()}
    records = [
        {n: [next(words) for _ in range(size)] for n, size in block.record.items()}
        for _ in range(2 * bool(block.record))
    ]
    written = block(records=[_plain(r) for r in records], **_plain(given))
    assert len(written) == block.size + len(records) * block.record_size
    for n, w in given.items():
        (at,) = block[n]
        assert written[at : at + len(w)] == w
    for i, record in enumerate(records):
        for n, w in record.items():
            at = block.size + i * block.record_size + block.in_record(n)[0]
            assert written[at : at + len(w)] == w


def test_readers_read_what_is_declared_and_all_of_it():
    fields, records = _read()
    for name in fields.keys() | records.keys():
        if name in BLOCKS:
            assert fields.get(name, set()) <= BLOCKS[name].fields.keys(), name
            assert records.get(name, set()) <= BLOCKS[name].record.keys(), name
    for head, others in HEADS.items():
        for name in others:
            fields.setdefault(name, set()).update(fields.get(head, ()))
    unread = {
        name: ((b.fields.keys() - fields.get(name, set())) | (b.record.keys() - records.get(name, set())))
        for name, b in BLOCKS.items()
    }
    assert {name: words for name, words in unread.items() if words} == UNREAD


@pytest.mark.parametrize("head", HEADS)
def test_the_words_that_blocks_share_come_first(head: str):
    for name in HEADS[head]:
        assert {n: BLOCKS[name].at[n] for n in BLOCKS[head].at} == BLOCKS[head].at


@pytest.mark.parametrize("field", SIZES)
def test_fields_have_room_for_what_is_read(field: str):
    assert {name: BLOCKS[name].fields[field] for name in SIZES[field]} == SIZES[field]
