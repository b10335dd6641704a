"""`labels`: names of the classes that an output has scores of."""

from __future__ import annotations

from collections.abc import Mapping

from graphc.frontends.yaml_args import Env
from graphc.frontends.yaml_files import path_of, text_of
from graphc.frontends.yaml_problems import Lost, Poisoned, Problems
from graphc.frontends.yaml_syntax import Item, did_you_mean
from graphc.graph import Value
from graphc.source_files import Folder

Labels = dict[str, tuple[str, ...]]


def read_labels(
    item: Item | None,
    outputs: Mapping[str, Value],
    params: Mapping[str, Item],
    folder: Folder | None,
    problems: Problems,
) -> Labels:
    """Names by output: `[a, b]` or `{file: labels.txt}` of the only output, `{output: …}` of several. As many as the last axis of the
    output has entries; what is wrong is added to the problems."""
    labels: Labels = {}
    with problems.attempt():
        given = None if item is None else Env(params).resolve(item)
        for name, names in ({} if given is None else _by_output(given, outputs)).items():
            with problems.attempt():
                labels[name] = _names(names, folder)
                if not isinstance(outputs[name], Lost):
                    _check_count(len(labels[name]), name, outputs[name], names)
    return labels


def _by_output(item: Item, outputs: Mapping[str, Value]) -> dict[str, Item]:
    if not outputs:
        raise Poisoned
    if isinstance(item.value, dict) and not _is_file(item):
        for name in item.value:
            if name not in outputs:
                raise item.at_key(name).error(f"there is no output '{name}'", did_you_mean(name, outputs, "outputs"))
        return item.value
    if len(outputs) != 1:
        raise item.error(f"of which output? There are {', '.join(outputs)}", "labels: {OUTPUT: [first, second]}")
    return {next(iter(outputs)): item}


def _is_file(item: Item) -> bool:
    return isinstance(item.value, dict) and list(item.value) == ["file"] and isinstance(item.value["file"].value, str)


def _names(item: Item, folder: Folder | None) -> tuple[str, ...]:
    if _is_file(item):
        where = item.value["file"]
        path = path_of(where, folder, (".txt",), "labels", "write one label a line, as plain text")
        text = text_of(path, where).replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
        return tuple(text.split("\n")) if text else ()
    return tuple(map(_label, item.listing("labels")))


def _label(item: Item) -> str:
    if isinstance(item.value, bool) or not isinstance(item.value, (str, int, float)):
        raise item.error(f"a label must be text, not {item.kind}", "write it in quotes")
    return str(item.value)


def _check_count(count: int, name: str, value: Value, item: Item) -> None:
    """Raises LoadError where there are not as many names as the output has entries along its last axis."""
    shape = value.type.shape if value.type is not None else ()
    if not shape or not isinstance(shape[-1], int):
        raise item.error(f"output '{name}' has labels, but is {value.type or 'of a type that follows from data'}")
    if shape[-1] != count:
        labels = f"{count} label{'s' * (count != 1)}"
        raise item.error(f"{labels} for output '{name}', whose last axis has {shape[-1]} entries: {value.type}")
