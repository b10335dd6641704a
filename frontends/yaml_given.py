"""Weights that a step gives itself: written out, drawn in a way of its own, or from a file.

`weights: {weight: [[1, 1]], bias: zeros}`, `{weight: {init: uniform, low: 0, high: 1, seed: 3}}`, `{weight: {file: w.npy}}`
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc.frontends.yaml_args import computed, convert, is_number
from graphc.frontends.yaml_literals import read_literal
from graphc.frontends.yaml_stores import DAMAGE, open_store, path_of
from graphc.frontends.yaml_syntax import Item, check_keys, did_you_mean
from graphc.frontends.yaml_weights import generator
from graphc.source_files import Folder

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape, dict[str, float]], np.ndarray]


def _fans(shape: Shape) -> tuple[int, int]:
    """What goes into an output and out of an input: axis 1 and axis 0, each times the axes of a kernel."""
    kernel = math.prod(shape[2:])
    return (shape[1] * kernel if len(shape) > 1 else shape[0], shape[0] * kernel) if shape else (1, 1)


def _identity(rng: np.random.Generator, shape: Shape, args: dict[str, float]) -> np.ndarray:
    """Of a matrix; of a convolution's weights, at the centre of the kernel: each channel to itself."""
    made = np.zeros(shape, np.float32)
    for i in range(min(shape[:2])):
        centre = tuple((k - 1) // 2 for k in shape[2:])
        made[(i, i) + centre] = 1
    return made


def _uniform(rng: np.random.Generator, shape: Shape, args: dict[str, float]) -> np.ndarray:
    return rng.uniform(args["low"], args["high"], shape).astype(np.float32)


# name -> (arguments with defaults, how)
INITS: dict[str, tuple[dict[str, float], Draw]] = {
    "zeros": ({}, lambda rng, shape, args: np.zeros(shape, np.float32)),
    "ones": ({}, lambda rng, shape, args: np.ones(shape, np.float32)),
    "identity": ({}, _identity),
    "uniform": ({"low": -1, "high": 1}, _uniform),
    "normal": ({"mean": 0, "std": 1}, lambda rng, shape, a: rng.normal(a["mean"], a["std"], shape).astype(np.float32)),
    # N(0, 2/fan_in) (He et al. 2015, arXiv:1502.01852)
    "he": ({}, lambda rng, shape, args: rng.normal(0, math.sqrt(2 / _fans(shape)[0]), shape).astype(np.float32)),
    # U(-a, a), a² = 6/(fan_in + fan_out) (Glorot, Bengio 2010)
    "xavier": ({}, lambda rng, shape, args: rng.uniform(-1, 1, shape).astype(np.float32) * _glorot(shape)),
}
ELSEWHERE = {  # how they are called here
    **dict.fromkeys(("glorot", "glorot_uniform", "glorotuniform", "xavier_uniform", "xavier_uniform_"), "xavier"),
    **dict.fromkeys(("kaiming", "kaiming_normal", "kaiming_normal_", "he_normal", "henormal"), "he"),
    **dict.fromkeys(("gaussian", "random_normal", "randomnormal", "randn"), "normal"),
    **dict.fromkeys(("random", "random_uniform", "randomuniform", "rand"), "uniform"),
    **dict.fromkeys(("zero", "zeros_"), "zeros"),
    **dict.fromkeys(("one", "ones_"), "ones"),
    **dict.fromkeys(("eye", "dirac"), "identity"),
}


def _glorot(shape: Shape) -> np.float32:
    return np.float32(math.sqrt(6 / sum(_fans(shape))))


def given_array(item: Item, folder: Folder | None) -> np.ndarray | None:
    """A value that has a shape of its own: a list, or an array of a file; None where the layer says which. Raises LoadError."""
    if isinstance(item.value, dict) and "value" in item.value:
        check_keys(item, ("value",), "a weight that is written out")
        return given_array(item.value["value"], folder)
    if isinstance(item.value, list):
        return read_literal(item).array(np.float32)
    if isinstance(item.value, dict) and "file" in item.value:
        return _read(item, folder)
    return None


def given_weight(item: Item, name: str, shape: Shape, dtype: np.dtype, seed: int, folder: Folder | None) -> np.ndarray:
    """The weight `name` as the step gives it, of the shape that the layer wants. seed: of the model. Raises LoadError."""
    array = given_array(item, folder)
    if array is not None:
        if array.shape != shape:
            raise item.error(f"weight '{name}' has shape {list(array.shape)} here, the layer wants {list(shape)}")
        return array.astype(dtype)
    if isinstance(item.value, dict) and "value" in item.value:
        item = item.value["value"]
    if is_number(computed(item)):
        return np.full(shape, read_literal(item).array(dtype))
    return _drawn(item, name, shape, seed).astype(dtype)


def _drawn(item: Item, name: str, shape: Shape, seed: int) -> np.ndarray:
    how, given = (
        (item.value["init"], item.value) if isinstance(item.value, dict) and "init" in item.value else (item, {})
    )
    word = how.word("a weight's init") if not isinstance(how.value, dict) else ""
    if word not in INITS:
        hint = "a list, a number, {init: …} or {file: …}" if not word else did_you_mean(word, INITS)
        if word.lower() in ELSEWHERE:
            hint = f"here it is `{ELSEWHERE[word.lower()]}`"
        raise how.error(f"no way to make weights is named '{word}'", hint)
    defaults, draw = INITS[word]
    if given:
        check_keys(item, ("init", "seed", *defaults), f"init {word}")
    if word == "identity" and len(shape) < 2:
        raise how.error(f"identity is for matrices and kernels, and weight '{name}' has shape {list(shape)}")
    args = defaults | {k: _finite(given[k], k) for k in defaults if k in given}
    if args.get("std", 0) < 0:
        raise given["std"].error("std must not be negative")
    if "low" in args and args["low"] > args["high"]:
        raise item.error(f"low must not be above high, and they are {args['low']:g} and {args['high']:g}")
    own = convert(given["seed"], int, "seed") if "seed" in given else seed
    return draw(generator(own, name), shape, args)


def _finite(item: Item, name: str) -> float:
    number: float = convert(item, float, name)
    if not abs(number) <= float(np.finfo(np.float32).max):
        raise item.error(f"{name} must be a finite number of float32, not {number:g}")
    return number


def _read(item: Item, folder: Folder | None) -> np.ndarray:
    """An array of a file beside the model: .npy, or a name in an .npz or .safetensors file."""
    spec = check_keys(item, ("file", "name"), "a weight from a file")
    where = spec["file"]
    path = path_of(where, folder, (".npy", ".npz", ".safetensors"))
    if path.suffix == ".npy":
        if "name" in spec:
            raise spec["name"].error("an .npy file holds one array, without a name")
        try:
            array = np.load(path, allow_pickle=False)
        except DAMAGE as e:
            raise where.error(f"'{path.name}' is not an .npy file: {e}") from None
    else:
        if "name" not in spec:
            raise where.error(f"'{path.name}' holds several arrays", "name one: {file: w.npz, name: first}")
        name = spec["name"].word("name")
        store = open_store(path, where)
        if name not in store.shapes:
            raise spec["name"].error(f"'{path.name}' holds no '{name}'", did_you_mean(name, store.shapes))
        try:
            array = store.read(name)
        except DAMAGE as e:
            raise where.error(f"'{name}' can't be read from {path.name}: {e}") from None
    if array.dtype.kind != "f":
        raise where.error(f"weights are floats, and the array is {array.dtype}", "convert it when it is written")
    return array
