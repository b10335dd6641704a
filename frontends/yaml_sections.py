"""The sections of a file that are no steps: its version, params and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from graphc.errors import LoadError, Location
from graphc.frontends.yaml_args import Env, to_dim
from graphc.frontends.yaml_literals import read_dtype
from graphc.frontends.yaml_problems import Problems
from graphc.frontends.yaml_syntax import Item, check_keys, did_you_mean, parse
from graphc.types import TensorType

VERSION = 1
EXAMPLES = {"inputs": "for example: inputs: {x: [batch, 3]}", "net": "for example: net: [{dense: 10}, relu]"}
OF_A_NET = ("inputs", "preprocess", "net", "outputs", "labels")
SHARED = ("graphc", "name", "doc", "include", "params", "defaults", "blocks")  # all that a file to include can have
SECTIONS = (*SHARED, *OF_A_NET, "nets", "weights")

CALLED = {  # here, by what sections are called elsewhere
    "layers": "net", "model": "net", "network": "net", "steps": "net", "graph": "net", "input": "inputs",
    "output": "outputs", "parameters": "params", "args": "params", "modules": "blocks", "version": "graphc",
    "networks": "nets", "models": "nets", "includes": "include", "import": "include", "imports": "include",
    "preprocessing": "preprocess", "transforms": "preprocess", "classes": "labels", "names": "labels",
}  # fmt: skip
TRAINING = frozenset(
    (
        "loss",
        "losses",
        "criterion",
        "optimizer",
        "optimiser",
        "lr",
        "learning_rate",
        "train",
        "training",
        "trainer",
        "epochs",
    )
    + ("metrics", "scheduler", "batch_size", "compile", "fit", "dataset", "data", "regularizer")
)


def read_sections(root: Item, problems: Problems, what: str = "a model") -> dict[str, Item]:
    """The sections by name. Raises LoadError for what is no file of this language."""
    spec = root.mapping(what, "the line 'graphc: 1', then inputs and net")
    if "graphc" not in spec:
        raise root.error("is not a graphc model: 'graphc: 1' is missing", "begin the file with 'graphc: 1'")
    version = spec["graphc"]
    if version.value == str(VERSION):
        raise version.error("the version must be a whole number, not text", f"write {VERSION} without quotes")
    if version.value != VERSION or isinstance(version.value, bool):
        raise version.error(
            f"version {version.plain()!r} of the language is not known", f"this program reads version {VERSION}"
        )
    with problems.attempt():
        check_keys(root, SECTIONS, what, section_for)
    return spec


def section_for(key: str, what: str = "a model") -> str | None:
    """What is said of a section that goes by another name here."""
    if key in TRAINING:
        return f"{what} has no '{key}': graphc computes what a network gives, it does not train"
    return f"{what} has no '{key}': it is called `{CALLED[key]}`" if key in CALLED else None


def read_params(item: Item | None, overrides: Mapping[str, Any], root: Item) -> dict[str, Item]:
    """The params by name, with other values for some. Raises LoadError."""
    item = root.of({}) if item is None else item
    params = dict(item.mapping("params", "params: {classes: 10}"))
    for name, default in params.items():
        if default.value is None:
            raise item.at_key(name).error(f"the param '{name}' has no value", f"for example: params: {{{name}: 10}}")
    for name, value in overrides.items():
        if name not in params:
            raise item.error(f"the model has no param '{name}'", did_you_mean(name, params, "its params"))
        params[name] = _override(name, params[name], value)
    return params


def _override(name: str, item: Item, value: Any) -> Item:
    """Another value for a param, of the kind that the file says. Raises LoadError."""
    if isinstance(item.value, (list, dict)) and isinstance(value, str):
        return _collection(name, item, value)
    return item.of(_scalar(name, item, value))


def _collection(name: str, item: Item, text: str) -> Item:
    """A list or mapping that is given as text."""
    with suppress(LoadError):
        found = parse(text, f"--param {name}")
        if type(found.value) is type(item.value):
            return found
    written = "[a, b]" if isinstance(item.value, list) else "{key: value}"
    raise LoadError(
        f"param '{name}' is {item.kind} in the file, and {text!r} is none",
        hint=f"write it as in YAML: --param '{name}={written}'",
        source=Location(item.file),
    )


def _scalar(name: str, item: Item, value: Any) -> bool | int | float | str:
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (bool, int, float, str)):
        raise item.error(f"param '{name}' must be a number, text or a boolean, not {value!r}")
    old = item.value
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(old, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(old) is not type(value) and not isinstance(old, (list, dict)):
        hint = {bool: "write true or false", int: "write it as a float in the file if it may be any number"}
        given = hint[type(old)] if type(old) is bool or isinstance(value, float) and type(old) is int else None
        raise item.error(f"param '{name}' must be {item.kind}, not {value!r}", given)
    return value


def read_inputs(item: Item, params: Mapping[str, Item], problems: Problems) -> dict[str, TensorType | None]:
    """The types of the inputs; None for those that have a problem."""
    types: dict[str, TensorType | None] = {}
    with problems.attempt():
        entries = item.mapping("inputs", "inputs: {x: [batch, 3]}")
        if "last" in entries:
            raise item.at_key("last").error("'last' always means what the step before gave", "choose another name")
        if not entries:
            raise item.error("a model needs at least one input")
        for name, raw in entries.items():
            types[name] = None
            with problems.attempt():
                types[name] = input_type(name, Env(params).resolve(raw))
    return types


def input_type(name: str, given: Item) -> TensorType:
    """The type of an input as the file declares it, its variables resolved. Raises LoadError."""
    what = f"input '{name}'"
    known = ("shape", "dtype", "doc")
    spec = check_keys(given, known, what, _input_key) if isinstance(given.value, dict) else {"shape": given}
    if "shape" not in spec:
        raise given.error(f"{what} has no shape", "for example: {shape: [batch, 3, 224, 224]}")
    dims = [to_dim(d, f"a dim of '{name}'") for d in spec["shape"].listing(f"the shape of '{name}'", "[batch, 3]")]
    return TensorType(read_dtype(spec["dtype"]) if "dtype" in spec else np.dtype(np.float32), tuple(dims))


def _input_key(key: str) -> str | None:
    """What is said of a key of an input that goes by another name here."""
    name = {"dims": "shape", "size": "shape", "sizes": "shape", "type": "dtype", "data_type": "dtype"}.get(key)
    return f"an input has no '{key}': it is called `{name}`" if name else None
