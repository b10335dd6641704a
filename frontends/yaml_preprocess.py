"""What a net reads: its inputs, and what `preprocess` makes of them."""

from __future__ import annotations

from collections.abc import Mapping

from graphc.frontends.yaml_net import Expander
from graphc.frontends.yaml_nets import Net
from graphc.frontends.yaml_problems import Lost
from graphc.frontends.yaml_sections import read_inputs
from graphc.frontends.yaml_syntax import Item, did_you_mean
from graphc.graph import Builder, Value
from graphc.reading import dim_name
from graphc.types import TensorType


def prepared_inputs(net: Net, expander: Expander, preprocess: bool) -> dict[str, Value]:
    """Make the inputs of the graph; gives what each of them is to the net. preprocess: else inputs have the types of what its
    steps give, and are taken as they are."""
    problems, builder = expander.problems, expander.builder
    types = read_inputs(net.sections["inputs"], expander.catalog.main.params, problems)
    steps = _steps(net, types, expander)
    values: dict[str, Value] = {}
    for name, t in types.items():
        values[name] = Lost(name, None)
        if t is None:
            continue
        path = f"{net.name}.preprocess.{name}" if net.name else f"preprocess.{name}"
        if name not in steps:
            values[name] = builder.input(name, t.dtype, t.shape)
        elif preprocess:
            values[name] = expander.prepare(steps[name], name, builder.input(name, t.dtype, t.shape), path)
        else:
            beside = Builder(builder.name, builder.source)
            aside = Expander(beside, expander.weights, expander.catalog, problems)
            result = aside.prepare(steps[name], name, beside.input(name, t.dtype, t.shape), path)
            with problems.attempt():
                if not isinstance(result, Lost):
                    given = _declared(name, result, steps[name])
                    values[name] = builder.input(name, given.dtype, given.shape)
    return values


def _steps(net: Net, inputs: Mapping[str, object], expander: Expander) -> dict[str, Item]:
    """The steps for each input that has such."""
    found: dict[str, Item] = {}
    item = net.sections.get("preprocess")
    with expander.problems.attempt():
        for name, steps in (item.mapping("preprocess") if item is not None else {}).items():
            assert item is not None
            with expander.problems.attempt():
                if name not in inputs:
                    raise item.at_key(name).error(f"there is no input '{name}'", did_you_mean(name, inputs, "inputs"))
                found[name] = steps
    return found


def _declared(name: str, value: Value, item: Item) -> TensorType:
    """The type of an input that is prepared already: sizes that were computed from others have names of their own. Raises
    LoadError."""
    if value.type is None:
        message = f"what preprocess makes of '{name}' has a type that is known only when the model runs"
        raise item.error(message, "compile the model with its preprocess")
    kept = (isinstance(d, int) or str(d).isidentifier() for d in value.shape)
    return value.type.with_shape(
        [d if keep else dim_name(name, i) for i, (d, keep) in enumerate(zip(value.shape, kept))]
    )
