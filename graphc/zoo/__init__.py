"""The networks of examples/zoo, which are installed with graphc: 'zoo:resnet50' names one where a model's file can be named."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from graphc.errors import InputError

PREFIX = "zoo:"
PAGES = Path(__file__).parents[1] / "examples" / "zoo"
NUMBERS = Path(__file__).with_name("networks.json")  # written by docs/zoo.py

_SENTENCE = re.compile(r"(?<=\.)\s+|(?<=\.\))\s+")
_COUNT = re.compile(r"[\d,]+ parameters\b")
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})")


@dataclass(frozen=True)
class Network:
    """A page, and what docs/zoo.py found out when it planned the network for one example.

    digest      of the page without its comments, as it was then
    files       beside the page, which it reads
    sizes       of dims that the page leaves open, in that example; of all others 1
    shapes      of its inputs
    parameters  learned numbers
    macs        multiply-adds of one run; None where data decides how many
    arena       bytes of the block that holds every intermediate value on target cpu
    later       nodes that are planned when data has decided their shapes; their memory comes on top
    host        what runs in NumPy there, with the reasons
    """

    name: str
    group: str
    digest: str
    files: tuple[str, ...]
    sizes: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    parameters: int
    macs: int | None
    arena: int
    later: int
    host: tuple[str, ...]

    @cached_property
    def page(self) -> Page:
        return Page(self.path.read_text(encoding="utf-8"))

    @property
    def path(self) -> Path:
        return PAGES / f"{self.name}.yaml"

    @property
    def beside(self) -> tuple[Path, ...]:
        """The other files that it reads."""
        return tuple(PAGES / name for name in self.files)

    @property
    def options(self) -> str:
        """What commands need to run the example."""
        if not self.sizes:
            return ""
        return "".join(f" --shape {name}={','.join(map(str, shape))}" for name, shape in self.shapes.items())

    @property
    def current(self) -> bool:
        """Are the numbers those of the page as it is?"""
        return self.digest == self.page.digest

    def figures(self) -> dict[str, Any]:
        """What was found out."""
        return {name: value for name, value in asdict(self).items() if name not in ("name", "group", "digest")}

    @property
    def words(self) -> str:
        """What a search for it looks at."""
        return f"{self.group} {self.name} {self.page.comment}".lower()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Network:
        given = {f.name: entry[f.name] for f in fields(cls)}
        shapes = {name: tuple(shape) for name, shape in given["shapes"].items()}
        return cls(**given | {"shapes": shapes, "files": tuple(given["files"]), "host": tuple(given["host"])})


@dataclass(frozen=True)
class Page:
    """What the text of a page tells."""

    text: str

    @property
    def comment(self) -> str:
        """The comment that it begins with, in one line."""
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.lstrip("#").strip())
        return " ".join(lines)

    @property
    def title(self) -> str:
        """Its first sentence, without the full stop."""
        return _SENTENCE.split(self.comment)[0].removesuffix(".")

    @property
    def source(self) -> str:
        """What follows the title, up to the sentence that counts the parameters."""
        sentences = _SENTENCE.split(self.comment)[1:]
        counted = (i for i, s in enumerate(sentences) if _COUNT.match(s))
        return " ".join(sentences[: next(counted, len(sentences))])

    @property
    def papers(self) -> tuple[str, ...]:
        """Numbers of arXiv."""
        return tuple(dict.fromkeys(ARXIV.findall(self.comment)))

    @property
    def digest(self) -> str:
        """Of all but lines of comments."""
        lines = [line for line in self.text.splitlines() if not line.lstrip().startswith("#")]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def names() -> list[str]:
    """Of all pages, by the alphabet."""
    return sorted(path.stem for path in PAGES.glob("*.yaml"))


def path_of(name: str) -> Path:
    """The page of a network. Raises InputError where there is none of that name."""
    known = names()
    if name not in known:
        close = get_close_matches(name.lower().replace("-", "_"), known, 1)
        guess = f"did you mean '{PREFIX}{close[0]}'? " if close else ""
        if name.isidentifier() and (PAGES.parent / name / "run.py").is_file():
            guess = f"it is an example: `graphc init {name}` copies it. "
        raise InputError(f"the zoo has no network '{name}'", hint=f"{guess}`graphc zoo` lists all {len(known)}")
    return PAGES / f"{name}.yaml"


def resolved(source: Any) -> Any:
    """The path of the page where `source` is 'zoo:NAME', else what it is. Raises InputError."""
    if isinstance(source, str) and source.startswith(PREFIX):
        return path_of(source[len(PREFIX) :])
    return source


def networks(words: Sequence[str] = ()) -> list[Network]:
    """Group by group in the order of textbooks, those only that have all of the words in their group, name or comment."""
    entries = json.loads(NUMBERS.read_text(encoding="utf-8"))
    found = map(Network.from_json, entries)
    wanted = [word.lower().removeprefix(PREFIX) for word in words]
    return [n for n in found if all(word in n.words for word in wanted)]


def network(name: str) -> Network:
    """That of a name, with or without 'zoo:'. Raises InputError where there is none."""
    path = path_of(name.removeprefix(PREFIX))
    for found in networks():
        if found.path == path:
            return found
    raise InputError(
        f"nothing is known of '{path.stem}' yet", hint="add it to examples/index.yaml, run: python docs/zoo.py"
    )
