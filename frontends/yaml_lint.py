"""What is wrong with a description whatever the shapes: every misspelt name at once, before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from graphc.errors import GraphcError
from graphc.frontends.yaml_args import SPECIAL, unknown_variable
from graphc.frontends.yaml_catalog import BlockDefinition, Catalog, merged
from graphc.frontends.yaml_operators import names_value, read_attribute
from graphc.frontends.yaml_problems import Poisoned, Problems
from graphc.frontends.yaml_registry import LayerDefinition
from graphc.frontends.yaml_step import STRUCTURES, NetStep, read_step, read_structure
from graphc.frontends.yaml_synonyms import bare_operator, operator_for
from graphc.frontends.yaml_syntax import Item, check_keys
from graphc.frontends.yaml_unused import VARIABLE, variables, with_names
from graphc.op import Op


def lint(catalog: Catalog, nets: Iterable[Item], problems: Problems) -> None:
    """Problems in lists of steps of the main file, and in every block of every file, whether it is used or not."""
    linter = _Linter(catalog, problems)
    for scope in catalog.scopes.values():
        for block in scope.own:
            linter.known = {*scope.params, *block.args}
            known = [*scope.params, *block.args, *SPECIAL]
            for default in block.args.values():
                if default is not None:
                    linter.variables(default, known)
            linter.steps(block.body)
            linter.variables(block.body, known)
    linter.known = set(catalog.main.params)
    for net in nets:
        linter.steps(net)
        linter.variables(net, [*catalog.main.params, *SPECIAL])


class _Linter:
    def __init__(self, catalog: Catalog, problems: Problems) -> None:
        self.catalog, self.problems = catalog, problems
        self.known: set[str] = set()  # params and arguments where it looks

    def attempt(self, check: Callable, *args: Any) -> None:
        try:
            check(*args)
        except GraphcError as e:
            self.problems.add(e, final=True)
        except Poisoned:
            pass

    def variables(self, item: Item, known: Collection[str]) -> None:
        """Every $name below the item is known."""
        if isinstance(item.value, dict):
            known = [*known, *(name for _, names in with_names(item) for name in names)]
            for key, value in item.value.items():
                self.variables(item.at_key(key), known)
                self.variables(value, known)
        elif isinstance(item.value, list):
            for value in item.value:
                self.variables(value, known)
        elif isinstance(item.value, str):
            for name in VARIABLE.findall(item.value):
                if name not in known:
                    self.problems.add(item.error(unknown_variable(name, known)), final=True)

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
            assert step.then is not None
            self.steps(step.then)
            return self.steps(step.otherwise) if step.otherwise is not None else None
        if step.callee in STRUCTURES:
            return self._structure(step)
        return self._arguments(self.catalog.callee(step.callee, step.place, written=True), step.args)

    def _arguments(self, callee: BlockDefinition | LayerDefinition | Op, args: Item) -> None:
        """Names of arguments are known, none is missing, and those that are written out are of the right type."""
        if isinstance(callee, Op):
            if args.value is not None and not isinstance(args.value, (dict, list)):
                hint = bare_operator(callee.name, args.value)
                raise args.error(
                    f"operator '{callee.name}' of ONNX has its attributes in braces, not {args.kind}", hint
                )
            self.attempt(
                check_keys,
                args if args.value is not None else args.of({}),
                (*callee.attrs, "inputs"),
                f"operator '{callee.name}'",
                partial(operator_for, callee.name),
            )
            for key, item in (args.value if isinstance(args.value, dict) else {}).items():
                if key in callee.attrs and not _varies(item):
                    self.attempt(read_attribute, item, callee.attrs[key], key)
            return
        self.attempt(self.catalog.arguments, callee, args)
        if isinstance(callee, LayerDefinition):
            given = args.value if isinstance(args.value, dict) else {callee.main or "": args}
            for key, item in given.items():
                if key not in callee.args or item.value is None or _varies(item):
                    continue
                if not names_value(item, callee.args[key][0]):
                    self.attempt(self._read, callee, key, item)

    def _read(self, made: LayerDefinition, key: str, item: Item) -> None:
        try:
            made.read(key, item)
        except GraphcError as e:
            if isinstance(item.value, str) and item.value in self.known:
                e.hint = f"did you mean ${item.value}?"
            raise

    def _structure(self, step: NetStep) -> None:
        if step.callee == "let":
            return None
        if step.callee == "when":
            self._condition(step.args)
            for way in (step.then, step.otherwise):
                if way is not None:
                    self.steps(way)
            return None
        spec = read_structure(step)
        if step.callee in ("scan", "while"):
            if "condition" in spec:
                self._condition(spec["condition"])
            return self.steps(spec["of"])
        if step.callee == "branch":
            for path in spec["paths"].mapping("paths", "paths: {main: [{conv: 8}], skip: []}").values():
                if not (isinstance(path.value, dict) and "project" in path.value):
                    self.steps(path)
            return None
        of = spec["of"]
        if step.callee == "loop" or isinstance(of.value, list):
            return self.steps(of)
        inner = read_step(of)
        if isinstance(inner.callee, Item) or inner.callee in STRUCTURES:
            return self.steps(of)
        if inner.callee.startswith("$"):
            return None
        beside = {k: v for k, v in spec.items() if k not in STRUCTURES["repeat"]}
        changes = [spec[k] for k in ("first", "last") if k in spec]
        place = of if inner.item is of and isinstance(of.value, str) else inner.place
        callee = self.catalog.callee(inner.callee, place, written=True)
        return self._arguments(callee, merged(callee, inner.args, beside, changes, step))

    def _condition(self, item: Item) -> None:
        if isinstance(item.value, (list, dict)):
            self.steps(item)


def _varies(item: Item) -> bool:
    """Does its value depend on a variable?"""
    return any(True for _ in variables(item))
