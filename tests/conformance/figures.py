"""The ONNX backend suite in figures: what gives the expected results, by the reference and compiled, and what is machine code
throughout."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx

import graphc
from graphc.errors import GraphcError
from graphc.frontends.onnx_load import GRADIENT
from graphc.frontends.onnx_versions import RENAMED
from graphc.op import all_ops

from .cases import KINDS, Case, as_object, cases, compare, failure

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
BEGIN, END = "<!-- figures: begin (python -m tests.conformance --page) -->", "<!-- figures: end -->"
KNOWN = {  # why cases fail, by a part of their names
    "training_dropout": "the expected values are one draw of a random operator",
    "_align_corners": "the expected values are of a length that is no whole number, scale · size before it is rounded down",
    "dft_inverse": "zeros up to 1e-14, where 1.9e-7 is expected to an absolute 1e-7",
    "_fp16_expanded": "a step of float16, wider than the tolerance",
}
_SECONDS = 120  # for one case


@dataclass(frozen=True)
class Outcome:
    """Of one case. wrong: why it fails by the reference; compiled: why compiled for the CPU; host: 'operator: reason' of each node
    that no kernel computes."""

    name: str
    wrong: str | None
    compiled: str | None
    host: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]


def outcome(case: Case) -> Outcome:
    compiled, host = _compiled(case)
    return Outcome(case[0], failure(case), compiled, host)


def _compiled(case: Case) -> tuple[str | None, tuple[str, ...]]:
    """Why the case fails when it is compiled, or None; and what runs on the host."""
    _, proto, sets, rtol, atol = case
    try:
        model = graphc.compile(proto, target="cpu")
        host: dict[str, None] = {}
        for inputs, expected in sets:
            given = dict(zip((i.name for i in proto.graph.input), map(as_object, inputs)))
            feeds = {name: x for name, x in given.items() if name in {spec.name for spec in model.inputs}}
            results = model.run(feeds)
            for want, name in zip(map(as_object, expected), (o.name for o in proto.graph.output)):
                compare(want, results[name], rtol, atol)
            plan = model.plan(values=feeds)
            host |= dict.fromkeys(f"{s.ops[0]}: {s.reason}" for s in plan.steps if s.host)
            host |= dict.fromkeys(f"{node.op}: {node.reason}" for node in plan.pending if node.host)
        return None, tuple(host)
    except (GraphcError, AssertionError, TypeError, ValueError, TimeoutError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}", ()


def outcomes(words: Sequence[str] = ()) -> Iterator[Outcome]:
    """Of the cases whose names have one of the words; of all, if there are none."""
    for case in cases():
        if not words or any(word in case[0] for word in words):
            before = signal.signal(signal.SIGALRM, _too_long)
            signal.alarm(_SECONDS)
            try:
                found = outcome(case)
            finally:
                signal.alarm(0)
                signal.signal(signal.SIGALRM, before)
            yield found


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"no result after {_SECONDS} s")


def table(found: Iterable[Outcome]) -> list[str]:
    """A line for each kind of case, and one for all."""
    found = list(found)
    lines = [
        "| kind | cases | right by the reference | right compiled for the CPU | without a step in NumPy |",
        "| --- | --: | --: | --: | --: |",
    ]
    for kind in (*KINDS, "all"):
        of_kind = [o for o in found if kind in ("all", o.kind)]
        if of_kind:
            right = [o for o in of_kind if o.compiled is None]
            numbers = (
                len(of_kind),
                sum(o.wrong is None for o in of_kind),
                len(right),
                sum(not o.host for o in right),
            )
            lines.append(f"| {kind} | {' | '.join(map(str, numbers))} |")
    return lines


def reasons(found: Iterable[Outcome]) -> list[str]:
    """The operators that run in NumPy, each with the number of its cases, the most frequent first."""
    counts = Counter(op for o in found for op in {line.partition(": ")[0] for line in o.host})
    return [f"`{op}` ({n})" for op, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def coverage() -> list[str]:
    """Of each domain: how many operators there are, and how many are read; of com.microsoft, by what ONNX Runtime defines."""
    ours = all_ops().keys() | RENAMED | {"Constant", GRADIENT}
    domains: dict[str, dict[str, bool]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        domain = schema.domain or "ai.onnx"
        name = schema.name if domain == "ai.onnx" else f"{domain}::{schema.name}"
        body = schema.has_function or schema.has_context_dependent_function
        domains.setdefault(domain, {})[name] = domains.get(domain, {}).get(name, False) or name in ours or body
    lines = [f"- `{d}`: {sum(names.values())} of {len(names)} operators" for d, names in sorted(domains.items())]
    contrib = {name for name in ours if name.startswith("com.microsoft::")}
    try:
        from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema
    except ImportError:
        return [*lines, f"- `com.microsoft`: {len(contrib)} operators"]
    theirs = {f"{s.domain}::{s.name}" for s in get_all_operator_schema() if s.domain == "com.microsoft"}
    version = metadata.version("onnxruntime")
    return [
        *lines,
        f"- `com.microsoft`: {len(contrib & theirs)} of the {len(theirs)} that ONNX Runtime {version} defines",
    ]


def _why(name: str, error: str) -> str:
    return next((why for part, why in KNOWN.items() if part in name), error.partition("\n")[0])


def figures(found: Sequence[Outcome]) -> str:
    """The part of the page that is measured."""
    wrong = [f"- `{o.name}`: {_why(o.name, o.wrong or o.compiled or '')}" for o in found if o.wrong or o.compiled]
    lines = [f"onnx {onnx.__version__}, NumPy {np.__version__}:", "", *table(found), ""]
    lines += ["Operators with cases that run in NumPy: " + (", ".join(reasons(found)) or "none") + "."]
    lines += ["", "Cases that fail:", "", *wrong] if wrong else ["", "No case fails."]
    return "\n".join([*lines, "", "Operators that are read, as records or as bodies of others:", "", *coverage()])


def write_page(found: Sequence[Outcome]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{figures(found)}\n{END}{rest.split(END)[1]}", encoding="utf-8")
