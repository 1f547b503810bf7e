"""``Decision``: everything that one review came to, as data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from admission.approval import Answered
from admission.context import MissingInjection
from admission.finding import Action, JudgedFinding
from admission.image_signature import Signatures
from admission.json_patch import Operation
from admission.long_text import shortened
from admission.model_reference import ModelReference

MAX_WARNINGS_LENGTH = 4096
"""The API server keeps warnings whole up to this many characters in total; above it
cuts each to 256 and drops the rest."""
MAX_DENIAL_LENGTH = 20_000
"""More than a person reads, and less than makes an answer or an event hard to carry."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""The API server drops a warning that has one."""
_MORE = "tidewaiter has more to say than the API server lets through; `tidewaiter review` shows it all"

_FURTHER = "and {} more; `tidewaiter review` shows them all"


class Purpose(StrEnum):
    """Which webhook was asked."""

    MUTATE = "mutate"
    VALIDATE = "validate"


class Verdict(StrEnum):
    """How a review ended, for records and metrics."""

    ALLOWED = "allowed"
    MUTATED = "mutated"
    WARNED = "warned"
    DENIED = "denied"
    IGNORED = "ignored"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Injection:
    """What one mutator did (or, in preview, would do). ``role`` names one pod of several."""

    mutator: str
    changes: tuple[str, ...]
    preview: bool = False
    role: str = ""


@dataclass(frozen=True, slots=True)
class CreatedPod:
    """A pod that would come of a workload: as written there, and as it would be admitted.

    ``place`` is where it stands in the author's object, "" for a pod that is its own; None
    where it is put together from several places.
    """

    role: str
    written: dict[str, Any]
    admitted: dict[str, Any]
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of one review.

    ``answered`` is what the registries said of the model, None where they were not asked.
    ``signatures`` is what was said of images that must be signed.
    ``findings`` are all that hold, most serious first; ``tolerated`` were there before
    an update and are not held against it. ``created`` are the pods that would come
    of a workload, for showing; they are never sent. ``recreated`` says that a controller
    may make the pod again although its approval lapsed. ``error`` is a sentence where the review
    itself went wrong.
    """

    uid: str
    purpose: Purpose
    allowed: bool
    recognised: str = ""
    environment: str = ""
    workload: str = ""
    model: ModelReference = field(default_factory=ModelReference)
    digest: str = ""
    answered: Answered | None = None
    signatures: Signatures = field(default_factory=dict)
    findings: tuple[JudgedFinding, ...] = ()
    tolerated: int = 0
    recreated: bool = False
    injections: tuple[Injection, ...] = ()
    missing: tuple[MissingInjection, ...] = ()
    patch: tuple[Operation, ...] = ()
    created: tuple[CreatedPod, ...] = ()
    ignored: str = ""
    error: str = ""

    @property
    def verdict(self) -> Verdict:
        """One word for the outcome."""
        if self.error:
            return Verdict.ERROR
        if self.ignored:
            return Verdict.IGNORED
        if not self.allowed:
            return Verdict.DENIED
        if self.patch:
            return Verdict.MUTATED
        if any(one.action is Action.WARN for one in self.findings):
            return Verdict.WARNED
        return Verdict.ALLOWED

    def denial(self) -> str:
        """What the user reads on a refusal: every finding that denies, a line each.

        The first line carries a finding whole, since `kubectl get events` shows no
        other.
        """
        if self.error:
            return shortened(self.error, MAX_DENIAL_LENGTH)
        denying = [one.finding for one in self.findings if one.action is Action.DENY]
        if len(denying) == 1:
            return denying[0].text()
        lines: list[str] = []
        left = MAX_DENIAL_LENGTH - len(_FURTHER) - 20
        for number, finding in enumerate(denying, 1):
            line = f"[{number}/{len(denying)}] {finding.text()}"
            left -= len(line) + 1
            if left < 0:
                lines.append(_FURTHER.format(len(denying) - number + 1))
                break
            lines.append(line)
        return "\n".join(lines)

    def warnings(self) -> list[str]:
        """Warnings within the API server's limits, most serious first."""
        texts = [one.text() for one in self.findings if one.action is Action.WARN]
        texts += [
            f"would {'; '.join(injection.changes)} (mutator {injection.mutator}, preview)"
            for injection in self.injections
            if injection.preview and injection.changes
        ]
        if self.error and self.allowed:
            texts.insert(0, self.error)
        return _bounded(texts)


def _bounded(texts: Iterable[str]) -> list[str]:
    """One line each, no duplicates, within the limit in total."""
    warnings: list[str] = []
    left = MAX_WARNINGS_LENGTH
    for text in dict.fromkeys(" ".join(_CONTROL.sub(" ", text).split()) for text in texts):
        line = text if len(text) <= 1000 else f"{text[:997]}..."
        if not line:
            continue
        if left - len(line) < len(_MORE):
            warnings.append(_MORE)
            break
        left -= len(line)
        warnings.append(line)
    return warnings
