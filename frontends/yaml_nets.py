"""The nets of a file: several under `nets`, or the one that its sections describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from graphc.errors import GraphcError, LoadError, Location, NoNetError
from graphc.frontends.yaml_catalog import BlockDefinition, Scope, check_name
from graphc.frontends.yaml_operators import listed
from graphc.frontends.yaml_problems import Problems
from graphc.frontends.yaml_sections import CALLED, EXAMPLES, OF_A_NET, SHARED, section_for
from graphc.frontends.yaml_syntax import Item, check_keys, did_you_mean


@dataclass(frozen=True)
class Net:
    """One net: its sections (`inputs`, `net`, `outputs`), and where they stand. name: '' where the file has no other."""

    name: str
    item: Item
    sections: Mapping[str, Item]

    @property
    def path(self) -> str:
        """What begins the names of its nodes and weights."""
        return self.name or "net"

    @property
    def steps(self) -> list[Item]:
        """Its lists of steps."""
        prepared = self.sections.get("preprocess")
        entries = prepared.value.values() if prepared is not None and isinstance(prepared.value, dict) else ()
        net = self.sections.get("net")
        return [*entries, *([] if net is None or _is_empty(net) else [net])]

    @property
    def is_whole(self) -> bool:
        """Has it all that a net must have?"""
        return "inputs" in self.sections and "net" in self.sections and not _is_empty(self.sections["net"])

    @property
    def missing(self) -> list[GraphcError]:
        """What is said of the sections that it must have, and has not; nothing of those that go by another name."""
        what = f"net '{self.name}'" if self.name else "a model"
        meant = {CALLED.get(k) for k in (self.item.value if isinstance(self.item.value, dict) else ())}
        missing = [k for k in ("inputs", "net") if k not in self.sections]
        empty = "net" in self.sections and _is_empty(self.sections["net"])
        found: list[GraphcError] = [
            self.item.error(f"{what} needs '{k}'", EXAMPLES[k]) for k in missing if k not in meant
        ]
        return [*found, *([self.sections["net"].error("the net has no steps", EXAMPLES["net"])] if empty else [])]

    @property
    def block(self) -> BlockDefinition:
        """The net as a step of another. Its sections are those that it must have."""
        inputs, outputs = self.sections["inputs"], self.sections.get("outputs")
        entries = inputs.value if isinstance(inputs.value, dict) else {}
        prepared = self.sections["preprocess"].value if "preprocess" in self.sections else {}
        takes = {k: v for k, v in entries.items() if not isinstance(prepared, dict) or k not in prepared}
        named = (
            [] if outputs is None else outputs.value.values() if isinstance(outputs.value, dict) else listed(outputs)
        )
        return BlockDefinition(
            self.name, self.item, {}, tuple(entries), tuple(named), self.sections["net"], net=True, takes=takes
        )


def _is_empty(net: Item) -> bool:
    return net.value in (None, [], {})


def is_shared(spec: Mapping[str, Item]) -> bool:
    """Is it a file for others to include, which needs no net?"""
    return spec.keys() <= set(SHARED) and ("blocks" in spec or "defaults" in spec)


def no_net(root: Item, spec: Mapping[str, Item]) -> NoNetError:
    """What is said of a file for others to include, where a model is wanted."""
    blocks = spec["blocks"].value if "blocks" in spec else {}
    held = f"{len(blocks)} block{'s' * (len(blocks) != 1)}" if blocks else "defaults"
    hint = "include it in a model, a file with inputs and net: include: FILE"
    return NoNetError(f"holds only {held}, for other files to include", hint=hint, source=Location(root.file))


def read_nets(root: Item, spec: Mapping[str, Item], problems: Problems) -> list[Net]:
    """In the order of the file; none of a file for others to include."""
    if is_shared(spec):
        return []
    if "nets" not in spec:
        only = Net("", root, {k: v for k, v in spec.items() if k in OF_A_NET})
        for problem in only.missing:
            problems.add(problem)
        return [only]
    for key in OF_A_NET:
        if key in spec:
            problems.add(root.at_key(key).error(f"beside 'nets' there is no '{key}'", "write it into one of the nets"))
    found = []
    with problems.attempt():
        entries = spec["nets"].mapping("nets")
        if not entries:
            raise spec["nets"].error("nets needs at least one net")
        for name, item in entries.items():
            place = spec["nets"].at_key(name)
            with problems.attempt():
                check_name(name, f"net '{name}'", place)
                if not name.isidentifier():
                    raise place.error(f"'{name}' can't be the name of a net", "letters, digits and _")
                net = Net(name, item, item.mapping(f"net '{name}'"))
                found.append(net)
                check_keys(item, ("doc", *OF_A_NET), f"net '{name}'", partial(section_for, what="a net"))
                for problem in net.missing:
                    problems.add(problem)
    return found


def add_nets(scope: Scope, nets: list[Net], problems: Problems) -> None:
    """Let steps of the file name its nets."""
    for net in nets:
        if not net.name:
            continue
        with problems.attempt():
            other = scope.blocks.get(net.name)
            if other is not None:
                place = scope.spec["nets"].at_key(net.name)
                where = f"line {other.item.line} of {other.item.file}"
                raise place.error(f"net '{net.name}' has the name of the block in {where}", "choose another name")
            if not net.is_whole:
                scope.lost.add(net.name)
            else:
                scope.add(net.block)


def chosen(nets: list[Net], name: str | None, root: Item) -> Net:
    """The net of that name, the first one where none is given. Raises LoadError."""
    if name is None:
        return nets[0]
    names = [net.name for net in nets if net.name]
    if not names:
        raise root.error(
            f"the file has one net, which has no name, and no net '{name}'", "leave out the choice of a net"
        )
    if name not in names:
        raise LoadError(
            f"the file has no net '{name}'", hint=did_you_mean(name, names, "its nets"), source=Location(root.file)
        )
    return next(net for net in nets if net.name == name)
