"""The files beside a model: only those in its folder are read, and the model depends on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from graphc import source_files
from graphc.errors import LoadError
from graphc.frontends.yaml_syntax import MAX_BYTES, Item
from graphc.source_files import Folder


def path_of(where: Item, folder: Folder | None, suffixes: Sequence[str], what: str, convert: str) -> Path:
    """The file that an item names, in the folder of the item's file. Raises LoadError.

    what: is read from it, in the plural; convert: what to do with files of other kinds.
    """
    name = where.word("file")
    shown = source_files.shown(Path(name))
    if Path(name).suffix not in suffixes:
        known = f"neither {' nor '.join(suffixes)}" if len(suffixes) == 2 else f"none of {', '.join(suffixes)}"
        raise where.error(f"'{shown}' is {known if len(suffixes) > 1 else f'no {suffixes[0]} file'}", convert)
    if folder is None:
        raise where.error(f"{what} from a file need a model that is a file", "load it by its path")
    if "\0" in name:
        raise where.error("no file has a null character in its name")
    path = Path(os.path.realpath(folder.path / name))
    if Path(name).is_absolute() or ".." in Path(name).parts or not folder.holds(path):
        raise where.error(
            f"'{shown}' lies outside the model's folder", f"{what} are read only from the folder of the YAML file"
        )
    if not os.path.isfile(path):
        raise where.error(f"'{shown}' does not exist in {folder.path}")
    source_files.note(folder.path / name)
    source_files.require_same(folder.path / name)
    return path


def text_of(path: Path, where: Item) -> str:
    """The text in a file. Raises LoadError at `where`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise where.error(f"'{where.value}' is larger than {MAX_BYTES >> 20} MB")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise where.error(f"'{where.value}' is not text: byte {e.start} is not UTF-8") from None
    except OSError as e:
        raise LoadError(f"'{where.value}' can't be read: {e.strerror or e}", source=where.source()) from None
