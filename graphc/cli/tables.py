"""Tables as text (CSV): rows of numbers, with or without the columns' names above them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graphc.cli.files import STDIN
from graphc.cli.specs import shape_text, the_spec
from graphc.dtypes import is_float
from graphc.errors import InputError
from graphc.signature import Spec
from graphc.types import dtype_name

DELIMITERS = ",;\t"
COMMA = re.compile(r"\d[,;]\d")  # '5,1', or what is left of '5,1;3,5' between commas


@dataclass(frozen=True)
class Table:
    """names: of the columns, None without a header. first: the line of the first row."""

    names: list[str] | None
    rows: list[list[str]]
    lines: list[int]


def read_table(data: bytes, what: str) -> Table:
    """Raises InputError where rows differ in length, or there are none. A first row that has a word that is no number is a header."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"'{what}' is no text in UTF-8: {error.reason} at byte {error.start}") from None
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=max(DELIMITERS, key=first.count), skipinitialspace=True)
    rows, lines = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"'{what}', line {reader.line_num}: {error}") from None
    header = bool(rows) and not all(map(_is_number, rows[0]))
    names = rows[0] if header else None
    if not rows[header:]:
        if what == STDIN:
            hint = "graphc run MODEL - < FILE"
            raise InputError("stdin is no picture, sound, array, or table with rows", hint=hint)
        raise InputError(f"'{what}' is a table without rows")
    for row, line in zip(rows, lines):
        if len(row) != len(rows[0]):
            raise InputError(f"'{what}', line {line} has {len(row)} columns, line {lines[0]} has {len(rows[0])}")
    return Table(names, rows[header:], lines[header:])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell  # one that is missing says nothing
    return True


def feeds_of(
    table: Table, specs: Sequence[Spec], name: str, what: str, tell: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """The columns that are called as inputs are, where all of these are there; else all columns as the one input, [rows, columns].

    Raises InputError where neither fits, and for cells that are not what the input holds.
    """
    names = table.names or []
    if not name and names and all(s.name in names for s in specs):
        left = [n for n in names if all(s.name != n for s in specs)]
        if left:
            tell(f"columns of '{what}' that are no inputs: {', '.join(left)}")
        return {s.name: _column(table, s, names.index(s.name), what) for s in specs}
    if not name and len(specs) != 1 and names:
        missing = ", ".join(s.name for s in specs if s.name not in names)
        raise InputError(f"'{what}' has no column of input {missing}", hint=f"its columns: {', '.join(names)}")
    spec = the_spec(specs, name, what)
    array = np.array([_cells(row, spec, line, table, what) for row, line in zip(table.rows, table.lines)], _dtype(spec))
    shape = spec.shape if spec.shape is not None else ("rows", "columns")
    if len(shape) == 1 and 1 in array.shape:
        return {spec.name: array.reshape(-1)}
    if len(shape) != 2:
        raise InputError(
            f"input '{spec.name}' is {shape_text(shape)}, and '{what}' a table of {len(array)} rows",
            hint="tables are [rows, columns]; write others as .npy",
        )
    if isinstance(shape[1], int) and shape[1] != array.shape[1]:
        columns = f"; its columns: {', '.join(names)}" if names else ""
        raise InputError(
            f"'{what}' has {array.shape[1]} columns, input '{spec.name}' is {shape_text(shape)}",
            hint=f"leave out those that it does not read{columns}",
        )
    if names:
        tell(f"columns of '{what}' in their order as input '{spec.name}': {', '.join(names)}")
    return {spec.name: array}


def _column(table: Table, spec: Spec, k: int, what: str) -> np.ndarray:
    shape = spec.shape if spec.shape is not None else ("rows",)
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] not in (1, None) and isinstance(shape[1], int)):
        raise InputError(f"input '{spec.name}' is {shape_text(shape)}, and '{what}' has one column of it")
    rows = zip(table.rows, table.lines)
    array = np.array([_cells([row[k]], spec, line, table, what, k)[0] for row, line in rows], _dtype(spec))
    return array if len(shape) == 1 else array[:, None]


def _dtype(spec: Spec) -> np.dtype:
    if spec.content is not None or spec.dtype is None:
        raise InputError(f"input '{spec.name}' is {spec}, which no table tells", hint="give a file: .npy or .npz")
    return spec.dtype


def _cells(row: Sequence[str], spec: Spec, line: int, table: Table, what: str, first: int = 0) -> list:
    """The cells as numbers of the input's dtype, or texts."""
    dtype, made = _dtype(spec), []
    for k, cell in enumerate(row, first):
        try:
            made.append(_cell(cell, dtype))
        except (ValueError, OverflowError, KeyError):
            column = f"column '{table.names[k]}'" if table.names else f"column {k + 1}"
            said = f"'{cell}' is no {dtype_name(dtype)}" if cell else "there is nothing"
            hint = "write numbers with a point, as 5.1" if COMMA.search(cell) else ""
            raise InputError(f"'{what}', line {line}, {column}: {said}", hint=hint) from None
    return made


def _cell(cell: str, dtype: np.dtype) -> object:
    if dtype.kind == "O":
        return cell
    if is_float(dtype):
        return float(cell)
    if dtype.kind == "b":
        return {"true": True, "1": True, "false": False, "0": False}[cell.lower()]
    number = int(cell) if cell.lstrip("+-").isdecimal() else float(cell)
    if number != int(number) or np.array(int(number)).astype(dtype) != number:
        raise ValueError
    return int(number)
