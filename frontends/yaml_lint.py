"""What is wrong with a description whatever the shapes: every misspelt name at once, before anything is built."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from graphc.errors import GraphcError
from graphc.frontends.yaml_args import SPECIAL, unknown_variable
from graphc.frontends.yaml_cell import Layer
from graphc.frontends.yaml_step import STRUCTURES, Block, Catalog, Step, merged, read_step
from graphc.frontends.yaml_syntax import Item, check_keys
from graphc.op import Op

_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z_0-9]*)")


def lint(catalog: Catalog, net: Item, params: Collection[str]) -> list[GraphcError]:
    """Problems in the net and in every block, each once, in the order of the file."""
    found: list[GraphcError] = []
    linter = _Linter(catalog, found)
    for block in catalog.blocks.values():
        known = [*params, *block.args, *SPECIAL]
        for default in block.args.values():
            if default is not None:
                linter.variables(default, known)
        linter.steps(block.body)
        linter.variables(block.body, known)
    linter.steps(net)
    linter.variables(net, [*params, *SPECIAL])
    unique = {(e.source.place if e.source else "", e.message): e for e in found}
    return sorted(unique.values(), key=lambda e: [int(n) for n in re.findall(r"\d+", e.source.place or "")])


class _Linter:
    def __init__(self, catalog: Catalog, found: list[GraphcError]) -> None:
        self.catalog, self.found = catalog, found

    def attempt(self, check: Callable, *args) -> None:
        try:
            check(*args)
        except GraphcError as e:
            self.found.append(e)

    def variables(self, item: Item, known: Collection[str]) -> None:
        """Every $name below the item is known."""
        if isinstance(item.value, dict):
            for key, value in item.value.items():
                if key.startswith("$"):
                    self.variables(item.at_key(key), known)
                self.variables(value, known)
        elif isinstance(item.value, list):
            for value in item.value:
                self.variables(value, known)
        elif isinstance(item.value, str):
            for name in _VARIABLE.findall(item.value):
                if name not in known:
                    self.found.append(item.error(unknown_variable(name, known)))

    def steps(self, item: Item) -> None:
        for entry in item.value if isinstance(item.value, list) else [item]:
            self.attempt(self.step, entry)

    def step(self, item: Item) -> None:
        step = read_step(item)
        if isinstance(step.callee, Item):
            return self.steps(step.callee)
        if step.callee.startswith("$"):
            return None
        if step.callee == "if":
            self.steps(step.then)
            return self.steps(step.otherwise) if step.otherwise is not None else None
        if step.callee in STRUCTURES:
            return self._structure(step)
        return self._arguments(self.catalog.callee(step.callee, step.place), step.args)

    def _arguments(self, callee: Block | Layer | Op, args: Item) -> None:
        if isinstance(callee, Op):
            if args.value is not None:
                check_keys(args, (*callee.attrs, "inputs"), f"operator '{callee.name}'")
        else:
            self.catalog.arguments(callee, args)

    def _structure(self, step: Step) -> None:
        spec = step.args.mapping(f"'{step.callee}'")
        if step.callee == "branch":
            check_keys(step.args, STRUCTURES["branch"], "branch")
            for path in spec["paths"].mapping("paths").values() if "paths" in spec else ():
                if not (isinstance(path.value, dict) and "project" in path.value):
                    self.steps(path)
            return None
        of = spec.get("of")
        if of is None or step.callee == "loop" or isinstance(of.value, list):
            return self.steps(of) if of is not None else None
        inner = read_step(of)
        if inner.callee in STRUCTURES:
            return self.steps(of)
        if inner.callee.startswith("$"):
            return None
        beside = {k: v for k, v in spec.items() if k not in STRUCTURES["repeat"]}
        changes = [spec[k] for k in ("first", "last") if k in spec]
        callee = self.catalog.callee(
            inner.callee, of if inner.item is of and isinstance(of.value, str) else inner.place
        )
        return self._arguments(callee, merged(callee, inner.args, beside, changes, step))
