"""YAML model descriptions -> Graph. The language is described in docs/yaml.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphc.errors import CheckError, GraphcError, Location
from graphc.frontends.yaml_args import Env, to_dim
from graphc.frontends.yaml_lint import lint
from graphc.frontends.yaml_literals import read_dtype
from graphc.frontends.yaml_names import Names
from graphc.frontends.yaml_net import Expander, WeightRow
from graphc.frontends.yaml_operators import Values
from graphc.frontends.yaml_problems import Lost, Problems, place_of
from graphc.frontends.yaml_step import Catalog
from graphc.frontends.yaml_syntax import Item, Report, check_keys, did_you_mean, parse, read_file
from graphc.frontends.yaml_unused import unused
from graphc.frontends.yaml_weights import SeededWeights, Weights, open_weights
from graphc.graph import Builder, Graph, Value
from graphc.source_files import Folder, text_of
from graphc.types import Dim, dtype_name

VERSION = 1
EXAMPLES = {"inputs": "for example: inputs: {x: [batch, 3]}", "net": "for example: net: [{dense: 10}, relu]"}
SECTIONS = ("graphc", "name", "doc", "params", "inputs", "defaults", "blocks", "net", "outputs", "weights")


def load_yaml(path: str | Path, params: Mapping[str, Any] | None = None) -> Graph:
    """Load a model from a YAML file; `params` override those of its `params:` section.

    Graph.meta holds 'layers' (a LayerRow for each layer: name, line, output, parameters), 'weights' (a WeightRow for each), 'parameters' (how many trainable ones) and 'warnings' (GraphcErrors: what the file holds and nothing uses). Raises LoadError (or another
    GraphcError) for one problem and CheckError for several, each with its line and column.
    """
    return _load(partial(read_file, path), Folder.of(Path(path)), text_of(Path(path).stem), params)


def loads_yaml(text: str, params: Mapping[str, Any] | None = None, file: str = "<text>") -> Graph:
    """Load a model from text. Its weights can't come from a file. Raises as `load_yaml`."""
    return _load(partial(parse, text, file), None, "model", params)


def check(path: str | Path, params: Mapping[str, Any] | None = None) -> list[GraphcError]:
    """All problems of the file; none when it loads."""
    try:
        load_yaml(path, params)
    except CheckError as e:
        return e.problems
    except GraphcError as e:
        return [e]
    return []


def _load(
    read: Callable[[Report], Item], folder: Folder | None, name: str, overrides: Mapping[str, Any] | None
) -> Graph:
    problems = Problems()
    try:
        root = read(partial(problems.add, final=True))
        spec = _sections(root, problems)
        params = _params(spec.get("params"), overrides or {}, root)
    except GraphcError as error:
        problems.add(error)
        problems.stop()
        raise
    catalog = Catalog(spec.get("blocks"), spec.get("defaults"), problems)
    lint(catalog, spec.get("net"), params, problems)
    with problems.attempt():
        name = spec["name"].word("name") if "name" in spec else name
    builder = Builder(name, Location(root.file))
    inputs = _inputs(spec["inputs"], builder, params, problems) if "inputs" in spec else {}
    weights: Weights = SeededWeights(0)
    with problems.attempt():
        weights = open_weights(spec.get("weights"), folder)
    if "net" not in spec or not inputs:
        problems.stop()
    expander = Expander(builder, weights, catalog, params, problems, folder)
    last, names = expander.net(spec["net"], inputs, spec["inputs"])
    outputs = _outputs(spec.get("outputs"), spec["net"], last, names, problems)
    for problem in weights.problems(complete=not problems):
        problems.add(problem)
    problems.stop()
    count = sum(p.value.data.size for p in expander.params.values() if p.trainable)
    meta = {"producer": "yaml", "file": root.file, "layers": tuple(expander.rows), "parameters": count}
    meta["blocks"] = expander.blocks
    meta["weights"] = tuple(
        WeightRow(name, p.value.type, p.line, p.origin, p.trainable) for name, p in expander.params.items()
    )
    graph = builder.build(outputs, meta)
    warnings = unused(spec, params, catalog, expander.layers, graph)
    return replace(graph, meta=meta | {"warnings": tuple(sorted(warnings, key=place_of))})


def _sections(root: Item, problems: Problems) -> dict[str, Item]:
    spec = root.mapping("a model", "the line 'graphc: 1', then inputs and net")
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
        check_keys(root, SECTIONS, "a model", _section)
    for key in ("inputs", "net"):
        if key not in spec:
            problems.add(root.error(f"a model needs '{key}'", EXAMPLES[key]))
    if "net" in spec and spec["net"].value in (None, [], {}):
        problems.add(spec["net"].error("the net has no steps", EXAMPLES["net"]))
        del spec["net"]
    return spec


def _section(key: str) -> str | None:
    """What is said of a section that goes by another name here."""
    names = {"layers": "net", "model": "net", "network": "net", "steps": "net", "graph": "net", "input": "inputs"}
    names |= {"output": "outputs", "parameters": "params", "args": "params", "modules": "blocks", "version": "graphc"}
    return f"a model has no '{key}': it is called `{names[key]}`" if key in names else None


def _params(item: Item | None, overrides: Mapping[str, Any], root: Item) -> dict[str, Item]:
    item = root.of({}) if item is None else item
    params = dict(item.mapping("params", "params: {classes: 10}"))
    for name, default in params.items():
        if default.value is None:
            raise item.at_key(name).error(f"the param '{name}' has no value", f"for example: params: {{{name}: 10}}")
    for name, value in overrides.items():
        if name not in params:
            raise item.error(f"the model has no param '{name}'", did_you_mean(name, params, "its params"))
        params[name] = params[name].of(_override(name, params[name], value))
    return params


def _override(name: str, item: Item, value: Any) -> bool | int | float | str:
    """Another value for a param, of the kind that the file says. Raises LoadError."""
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


def _inputs(item: Item, builder: Builder, params: Mapping[str, Item], problems: Problems) -> dict[str, Value]:
    values: dict[str, Value] = {}
    with problems.attempt():
        entries = item.mapping("inputs", "inputs: {x: [batch, 3]}")
        if "last" in entries:
            raise item.at_key("last").error("'last' always means what the step before gave", "choose another name")
        if item is not None and not entries:
            raise item.error("a model needs at least one input")
        for name, raw in entries.items():
            values[name] = Lost(name, None)
            with problems.attempt():
                values[name] = builder.input(name, *_input(name, Env(params).resolve(raw)))
    return values


def _input(name: str, given: Item) -> tuple[str, list[Dim]]:
    """The dtype and the dims."""
    what = f"input '{name}'"
    known = ("shape", "dtype", "doc")
    spec = check_keys(given, known, what, _input_key) if isinstance(given.value, dict) else {"shape": given}
    if "shape" not in spec:
        raise given.error(f"{what} has no shape", "for example: {shape: [batch, 3, 224, 224]}")
    dims = [to_dim(d, f"a dim of '{name}'") for d in spec["shape"].listing(f"the shape of '{name}'", "[batch, 3]")]
    return dtype_name(read_dtype(spec["dtype"])) if "dtype" in spec else "float32", dims


def _input_key(key: str) -> str | None:
    """What is said of a key of an input that goes by another name here."""
    name = {"dims": "shape", "size": "shape", "sizes": "shape", "type": "dtype", "data_type": "dtype"}.get(key)
    return f"an input has no '{key}': it is called `{name}`" if name else None


def _outputs(item: Item | None, net: Item, last: Values, names: Names, problems: Problems) -> dict[str, Value]:
    """`{logits: last, boxes: b}`, `[a, b]`, or nothing: what the last step gives, as 'output'."""
    out: dict[str, Value] = {}
    with problems.attempt():
        if item is None:
            entries = {"output": net.of("last")}
        elif isinstance(item.value, list):
            entries = {}
            for i in item.value:
                if (name := i.word("an output")) in entries:
                    raise i.error(
                        f"the output '{name}' is listed twice", f"name them: {{{name}: {name}, again: {name}}}"
                    )
                entries[name] = i
        else:
            entries = item.mapping("outputs", f"outputs: [{item.value or 'NAME'}]")
        if item is not None and not entries:
            raise item.error("a model needs at least one output", "without `outputs` it gives what the last step gives")
        for name, value in entries.items():
            with problems.attempt():
                if value.value is None:
                    raise value.error(f"the output '{name}' names no value", f"for example: outputs: {{{name}: last}}")
                source = value.word("an output")
                if source == "last" and not last:
                    raise value.error("the net gives no value", "name one: outputs: {y: NAME}")
                out[name] = last[0] if source == "last" else names.find(source, value)
    return out
