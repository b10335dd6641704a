"""The grammar of steps: what a step in a list says, and what the names in it can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Literal

from graphc.errors import CheckError, GraphcError
from graphc.frontends.yaml_args import SPECIAL
from graphc.frontends.yaml_problems import Poisoned, Problems
from graphc.frontends.yaml_registry import LayerDefinition, layers
from graphc.frontends.yaml_slips import call, slip
from graphc.frontends.yaml_synonyms import argument_for, layer_for, renamed, structure_argument
from graphc.frontends.yaml_syntax import Item, check_keys, did_you_mean
from graphc.op import Op, all_ops

COMMON = ("as", "from", "share", "name", "weights")
STRUCTURES: dict[str, tuple[str, ...]] = {
    "branch": ("join", "axis", "paths"),
    "repeat": ("n", "of", "with", "first", "last", "join", "axis"),
    "loop": ("n", "of", "with"),
    "if": (),
    "scan": ("over", "axis", "reverse", "states", "of", "collect"),
    "while": ("states", "condition", "at_most", "of", "collect", "axis"),
    "when": (),
    "let": (),
}
REQUIRED = {
    "branch": ("join", "paths"),
    "repeat": ("n", "of"),
    "loop": ("n", "of"),
    "scan": ("over", "of"),
    "while": ("states", "condition", "at_most", "of"),
}
EXAMPLES = {
    "branch": "branch: {join: add, paths: {main: [...], skip: identity}}",
    "repeat": "repeat: {n: 3, of: ...}",
    "loop": "loop: {n: 3, of: ...}",
    "scan": "scan: {over: x, states: {h: h0}, of: [...], collect: {y: h}}",
    "while": "while: {states: {x: x0}, condition: NAME, at_most: 100, of: [...]}",
}
Join = Literal["add", "mul", "mean", "max", "concat"]


@dataclass(frozen=True)
class NetStep:
    """One entry of a list of steps: what to apply (a layer, block, operator, structure), to what, under what name."""

    item: Item
    callee: str | Item  # an Item is a list of steps in place of one
    args: Item
    save: Item | None = None  # as:
    operands: Item | None = None  # from:
    share: Item | None = None
    name: Item | None = None
    weights: Item | None = None
    then: Item | None = None
    otherwise: Item | None = None

    @property
    def place(self) -> Item:
        """Where the name of the callee stands."""
        return self.item.at_key(self.callee) if isinstance(self.callee, str) else self.item


def read_step(item: Item) -> NetStep:
    """A step: `relu`, `{conv: {out: 64}}`, `{dense: 10, as: logits}`, `{if: …, then: […], else: […]}`, or a list.

    `when` is written as `if`. as, from, share and name may stand beside the callee or among its arguments. Raises LoadError.
    """
    if isinstance(item.value, str) and item.value:
        return NetStep(item, item.value, item.of(None))
    if isinstance(item.value, list):
        return NetStep(item, item, item.of(None))
    if not isinstance(item.value, dict):
        raise item.error(
            f"a step must be a name or {{name: arguments}}, not {item.kind}", "for example: - conv: {out: 64, k: 3}"
        )
    beside = {k: v for k, v in item.value.items() if k in COMMON}
    names = [k for k in item.value if k not in COMMON]
    for name, condition in (("if", "$s > 1"), ("when", "NAME")):
        if name in names:
            check_keys(item, (*COMMON, name, "then", "else"), name, _otherwise)
            if "then" not in names:
                raise item.error(
                    f"{name} needs `then`", f"for example: - {name}: {condition}\n    then: [{{maxpool: 2}}]"
                )
            args = item.value[name]
            return _step(item, name, args, beside, then=item.value["then"], otherwise=item.value.get("else"))
    if len(names) != 1:
        raise item.error(f"a step has one name, not {len(names)} ({', '.join(names) or 'none'})", _apart(item, names))
    args = item.value[names[0]]
    if isinstance(args.value, dict):
        inside = {k: v for k, v in args.value.items() if k in COMMON}
        for k in set(inside) & set(beside):
            raise args.at_key(k).error(f"'{k}' is given twice, beside '{names[0]}' and among its arguments")
        beside |= inside
        args = args.of({k: v for k, v in args.value.items() if k not in COMMON}, keys=args.keys)
    return _step(item, names[0], args, beside)


def _otherwise(key: str) -> str | None:
    if key in ("elif", "elseif", "else if"):
        return f"there is no '{key}': write else: [{{if: …, then: […]}}]"
    return None


def _apart(item: Item, names: Sequence[str]) -> str:
    """What to do with names that stand beside each other in a step."""
    made = layers().get(names[0]) if names else None
    if made is not None and set(names[1:]) <= made.args.keys():
        given = {made.main: item.value[names[0]].value} if item.value[names[0]].value is not None else {}
        given |= {k: item.value[k].value for k in names[1:]}
        shown = ", ".join(f"{k}: {str(v).lower() if isinstance(v, bool) else v}" for k, v in given.items())
        return f"arguments stand in braces, or deeper than the name: - {names[0]}: {{{shown}}}"
    if made is not None and item.value[names[0]].value is None and names[1] not in layers():
        return f"arguments stand in braces, or deeper than the name: - {names[0]}: {{{names[1]}: …}}"
    return "begin each step with its own '-'; beside the name only as, from, share, name and weights can stand"


def _step(item: Item, callee: str, args: Item, common: Mapping[str, Item], **more: Item | None) -> NetStep:
    words = (common.get(k) for k in COMMON)
    return NetStep(item, callee, args, *words, **more)


def read_structure(step: NetStep) -> dict[str, Item]:
    """The arguments of a branch, repeat, loop, scan or while. Raises LoadError where one is missing or unknown."""
    name = str(step.callee)
    args = step.args.mapping(f"'{name}'", EXAMPLES[name])
    known = (*STRUCTURES[name], *(args if name == "repeat" else ()))  # which also takes arguments of what it repeats
    check_keys(step.args, known, name, partial(structure_argument, name, STRUCTURES[name]))
    missing = [key for key in REQUIRED[name] if key not in args and not (key == "n" and "with" in args)]
    elsewhere = {key: said for key in args if (said := structure_argument(name, missing, key))}
    if elsewhere:
        raise CheckError([step.args.at_key(key).error(said) for key, said in elsewhere.items()])
    if missing:
        raise step.place.error(f"{name} needs {', '.join(repr(key) for key in missing)}", EXAMPLES[name])
    return args


@dataclass(frozen=True)
class BlockDefinition:
    """A block of the file: arguments with defaults (None: required), names of what goes in and out, and its steps."""

    name: str
    item: Item
    args: Mapping[str, Item | None]
    inputs: tuple[str, ...]
    outputs: tuple[Item, ...]
    body: Item
    doc: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(k for k, default in self.args.items() if default is None)

    @property
    def main(self) -> str | None:
        return next(iter(self.args), None)


def read_block(name: str, item: Item) -> BlockDefinition:
    """A block: {args: {c: required, k: 3}, inputs: [x, skip], body: […], outputs: [name]}. Raises LoadError."""
    what = f"block '{name}'"
    taken = (
        "structure"
        if name in STRUCTURES
        else "layer"
        if name in layers()
        else "operator"
        if name in all_ops()
        else None
    )
    if taken or name in COMMON:
        raise item.error(f"{what} has the name of a {taken or 'keyword'}", "choose another name")
    if not isinstance(item.value, dict):
        item.mapping(what, f"{name}: {{body: [{{conv: 64}}, relu]}}")
    known = ("doc", "args", "inputs", "body", "outputs")
    spec = check_keys(item, known, what, partial(structure_argument, what, known))
    if "body" not in spec:
        raise item.error(f"{what} has no body")
    args: dict[str, Item | None] = {}
    for arg, default in (
        spec["args"].mapping(f"args of {what}", "args: {c: required, k: 3}") if "args" in spec else {}
    ).items():
        if arg in SPECIAL or arg in COMMON or not arg.isidentifier():
            raise (
                spec["args"]
                .at_key(arg)
                .error(f"'{arg}' can't be the name of an argument", f"not {', '.join((*SPECIAL, *COMMON))}")
            )
        args[arg] = None if default.value == "required" else default
    inputs = (
        tuple(i.word("an input of a block") for i in spec["inputs"].listing(f"inputs of {what}", "inputs: [x, skip]"))
        if "inputs" in spec
        else ("input",)
    )
    outputs = tuple(spec["outputs"].listing(f"outputs of {what}", "outputs: [y]")) if "outputs" in spec else ()
    doc = spec["doc"].word("doc") if "doc" in spec else ""
    return BlockDefinition(name, item, args, inputs, outputs, spec["body"], doc)


class Catalog:
    """Everything that a step can name, and the defaults of arguments."""

    def __init__(self, blocks: Item | None, defaults: Item | None, problems: Problems) -> None:
        """What is wrong is added to the problems, and what names it later is not reported."""
        self.blocks: dict[str, BlockDefinition] = {}
        self.lost: set[str] = set()  # blocks that could not be read
        self.unsure: set[str] = set()  # layers and blocks whose defaults could not be read
        self.defaults: dict[str, dict[str, Item]] = {}
        self.all_lost = blocks is not None and not isinstance(blocks.value, dict)
        with problems.attempt():
            for name, item in (
                blocks.mapping("blocks", "blocks: {cbr: {body: [{conv: 64}, bn, relu]}}") if blocks else {}
            ).items():
                self.lost.add(name)
                with problems.attempt():
                    self.blocks[name] = read_block(name, item)
                    self.lost.remove(name)
        with problems.attempt():
            for name, item in (
                defaults.mapping("defaults", "defaults: {conv: {bias: false}}") if defaults else {}
            ).items():
                self.unsure.add(name)
                with problems.attempt():
                    assert defaults is not None
                    self.defaults[name] = self._defaults(name, item, defaults.at_key(name))
                    self.unsure.remove(name)

    def _defaults(self, name: str, item: Item, place: Item) -> dict[str, Item]:
        target = self.blocks.get(name) or layers().get(name)
        if name in self.lost:
            raise Poisoned
        if target is None:
            known = [*self.blocks, *layers()]
            hint = did_you_mean(name, known)
            if name in all_ops():
                hint = "operators have no defaults: give the attributes at each, or make a block"
            elif any(name in made.args for made in layers().values()):
                hint = f"defaults stand under the layer: defaults: {{conv: {{{name}: …}}}}"
            raise _unknown(place, f"defaults for an unknown layer '{name}'", name, hint)
        item.mapping(f"defaults of '{name}'", f"defaults: {{{name}: {{{target.main or 'k'}: …}}}}")
        return check_keys(item, target.args, f"defaults of '{name}'", _explained(target))

    def callee(self, name: str, place: Item) -> BlockDefinition | LayerDefinition | Op:
        """The block, layer or operator of that name. Raises LoadError with what was probably meant, Poisoned for a block
        that has a problem."""
        if name in self.lost:
            raise Poisoned
        found = self.blocks.get(name) or layers().get(name) or all_ops().get(name)
        if found is None:
            if self.all_lost and layer_for(name) is None:
                raise Poisoned
            known = [*self.blocks, *layers(), *all_ops(), *STRUCTURES]
            hint = did_you_mean(name, known) or "docs/yaml.md lists the layers; a block is defined under `blocks:`"
            raise _unknown(place, f"unknown layer '{name}'", name, hint)
        return found

    def arguments(self, callee: BlockDefinition | LayerDefinition, args: Item) -> dict[str, Item]:
        """The arguments by name, defaults of the file included. Raises LoadError on unknown and missing ones."""
        what = f"'{callee.name}'"
        errors: list[GraphcError] = []
        if args.value is None:
            given = {}
        elif isinstance(args.value, dict):
            given = args.value
            try:
                check_keys(args, callee.args, what, _explained(callee))
            except GraphcError as e:
                errors += getattr(e, "problems", [e])
        elif (isinstance(callee, LayerDefinition) or callee.main is None) and _are_names(args, callee.main):
            hint = f"name it by `from`: {callee.name}: {{from: {_flow(args)}}}"
            raise args.error(f"what {what} reads can't stand behind its colon", hint)
        elif callee.main is None:
            raise args.error(f"{what} takes no arguments", "write its name alone")
        else:
            given = {callee.main: args}
        given = {**self.defaults.get(callee.name, {}), **given}
        misspelt = [k for k in given if k not in callee.args]
        elsewhere = renamed(callee, given) if isinstance(callee, LayerDefinition) else ()
        missing = [
            k
            for k in callee.required
            if k not in given and k not in elsewhere and not get_close_matches(k, misspelt, 1)
        ]
        if missing:
            rest = [k for k in callee.args if k not in callee.required]
            also = f" (it also takes {', '.join(rest)})" if rest else ""
            errors.append(args.error(f"{what} needs {', '.join(repr(k) for k in missing)}{also}"))
        if errors:
            raise errors[0] if len(errors) == 1 else CheckError(errors)
        return given


def _are_names(args: Item, main: str | None) -> bool:
    """Are they names of values: a list of words, or one word where a bare value sets nothing?"""
    items = args.value if isinstance(args.value, list) else [args] if main is None else []
    return bool(items) and all(isinstance(i.value, str) and i.value.isidentifier() for i in items)


def _flow(args: Item) -> str:
    return f"[{', '.join(i.value for i in args.value)}]" if isinstance(args.value, list) else str(args.value)


def _unknown(place: Item, message: str, name: str, hint: str | None) -> GraphcError:
    if slipped := slip(name):
        return place.error(message, slipped)
    if called := call(name):
        meant = layer_for(called[0]) or called[0]
        written = f"{meant.split(':')[0]}: {called[1]}" if called[1] else meant
        return place.error(message, f"a layer is a name with arguments, not a call: {written}")
    here = layer_for(name)
    return place.error(message, hint) if here is None else place.error(f"{message}: here it is `{here}`")


def _explained(callee: BlockDefinition | LayerDefinition) -> Callable[[str], str | None]:
    return partial(argument_for, callee) if isinstance(callee, LayerDefinition) else lambda key: None


def merged(
    callee: BlockDefinition | LayerDefinition | Op,
    args: Item,
    beside: Mapping[str, Item],
    changes: Sequence[Item],
    step: NetStep,
) -> Item:
    """The arguments of what a repeat applies: given with the callee, beside it, and for this iteration only."""
    if args.value is None and not beside and not changes:
        return args
    if isinstance(args.value, dict) or args.value is None:
        given, keys = dict(args.value or {}), dict(args.keys)
    else:
        main = getattr(callee, "main", None)
        if main is None:
            raise args.error(f"'{callee.name}' takes no arguments")
        given, keys = {main: args}, {}
    given.update(beside)
    keys.update({k: step.args.keys[k] for k in beside})
    for item in changes:
        given.update(item.mapping("first and last"))
        keys.update(item.keys)
    return (step.args if args.value is None else args).of(given, keys)
