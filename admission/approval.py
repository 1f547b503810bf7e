"""What a registry says of a model version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from admission.image_reference import parse_image

CLAIM_SCHEME = "pvc://"
"""Of a source that is a folder of a volume claim: ``pvc://claim/folder``."""
_IMAGE_SCHEMES = ("oci+native://", "oci://")


class ApprovalState(StrEnum):
    """The state of a model version in its registry."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class EnvironmentApproval:
    """Who approved a version for one environment ("*" for each), and until when (aware; None: for ever)."""

    environment: str
    approvers: tuple[str, ...] = ()
    expires: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """One version of one model. ``expires`` is aware; None means never.

    ``source`` is the URI of the bytes and ``digest`` fixes them (``sha256:...``).
    ``by_environment`` holds the approvals one by one, where a registry tells them apart;
    ``environments``, ``approvers`` and ``expires`` are then those of the environment that
    was asked about. ``registry`` names who said so, and ``stale`` that it said so a while ago
    and does not answer now.
    """

    model: str
    version: str
    state: ApprovalState
    digest: str = ""
    source: str = ""
    environments: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    expires: datetime | None = None
    by_environment: tuple[EnvironmentApproval, ...] = ()
    registry: str = ""
    stale: bool = False

    def seen_from(self, environment: str) -> Approval:
        """The same with approvers and expiry of one environment."""
        if not self.by_environment:
            return self
        here = next((one for one in self.by_environment if one.environment in (environment, "*")), None)
        return replace(
            self,
            environments=tuple(one.environment for one in self.by_environment if one.environment != "*"),
            approvers=here.approvers if here is not None else (),
            expires=here.expires if here is not None else None,
        )

    def names_image(self, image: str) -> bool:
        """Whether the source is this image; one that is approved by digest must be used by it."""
        scheme = next((one for one in _IMAGE_SCHEMES if self.source.startswith(one)), None)
        wanted, found = parse_image(self.source.removeprefix(scheme or "")), parse_image(image)
        if scheme is None or wanted is None or found is None:
            return False
        if (wanted.registry, wanted.repository) != (found.registry, found.repository):
            return False
        digest = wanted.digest or self.digest
        return found.digest == digest if digest else not found.digest and wanted.tag == found.tag


@dataclass(frozen=True, slots=True)
class NotFound:
    """The registry answered, and does not know the version. ``known`` helps the author."""

    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The registry did not answer; ``reason`` is a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class ApprovalQuestion:
    """What a review asks the registries of ``environment``; "" for none."""

    environment: str
    model: str
    version: str


Answer = Approval | NotFound | Unavailable


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of the registry ``registry``, ``age`` seconds old, from its record's ``revision``.

    ``cause`` is the word for metrics where the answer is ``Unavailable`` or stale.
    """

    answer: Answer
    registry: str = ""
    age: float = 0.0
    revision: str = ""
    cause: str = ""

    @property
    def state(self) -> str:
        """What was said, in one word: an approval's state, ``not-found`` or ``unavailable``."""
        if isinstance(self.answer, Approval):
            return self.answer.state.value
        return "not-found" if isinstance(self.answer, NotFound) else "unavailable"

    @property
    def freshness(self) -> str:
        """``fresh``, ``stale`` where the registry does not answer now, or ``unavailable`` where it said nothing."""
        if isinstance(self.answer, Unavailable):
            return "unavailable"
        return "stale" if isinstance(self.answer, Approval) and self.answer.stale else "fresh"


ApprovalLookup = Callable[[str, str], Answer]
"""``lookup(model, version)``; never raises and never blocks."""


def no_registry(_model: str, _version: str) -> Answer:
    """The lookup of a process without a registry."""
    return Unavailable("no registry is configured (settings: registries)")
