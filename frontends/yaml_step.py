"""The grammar of steps: what a step in a list says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from graphc.errors import CheckError
from graphc.frontends.yaml_registry import layers
from graphc.frontends.yaml_slips import stuck
from graphc.frontends.yaml_synonyms import structure_argument
from graphc.frontends.yaml_syntax import Item, check_keys

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
    if hint := stuck(names[0], args.value):
        raise item.at_key(names[0]).error(f"'{names[0]}' can't be the name of a step", hint)
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
