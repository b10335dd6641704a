"""Steps of which there are several kinds: the one that the model of costs has fastest, or that was measured to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphc.lower.program import Step

if TYPE_CHECKING:
    from graphc.backends.cuda.lower.lowering import CudaLowering
    from graphc.backends.tuned import Times

MOST = 8  # candidates of a site that are measured


@dataclass(frozen=True, eq=False)
class Candidate:
    """name: tells it from the others of its site. emit: its steps; it takes what was measured of it, for people, or ''."""

    name: str
    emit: Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Trial:
    """Steps that stand for those of the program, to be measured."""

    site: str
    name: str
    steps: Sequence[Step]


@dataclass(eq=False)
class Choices:
    """times: what was measured, by site. lacking: how many candidates of a site have no machine code. trials: of candidates, in
    order, the model's choice first; None where nothing is to be measured."""

    times: Mapping[str, Times] = field(default_factory=dict)
    lacking: Mapping[str, int] = field(default_factory=dict)
    trials: list[Trial] | None = None

    def take(self, lo: CudaLowering, site: Callable[[], str], candidates: Sequence[Candidate]) -> None:
        """Emit the steps of the best. site: what times of the candidates depend on. candidates: the model's choice, then those that
        may be faster, the likeliest first."""
        first, said = candidates[0], ""
        if self.trials is not None and len(candidates) > 1:
            self._try(lo, site(), candidates[:MOST], self.trials)
        elif self.times and len(candidates) > 1:
            where = site()
            first, said = self._best(where, candidates[:MOST])
        first.emit(said)

    def _try(self, lo: CudaLowering, site: str, candidates: Sequence[Candidate], trials: list[Trial]) -> None:
        if any(t.site == site for t in trials):
            return
        for c in candidates:
            with lo.aside() as steps:
                c.emit("")
            trials.append(Trial(site, c.name, steps))

    def _best(self, site: str, candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
        times = self.times.get(site, {})
        known = [c for c in candidates if c.name in times]
        if not known:
            return candidates[0], ""
        best, model = min(known, key=lambda c: times[c.name]), candidates[0]
        said = [f"measured {_shown(times[best.name])}"]
        if best is model:
            others = [times[c.name] for c in known[1:]]
            said.append(f"the model's choice, others from {_shown(min(others))}" if others else "the model's choice")
        elif model.name in times:
            said.append(f"the model's choice {_shown(times[model.name])}")
        if lacking := self.lacking.get(site):
            said.append(f"{lacking} of {len(candidates)} without machine code here")
        return best, ", ".join(said)


def _shown(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs"
