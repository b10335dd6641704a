"""YAML text -> a tree of items that know their place in the file.

The text is read as parser events only, so no tag ever constructs an object; size, nesting and aliases are bounded.
Plain scalars follow YAML 1.2's core schema: `no` and `on` are words, not booleans.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from graphc import source_files
from graphc.errors import CheckError, GraphcError, LoadError, Location
from graphc.frontends.yaml_slips import cut, not_yaml, opens, pieces, slip

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_ITEMS = 100_000  # counted after aliases are followed

MAX_NUMBER = 400  # characters of a number: the longest float64 in full has 327

DIGITS = "[0-9](?:_?[0-9])*"  # 1_000 is a thousand, as in YAML 1.1
_INT = re.compile(rf"[-+]?{DIGITS}")
_FLOAT = re.compile(rf"[-+]?(\.{DIGITS}|{DIGITS}(\.({DIGITS})?)?)([eE][-+]?[0-9]+)?")
_HALF = re.compile("[\ud800-\udfff]")  # of a character in UTF-16
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_WORDS = {"": None, "~": None, ".nan": float("nan"), ".NaN": float("nan"), ".NAN": float("nan")} | {
    form: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for form in (word, word.capitalize(), word.upper())
}


@dataclass(frozen=True)
class Item:
    """A scalar (None, bool, int, float, str), a list of items, or a dict of items, and where it stands (from 1)."""

    value: Any
    file: str
    line: int
    column: int
    keys: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # places of a dict's keys

    def source(self, path: tuple[str, ...] = ()) -> Location:
        return Location(self.file, f"line {self.line}, column {self.column}", path)

    def at_key(self, key: str) -> Item:
        """An item at the place of one of the dict's keys."""
        line, column = self.keys.get(key, (self.line, self.column))
        return Item(key, self.file, line, column)

    def of(self, value: Any, keys: Mapping[str, tuple[int, int]] | None = None) -> Item:
        """Another value at the same place."""
        return replace(self, value=value, keys=keys or {})

    def error(self, message: str, hint: str | None = None) -> LoadError:
        """An error at this place, to raise."""
        return LoadError(message, hint=hint, source=self.source())

    @property
    def kind(self) -> str:
        """What it is, in words."""
        names = {
            dict: "a mapping",
            list: "a list",
            str: "text",
            bool: "a boolean",
            int: "a whole number",
            float: "a number",
        }
        return names.get(type(self.value), "nothing")

    def plain(self) -> Any:
        """Without the places."""
        if isinstance(self.value, dict):
            return {k: v.plain() for k, v in self.value.items()}
        if isinstance(self.value, list):
            return [v.plain() for v in self.value]
        return self.value

    def mapping(self, what: str, example: str | None = None) -> dict[str, Item]:
        """The value as a dict. Raises LoadError if it is something else. example: what it may look like."""
        if not isinstance(self.value, dict):
            hint = slip(self.value) or (example and f"for example: {example}")
            raise self.error(f"{what} must be a mapping (key: value), not {self.kind}", hint)
        return self.value

    def listing(self, what: str, example: str | None = None) -> list[Item]:
        """The value as a list. Raises LoadError if it is something else."""
        if not isinstance(self.value, list):
            hint = slip(self.value) or (example and f"for example: {example}")
            raise self.error(f"{what} must be a list, not {self.kind}", hint)
        return self.value

    def word(self, what: str) -> str:
        """The value as text. Raises LoadError if it is something else."""
        if not isinstance(self.value, str) or not self.value:
            shown = f" ({self.value})" if isinstance(self.value, (int, float)) else ""
            raise self.error(f"{what} must be a name, not {self.kind}{shown}")
        return self.value


def did_you_mean(name: str, known: Any, what: str = "known") -> str | None:
    """'did you mean …?', or the list of what is known when nothing is near and the list is short."""
    known = sorted(known)
    close = get_close_matches(name, known, 2, 0.6) or [k for k in known if k.lower() == name.lower()]
    if close:
        return f"did you mean {' or '.join(repr(c) for c in close)}?"
    return f"{what}: {', '.join(known) or 'none'}" if len(known) <= 24 else None


def check_keys(
    item: Item, known: Any, what: str, explain: Callable[[str], str | None] = lambda key: None
) -> dict[str, Item]:
    """The item's dict, whose keys must all be known. Raises LoadError with what was probably meant, or one for each.
    explain: what to say of a key that is not known, if there is something to say."""
    errors: list[GraphcError] = []
    for key in item.mapping(what):
        if key in known:
            continue
        said = explain(key)
        errors.append(
            item.at_key(key).error(said)
            if said is not None
            else item.at_key(key).error(f"{what} has no '{key}'", slip(key) or did_you_mean(key, known))
        )
    if errors:
        raise errors[0] if len(errors) == 1 else CheckError(errors)
    return item.value


Report = Callable[[LoadError], None]


def raise_it(error: LoadError) -> None:
    """The report of who wants to know of the first problem only."""
    raise error


def read_file(path: str | Path, report: Report = raise_it) -> Item:
    """Parse a file. Raises LoadError if it can't be read, is too large, or is not YAML. report: see `parse`."""
    path = Path(path)
    try:
        memory = source_files.held(path)
        if memory is not None:
            return parse(memory[: MAX_BYTES + 1], str(path), report)
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise LoadError(f"can't be read: {reason}", source=Location(str(path))) from None
    return parse(data, str(path), report)


def parse(data: bytes | str, file: str = "<text>", report: Report = raise_it) -> Item:
    """Parse one YAML document. Raises LoadError with the place of what is wrong.

    report: called with those problems behind which the rest can be read all the same.
    """
    if len(data) > MAX_BYTES:
        raise LoadError(f"is larger than {MAX_BYTES >> 20} MB: no model description", source=Location(file))
    if isinstance(data, bytes):
        try:
            data = data.decode("utf-8-sig")
        except UnicodeDecodeError as e:
            raise LoadError(f"is not text: byte {e.start} is not UTF-8", source=Location(file)) from None
    return _Reader(data, file, report).document()


class _Reader:
    """Builds the items out of the parser's events."""

    def __init__(self, text: str, file: str, report: Report) -> None:
        self.file, self.report, self.count = file, report, 0
        self.anchors: dict[str, Item] = {}
        self.sizes: dict[str, int] = {}
        self.text = text
        self.events = self._events(text)
        self.ahead: list[yaml.Event] = []  # looked at already

    def _events(self, text: str) -> Iterator[yaml.Event]:
        try:
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                if isinstance(event, yaml.ScalarEvent) and _HALF.search(event.value):
                    self._join(event)
                yield event
        except yaml.MarkedYAMLError as e:
            what, hint, mark = not_yaml(e, text)
            place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else None
            raise LoadError(f"is not valid YAML: {what}", hint=hint, source=Location(self.file, place)) from None
        except yaml.YAMLError as e:
            raise LoadError(f"is not valid YAML: {str(e).splitlines()[0]}", source=Location(self.file)) from None

    def _join(self, event: yaml.ScalarEvent) -> None:
        """Make a character of every two halves, as in JSON: "\\ud83d\\ude00"."""
        pairs = event.value.encode("utf-16", "surrogatepass")
        event.value = pairs.decode("utf-16", "replace")
        if event.value.encode("utf-16") != pairs:
            mark = event.start_mark
            here = Item(None, self.file, mark.line + 1, mark.column + 1)
            self.report(here.error(r"holds half of a character: \ud800 to \udfff stand for one in pairs only"))

    def document(self) -> Item:
        next(self.events)  # start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            raise LoadError("is empty", source=Location(self.file))
        root = self.item(next(self.events), 0)
        next(self.events)  # end of the document
        if not isinstance(next(self.events), yaml.StreamEndEvent):
            raise LoadError("holds several documents: one model is one document", source=Location(self.file))
        return root

    def item(self, event: yaml.Event, depth: int) -> Item:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        here = Item(None, self.file, line, column)
        before = self.count
        self.count += 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                message = f"alias *{event.anchor} has no anchor before it, or holds itself"
                raise here.error(message, f"text that begins with * wants quotes: '*{event.anchor}'")
            self.count += self.sizes[event.anchor]
        if self.count > MAX_ITEMS:
            raise here.error(f"holds more than {MAX_ITEMS} items, aliases included")
        if depth > MAX_DEPTH:
            raise here.error(f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self.anchors[event.anchor]
        if event.tag not in (None, "!"):
            self.report(here.error(f"tag '{event.tag}' is not allowed", "the language has no tags: write plain values"))
        if isinstance(event, yaml.ScalarEvent):
            item = here.of(_scalar(event.value) if event.style is None else event.value)
            if item.value in (math.inf, -math.inf) and not _INFINITY.fullmatch(event.value):
                self.report(here.error(f"the number {event.value} is too large for a float", "write .inf for infinity"))
        elif isinstance(event, yaml.SequenceStartEvent):
            parts = self._until(yaml.SequenceEndEvent)
            item = here.of([self._whole(e, depth + 1, bool(event.flow_style)) for e in parts])
        else:
            item = self._mapping(here, depth, bool(event.flow_style))
        if event.anchor:
            self.anchors[event.anchor], self.sizes[event.anchor] = item, self.count - before
        return item

    def _next(self) -> yaml.Event:
        return self.ahead.pop() if self.ahead else next(self.events)

    def _until(self, end: type) -> Iterator[yaml.Event]:
        while not isinstance(event := self._next(), end):
            yield event

    def _whole(self, event: yaml.Event, depth: int, flow: bool, pairs: bool = False) -> Item:
        """An item of a flow collection. What commas cut to pieces inside its parentheses is reported, and read as one.

        pairs: the pieces are keys of a mapping, each without a value.
        """
        if not flow or not _is_plain(event) or not opens(event.value):
            return self.item(event, depth)
        last, end = event, event.end_mark.index
        while opens(self.text[event.start_mark.index : end]):
            piece = self._next()
            value = self._next() if pairs and _is_plain(piece) else None
            if not _is_plain(piece) or (value is not None and not (_is_plain(value) and value.value == "")):
                self.ahead += [e for e in (value, piece) if e is not None]
                return self.item(event, depth)  # what is wrong is found where it is used
            last, end = piece, piece.end_mark.index
        whole = " ".join(self.text[event.start_mark.index : last.end_mark.index].split())
        item = self.item(event, depth)
        self.report(item.error(*cut(whole)))
        parts = pieces(whole)
        return item.of(whole if parts is None else [item.of(_scalar(p)) for p in parts])

    def _mapping(self, here: Item, depth: int, flow: bool) -> Item:
        entries: dict[str, Item] = {}
        keys: dict[str, tuple[int, int]] = {}
        for event in self._until(yaml.MappingEndEvent):
            key = self.item(event, depth + 1)
            if isinstance(key.value, dict) and len(key.value) == 1 and (name := next(iter(key.value))).isidentifier():
                raise key.error(f"'{{{{{name}}}}}' is no value", f"write ${name}, without braces")
            if not isinstance(event, yaml.ScalarEvent):
                self.report(key.error(f"a key must be a name, not {key.kind}"))
                self.item(self._next(), depth + 1)
                continue
            name, value = event.value, self._whole(self._next(), depth + 1, flow, pairs=True)
            if name in entries:
                self.report(key.error(f"'{name}' is given twice", f"the first is in line {keys[name][0]}"))
            else:
                entries[name], keys[name] = value, (key.line, key.column)
        return replace(here, value=entries, keys=keys)


def _is_plain(event: yaml.Event) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.style is None


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if infinity := _INFINITY.fullmatch(text):
        return float(f"{infinity[1]}inf")
    if len(text) <= MAX_NUMBER:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text
