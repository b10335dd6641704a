"""The picture of `graphc bench`: what each step takes against the roofline, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graphc.cli.console import many
from graphc.cli.profile import main_operator
from graphc.draw.text import as_xml, shortened
from graphc.errors import MissingPackageError
from graphc.report import Plan, Roofline, StepInfo, format_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 100  # steps that have a bar of their own
WIDE, ROW, REST = 12.0, 0.19, 6.2  # inches: of the picture, of a bar, of the roofline and what stands between
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#99ddff", "#bbbbbb")
STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "graphc",
    "font.size": 9,
}  # names hold any text


def require_matplotlib() -> None:
    """Raises MissingPackageError where it is not there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingPackageError("this picture needs matplotlib", hint="pip install 'graphc[draw]'") from None


def picture(plan: Plan, spent: Sequence[float], title: str, limits: Roofline | None) -> str:
    """An SVG: a bar for each step, as long as its time, coloured by its first operator, with a mark where the roofline has it; below,
    operations per second over operations per byte under the machine's limits. limits: None where the backend knows none."""
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    shown = sorted(sorted(range(len(spent)), key=lambda i: -spent[i])[:MOST])
    points = [i for i, step in enumerate(plan.steps) if step.flops and step.nbytes and spent[i] > 0]
    lower = limits is not None and bool(points)
    high = 1.3 + ROW * (len(shown) + 1)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDE, high + REST * lower), layout="constrained")
        figure.suptitle(as_xml(title), fontweight="bold")
        axes = figure.subplots(1 + lower, 1, squeeze=False, height_ratios=[high, REST] if lower else [1])[:, 0]
        _bars(axes[0], plan, spent, shown, limits)
        if limits is not None and lower:
            _roofline(axes[1], plan, spent, points, limits)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _bars(axes: Axes, plan: Plan, spent: Sequence[float], shown: Sequence[int], limits: Roofline | None) -> None:
    longest, total = max([*spent, 1e-12]), sum(spent) or 1e-12
    scale, unit = next(((s, u) for s, u in ((1.0, "s"), (1e-3, "ms")) if longest >= s), (1e-6, "µs"))
    colours = _colours(plan, spent)
    labels: dict[str, Any] = {}
    for row, i in enumerate(shown):
        step, t = plan.steps[i], spent[i]
        bar = axes.barh(row, t / scale, color=colours[main_operator(step)], height=0.8, gid=f"step{step.index}")
        colour = colours[main_operator(step)]
        labels.setdefault("others" if colour == COLOURS[-1] else main_operator(step), bar)
        rate = f"  {step.flops / t / 1e9:.3g} GFLOP/s" if step.flops and t > 0 else ""
        axes.annotate(
            f"{t / scale:.3g} {unit}  {t / total:.1%}{rate}",
            (t / scale, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color="#444",
        )
    if limits is not None:
        there = [(row, i) for row, i in enumerate(shown) if not plan.steps[i].host]
        least = [limits.seconds(plan.steps[i]) / scale for _, i in there]
        labels["at the roofline"] = axes.plot(least, [row for row, _ in there], "k|", markersize=8, gid="least")[0]
    axes.set_yticks(range(len(shown)), [as_xml(shortened(plan.steps[i].label, 54)) for i in shown], fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(0, longest / scale * 1.28)
    rest = len(spent) - len(shown)
    others = (
        f"; {many(rest, 'step')} more take {(total - sum(spent[i] for i in shown)) / total:.1%} of the time"
        if rest
        else ""
    )
    axes.set_xlabel(f"time of a step, {unit}{others}")
    axes.grid(axis="x", alpha=0.35)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(labels.values(), [as_xml(name) for name in labels], fontsize=8, loc="lower right")


def _roofline(axes: Axes, plan: Plan, spent: Sequence[float], points: Sequence[int], limits: Roofline) -> None:
    steps = [plan.steps[i] for i in points]
    x = [step.flops / step.nbytes for step in steps]
    y = [step.flops / spent[i] / 1e9 for i, step in zip(points, steps)]
    roofs = {_type(step): limits.flops_of(step) / 1e9 for step in steps if not step.host} or {
        name: peak / 1e9 for name, peak in limits.peaks.items()
    }
    peak, rates = max(roofs.values()), [(size, rate / 1e9) for size, rate in limits.rates]
    left, right = min([*x, peak / rates[0][1]]) / 2, max([*x, peak / rates[-1][1]]) * 2
    for size, rate in rates:
        axes.plot([left, peak / rate], [left * rate, peak], color="#777", linewidth=1)
        axes.annotate(
            f"{rate:.3g} GB/s of {format_bytes(size)}",
            (left, left * rate),
            xytext=(3, 7 if size != rates[-1][0] else -1),
            textcoords="offset points",
            fontsize=7,
            color="#555",
        )
    for colour, (name, roof) in zip(COLOURS, roofs.items()):
        axes.plot([min(roof / rates[0][1], right), right], [roof, roof], color=colour, linewidth=1.6)
        axes.annotate(
            f"{name} {roof:.3g}", (right, roof), xytext=(4, -3), textcoords="offset points", fontsize=8, color=colour
        )
    longest = max(spent[i] for i in points)
    colours = dict(zip(roofs, COLOURS))
    of_type = [colours.get(_type(step), COLOURS[-1]) for step in steps]
    areas = [12 + 260 * spent[i] / longest for i in points]
    axes.scatter(x, y, s=areas, c=of_type, alpha=0.6, edgecolors=of_type, gid="points")
    axes.set(xscale="log", yscale="log", xlim=(left, right), xlabel="operations per byte", ylabel="GFLOP/s")
    axes.set_title(
        f"roofline, {many(plan.threads, 'thread')}: a point for each step, larger where it takes longer", fontsize=9
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(which="major", alpha=0.35)
    axes.spines[["top", "right"]].set_visible(False)


def _type(step: StepInfo) -> str:
    return step.type or "float32"


def _colours(plan: Plan, spent: Sequence[float]) -> dict[str, str]:
    """A colour for each operator; the last one for all but those that take the most time."""
    times: dict[str, float] = {}
    for step, t in zip(plan.steps, spent):
        times[main_operator(step)] = times.get(main_operator(step), 0.0) + t
    order = sorted(times, key=lambda op: -times[op])
    return {op: COLOURS[min(i, len(COLOURS) - 1)] for i, op in enumerate(order)}
