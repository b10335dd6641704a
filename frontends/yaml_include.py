"""The files that a file includes, for their blocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from graphc.errors import GraphcError
from graphc.frontends.yaml_catalog import Catalog, Scope
from graphc.frontends.yaml_files import path_of
from graphc.frontends.yaml_operators import listed
from graphc.frontends.yaml_problems import Problems
from graphc.frontends.yaml_sections import read_params, read_sections
from graphc.frontends.yaml_syntax import Item, read_file
from graphc.source_files import Folder


def read_catalog(
    root: Item, spec: Mapping[str, Item], params: Mapping[str, Item], folder: Folder | None, problems: Problems
) -> Catalog:
    """What steps of a file can name: its own blocks, and those of the files that it includes."""
    reader = _Reader(problems)
    main = Scope(root.file, spec, params, folder)
    reader.fill(main, () if folder is None else (Path(root.file).resolve(),))
    return Catalog(main, [scope for scope in reader.scopes.values() if scope is not None])


class _Reader:
    """scopes: by real path, so that a file is read once, however often it is included; None where it can't be read."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.scopes: dict[Path, Scope | None] = {}

    def fill(self, scope: Scope, chain: tuple[Path, ...]) -> None:
        """Take the blocks and defaults of a file. chain: the files being read, each of which includes the next."""
        for where in listed(scope.spec["include"]) if "include" in scope.spec else ():
            included = None
            with self.problems.attempt():
                included = self._included(where, scope.folder, chain)
                if included is not None:
                    scope.include(included, where)
            scope.open |= included is None
        scope.read_blocks(self.problems)
        scope.read_defaults(self.problems)

    def _included(self, where: Item, folder: Folder | None, chain: tuple[Path, ...]) -> Scope | None:
        path = path_of(where, folder, (".yaml", ".yml"), "blocks", "include a YAML file")
        assert folder is not None
        if path in chain:
            names = " -> ".join(p.name for p in (*chain[chain.index(path) :], path))
            raise where.error(f"files include each other: {names}", "put what they share into a file of its own")
        if path not in self.scopes:
            self.scopes[path] = None
            self.scopes[path] = self._read(folder.path / where.word("file"), (*chain, path))
        return self.scopes[path]

    def _read(self, path: Path, chain: tuple[Path, ...]) -> Scope | None:
        try:
            root = read_file(path, self.problems.add)
            spec = read_sections(root, self.problems, "a file of blocks")
            scope = Scope(root.file, spec, read_params(spec.get("params"), {}, root), Folder.of(path))
        except GraphcError as error:
            self.problems.add(error)
            return None
        self.fill(scope, chain)
        return scope
