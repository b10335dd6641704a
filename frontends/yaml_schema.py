"""Writes graphc.schema.json, the JSON Schema by which editors complete and check model files.

    python -m graphc.frontends.yaml_schema

The loader does not use it: its own errors say more.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from graphc.frontends.yaml_args import options
from graphc.frontends.yaml_literals import DTYPES
from graphc.frontends.yaml_registry import LayerDefinition, layers
from graphc.frontends.yaml_sections import SECTIONS
from graphc.frontends.yaml_step import Join

PATH = Path(__file__).with_name("graphc.schema.json")
TEXT = {"type": "string"}
STEPS = {"$ref": "#/$defs/steps"}
NAMES = {"anyOf": [TEXT, {"type": "array"}]}
COUNT = {"type": ["integer", "string"]}
COUNTED = {"anyOf": [{"required": ["n"]}, {"required": ["with"]}]}


def schema() -> dict[str, Any]:
    """The schema as plain data, made from the registry of layers."""
    shape = {"type": "array", "items": {"type": ["integer", "string"]}}
    described = {"type": "object", "required": ["shape"], "properties": {"shape": shape, "dtype": {"enum": [*DTYPES]}}}
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
    file = {"type": "object", "properties": {"seed": {"type": "integer"}, "file": TEXT}, "additionalProperties": False}
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
        "defaults": {"type": "object"},
        "blocks": {"type": "object", "additionalProperties": block},
        **of_a_net,
        "nets": {"type": "object", "additionalProperties": net},
        "weights": file,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "graphc model",
        "type": "object",
        "required": ["graphc"],
        "anyOf": [{"required": [k]} for k in ("net", "nets", "blocks", "include")],
        "additionalProperties": False,
        "properties": {name: sections[name] for name in SECTIONS},
        "$defs": {"steps": {"anyOf": [{"$ref": "#/$defs/step"}, {"type": "array", "items": STEPS}]}, "step": _step()},
    }


def _step() -> dict[str, Any]:
    common = {"as": NAMES, "from": NAMES, "share": TEXT, "name": TEXT, "weights": {"type": "object"}}
    join = {"enum": [*get_args(Join)]}
    path = {"anyOf": [{"type": "object", "required": ["project"]}, STEPS]}
    branch = {"join": join, "axis": COUNT, "paths": {"type": "object", "additionalProperties": path}}
    loop = {"n": COUNT, "of": STEPS, "with": {"type": "object"}}
    states, named = {"type": "object"}, {"type": ["string", "array", "object"]}
    scan = {"over": named, "axis": COUNT, "reverse": {"type": ["boolean", "string"]}, "states": states}
    scan |= {"of": STEPS, "collect": named}
    while_ = {"states": states, "condition": {"anyOf": [TEXT, STEPS]}, "at_most": COUNT, "of": STEPS}
    while_ |= {"collect": named, "axis": COUNT}
    repeat = loop | {"first": {"type": "object"}, "last": {"type": "object"}, "join": join}
    structures = {
        "branch": {"type": "object", "required": ["join", "paths"], "properties": branch | common},
        "repeat": {"type": "object", "required": ["of"], **COUNTED, "properties": repeat | common},
        "loop": {"type": "object", "required": ["of"], **COUNTED, "properties": loop | common},
        "scan": {"type": "object", "required": ["over", "of"], "properties": scan | common},
        "while": {
            "type": "object",
            "required": ["states", "condition", "at_most", "of"],
            "properties": while_ | common,
        },
        "if": {"type": ["string", "boolean"]},
        "when": {"anyOf": [TEXT, STEPS]},
        "let": {"type": ["string", "object"], "additionalProperties": {"type": ["string", "number", "boolean"]}},
        "then": STEPS,
        "else": STEPS,
    }
    known = {name: _layer(made, common) for name, made in layers().items()}
    words = {"type": "string", "examples": sorted(known)}
    return {"anyOf": [words, {"type": "object", "properties": structures | known | common}]}


def _layer(made: LayerDefinition, common: dict[str, Any]) -> dict[str, Any]:
    args = {name: _argument(hint, default) for name, (hint, default) in made.args.items()}
    full = {"type": "object", "properties": args | dict.fromkeys(common, True), "additionalProperties": False}
    short = [{k: v for k, v in args[made.main].items() if k != "default"}] if made.main else []
    return {"description": made.doc, "anyOf": [full, *short, {"type": "null"}]}


def _argument(hint: Any, default: Any) -> dict[str, Any]:
    """Any argument may also be an expression, which is text."""
    plain = {int: "integer", float: "number", bool: "boolean"}
    members = options(hint)
    kinds = ["array" if get_origin(m) is tuple else plain[m] for m in members if get_origin(m) is tuple or m in plain]
    if "number" in kinds:
        kinds = [k for k in kinds if k != "integer"]
    out: dict[str, Any] = {"type": [*kinds, "string"]}
    choices = [c for m in members if get_origin(m) is Literal for c in get_args(m)]
    if choices:
        out["examples"] = choices
    if default is not inspect.Parameter.empty and default is not None:
        out["default"] = list(default) if isinstance(default, tuple) else default
    return out


def text() -> str:
    """The file's content, with lists and mappings of scalars on one line."""
    data = json.dumps(schema(), indent=1, ensure_ascii=False)
    return (
        re.sub(r"([\[{])\s+([^\[\]{}]*?)\s+([\]}])", lambda m: m[1] + re.sub(r"\s*\n\s*", " ", m[2]) + m[3], data)
        + "\n"
    )


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
