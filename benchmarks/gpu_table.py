"""Rows of a run on a GPU as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
HEAD = "| | precision | graphc | PyTorch | ratio | torch.compile | ratio | at least | difference |"
RULE = f"| --- | --- |{' ---: |' * 7}"
EMULATOR = "the emulator"
BOUND = (
    "*At least*: what the operations and bytes of the steps take by the data sheet of the card that is named there, on the units "
    "that their kernels use, and 2 µs for each launch (`backends/cuda/codegen/figures.py`); *(host)*: the GPU waited for it."
)
MEMORY_HEAD = "| | graphc | of a copy's pace | PyTorch | ratio |"
MEMORY_RULE = f"| --- |{' ---: |' * 4}"


def table(rows: Sequence[Row], planned: Sequence[Row]) -> str:
    """planned: what there is to measure, in order, from the preparation: cases with their bounds."""
    by = {(r["kind"], r["name"]): r for r in rows}
    device = by.get(("device", "device"), {})
    parts = [_about(device), _operators(rows), _examples(rows), _sanitizer(by.get(("sanitizer", "sanitizer")))]
    lines = [HEAD, RULE]
    memory = [MEMORY_HEAD, MEMORY_RULE]
    for p in planned:
        row, compiled = by.get(("time", p["name"]), {}), by.get(("compiled", p["name"]), {})
        if p["memory"]:
            memory.append(_of_memory(p, row, device))
        else:
            lines.append(_of_case(p, row, compiled))
    wrong = [f"- {r['name']}: {'; '.join(said)}" for r in rows if (said := _troubles(r))]
    parts += ["\n".join(rows) for rows in (lines, memory) if len(rows) > len((HEAD, RULE))]
    parts += [_of_tuned(r) for r in rows if r["kind"] == "tuned" and "tuned" in r]
    if wrong:
        parts.append("\n".join(["What did not agree, or failed:", "", *wrong]))
    return "\n\n".join(filter(None, parts)) + "\n"


def _troubles(r: Row) -> list[str]:
    return [*r.get("wrong", []), *([r["failed"]] if "failed" in r else []), *([r["note"]] if "note" in r else [])]


def _about(d: Row) -> str:
    if "device" not in d:
        return f"Not measured yet. {BOUND}"
    words = [f"On {d['device']}"]
    if "driver" in d:
        cuda = f"{d['driver'] // 1000}.{d['driver'] % 1000 // 10}"
        words.append(f"{d['multiprocessors']} multiprocessors, driver of CUDA {cuda}")
    words.append(f"PyTorch {d['torch']}" if "torch" in d else "PyTorch is not installed")
    words.append(f"a copy moves {d['copy'] / 1e12:.3g} TB/s, read and written")
    if d["device"] == EMULATOR:
        words.append("where times say nothing about a GPU")
    return f"{', '.join(words)}. {BOUND}"


def _operators(rows: Sequence[Row]) -> str:
    found = [r for r in rows if r["kind"] == "operator"]
    if not found:
        return ""
    good = [r for r in found if not _troubles(r)]
    samples = sum(r.get("samples", 0) for r in found)
    return f"Operators: {len(good)} of {len(found)} agree with the reference, {samples} samples."


def _examples(rows: Sequence[Row]) -> str:
    found = [r for r in rows if r["kind"] == "example"]
    good = [r for r in found if not _troubles(r)]
    return f"Examples: {len(good)} of {len(found)} agree with the CPU." if found else ""


def _sanitizer(row: Row | None) -> str:
    return "" if row is None else f"compute-sanitizer: {row.get('said') or row.get('failed') or row.get('note', '')}."


def _of_case(p: Row, row: Row, compiled: Row) -> str:
    ours, theirs, tuned = row.get("graphc"), row.get("torch"), compiled.get("torch.compile")
    said = _mark(row)
    cells = [
        p["title"], p["precision"], said or _ms(ours) + _rate(p, ours), _ms(theirs), _ratio(ours, theirs), _ms(tuned),
        _ratio(compiled.get("graphc"), tuned), f"{p['bound'] * 1e3:.3g} ms ({p['card']})" if p.get("bound") else "",
        f"{row['difference']:.0e}" if "difference" in row else "",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _of_tuned(r: Row) -> str:
    """A line of its own: beside what the model chooses, in turn."""
    return (
        f"{r['name']}, tiles measured (`tune`): {_ms(r['tuned'])}, {_ratio(r['tuned'], r['graphc'])} of the model's "
        f"choices ({r['changed']} steps changed, in {r['tuning']:.0f} s)."
    )


def _of_memory(p: Row, row: Row, device: Row) -> str:
    ours, theirs = row.get("graphc"), row.get("torch")
    part = f"{p['nbytes'] / ours['seconds'] / device['copy']:.0%}" if ours and "copy" in device else ""
    return f"| {p['title']} | {_mark(row) or _ms(ours)} | {part} | {_ms(theirs)} | {_ratio(ours, theirs)} |"


def _mark(row: Row) -> str:
    """Instead of a time."""
    if "failed" in row:
        return "failed"
    if row.get("wrong"):
        return "wrong"
    return "" if "graphc" in row else "not measured"


def _ms(times: Row | None) -> str:
    """Marked where the host was slower than the GPU: then the time is the host's."""
    if not times:
        return ""
    late = " (host)" if times["host"] > 0.95 * times["seconds"] else ""
    return f"{times['seconds'] * 1e3:.3g} ms{late}"


def _rate(p: Row, times: Row | None) -> str:
    return f", {p['flops'] / times['seconds'] / 1e12:.3g} TFLOP/s" if times and p["products"] else ""


def _ratio(ours: Row | None, theirs: Row | None) -> str:
    return f"{ours['seconds'] / theirs['seconds']:.2f}" if ours and theirs else ""
