"""Files -> graphs: `load` picks the front end by the kind of source, and imports it only then."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphc import source_files
from graphc.errors import GraphcError, InputError, LoadError, NoNetError, memory_errors, of_readings
from graphc.reading import AS_IT_IS, Reading
from graphc.source_files import Files

if TYPE_CHECKING:
    from graphc.graph import Graph

ONNX_SUFFIXES = (".onnx", ".pb")
YAML_SUFFIXES = (".yaml", ".yml")
PLANS_SUFFIX = ".gcm"  # of what `graphc build` writes

_TORCH = "torch.onnx.export(model, (example,), 'm.onnx', dynamo=True) in Python, with the model that it was saved from"
EXPORTS = {  # how models in files of other frameworks become ONNX
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".pt2": "torch.export.load('FILE') in Python, then torch.onnx.export of it",
    ".ckpt": _TORCH,
    ".bin": "optimum-cli export onnx --model FOLDER OUT for weights of transformers, else " + _TORCH,
    ".safetensors": "optimum-cli export onnx --model FOLDER OUT for weights of transformers, "
    "or a YAML model that names the file under `weights:`",
    ".tflite": "python -m tf2onnx.convert --tflite FILE --output m.onnx (pip install tf2onnx)",
    ".h5": "keras.models.load_model('FILE').export('m.onnx', format='onnx') in Python",
    ".keras": "keras.models.load_model('FILE').export('m.onnx', format='onnx') in Python",
    ".pdmodel": "paddle2onnx --model_dir FOLDER --model_filename FILE --save_file m.onnx",
    ".joblib": "skl2onnx.to_onnx(model, example, options={'zipmap': False}) in Python for one of scikit-learn",
    ".pkl": "skl2onnx.to_onnx(model, example, options={'zipmap': False}) in Python for one of scikit-learn",
}


def load(source: Any, reading: Reading = AS_IT_IS) -> Graph:
    """A graph from the path of an .onnx or .yaml file, the bytes of an ONNX file, or an onnx.ModelProto.

    A Graph is returned as it is, but for the types of a reading. Raises LoadError when the file can't be read, CheckError
    when it holds what graphc does not support: all such problems at once.
    """
    if _is_graph(source):
        return _read_graph(source, reading)
    try:
        with memory_errors():
            return _load_file(source, reading)
    except RecursionError:  # front ends follow the nesting of a file by recursion
        name = f"'{source}'" if isinstance(source, (str, os.PathLike)) else "the model"
        raise LoadError(f"{name} is nested too deeply", hint="branches, loops or functions within each other") from None


def _load_file(source: Any, reading: Reading) -> Graph:
    if _is_yaml(source):
        from graphc.frontends.yaml_load import load_yaml

        return load_yaml(source, dict(reading.params), reading.net, reading.preprocess, reading.fitting)
    _require_one_way(reading)
    from graphc.frontends.onnx_load import load_onnx

    return load_onnx(source, reading)


def nets(source: Any) -> tuple[str, ...]:
    """The names of a YAML file's nets; none where it has one without a name or can't be read, and for other sources."""
    try:
        if _is_graph(source) or not _is_yaml(source):
            return ()
    except GraphcError:
        return ()
    from graphc.frontends.yaml_load import net_names

    return net_names(source)


def check(source: Any) -> list[GraphcError]:
    """Every problem of a model file, of all its nets; an empty list when it loads, or holds blocks for others to include.

    Large weights are mapped: those that no rule asks the values of are not read.
    """
    errors: list[GraphcError] = []
    with Files().reading():
        for net in nets(source) or (None,):
            try:
                load(source, Reading(net=net))
            except NoNetError:
                pass
            except GraphcError as error:
                errors.append(error)
    return of_readings(errors)


def _require_one_way(reading: Reading) -> None:
    """Raises InputError where something is chosen that only YAML files leave open."""
    if reading.params:
        raise InputError(f"only YAML files have params, such as '{reading.params[0][0]}'", hint="leave out params")
    if reading.net is not None:
        raise InputError(f"only YAML files have nets, such as '{reading.net}'", hint="leave out net")


def _read_graph(graph: Graph, reading: Reading) -> Graph:
    from graphc.bind import bind

    _require_one_way(reading)
    if reading.given:
        names = ", ".join(sorted(reading.given))
        raise InputError(
            f"another value for '{names}': its default is a constant of this graph",
            hint="compile the file that the graph was made from; a model that was pickled holds a graph",
        )
    return bind(graph, dict(reading.types)) if reading.types else graph


def _is_graph(source: Any) -> bool:
    from graphc.graph import Graph

    return isinstance(source, Graph)


def _is_yaml(source: Any) -> bool:
    """False for ONNX. Raises LoadError for what is neither."""
    if isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "SerializeToString"):
        return False
    if not isinstance(source, (str, os.PathLike)):
        raise LoadError(
            f"can't load a model from {type(source).__name__}",
            hint="pass the path of an .onnx or .yaml file, its bytes, an onnx.ModelProto or a graphc Graph",
        )
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix == PLANS_SUFFIX:
        hint = (
            "give the model that it was built from; `graphc run`, `graphc bench` and graphc.load take the file itself"
        )
        raise LoadError(f"'{path}' holds plans and no graph", hint=hint)
    if suffix not in ONNX_SUFFIXES + YAML_SUFFIXES:
        known = f"known: {', '.join(ONNX_SUFFIXES + YAML_SUFFIXES)}, and {PLANS_SUFFIX} where a model is only run"
        export = f"; to ONNX: {EXPORTS[suffix]}" if suffix in EXPORTS else ""
        raise LoadError(f"'{path}': unknown suffix '{suffix}'", hint=known + export)
    if source_files.held(path) is None and (what := _fault(path)):
        raise LoadError(f"'{source_files.shown(path)}' {what}", hint="check the path")
    return suffix in YAML_SUFFIXES


def _fault(path: Path) -> str:
    """Why the path is not that of a file; '' where it is."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:  # no permission, links in a circle, too long, a zero byte in it
        return f"can't be read: {getattr(error, 'strerror', None) or error}"
    return "is a folder" if stat.S_ISDIR(mode) else "" if stat.S_ISREG(mode) else "is not a regular file"
