"""Where the time of a model goes: a table against the roofline, a Chrome trace, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import click

from graphc.cli.console import print_table, seconds
from graphc.draw.text import as_xml

if TYPE_CHECKING:
    from graphc.report import Plan, Roofline, StepInfo

# of the picture, in pixels
ROW, LABEL, BARS, NUMBERS = 16, 330, 500, 190
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#99ddff", "#bbbbbb")


def print_profile(plan: Plan, spent: Sequence[float], limits: Roofline | None) -> None:
    """A row for each step, with the part of its time that the machine's limits explain, where the backend knows them."""
    total = sum(spent) or 1e-12
    occupied = any(step.occupancy is not None for step in plan.steps)
    print_table(
        (
            *(">step", "nodes", "kernel", "algorithm", "type", ">time", ">part", ">GFLOP/s", ">GB/s", ">of roofline"),
            *([">occupancy"] if occupied else []),
        ),
        [
            (
                step.index,
                step.label,
                "host (NumPy)" if step.host else step.kernel,
                step.algorithm,
                step.type,
                seconds(t),
                f"{t / total:.1%}",
                _rate(step.flops, t),
                _rate(step.nbytes, t),
                f"{limits.seconds(step) / t:.0%}" if limits is not None and t > 0 else "",
                *([f"{step.occupancy:.0%}" if step.occupancy is not None else ""] if occupied else []),
            )
            for step, t in zip(plan.steps, spent)
        ],
        title=f"steps, one at a time: {seconds(total)} together",
    )
    if limits is None:
        return
    least = sum(limits.seconds(step) for step in plan.steps if not step.host)
    click.echo(
        f"{limits.about(plan.threads)}\n"
        f"all steps at the roofline: {seconds(least)}; an algorithm of fewer operations (Winograd) may pass it"
    )


def _rate(amount: int, t: float) -> str:
    return f"{amount / t / 1e9:.3g}" if amount and t > 0 else ""


def chrome_trace(plan: Plan, spent: Sequence[float]) -> dict[str, Any]:
    """The steps in a row as complete events (ph 'X', microseconds) of the Trace Event Format."""
    events, now = [], 0.0
    for step, t in zip(plan.steps, spent):
        events.append(
            {
                "name": step.label,
                "cat": "host" if step.host else "kernel",
                "ph": "X",
                "ts": now * 1e6,
                "dur": t * 1e6,
                "pid": 0,
                "tid": 0,
                "args": {
                    "ops": list(step.ops),
                    "kernel": step.kernel,
                    "algorithm": step.algorithm,
                    "type": step.type,
                    "flops": step.flops,
                    "bytes": step.nbytes,
                    **({} if step.occupancy is None else {"occupancy": step.occupancy}),
                },
            }
        )
        now += t
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def picture(plan: Plan, spent: Sequence[float], title: str) -> str:
    """An SVG with a bar for each step, as long as its time, coloured by its first operator."""
    colours = _colours(plan, spent)
    legend = [(op, colour) for op, colour in colours.items() if colour != COLOURS[-1]] + [("others", COLOURS[-1])]
    top, longest, total = 3 * ROW, max([*spent, 1e-12]), sum(spent) or 1e-12
    width, height = LABEL + BARS + NUMBERS, top + ROW * (len(plan.steps) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(8, ROW, title, "font-weight='bold'"),
    ]
    for i, (op, colour) in enumerate(legend):
        x = 8 + i * (width - 16) / len(legend)
        parts += [
            f'<rect x="{x:.0f}" y="{ROW + 7}" width="10" height="10" fill="{colour}"/>',
            _text(x + 14, ROW + 16, op),
        ]
    for i, (step, t) in enumerate(zip(plan.steps, spent)):
        y, length = top + ROW * i, BARS * t / longest
        numbers = f"{seconds(t)}  {t / total:.1%}" + (
            f"  {_rate(step.flops, t)} GFLOP/s" if step.flops and t > 0 else ""
        )
        parts += [
            _text(LABEL - 6, y + 12, _shortened(step.label), "text-anchor='end'"),
            f'<rect x="{LABEL}" y="{y + 2}" width="{length:.1f}" height="{ROW - 4}" fill="{colours[main_operator(step)]}">'
            f"<title>{escape(f'{step.label}: {step.kernel} {step.algorithm}')}</title></rect>",
            _text(LABEL + length + 4, y + 12, numbers, "fill='#555'"),
        ]
    return as_xml("\n".join([*parts, "</svg>\n"]))


def main_operator(step: StepInfo) -> str:
    """The first one."""
    return step.ops[0] if step.ops else step.kernel


def _colours(plan: Plan, spent: Sequence[float]) -> dict[str, str]:
    """A colour for each operator; the last one for all but those that take the most time."""
    times: dict[str, float] = {}
    for step, t in zip(plan.steps, spent):
        times[main_operator(step)] = times.get(main_operator(step), 0.0) + t
    order = sorted(times, key=lambda op: -times[op])
    return {op: COLOURS[min(i, len(COLOURS) - 1)] for i, op in enumerate(order)}


def _shortened(text: str, limit: int = 54) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {attributes}>{escape(text)}</text>'
