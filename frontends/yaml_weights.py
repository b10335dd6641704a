"""Where weights come from: a seed, or a safetensors or npz file beside the model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import permutations
from typing import Protocol

import numpy as np

from graphc.errors import GraphcError
from graphc.frontends.yaml_rename import GATES, LayoutError, Recipe, Renaming, read_renaming
from graphc.frontends.yaml_stores import DAMAGE, Store, open_store, path_of
from graphc.frontends.yaml_syntax import Item, check_keys, did_you_mean
from graphc.source_files import Folder

INITS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {}
SIDES = "on the left stands the model's name, on the right the file's"
COUNTERS = "*num_batches_tracked"  # of PyTorch's batch normalisation, which only training reads
MAX_ELEMENTS = 1 << 30  # of one weight, and of all random ones together: a guard against typing errors


def init(name: str) -> Callable:
    """Register a way to draw a weight: (generator, shape) -> float32 array."""

    def add(draw: Callable) -> Callable:
        INITS[name] = draw
        return draw

    return add


def _normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> np.ndarray:
    data = rng.standard_normal(shape, dtype=np.float32)
    data *= np.float32(std)
    return data


@init("he")
def _he(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 2/fan_in), fan_in = all axes but the first (He et al. 2015, arXiv:1502.01852)."""
    return _normal(rng, shape, math.sqrt(2 / max(1, math.prod(shape[1:]))))


@init("lecun")
def _lecun(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """N(0, 1/fan_in): keeps the variance where no rectifier follows."""
    return _normal(rng, shape, math.sqrt(1 / max(1, math.prod(shape[1:]))))


@init("he_transposed")
def _he_transposed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """He for weights [in, out, …] of transposed convolutions, whose stride is taken to be 2."""
    return _normal(rng, shape, math.sqrt(2 / max(1, shape[0] * math.prod(k / 2 for k in shape[2:]))))


@init("embedding")
def _embedding(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return _normal(rng, shape, 1.0)


@init("small")
def _small(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return _normal(rng, shape, 0.05)


@init("recurrent")
def _recurrent(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """U(-1, 1)/sqrt(last axis), as is usual for recurrent cells."""
    return (rng.random(shape, dtype=np.float32) * 2 - 1) / np.float32(math.sqrt(max(1, shape[-1])))


@init("around_one")
def _around_one(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """U(0.5, 1.5): scales and variances of normalisation."""
    return rng.random(shape, dtype=np.float32) + np.float32(0.5)


@init("below_one")
def _below_one(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """U(0.5, 1): scales of normalisation in residuals."""
    return rng.random(shape, dtype=np.float32) / np.float32(2) + np.float32(0.5)


class Weights(Protocol):
    """A source of weights."""

    def get(self, name: str, shape: tuple[int, ...], dtype: np.dtype, init: str, where: Item) -> np.ndarray:
        """The weight of that name. Problems are kept for `problems`, and zeros returned."""

    def source(self, name: str) -> str:
        """Where the weight of that name comes from, in words."""

    def unused(self, others: Collection[str] = ()) -> dict[str, tuple[int, ...]]:
        """Shapes of what a file holds and no weight needs, by name. others: see `problems`."""

    def problems(self, complete: bool, others: Collection[str] = ()) -> list[GraphcError]:
        """Everything that was wrong. complete: all weights of the model have been asked for, but those of other nets, whose
        names begin the names of their weights."""


def generator(seed: int, name: str) -> np.random.Generator:
    """For the weight of that name."""
    key = hashlib.blake2s(f"{seed}:{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(key, "little")))


class SeededWeights:
    """Random weights: each is a function of (seed, name, shape), so that a new layer leaves the others alone."""

    def __init__(self, seed: int) -> None:
        self.seed, self.total = seed, 0

    def get(self, name: str, shape: tuple[int, ...], dtype: np.dtype, init: str, where: Item) -> np.ndarray:
        before, self.total = self.total, self.total + math.prod(shape)
        if before > MAX_ELEMENTS:  # told already
            return np.broadcast_to(np.zeros((), dtype), shape)
        if self.total > MAX_ELEMENTS:
            raise where.error(f"the net has more than {MAX_ELEMENTS} random weights", "check the sizes of its layers")
        return INITS[init](generator(self.seed, name), shape).astype(dtype, copy=False)

    def source(self, name: str) -> str:
        return f"seed {self.seed}"

    def unused(self, others: Collection[str] = ()) -> dict[str, tuple[int, ...]]:
        return {}

    def problems(self, complete: bool, others: Collection[str] = ()) -> list[GraphcError]:
        return []


class FileWeights:
    """Weights from a file; floating dtypes are converted to the model's. ignored: patterns of names that no weight needs."""

    def __init__(self, store: Store, where: Item, renaming: Renaming, ignored: Sequence[str] = ()) -> None:
        self.store, self.where, self.renaming, self.ignored = store, where, renaming, (*ignored, COUNTERS)
        self.missing: dict[str, tuple[str, tuple[int, ...], Item, Recipe]] = {}  # by the names in the file
        self.wrong: list[GraphcError] = []
        self.asked: dict[str, tuple[int, ...]] = {}
        self.used: set[str] = set()
        self.misshapen: set[str] = set()

    def get(self, name: str, shape: tuple[int, ...], dtype: np.dtype, init: str, where: Item) -> np.ndarray:
        self.asked[name] = shape
        try:
            recipe = self.renaming.recipe(name)
        except GraphcError as e:
            self.wrong.append(e)
            return np.zeros(shape, dtype)
        lost = [n for n in recipe.names if n not in self.store.shapes]
        for n in lost:
            self.missing[n] = (name, shape, where, recipe)
        self.used.update(recipe.names)
        if lost:
            return np.zeros(shape, dtype)
        try:
            data = self._made(recipe, shape)
        except LayoutError as e:
            self.misshapen.add(name)
            message = f"weight '{name}' wants shape {list(shape)}: {e}"
            if recipe == Recipe((name,)):
                message = f"weight {self._shown(recipe)} in {self.store.name}, not {list(shape)}"
            self.wrong.append((recipe.place or where).error(message, self._turned(recipe, shape, str(where.value))))
            return np.zeros(shape, dtype)
        except DAMAGE as e:
            self.wrong.append(where.error(f"weight '{name}' can't be read from {self.store.name}: {e}"))
            return np.zeros(shape, dtype)
        if data.dtype != dtype and (data.dtype.kind in "biuc" or dtype.kind != "f"):
            self.wrong.append(where.error(f"weight '{name}' is {data.dtype} in {self.store.name}, not {dtype}"))
        return np.ascontiguousarray(data, dtype)

    def source(self, name: str) -> str:
        try:
            recipe = self.renaming.recipe(name)
        except GraphcError:  # which is among the problems
            return f"no array of {self.store.name}"
        lost = [n for n in recipe.names if n not in self.store.shapes]
        if lost:
            return f"missing in {self.store.name}" + (f": {', '.join(lost)}" if lost != [name] else "")
        shown = f"{self.store.name}: {' + '.join(recipe.names)}"
        return f"{shown}, {_listed(self._shapes(recipe))}" if name in self.misshapen else shown

    def unused(self, others: Collection[str] = ()) -> dict[str, tuple[int, ...]]:
        left = (n for n in sorted(self.store.shapes) if n not in self.used and not self._is_ignored(n))
        return {
            n: self.store.shapes[n]
            for n in left
            if n.partition(".")[0] not in others and not self.renaming.may_read(n, others)
        }

    def _made(self, recipe: Recipe, shape: tuple[int, ...]) -> np.ndarray:
        """Raises LayoutError where the shape is another, before anything is read where that can be told."""
        found = [self.store.shapes[n] for n in recipe.names]
        if not recipe.slice and sum(map(math.prod, found)) != math.prod(shape) or recipe.is_plain and found[0] != shape:
            raise LayoutError(f"{self._shown(recipe)} in {self.store.name}")
        made = recipe.make([self.store.read(n) for n in recipe.names], shape)
        if made.shape != shape:
            raise LayoutError(f"{self._shown(recipe)} in {self.store.name}, of which {list(made.shape)} is made")
        return made

    def _shown(self, recipe: Recipe) -> str:
        names = [f"'{n}'" for n in recipe.names]
        verb = "has shape" if len(names) == 1 else "have shapes"
        return f"{_listed(names)} {verb} {_listed(self._shapes(recipe))}"

    def _shapes(self, recipe: Recipe) -> list[str]:
        return [str(list(self.store.shapes[n])) for n in recipe.names]

    def _turned(self, recipe: Recipe, shape: tuple[int, ...], layer: str) -> str | None:
        """What makes arrays of the same elements fit, in a layer of that name."""
        name, found = recipe.names[0], self.store.shapes[recipe.names[0]]
        if recipe != Recipe(recipe.names, recipe.place):
            return None
        if sum(math.prod(self.store.shapes[n]) for n in recipe.names) != math.prod(shape):
            return None
        shown = name if recipe.is_plain else f"[{', '.join(recipe.names)}]"
        if layer in GATES:
            return f"its gates are in another order in other frameworks: {{name: {shown}, gates: {GATES[layer][0]}}} " \
                f"({GATES[layer][1]})"  # fmt: skip
        if not recipe.is_plain:
            return f"if the elements are in the right order: {{name: {shown}, reshape: true}}"
        if found == shape[::-1]:
            return f"another framework's layout: {{name: {name}, transpose: true}}"
        orders = (
            [p for p in permutations(range(len(found))) if tuple(found[a] for a in p) == shape]
            if len(found) < 6
            else []
        )
        if len(found) == 4 and (3, 2, 0, 1) in orders:
            orders = [(3, 2, 0, 1)]  # Keras: [h, w, in, out]
        if orders:
            return f"another framework's layout: {{name: {name}, transpose: {list(orders[0])}}}"
        return f"if the elements are in the right order: {{name: {name}, reshape: true}}"

    def problems(self, complete: bool, others: Collection[str] = ()) -> list[GraphcError]:
        extra = self.unused(others)
        if complete and self.asked and len(self.missing) > 2 and not self.used & self.store.shapes.keys():
            left = self.unused()
            ours, theirs = (", ".join(f"{n} {list(s)}" for n, s in [*d.items()][:2]) for d in (self.asked, left))
            rules = self._rules_for_nothing(others)
            if any(e.hint == SIDES for e in rules):
                return rules
            return [*rules, self.where.error(f"{self.store.name} has none of the {len(self.asked)} weights of the model: it holds {theirs} …, "
                f"and the model wants {ours} …", "say which is which by `rename`; `graphc show --weights` lists them")]  # fmt: skip
        out = list(self.wrong)
        for name, (ours, shape, where, recipe) in self.missing.items():
            called = f" (weight '{ours}')" if name != ours else ""
            hint = _near(name, shape if recipe.is_plain else None, extra)
            out.append(
                (recipe.place or where).error(
                    f"weight '{name}' {list(shape)} is missing in {self.store.name}{called}", hint
                )
            )
        if complete:
            out += self._rules_for_nothing(others)
        wanted = {n: shape for n, (_, shape, _, _) in self.missing.items()}
        for name, shape in extra.items() if complete else ():
            hint = _near(name, shape, wanted)
            hint = (
                hint
                or "name it under `ignore`, remove it from the file, or the layer that it was for is missing in the model"
            )
            out.append(
                self.where.error(f"{self.store.name} holds '{name}' {list(shape)}, which no layer asks for", hint)
            )
        return out

    def _rules_for_nothing(self, others: Collection[str]) -> list[GraphcError]:
        """What is said of the rules of `rename` that no weight came by."""
        found: list[GraphcError] = []
        for rule in self.renaming.unused(others):
            turned = any(rule.regex.fullmatch(n) for n in self.store.shapes)
            hint = SIDES if turned else _near(rule.pattern, None, self.asked)
            found.append(rule.place.error(f"no weight is named '{rule.pattern}'", hint))
        return found

    def _is_ignored(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.ignored)


def _listed(parts: Sequence[str]) -> str:
    """'a, b and c'."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _near(name: str, shape: tuple[int, ...] | None, others: Mapping[str, tuple[int, ...]]) -> str | None:
    """Names that are like it, of those with its shape first."""
    alike = {n for n, s in others.items() if shape is not None and s == shape}
    for known, least in ((alike, 0.6), (others, 0.6 if shape is None else 0.85)):
        if close := get_close_matches(name, known, 2, least):
            shown = " or ".join(f"'{c}' {list(others[c])}" for c in close)
            return f"did you mean {shown}?"
    return f"of that shape: '{next(iter(alike))}'" if len(alike) == 1 else None


def open_weights(item: Item | None, folder: Folder | None) -> Weights:
    """The `weights:` section: {seed: 0} (also the default) or {file: name, rename: …, ignore: …}. Raises LoadError.

    A file must lie inside the model's folder, or where links of a download cache lead, and end in .safetensors or .npz.
    """
    if item is None:
        return SeededWeights(0)
    item.mapping("weights", f"weights: {{file: {item.value}}}" if isinstance(item.value, str) else "weights: {seed: 0}")
    spec = check_keys(item, ("seed", "file", "rename", "ignore"), "weights")
    if ("seed" in spec) == ("file" in spec):
        raise item.error("weights takes either 'seed' or 'file'", "{seed: 0} or {file: model.safetensors}")
    if "seed" in spec:
        for key in ("rename", "ignore"):
            if key in spec:
                raise item.at_key(key).error(
                    f"'{key}' is for weights of a file", "{file: model.safetensors, rename: …}"
                )
        seed = spec["seed"].value
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise spec["seed"].error(f"seed must be a whole number, not {seed!r}")
        return SeededWeights(seed)
    where = spec["file"]
    ignored = spec["ignore"].listing("ignore", "ignore: ['head.*']") if "ignore" in spec else []
    patterns = [i.word("a name to ignore") for i in ignored]
    renaming = read_renaming(spec["rename"]) if "rename" in spec else Renaming()
    store = open_store(path_of(where, folder, (".safetensors", ".npz")), where)
    for i, pattern in zip(ignored, patterns):
        if not any(fnmatchcase(n, pattern) for n in store.shapes):
            raise i.error(f"{store.name} holds nothing named '{pattern}'", did_you_mean(pattern, store.shapes))
    return FileWeights(store, where, renaming, patterns)
