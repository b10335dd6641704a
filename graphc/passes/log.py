"""What the passes did and did not do, node by node, for `graphc explain --why`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LogEntry:
    """One rewrite at one node: `reason` says why it did not apply, '' means that it did."""

    pass_name: str
    rule: str
    op: str
    node: str
    reason: str = ""

    @property
    def applied(self) -> bool:
        return not self.reason

    @property
    def note(self) -> str:
        """The entry without the name of its pass."""
        return f"{self.op} '{self.node}': {self.rule}: {self.reason or 'applied'}"

    def __str__(self) -> str:
        return f"{self.pass_name}: {self.note}"


@dataclass
class Log:
    """Collects entries, in order. Passes take one optionally; rewrites that found no match write nothing."""

    entries: list[LogEntry] = field(default_factory=list)

    def add(self, entry: LogEntry) -> None:
        self.entries.append(entry)

    def applied(self, pass_name: str = "") -> list[LogEntry]:
        return [e for e in self.entries if e.applied and pass_name in ("", e.pass_name)]

    def refused(self, pass_name: str = "") -> list[LogEntry]:
        """What matched but did not apply. A rewrite that is tried again and again is reported once."""
        found = [e for e in self.entries if not e.applied and pass_name in ("", e.pass_name)]
        return list(dict.fromkeys(found))

    def __str__(self) -> str:
        return "\n".join(map(str, self.entries))
