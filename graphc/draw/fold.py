"""From parts in scopes to boxes in frames: what is stacked, drawn once, or folded to one box."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from graphc.draw.boxes import Box, Edge, Element, Frame, Picture
from graphc.draw.kinds import Kind
from graphc.draw.labels import type_text
from graphc.draw.parts import Part, Scope
from graphc.draw.runs import Late, fold_runs
from graphc.graph import Value

MOST_BOXES = 60  # that 'auto' lets a picture have, where folding can help
FOLDS = ("auto", "all", "none")
_LIGHT = (Kind.ACTIVATION, Kind.ARITHMETIC, Kind.NORM)  # stand below what they are applied to
_ENDS = {Kind.PORT, Kind.CONTROL}  # of graphs
_HEAVY = (Kind.CONV, Kind.PRODUCT, Kind.RECURRENT, Kind.POOL)  # a folded box tells how many there are

Joins = Callable[[Part, Part], bool]


def picture_of(root: Scope, fold: str, most: int = MOST_BOXES) -> Picture:
    """fold: 'none' draws each part; 'auto' and 'all' stack what is applied to a value in passing and draw once what
    repeats; 'all' makes each outermost frame a box, 'auto' inner ones until there are no more than `most`."""
    folder = _Folder(root, None if fold == "none" else _in_passing, runs=fold != "none")
    frame = Frame("", folder.elements(root))
    if fold == "all":
        frame.items = [folded(item) if isinstance(item, Frame) else item for item in frame.items]
    elif fold == "auto":
        _fold_to(frame, most)
    return Picture(root.label, frame, list(_edges(frame, folder.late)))


def picture_of_groups(root: Scope) -> Picture:
    """Scopes as they are, with what forms a chain in one of them stacked."""
    folder = _Folder(root, lambda above, below: not {above.kind, below.kind} & _ENDS, runs=False)
    frame = Frame("", folder.elements(root, stack=False))
    return Picture(root.label, frame, list(_edges(frame, folder.late)))


def _in_passing(above: Part, below: Part) -> bool:
    """Is it applied to each element of a result, or nearly so?"""
    same = len(below.makes) == 1 and type_text(above.makes[0]) == type_text(below.makes[0])
    return same and below.kind in _LIGHT and above.kind not in _ENDS


# --- elements ---------------------------------------------------------------------------------------------------------
class _Folder:
    """joins: whether a part stands below the other where it alone reads it. runs: what repeats is drawn once."""

    def __init__(self, root: Scope, joins: Joins | None, runs: bool) -> None:
        self.joins, self.runs = joins, runs
        self.late: Late = {}
        self.place = {part: i for i, part in enumerate(root.parts())}
        self.readers = Counter(v for part in self.place for v in part.reads)

    def elements(self, scope: Scope, stack: bool = True) -> list[Element]:
        out: list[Element] = []
        for item in scope.items:
            if isinstance(item, Part):
                out.append(Box([item], [item], name=item.name))
                continue
            inner = self.elements(item)
            if len(inner) == 1 and not item.whole:
                inner[0].name = item.path
                out.append(inner[0])
            elif inner:
                label = item.label if item.whole or len(inner) >= item.least else ""
                out.append(Frame(label, inner, name=item.path))
        if self.runs:
            out = fold_runs(out, self.late, lambda e: isinstance(e, Frame))
        out = list(_spliced(out))
        if self.joins is not None and stack:
            out = self._stacked(out, self.joins)
        return fold_runs(out, self.late, lambda e: isinstance(e, Box)) if self.runs else out

    def _stacked(self, elements: Sequence[Element], joins: Joins) -> list[Element]:
        """Boxes below those that they alone read, and nothing else."""
        free = {e: self.place[e.rows[0]] for e in elements if isinstance(e, Box) and e.count == 1}
        makers = {box.rows[-1].makes: box for box in free}
        below: dict[Box, Box] = {}
        for box in sorted(free, key=free.__getitem__):
            reads = box.rows[0].reads
            above = makers.get(reads)
            alone = above is not None and len(reads) == 1 and self.readers[reads[0]] == 1
            if above is not None and alone and joins(above.rows[-1], box.rows[0]):
                below[box] = above
        for box, above in below.items():
            while above in below:
                above = below[above]
            above.rows += box.rows
            above.covers += box.covers
        return [e for e in elements if e not in below]


def _spliced(elements: Iterable[Element]) -> Iterator[Element]:
    """A frame without a title is none."""
    for element in elements:
        if isinstance(element, Frame) and not element.title:
            yield from element.items
        else:
            yield element


# --- folding ----------------------------------------------------------------------------------------------------------
def folded(frame: Frame) -> Box:
    """One box for a frame."""
    covers = [part for box in frame.boxes() for part in box.covers]
    last = frame.name.rpartition(".")[2]
    label = frame.label or ("block" if not last or last.isdigit() else last)
    return Box([part for box in frame.boxes() for part in box.rows], covers, label, frame.count, frame.name)


def summary(box: Box) -> str:
    """What a folded box holds: '3 Conv, 1 MaxPool'."""
    counts = Counter(part.title for part in box.covers if part.kind in _HEAVY)
    if not counts:
        return f"{len(box.covers) // box.count} operators"
    some = ", ".join(f"{n // box.count} {title}" for title, n in counts.most_common(3))
    return f"{some}, …" if len(counts) > 3 else some


def _fold_to(root: Frame, most: int) -> None:
    """Fold inner frames first, those of one label together, but for the first of them as long as there is room for it."""
    for keep in (1, 0):
        while sum(1 for _ in root.boxes()) > most:
            groups: dict[tuple[int, str], list[tuple[Frame, Frame]]] = defaultdict(list)
            for depth, parent, frame in _leaves(root, 0):
                groups[depth, frame.stem].append((parent, frame))
            groups = {key: group[keep:] for key, group in groups.items() if group[keep:]}
            if not groups:
                break
            chosen = max(groups, key=lambda key: (key[0], sum(len(frame.items) for _, frame in groups[key])))
            for parent, frame in groups[chosen]:
                parent.items[parent.items.index(frame)] = folded(frame)


def _leaves(frame: Frame, depth: int) -> Iterator[tuple[int, Frame, Frame]]:
    """Frames without frames inside: depth, parent and frame."""
    for item in frame.items:
        if isinstance(item, Frame):
            if any(item.frames()):
                yield from _leaves(item, depth + 1)
            else:
                yield depth, frame, item


# --- edges ------------------------------------------------------------------------------------------------------------
def _edges(root: Frame, late: Late) -> Iterator[Edge]:
    """One from box to box where any part of one reads what a part of the other makes; what goes from one copy of a run to
    the next has none. The first to read a value has an edge with its type."""
    around = dict(_around(root, ()))
    makers: dict[Value, list[tuple[Box, Part]]] = defaultdict(list)  # both ways of an If make its results
    for box in around:
        for part in box.covers:
            for v in part.makes:
                makers[v].append((box, part))
    labels: dict[tuple[Box, Box], list[str]] = {}
    told: set[Value] = set()
    for target in around:
        for part in target.covers:
            for v in part.reads:
                found = [source for source, made in makers[v] if _shown(source, made, target, part, around, late)]
                for source in found:
                    labels.setdefault((source, target), []).extend([] if v in told else [type_text(v)])
                told.update([v] if found else [])
    for (source, target), texts in labels.items():
        yield Edge(source, target, "\n".join(dict.fromkeys(text for text in texts if text)))


def _around(frame: Frame, frames: tuple[Frame, ...]) -> Iterator[tuple[Box, tuple[Frame, ...]]]:
    for item in frame.items:
        if isinstance(item, Box):
            yield item, frames
        else:
            yield from _around(item, (*frames, item))


def _shown(source: Box, made: Part, target: Box, read: Part, around: dict[Box, tuple[Frame, ...]], late: Late) -> bool:
    """Is it between two boxes, and not inside a run but for the copy that is drawn? (Copies are alike.)"""
    common = {*around[source]} & {*around[target]}
    return source is not target and not any(frame in late.get(part, ()) for part in (made, read) for frame in common)
