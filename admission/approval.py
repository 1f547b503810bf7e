"""What a registry says of a model version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ApprovalState(StrEnum):
    """The state of a model version in its registry."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Approval:
    """One version of one model. ``expires`` is aware; None means never.

    ``source`` is the URI of the bytes and ``digest`` fixes them (``sha256:...``).
    """

    model: str
    version: str
    state: ApprovalState
    digest: str = ""
    source: str = ""
    environments: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class NotFound:
    """The registry answered, and does not know the version. ``known`` helps the author."""

    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The registry did not answer; ``reason`` is a sentence."""

    reason: str


Answer = Approval | NotFound | Unavailable
ApprovalLookup = Callable[[str, str], Answer]
"""``lookup(model, version)``; never raises and never blocks."""


def no_registry(_model: str, _version: str) -> Answer:
    """The lookup of a process without a registry."""
    return Unavailable("no registry is configured (settings: registry.file.path)")
