"""The outcome of one run of the gate, for whatever prints it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from webhook.gate.check import Check
from webhook.gate.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was asked, of which model version, and what was found. ``gates_source`` is the file of thresholds."""

    model: str
    version: str
    environment: str
    gates_source: str
    checks: Sequence[Check]
    evidence: Sequence[Evidence]
    skipped: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether every threshold holds."""
        return all(one.passed for one in self.checks)

    @property
    def unbound(self) -> list[str]:
        """Files that thresholds rest on, and of which nothing says which model version they are about."""
        used = {source for one in self.checks for source in one.sources}
        bound = {source for one in self.checks if one.id.startswith("evidence-about.") for source in one.sources}
        return [one.source for one in self.evidence if one.source in used - bound]

    @property
    def name(self) -> str:
        """The model version, for sentences."""
        return f"{self.model}:{self.version}"

    @property
    def failed(self) -> list[Check]:
        """The thresholds that do not hold."""
        return [one for one in self.checks if not one.passed]
