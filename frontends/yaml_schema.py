"""The JSON Schema by which editors complete and check model files: of every model, or of one, whose own blocks it knows.

    python -m graphc.frontends.yaml_schema        writes graphc.schema.json, that of every model

The loader does not use it: its own errors say more.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from graphc.frontends.yaml_args import options
from graphc.frontends.yaml_catalog import BlockDefinition
from graphc.frontends.yaml_include import read_catalog
from graphc.frontends.yaml_literals import DTYPES
from graphc.frontends.yaml_nets import add_nets, read_nets
from graphc.frontends.yaml_problems import Problems
from graphc.frontends.yaml_registry import LayerDefinition, layers
from graphc.frontends.yaml_sections import SECTIONS
from graphc.frontends.yaml_step import COMMON, STRUCTURES, Join
from graphc.frontends.yaml_syntax import read_file
from graphc.graph import Value
from graphc.op import Attr, Op, named_ops
from graphc.source_files import Folder

WIDTH = 118  # of a line of the file
PATH = Path(__file__).with_name("graphc.schema.json")
TEXT = {"type": "string"}
STEPS = {"$ref": "#/$defs/steps"}
NAMES = {"anyOf": [TEXT, {"type": "array"}]}
COUNT = {"type": ["integer", "string"]}
COUNTED = {"anyOf": [{"required": ["n"]}, {"required": ["with"]}]}


VARIES = {"type": "string", "pattern": r"[$0-9]"}  # a number may also be an expression
CHOSEN = {"$ref": "#/$defs/chosen"}
KINDS = {int: "whole", float: "number", bool: "boolean"}
WEIGHTS = {
    "type": "object",
    "properties": {
        "seed": {"type": "integer"},
        "file": TEXT,
        "rename": {"type": "object", "additionalProperties": {"type": ["string", "array", "object"]}},
        "ignore": {"type": "array", "items": TEXT},
    },
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Known:
    """What one model defines: blocks, arguments that its defaults give, params. Without blocks, any name may be a block's."""

    blocks: Mapping[str, BlockDefinition] | None = None
    defaults: Mapping[str, Sequence[str]] = field(default_factory=dict)
    params: Sequence[str] = ()

    def needed(self, made: LayerDefinition | BlockDefinition) -> list[str]:
        """Arguments that a step must give; where the model is not known, its defaults may give them."""
        return [] if self.blocks is None else [k for k in made.required if k not in self.defaults.get(made.name, ())]


def known_by(path: str | Path) -> Known:
    """What a model file defines, as far as it can be read. Raises LoadError where it is not YAML."""
    unread = Problems()
    root = read_file(path, unread.add)
    spec = root.mapping("a model")
    params = spec["params"].value if "params" in spec and isinstance(spec["params"].value, dict) else {}
    scope = read_catalog(root, spec, params, Folder.of(Path(path)), unread).main
    add_nets(scope, read_nets(root, spec, unread), unread)
    return Known(scope.blocks, {name: tuple(given) for name, given in scope.defaults.items()}, tuple(params))


def schema(known: Known = Known()) -> dict[str, Any]:  # noqa: B008
    """The schema as plain data, made from the registries of layers and operators."""
    shape = {"type": "array", "items": {"type": ["integer", "string"]}}
    described = {
        "type": "object",
        "required": ["shape"],
        "properties": {"shape": shape, "dtype": {"enum": [*DTYPES]}, "doc": TEXT},
        "additionalProperties": False,
    }
    block = {
        "type": "object",
        "required": ["body"],
        "additionalProperties": False,
        "properties": {
            "doc": TEXT,
            "args": {"type": "object"},
            "inputs": {"type": "array", "items": TEXT},
            "body": STEPS,
            "outputs": {"type": "array", "items": TEXT},
        },
    }
    of_a_net: dict[str, Any] = {
        "inputs": {"type": "object", "additionalProperties": {"anyOf": [shape, described]}},
        "preprocess": {"type": "object", "additionalProperties": STEPS},
        "net": STEPS,
        "outputs": {"type": ["object", "array"]},
        "labels": {"type": ["object", "array", "string"]},
    }
    net = {
        "type": "object",
        "required": ["inputs", "net"],
        "additionalProperties": False,
        "properties": {"doc": TEXT, **of_a_net},
    }
    sections = {
        "graphc": {"const": 1},
        "name": TEXT,
        "doc": TEXT,
        "include": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
        "params": {"type": "object"},
        "defaults": _defaults(known),
        "blocks": {"type": "object", "additionalProperties": block},
        **of_a_net,
        "nets": {"type": "object", "additionalProperties": net},
        "weights": WEIGHTS,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "graphc model",
        "type": "object",
        "required": ["graphc"],
        "anyOf": [{"required": [k]} for k in ("net", "nets", "blocks", "include")],
        "additionalProperties": False,
        "properties": {name: sections[name] for name in SECTIONS},
        "$defs": {
            "steps": {"anyOf": [{"$ref": "#/$defs/step"}, {"type": "array", "items": STEPS}]},
            "step": _step(known),
            "repeated": _repeated(known),
            "chosen": {"type": "string", "pattern": r"\$"} | _params(known),
            "whole": {"anyOf": [{"type": "integer"}, VARIES | _params(known)]},
            "number": {"anyOf": [{"type": "number"}, VARIES | _params(known)]},
            "boolean": {"anyOf": [{"type": "boolean"}, VARIES | _params(known)]},
            "whole numbers": {"type": "array", "items": _ref("whole")},
            "numbers": {"type": "array", "items": _ref("number")},
        },
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _params(known: Known) -> dict[str, Any]:
    return {"examples": [f"${p}" for p in known.params]} if known.params else {}


def _names(known: Known) -> list[str]:
    return [*(known.blocks or ()), *layers(), *named_ops()]


def _made(known: Known) -> list[LayerDefinition | BlockDefinition]:
    return [*layers().values(), *(known.blocks or {}).values()]


def _defaults(known: Known) -> dict[str, Any]:
    """Arguments of layers and blocks, none of which must be there."""
    closed: dict[str, Any] = {
        made.name: {"type": "object", "properties": _arguments(made, known), "additionalProperties": False}
        for made in _made(known)
    }
    return {"type": "object", "properties": closed, "additionalProperties": known.blocks is None}


def _repeated(known: Known) -> dict[str, Any]:
    """What a repeat applies: as a step, but arguments may stand beside it."""
    named = {"anyOf": [{"enum": [*_names(known), *STRUCTURES, *COMMON, "then", "else"]}, CHOSEN]}
    step = {"type": "object"} | ({} if known.blocks is None else {"propertyNames": named})
    return {"anyOf": [TEXT if known.blocks is None else named, step, {"type": "array", "items": STEPS}]}


def _step(known: Known) -> dict[str, Any]:
    common = {"as": NAMES, "from": NAMES, "share": TEXT, "name": TEXT, "weights": {"type": "object"}}
    join = {"anyOf": [{"enum": [*get_args(Join)]}, CHOSEN]}
    path = {"anyOf": [{"type": "object", "required": ["project"]}, STEPS]}
    branch = {"join": join, "axis": COUNT, "paths": {"type": "object", "additionalProperties": path}}
    loop = {"n": COUNT, "of": STEPS, "with": {"type": "object"}}
    states, named = {"type": "object"}, {"type": ["string", "array", "object"]}
    scan = {"over": named, "axis": COUNT, "reverse": {"type": ["boolean", "string"]}, "states": states}
    scan |= {"of": STEPS, "collect": named}
    while_ = {"states": states, "condition": {"anyOf": [TEXT, STEPS]}, "at_most": COUNT, "of": STEPS}
    while_ |= {"collect": named, "axis": COUNT}
    changes = {"first": {"type": "object"}, "last": {"type": "object"}, "join": join, "axis": COUNT}
    repeat = loop | changes | {"of": {"$ref": "#/$defs/repeated"}}
    closed = {"type": "object", "additionalProperties": False}
    structures = {
        "branch": {**closed, "required": ["join", "paths"], "properties": branch | common},
        "repeat": {"type": "object", "required": ["of"], **COUNTED, "properties": repeat | common},
        "loop": {**closed, "required": ["of"], **COUNTED, "properties": loop | common},
        "scan": {**closed, "required": ["over", "of"], "properties": scan | common},
        "while": {**closed, "required": ["states", "condition", "at_most", "of"], "properties": while_ | common},
        "if": {"type": ["string", "boolean"]},
        "when": {"anyOf": [TEXT, STEPS]},
        "let": {"type": ["string", "object"], "additionalProperties": {"type": ["string", "number", "boolean"]}},
        "then": STEPS,
        "else": STEPS,
    }
    made = _made(known)
    callees: dict[str, Any] = {op.name: _operator(op) for op in named_ops().values()}
    for m in made:
        form = _callee(m, known)  # in a block that hides a layer or operator, its name means that
        callees[m.name] = {"anyOf": [form, callees[m.name]]} if m.name in callees else form
    alone = {m.name for m in made if not known.needed(m)} | named_ops().keys()
    step: dict[str, Any] = {"type": "object", "properties": structures | callees | common}
    if known.blocks is None:  # any name may be that of a block
        return {"anyOf": [{"type": "string", "examples": sorted(layers())}, step]}
    step.update({"patternProperties": {r"^\$": True}, "additionalProperties": False})
    return {"anyOf": [{"enum": sorted(alone)}, CHOSEN, step]}


def _callee(made: LayerDefinition | BlockDefinition, known: Known) -> dict[str, Any]:
    """A layer or block with its arguments, with a bare value for the first, or with nothing."""
    args = _arguments(made, known)
    needed = known.needed(made)
    full: dict[str, Any] = {
        "type": "object",
        "properties": args | dict.fromkeys(COMMON, True),
        "additionalProperties": False,
    }
    forms = [full | ({"required": needed} if needed else {})]
    if made.main and set(needed) <= {made.main}:
        bare = {k: v for k, v in args[made.main].items() if k != "default"}
        forms.append(bare or {"type": ["string", "number", "boolean", "array"]})
    if not needed:
        forms.append({"type": "null"})
    return {"description": made.doc, "anyOf": forms}


def _arguments(made: LayerDefinition | BlockDefinition, known: Known) -> dict[str, Any]:
    if isinstance(made, LayerDefinition):
        return {name: _argument(hint, default) for name, (hint, default) in made.args.items()}
    return {name: {} if item is None else {"default": item.plain()} for name, item in made.args.items()}


def _argument(hint: Any, default: Any) -> dict[str, Any]:
    """Numbers and booleans may also be expressions, which are text."""
    members = options(hint)
    kind = float if float in members else next((m for m in members if m in KINDS), None)
    forms = [] if kind is None else [_ref(KINDS[kind])]
    forms += [_ref("whole numbers" if get_args(m)[0] is int else "numbers") for m in members if get_origin(m) is tuple]
    choices = [c for m in members if get_origin(m) is Literal for c in get_args(m)]
    forms += [{"enum": choices}] if choices else []
    if Value in members or str in members:
        forms.append(TEXT)
    elif choices or any(get_origin(m) is tuple for m in members):
        forms.append(CHOSEN)
    out: dict[str, Any] = dict(forms[0]) if len(forms) == 1 else {"anyOf": forms} if forms else {}
    if default is not inspect.Parameter.empty and default is not None:
        out["default"] = list(default) if isinstance(default, tuple) else default
    return out


def _operator(op: Op) -> dict[str, Any]:
    """An operator of ONNX under its own name, with its attributes."""
    args = {name: _attribute(spec) for name, spec in op.attrs.items()}
    args["inputs"] = {"type": ["string", "number", "boolean", "array"]}
    common = {f"^({'|'.join(COMMON)})$": True}
    return {"type": ["object", "null"], "properties": args, "patternProperties": common, "additionalProperties": False}


def _attribute(spec: Attr) -> dict[str, Any]:
    if spec.type == "dtype":
        return {"anyOf": [{"enum": [*DTYPES, "bfloat16"]}, CHOSEN]}
    if spec.type == "ints":
        return {"anyOf": [_ref("whole"), _ref("whole numbers")]}
    if spec.type is bool:
        return {"anyOf": [_ref("boolean"), {"enum": [0, 1]}]}
    return _ref(KINDS[spec.type]) if spec.type in KINDS else {}


def text(known: Known = Known()) -> str:  # noqa: B008
    """The schema as a file."""
    return _written(schema(known), 0) + "\n"


def _written(value: Any, depth: int) -> str:
    """JSON of which a list or mapping stands on one line where it fits."""
    line = json.dumps(value, ensure_ascii=False)
    deep = (
        [v for v in (value.values() if isinstance(value, dict) else value) if v]
        if isinstance(value, (dict, list))
        else []
    )
    if len(line) + depth <= WIDTH or not any(isinstance(v, (dict, list)) for v in deep):
        return line
    inner, (opening, closing) = " " * (depth + 1), "{}" if isinstance(value, dict) else "[]"
    entries = (
        [f"{json.dumps(k, ensure_ascii=False)}: {_written(v, depth + 1)}" for k, v in value.items()]
        if isinstance(value, dict)
        else [_written(v, depth + 1) for v in value]
    )
    return f"{opening}\n{inner}" + f",\n{inner}".join(entries) + f"\n{' ' * depth}{closing}"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
