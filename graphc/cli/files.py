"""Files of data: what a path, a folder, a pattern or '-' stands for, and what kind of file it is."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from graphc.errors import InputError
from graphc.pictures import SUFFIXES as PICTURES

STDIN = "-"
KINDS = {
    "arrays": (".npy", ".npz"),
    "picture": PICTURES,
    "sound": (".wav", ".flac", ".ogg", ".aiff", ".aif"),
    "table": (".csv", ".tsv"),
    "onnx": (".pb",),
}
KIND_OF = {suffix: kind for kind, suffixes in KINDS.items() for suffix in suffixes}
MAGIC = {b"\x93NUMPY": "arrays", b"PK\x03\x04": "arrays", b"PK\x05\x06": "arrays", b"fLaC": "sound", b"OggS": "sound"}
SETS = "test_data_set_*"  # folders of ONNX test data
INPUT, OUTPUT = re.compile(r"input_(\d+)\.pb"), re.compile(r"output_(\d+)\.pb")


@dataclass(frozen=True)
class File:
    """A file by its path, or stdin."""

    path: str

    def __str__(self) -> str:
        return self.path

    @property
    def is_stdin(self) -> bool:
        return self.path == STDIN

    @property
    def data(self) -> bytes:
        """All of it: of a file read anew, since there may be too many to keep them. Raises InputError."""
        if self.is_stdin:
            return self._stdin
        try:
            return Path(self.path).read_bytes()
        except FileNotFoundError:
            raise InputError(f"no file or folder '{self.path}'", hint="check its path") from None
        except OSError as error:
            raise InputError(f"can't read '{self.path}': {error.strerror or error}") from None

    @cached_property
    def _stdin(self) -> bytes:
        data = sys.stdin.buffer.read()
        if not data:
            raise InputError("there is nothing on stdin", hint="graphc run MODEL - < FILE")
        return data

    @cached_property
    def kind(self) -> str:
        """One of KINDS, by its suffix; of stdin by its first bytes."""
        if not self.is_stdin:
            return KIND_OF.get(Path(self.path).suffix.lower(), "arrays")
        data = self.data
        if data[:4] in (b"RIFF", b"RIFX") and data[8:12] == b"WAVE":
            return "sound"
        found = next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), None)
        return found or ("table" if _is_text(data) else "picture")


def _is_text(data: bytes) -> bool:
    """Are the first lines those of a table? Plain PGM and PPM files are pictures."""
    start = data[:4096]
    return b"\0" not in start and not re.match(rb"P[1-6]\s", start) and all(c >= 32 or c in b"\t\r\n" for c in start)


@dataclass(frozen=True)
class TestSet:
    """A folder of ONNX test data: files of inputs and of what is expected, by their numbers."""

    path: str
    inputs: dict[int, File]
    outputs: dict[int, File]

    def __str__(self) -> str:
        return self.path


def expanded(arguments: Iterable[str]) -> Iterator[File | TestSet]:
    """The files and test sets that paths, folders, patterns ('*.jpg', '**/*.png') and '-' stand for, in the order of the arguments
    and of their names.

    Raises InputError where there is no such file, and for a folder or a pattern without any data.
    """
    for text in arguments:
        path = Path(text)
        if text == STDIN:
            yield File(text)
        elif text and path.is_dir():
            yield from _of_folder(path)
        elif path.exists() or not glob.has_magic(text):
            yield File(text)
        else:
            found = sorted(glob.glob(text, recursive=True))
            if not found:
                raise InputError(f"no file is like '{text}'", hint="* stands for a part of a name, ** for folders")
            for name in found:
                yield from _of_folder(Path(name)) if Path(name).is_dir() else (File(name),)


def _of_folder(folder: Path) -> list[File] | list[TestSet]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"can't read '{folder}': {error.strerror or error}") from None
    own = _test_set(folder, entries)
    if own is not None:
        return [own]
    sets = [_test_set(p, sorted(p.iterdir())) for p in sorted(folder.glob(SETS), key=_number) if p.is_dir()]
    if found := [s for s in sets if s is not None]:
        return found
    files = [File(str(p)) for p in entries if p.suffix.lower() in KIND_OF and p.is_file()]
    if not files:
        known = f"files of samples: {', '.join(KIND_OF)}"
        inner = "; of folders in it: '" + str(folder / "**" / "*.jpg") + "'" if any(p.is_dir() for p in entries) else ""
        raise InputError(f"the folder '{folder}' holds no data", hint=known + inner)
    return files


def _number(path: Path) -> tuple[int, str]:
    digits = path.name.rpartition("_")[2]
    return (int(digits) if digits.isdecimal() else -1, path.name)


def _test_set(folder: Path, entries: Iterable[Path]) -> TestSet | None:
    found: tuple[dict[int, File], dict[int, File]] = {}, {}
    for path in entries:
        for pattern, files in zip((INPUT, OUTPUT), found):
            if match := pattern.fullmatch(path.name):
                files[int(match[1])] = File(str(path))
    return TestSet(str(folder), *found) if any(found) else None
