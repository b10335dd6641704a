"""`rename`: which arrays of a file a weight is made of, where the file's names and layouts are those of another framework.

`net.{n}.{i}.main.{j}.conv.{w}: layer{n - 1}.{i}.conv{j + 1}.{w}`: a name in braces on the left is one part between dots, and on
the right what it stood for, or is computed from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.frontends.yaml_args import convert
from graphc.frontends.yaml_expr import ExprError, Numbers, evaluate
from graphc.frontends.yaml_operators import listed
from graphc.frontends.yaml_syntax import Item, check_keys

Shape = tuple[int, ...]
EXAMPLE = "rename: {'net.{i}.conv.{w}': 'features.{i}.{w}'}"
GATES = {  # of layers: what PyTorch writes, and all that is usual
    "lstm": ("ifgo", "PyTorch; Keras has ifco"),
    "gru": ("rzn", "PyTorch; Keras has zrh"),
}
_BRACES = re.compile(r"\{([^{}]*)\}")
_OURS = {4: "iofc", 3: "zrh"}  # the gates of LSTM and GRU in ONNX's order
_SAME = str.maketrans("gn", "ch")  # PyTorch's letters of the new content of a cell


class LayoutError(ValueError):
    """Arrays of which a weight can't be made as a rule says."""


@dataclass(frozen=True)
class Recipe:
    """What a weight is made of: arrays of the file, cut, transposed, their gates put in order, joined along axis 0, reshaped."""

    names: tuple[str, ...]
    place: Item | None = None  # of the rule, where there is one
    transpose: bool | tuple[int, ...] = False
    slice: tuple[int, ...] = ()
    gates: str = ""
    reshape: bool = False

    @property
    def is_plain(self) -> bool:
        return len(self.names) == 1 and not (self.transpose or self.slice or self.gates or self.reshape)

    def make(self, arrays: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
        """The weight, of that shape where the arrays allow it. Raises LayoutError where a step can't be done."""
        parts = [self._part(a) for a in arrays]
        if len({(p.ndim, p.shape[1:]) for p in parts}) > 1:
            raise LayoutError(f"shapes {' and '.join(str(list(p.shape)) for p in parts)} can't be joined along axis 0")
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        free = self.reshape or (self.gates and whole.shape == (math.prod(shape[:2]), *shape[2:]))  # directions in front
        return whole.reshape(shape) if free and whole.size == math.prod(shape) else whole

    def _part(self, a: np.ndarray) -> np.ndarray:
        if self.transpose is not False:
            axes = None if self.transpose is True else self.transpose
            if axes is not None and sorted(axes) != list(range(a.ndim)):
                raise LayoutError(f"transpose {list(axes)} is no order of the axes of {list(a.shape)}")
            a = a.transpose(axes)
        if self.slice:
            if not 0 <= self.slice[0] < self.slice[1] <= (len(a) if a.ndim else 0):
                raise LayoutError(f"slice {list(self.slice)} is not within axis 0 of {list(a.shape)}")
            a = a[self.slice[0] : self.slice[1]]
        if self.gates:
            n = len(self.gates)
            if not a.ndim or len(a) % n:
                raise LayoutError(f"axis 0 of {list(a.shape)} does not hold {n} gates")
            blocks = dict(zip(self.gates.translate(_SAME), np.split(a, n)))
            a = np.concatenate([blocks[g] for g in _OURS[n]])
        return a


@dataclass(frozen=True)
class Rule:
    """An entry of `rename`."""

    pattern: str
    regex: re.Pattern[str]
    targets: tuple[Item, ...]
    how: Mapping[str, Any]
    place: Item

    def recipe(self, name: str) -> Recipe | None:
        """Raises ExprError where what is computed has no value."""
        found = self.regex.fullmatch(name)
        if found is None:
            return None
        captured = found.groupdict()
        names = tuple(_BRACES.sub(lambda m: str(_computed(m[1], captured)), t.value) for t in self.targets)
        return Recipe(names, self.place, **self.how)

    def may_name(self, nets: Collection[str]) -> bool:
        """May it be for weights of those nets, whose names begin theirs?"""
        first = self.pattern.partition(".")[0]
        return first in nets or (bool(nets) and "{" in first)

    def may_read(self, array: str) -> bool:
        """May an array of that name be a part of what it makes?"""
        templates = (_BRACES.split(t.value)[::2] for t in self.targets)  # what stands between braces
        return any(re.fullmatch(".+".join(map(re.escape, parts)), array) for parts in templates)


@dataclass
class Renaming:
    """Recipes by the names of weights; a weight that no rule names is the array of its own name."""

    exact: dict[str, Rule] = field(default_factory=dict)
    patterns: list[Rule] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def recipe(self, name: str) -> Recipe:
        """The rule of exactly that name, or the first that matches it. Raises LoadError."""
        for rule in [self.exact[name]] if name in self.exact else self.patterns:
            try:
                found = rule.recipe(name)
            except ExprError as e:
                raise rule.place.error(f"{e}, for the weight '{name}'", e.hint) from None
            if found is not None:
                self.used.add(rule.pattern)
                return found
        return Recipe((name,))

    def unused(self, others: Collection[str] = ()) -> list[Rule]:
        """The rules that no weight came by, and that none of the other nets may have use for."""
        return [r for r in self._rules if r.pattern not in self.used and not r.may_name(others)]

    def may_read(self, array: str, nets: Collection[str]) -> bool:
        """May those nets read the array by one of the rules?"""
        return any(r.may_name(nets) and r.may_read(array) for r in self._rules)

    @property
    def _rules(self) -> list[Rule]:
        return [*self.exact.values(), *self.patterns]


def read_renaming(item: Item) -> Renaming:
    """The section `rename`. Raises LoadError."""
    renaming = Renaming()
    for pattern, value in item.mapping("rename", EXAMPLE).items():
        rule = _rule(pattern, value, item.at_key(pattern))
        if _BRACES.search(pattern):
            renaming.patterns.append(rule)
        else:
            renaming.exact[pattern] = rule
    return renaming


def _rule(pattern: str, value: Item, place: Item) -> Rule:
    names = [m[1] for m in _BRACES.finditer(pattern)]
    wrong = [n for n in names if not n.isidentifier()]
    if wrong:
        raise place.error(f"'{{{wrong[0]}}}' must hold a name here", "what is computed stands on the right")
    keys = ("name", "transpose", "slice", "gates", "reshape")
    spec = check_keys(value, keys, "a rename") if isinstance(value.value, dict) else {"name": value}
    if "name" not in spec:
        raise value.error("a rename needs 'name', that of an array of the file", "{name: fc.weight, transpose: true}")
    targets = tuple(listed(spec["name"]))
    if not targets:
        raise spec["name"].error("a weight is made of one array or more")
    for target in targets:
        if isinstance(target.value, dict):
            raise target.error("the name of an array must be a name, not a mapping", _together(targets))
        for braces in _BRACES.finditer(target.word("the name of an array")):
            for word in re.findall(r"[A-Za-z_]\w*", braces[1]):
                if word not in names and word not in Numbers.functions:
                    raise target.error(
                        f"'{{{word}}}' does not stand in '{pattern}'", "a name in braces is taken from the left"
                    )
    return Rule(pattern, _regex(pattern), targets, _how(spec), place)


def _together(targets: Sequence[Item]) -> str:
    """One mapping for arrays of which each has its own."""
    names, beside = [], "gates: ifgo"
    for target in targets:
        spec = target.value if isinstance(target.value, dict) else {"name": target}
        names.append(f"'{spec['name'].value}'" if "name" in spec else "…")
        if more := [f"{k}: {v.plain()}" for k, v in spec.items() if k != "name"]:
            beside = ", ".join(more).replace("True", "true")
    return f"one mapping for all of them: {{name: [{', '.join(names)}], {beside}}}"


def _how(spec: Mapping[str, Item]) -> dict[str, Any]:
    how: dict[str, Any] = {}
    if "transpose" in spec:
        how["transpose"] = convert(spec["transpose"], bool | tuple[int, ...], "transpose")
    if "reshape" in spec:
        how["reshape"] = convert(spec["reshape"], bool, "reshape")
    if "slice" in spec:
        how["slice"] = convert(spec["slice"], tuple[int, ...], "slice")
        if len(how["slice"]) != 2:
            raise spec["slice"].error("slice is where to begin and where to end along axis 0", "slice: [0, 512]")
    if "gates" in spec:
        how["gates"] = spec["gates"].word("gates")
        wanted = _OURS.get(len(how["gates"]), "")
        if not wanted or sorted(how["gates"].translate(_SAME)) != sorted(wanted):
            hint = "an LSTM of PyTorch has ifgo, of Keras ifco; a GRU of PyTorch rzn, of Keras zrh"
            raise spec["gates"].error(
                f"gates are four letters of an LSTM or three of a GRU, not '{how['gates']}'", hint
            )
    return how


def _regex(pattern: str) -> re.Pattern[str]:
    seen: set[str] = set()
    parts: list[str] = []
    for i, piece in enumerate(_BRACES.split(pattern)):
        if i % 2 == 0:
            parts.append(re.escape(piece))
        elif piece in seen:
            parts.append(f"(?P={piece})")
        else:
            seen.add(piece)
            parts.append(rf"(?P<{piece}>[^.]+)")
    return re.compile("".join(parts))


def _computed(text: str, captured: Mapping[str, str]) -> Any:
    """What stands in braces: a name for itself, or what is computed of numbers."""
    if text in captured:
        return captured[text]
    known = {k: int(v) if v.isdecimal() else v for k, v in captured.items()}

    def nothing(name: str) -> Any:
        raise ExprError(f"${name} has no value here")

    return evaluate(text, nothing, known.__getitem__)
