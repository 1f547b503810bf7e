"""Findings: what a rule has to say about one field of an object."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from admission.long_text import shortened

_LONGEST = 1_000
_LONGEST_PLACE = 300
_INDEX = re.compile(r"\[\d+\]")


class Action(StrEnum):
    """What a finding does. ``off`` switches the rule off where it is set."""

    DENY = "deny"
    WARN = "warn"
    AUDIT = "audit"
    OFF = "off"

    @property
    def strictness(self) -> int:
        """A number that grows with strictness, for "may tighten, never loosen"."""
        return _STRICTNESS[self]


_STRICTNESS = {Action.OFF: 0, Action.AUDIT: 1, Action.WARN: 2, Action.DENY: 3}


@dataclass(frozen=True, slots=True)
class Finding:
    """One complaint of one rule.

    ``path`` is the field in the author's object (``spec.containers[0].image``),
    ``message`` says what was found and ``remedy`` what is allowed and what to do.
    ``always`` holds even against what was admitted earlier: a revoked model.
    ``of_request`` is about who asks: going back to an earlier template excuses nobody.
    ``lapse`` is about an approval that held once: a controller may recreate what it had.
    Texts are cut, with a mark: they repeat what the author wrote, whatever its length.
    """

    rule: str
    path: str
    message: str
    remedy: str
    container: str = ""
    always: bool = False
    of_request: bool = False
    lapse: bool = False

    def __post_init__(self) -> None:
        if len(self.message) > _LONGEST:
            object.__setattr__(self, "message", shortened(self.message, _LONGEST))
        if len(self.remedy) > _LONGEST:
            object.__setattr__(self, "remedy", shortened(self.remedy, _LONGEST))
        if len(self.path) > _LONGEST_PLACE:
            object.__setattr__(self, "path", shortened(self.path, _LONGEST_PLACE))
        if len(self.container) > _LONGEST_PLACE:
            object.__setattr__(self, "container", shortened(self.container, _LONGEST_PLACE))

    def text(self) -> str:
        """The sentence that a person reads."""
        where = f"{self.path} ({self.container})" if self.container else self.path
        return f"{where}: {self.message}; {self.remedy} (rule {self.rule})"

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What makes two findings the same before and after an update.

        List positions are left out: moving a container makes nothing worse. The
        message is in, since it carries the value found.
        """
        return (self.rule, _INDEX.sub("[]", self.path), self.container, self.message)


@dataclass(frozen=True, slots=True)
class JudgedFinding:
    """A finding with the action that holds for it here and now.

    ``deny_after`` is the day to come on which the action becomes ``deny``; ``exception``
    names the policy exception that took the action away.
    """

    finding: Finding
    action: Action
    deny_after: date | None = None
    exception: str = ""

    def text(self) -> str:
        """The sentence that a person reads."""
        text = self.finding.text()
        return text if self.deny_after is None else f"{text}; refused from {self.deny_after.isoformat()} on"
