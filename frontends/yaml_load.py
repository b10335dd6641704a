"""YAML model descriptions -> Graph. The language is described in docs/yaml.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from graphc.errors import GraphcError, Location, NoNetError, of_readings
from graphc.frontends.yaml_include import read_catalog
from graphc.frontends.yaml_labels import read_labels
from graphc.frontends.yaml_lint import lint
from graphc.frontends.yaml_names import Names
from graphc.frontends.yaml_net import Expander, WeightRow
from graphc.frontends.yaml_nets import add_nets, chosen, is_shared, no_net, read_nets
from graphc.frontends.yaml_operators import Values
from graphc.frontends.yaml_preprocess import prepared_inputs
from graphc.frontends.yaml_problems import Lost, Problems, in_order
from graphc.frontends.yaml_sections import read_params, read_sections
from graphc.frontends.yaml_syntax import Item, Report, parse, read_file
from graphc.frontends.yaml_unused import unused
from graphc.frontends.yaml_weights import SeededWeights, Weights, open_weights
from graphc.graph import Builder, Graph, Value
from graphc.source_files import Folder, text_of


def load_yaml(
    path: str | Path,
    params: Mapping[str, Any] | None = None,
    net: str | None = None,
    preprocess: bool = True,
    fitting: bool = True,
) -> Graph:
    """Load a model from a YAML file; `params` override those of its `params:` section. net: one of its `nets`, else the first.
    preprocess: begin with the steps of its `preprocess`; else inputs are what these would give. fitting: weights of a file must be
    those of the model; else zeros stand for those that are not, and meta holds 'misfits', the problems, and 'unused_arrays', the
    shapes of arrays that nothing uses, by name.

    Graph.meta holds 'layers' (a LayerRow for each layer: name, line, output, parameters), 'weights' (a WeightRow for each),
    'parameters' (how many trainable ones), 'nets' (the names of all nets of the file, where it has several), 'labels' (names of
    classes, by output) and 'warnings' (GraphcErrors: what the file holds and nothing uses). Raises LoadError (or another
    GraphcError) for one problem and CheckError for several, each with its line and column.
    """
    return _load(
        partial(read_file, path), Folder.of(Path(path)), text_of(Path(path).stem), params, net, preprocess, fitting
    )


def loads_yaml(
    text: str,
    params: Mapping[str, Any] | None = None,
    file: str = "<text>",
    net: str | None = None,
    preprocess: bool = True,
) -> Graph:
    """Load a model from text. Nothing in it can come from another file. Raises as `load_yaml`."""
    return _load(partial(parse, text, file), None, "model", params, net, preprocess)


def net_names(path: str | Path) -> tuple[str, ...]:
    """The names of a file's `nets`; none where it has one net, without a name, and where it can't be read."""
    unread = Problems()
    try:
        root = read_file(path, unread.add)
        return tuple(net.name for net in read_nets(root, read_sections(root, unread), unread) if net.name)
    except GraphcError:
        return ()


def check(path: str | Path, params: Mapping[str, Any] | None = None, net: str | None = None) -> list[GraphcError]:
    """All problems of the file; none when it loads, or holds blocks for others. net: only that one of its nets is built."""
    errors: list[GraphcError] = []
    for name in (net,) if net is not None else net_names(path) or (None,):
        try:
            load_yaml(path, params, name)
        except NoNetError:
            pass
        except GraphcError as e:
            errors.append(e)
    return in_order(of_readings(errors))


def _load(
    read: Callable[[Report], Item],
    folder: Folder | None,
    name: str,
    overrides: Mapping[str, Any] | None,
    wanted: str | None,
    preprocess: bool,
    fitting: bool = True,
) -> Graph:
    problems = Problems()
    try:
        root = read(partial(problems.add, final=True))
        spec = read_sections(root, problems)
        nets = read_nets(root, spec, problems)
        params = read_params(spec.get("params"), overrides or {}, root)
        net = chosen(nets, wanted, root) if nets else None
    except GraphcError as error:
        problems.add(error)
        problems.stop()
        raise
    catalog = read_catalog(root, spec, params, folder, problems)
    add_nets(catalog.main, nets, problems)
    lint(catalog, [steps for n in nets for steps in n.steps], problems)
    with problems.attempt():
        name = spec["name"].word("name") if "name" in spec else name
    if is_shared(spec) and not problems:
        problems.add(no_net(root, spec))
    weights: Weights = SeededWeights(0)
    with problems.attempt():
        weights = open_weights(spec.get("weights"), folder)
    if net is None or not net.is_whole:
        problems.stop()
    assert net is not None
    builder = Builder(f"{name}.{net.name}" if net.name else name, Location(root.file))
    expander = Expander(builder, weights, catalog, problems)
    inputs = prepared_inputs(net, expander, preprocess)
    if not inputs:
        problems.stop()
    last, found = expander.net(net.sections["net"], inputs, net.sections["inputs"], net.path)
    outputs = _outputs(net.sections.get("outputs"), net.sections["net"], last, found, problems)
    labels = read_labels(net.sections.get("labels"), outputs, params, folder, problems)
    others = {n.name for n in nets} - {net.name, *expander.nets}
    misfits = weights.problems(complete=not problems, others=others)
    for problem in misfits if fitting else ():
        problems.add(problem)
    problems.stop()
    count = sum(p.value.data.size for p in expander.params.values() if p.trainable)
    weight_rows = tuple(WeightRow(k, p.value.type, p.source, p.origin, p.trainable) for k, p in expander.params.items())
    meta = {
        "producer": "yaml",
        "file": root.file,
        "layers": tuple(expander.rows),
        "parameters": count,
        "weights": weight_rows,
        "blocks": expander.blocks,
        "nets": tuple(n.name for n in nets if n.name),
        "labels": labels,
        "described": {"random_weights": any(row.origin.startswith("seed ") for row in weight_rows)},
    }
    if not fitting:
        meta |= {"misfits": tuple(misfits), "unused_arrays": weights.unused(others)}
    graph = builder.build(outputs, meta)
    warnings = unused(catalog, nets, net, expander.layers, graph)
    return replace(graph, meta=meta | {"warnings": tuple(in_order(warnings))})


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
            out[name] = Lost(name, None)
            with problems.attempt():
                if value.value is None:
                    raise value.error(f"the output '{name}' names no value", f"for example: outputs: {{{name}: last}}")
                source = value.word("an output")
                if source == "last" and not last:
                    raise value.error("the net gives no value", "name one: outputs: {y: NAME}")
                out[name] = last[0] if source == "last" else names.find(source, value)
    return out
