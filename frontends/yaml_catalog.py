"""What steps can name: the blocks of each file, its nets, layers and operators; and what arguments these take.

A name means what it means in the file that it stands in, so that a block is the same wherever its file is included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, partial

from graphc.errors import CheckError, GraphcError
from graphc.frontends.yaml_args import SPECIAL
from graphc.frontends.yaml_problems import Poisoned, Problems
from graphc.frontends.yaml_registry import LayerDefinition, layers
from graphc.frontends.yaml_slips import call, slip
from graphc.frontends.yaml_step import COMMON, STRUCTURES, NetStep
from graphc.frontends.yaml_synonyms import absent, argument_for, layer_for, renamed, structure_argument
from graphc.frontends.yaml_syntax import Item, check_keys, did_you_mean
from graphc.op import Op, named_op, named_ops
from graphc.source_files import Folder


@dataclass(frozen=True, eq=False)
class BlockDefinition:
    """A block of a file: arguments with defaults (None: required), names of what goes in and out, and its steps.

    net: it is one of the file's `nets`, which has weights of its own name; takes: its inputs, as the file declares them, but for
    those that are prepared from something else.
    """

    name: str
    item: Item
    args: Mapping[str, Item | None]
    inputs: tuple[str, ...]
    outputs: tuple[Item, ...]
    body: Item
    doc: str = ""
    net: bool = False
    takes: Mapping[str, Item] = field(default_factory=dict)

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(k for k, default in self.args.items() if default is None)

    @property
    def main(self) -> str | None:
        return next(iter(self.args), None)

    @property
    def hides(self) -> str | None:
        """'layer' or 'operator' where the block has the name of one."""
        return "layer" if self.name in layers() else "operator" if named_op(self.name) else None

    def holds(self, place: Item) -> bool:
        """Does a name stand in the block's own text? There, the block's name means the layer that it hides."""
        return place.file == self.item.file and (place.line, place.column) in self._places

    @cached_property
    def _places(self) -> frozenset[tuple[int, int]]:
        return frozenset(_places(self.item))


def _places(item: Item) -> Iterator[tuple[int, int]]:
    yield item.line, item.column
    yield from item.keys.values()
    below = item.value.values() if isinstance(item.value, dict) else item.value if isinstance(item.value, list) else ()
    for value in below:
        yield from _places(value)


def check_name(name: str, what: str, place: Item) -> None:
    """Raises LoadError for a name that a block or net can't have."""
    if name in STRUCTURES or name in COMMON:
        kind = "structure" if name in STRUCTURES else "keyword"
        raise place.error(f"{what} has the name of a {kind}", "choose another name")


def read_block(name: str, item: Item) -> BlockDefinition:
    """A block: {args: {c: required, k: 3}, inputs: [x, skip], body: […], outputs: [name]}. Raises LoadError."""
    what = f"block '{name}'"
    check_name(name, what, item)
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


class Scope:
    """What names mean in one file: its blocks and those that it includes, its nets, params and defaults."""

    def __init__(self, file: str, spec: Mapping[str, Item], params: Mapping[str, Item], folder: Folder | None) -> None:
        self.file, self.spec, self.params, self.folder = file, spec, params, folder
        self.blocks: dict[str, BlockDefinition] = {}
        self.lost: set[str] = set()  # blocks that could not be read
        self.unsure: set[str] = set()  # layers and blocks whose defaults could not be read
        self.open = False  # is there an include that could not be read?
        self.all_lost = False  # is the section of blocks none?
        self.includes: list[tuple[Item, Scope]] = []
        self.defaults: dict[str, dict[str, Item]] = {}

    @property
    def own(self) -> list[BlockDefinition]:
        """The blocks that this file defines."""
        return [b for b in self.blocks.values() if not b.net and b.item.file == self.file]

    def read_blocks(self, problems: Problems) -> None:
        """Take the blocks of the file. Those that it includes are there already."""
        blocks = self.spec.get("blocks")
        self.all_lost = blocks is not None and not isinstance(blocks.value, dict)
        with problems.attempt():
            for name, item in (
                blocks.mapping("blocks", "blocks: {cbr: {body: [{conv: 64}, bn, relu]}}") if blocks else {}
            ).items():
                assert blocks is not None
                other = self.blocks.get(name)
                if other is None:
                    self.lost.add(name)
                with problems.attempt():
                    block = read_block(name, item)
                    if other is not None:
                        message = (
                            f"block '{name}' is included, too: it is in line {other.item.line} of {other.item.file}"
                        )
                        raise blocks.at_key(name).error(message, "give one of the two another name")
                    self.add(block)

    def add(self, block: BlockDefinition) -> None:
        self.blocks[block.name] = block
        self.lost.discard(block.name)

    def include(self, other: Scope, place: Item) -> None:
        """Take the blocks of another file. Raises LoadError at `place` for names that are taken."""
        clashes = [b for b in other.blocks.values() if self.blocks.get(b.name, b) is not b]
        self.blocks = {**other.blocks, **self.blocks}
        self.includes.append((place, other))
        self.lost |= other.lost
        self.open |= other.open
        errors = [
            place.error(
                f"block '{b.name}' is in line {b.item.line} of {b.item.file}, and in line "
                f"{self.blocks[b.name].item.line} of {self.blocks[b.name].item.file}",
                "give one of the two another name",
            )
            for b in clashes
        ]
        if errors:
            raise errors[0] if len(errors) == 1 else CheckError(errors)

    def read_defaults(self, problems: Problems) -> None:
        """Take the defaults of the file, for layers and for all blocks that it can name."""
        defaults = self.spec.get("defaults")
        with problems.attempt():
            for name, item in (
                defaults.mapping("defaults", "defaults: {conv: {bias: false}}") if defaults else {}
            ).items():
                assert defaults is not None
                self.unsure.add(name)
                with problems.attempt():
                    self.defaults[name] = self._defaults(name, item, defaults.at_key(name))
                    self.unsure.remove(name)

    def _defaults(self, name: str, item: Item, place: Item) -> dict[str, Item]:
        target = self.blocks.get(name) or layers().get(name)
        if name in self.lost or (target is None and self.open):
            raise Poisoned
        if target is None:
            hint = did_you_mean(name, [*self.blocks, *layers()])
            if named_op(name):
                hint = "operators have no defaults: give the attributes at each, or make a block"
            elif any(name in made.args for made in layers().values()):
                hint = f"defaults stand under the layer: defaults: {{conv: {{{name}: …}}}}"
            raise _unknown(place, f"defaults for an unknown layer '{name}'", name, hint)
        item.mapping(f"defaults of '{name}'", f"defaults: {{{name}: {{{target.main or 'k'}: …}}}}")
        return check_keys(item, target.args, f"defaults of '{name}'", _explained(target))


class Catalog:
    """Everything that a step can name. main: the scope of the model's file; the others are of files that it includes."""

    def __init__(self, main: Scope, others: Sequence[Scope] = ()) -> None:
        self.main = main
        self.scopes = {scope.file: scope for scope in (*others, main)}

    def scope(self, place: Item) -> Scope:
        """Of the file that something stands in."""
        return self.scopes.get(place.file, self.main)

    def callee(self, name: str, place: Item, written: bool = False) -> BlockDefinition | LayerDefinition | Op:
        """The block, layer or operator of that name, where it stands; a block hides the layer or operator of its name. Raises
        LoadError with what was probably meant, Poisoned for a block that has a problem.

        written: the name stands there itself. Else an argument may have brought it from the file that includes this one.
        """
        scope = self.scope(place)
        if name in scope.lost:
            raise Poisoned
        block = scope.blocks.get(name)
        if block is not None and not (block.hides and block.holds(place)):
            return block
        found = layers().get(name) or named_op(name) or (None if written else self.main.blocks.get(name))
        if found is None:
            if scope.all_lost and layer_for(name) is None:
                raise Poisoned
            if scope.open or not written and (self.main.open or name in self.main.lost):
                raise Poisoned
            known = [*scope.blocks, *layers(), *named_ops(), *STRUCTURES]
            hint = (
                did_you_mean(name, known) or "`graphc operators` lists the layers; a block is defined under `blocks:`"
            )
            raise _unknown(place, f"unknown layer '{name}'", name, hint)
        return found

    def is_unsure(self, callee: BlockDefinition | LayerDefinition, place: Item) -> bool:
        """Are its defaults not known, because of a problem?"""
        return callee.name in self.scope(place).unsure

    def defaults(self, callee: BlockDefinition | LayerDefinition, place: Item) -> Mapping[str, Item]:
        """Of its arguments, in the file that a step stands in. Those of a block are not those of the layer that it hides."""
        scope = self.scope(place)
        hidden = isinstance(callee, LayerDefinition) and callee.name in scope.blocks
        return {} if hidden else scope.defaults.get(callee.name, {})

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
            read = _flow(args)
            if isinstance(callee, LayerDefinition) and callee.operands is None and not isinstance(args.value, list):
                read = f"[last, {'NAME' if read == 'last' else read}]"
            hint = f"name it by `from`: {callee.name}: {{from: {read}}}"
            raise args.error(f"what {what} reads can't stand behind its colon", hint)
        elif callee.main is None:
            raise args.error(f"{what} takes no arguments", "write its name alone")
        else:
            given = {callee.main: args}
        given = {**self.defaults(callee, args), **given}
        misspelt = [k.partition("=")[0].strip() for k in given if k not in callee.args]
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
    if why := absent(name):
        return place.error(message, why)
    here = layer_for(name)
    return place.error(message, hint) if here is None else place.error(f"{message}: here it is `{here}`")


def _explained(callee: BlockDefinition | LayerDefinition) -> Callable[[str], str | None]:
    return partial(argument_for, callee) if isinstance(callee, LayerDefinition) else partial(_input_of, callee)


def _input_of(block: BlockDefinition, key: str) -> str | None:
    """What is said of an input of a block that is given as an argument."""
    if key not in block.inputs:
        return None
    return f"'{block.name}' has no argument '{key}': its inputs go by `from`, here [{', '.join(block.inputs)}] in that order"


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
