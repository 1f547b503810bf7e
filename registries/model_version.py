"""One ``ModelVersion`` object, read: what it says of each environment.

An object's name follows from model and version (``object_name``), so that a version cannot
be proposed twice. In each environment a revocation outweighs a rejection, a rejection the
approvals, and approvals count only where they are enough, by people other than the proposer.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from admission.approval import Approval, ApprovalState, EnvironmentApproval

KIND = "ModelVersion"
_PLAIN = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
_MAX_PLAIN = 120
_MAX_SLUG = 60
_HASH_DIGITS = 16
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NEVER = datetime.max.replace(tzinfo=UTC)
_OUTWEIGHING = (ApprovalState.REVOKED, ApprovalState.REJECTED)

Required = Mapping[str, int]
"""How many approvers an environment wants, by name; "*" for those not named, else 1."""


def object_name(model: str, version: str) -> str:
    """The ``metadata.name`` of a version, a DNS subdomain, the same every time.

    ``MODEL--VERSION`` where both consist of lower-case letters and digits with single
    hyphens or dots between them; otherwise what is left of them, ``---`` and a hash of
    both: ``meta-llama/Llama-3`` version ``1`` is ``meta-llama-llama-3-1---`` and 16 digits.
    """
    plain = f"{model}--{version}"
    if _PLAIN.fullmatch(model) and _PLAIN.fullmatch(version) and len(plain) <= _MAX_PLAIN:
        return plain
    slug = re.sub(r"[^a-z0-9]+", "-", f"{model}-{version}".lower()).strip("-")[:_MAX_SLUG].strip("-")
    digits = sha256(f"{model}\0{version}".encode()).hexdigest()[:_HASH_DIGITS]
    return f"{slug or 'model'}---{digits}"


class UnreadableObjectError(Exception):
    """The object cannot be believed; the text is a sentence."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one approver said for one environment. ``expires`` is aware; None means never."""

    environment: str
    approver: str
    state: ApprovalState
    expires: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a version stands in one environment. ``approvers`` are those who count."""

    environment: str
    state: ApprovalState
    approvers: tuple[str, ...] = ()
    needed: int = 1
    expires: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """What one object says."""

    model: str
    version: str
    digest: str
    source: str
    proposer: str
    entries: tuple[Entry, ...] = ()

    @property
    def environments(self) -> tuple[str, ...]:
        """Those that somebody decided on."""
        return tuple(sorted({one.environment for one in self.entries}))

    def standing(self, environment: str, required: Required) -> Standing:
        """Where it stands in one environment; whoever asks compares ``expires`` with the time."""
        here = [one for one in self.entries if one.environment == environment]
        needed = required.get(environment, required.get("*", 1))
        for state in _OUTWEIGHING:
            found = [one for one in here if one.state is state]
            if found:
                approvers = tuple(one.approver for one in found)
                return Standing(environment, state, approvers, needed, reason=found[0].reason)
        counted = [one for one in here if one.state is ApprovalState.APPROVED and one.approver != self.proposer]
        approvers = tuple(sorted(one.approver for one in counted))
        if len(counted) < needed:
            return Standing(environment, ApprovalState.PROPOSED, approvers, needed)
        # It holds for as long as enough of them do.
        until = sorted((one.expires or _NEVER for one in counted), reverse=True)[needed - 1]
        reason = next((one.reason for one in counted if one.reason), "")
        expires = None if until == _NEVER else until
        return Standing(environment, ApprovalState.APPROVED, approvers, needed, expires, reason)

    def standings(self, required: Required) -> tuple[Standing, ...]:
        """Where it stands in each environment that somebody decided on."""
        return tuple(self.standing(one, required) for one in self.environments)


def overall(standings: Iterable[Standing]) -> ApprovalState:
    """The best that it has reached anywhere, or how it was refused."""
    states = {one.state for one in standings}
    order = (ApprovalState.APPROVED, ApprovalState.REVOKED, ApprovalState.REJECTED)
    return next((state for state in order if state in states), ApprovalState.PROPOSED)


def read_model_version(obj: Mapping[str, Any]) -> ModelVersion:
    """Read one object; raises ``UnreadableObjectError`` for one that was not reviewed as ours are."""
    name = _text(_dict(obj.get("metadata")).get("name"))
    spec = _dict(obj.get("spec"))
    model, version, digest, proposer = (_text(spec.get(key)) for key in ("model", "version", "digest", "proposedBy"))
    if not model or not version:
        raise UnreadableObjectError(f"{KIND} {name}: spec.model and spec.version are required")
    if name != object_name(model, version):
        raise UnreadableObjectError(
            f"{KIND} {name}: {model}:{version} stands in {object_name(model, version)} and nowhere else"
        )
    if not _DIGEST.fullmatch(digest):
        raise UnreadableObjectError(f"{KIND} {name}: spec.digest {digest[:80]!r} is not sha256: and 64 digits")
    if not proposer:
        raise UnreadableObjectError(f"{KIND} {name}: spec.proposedBy is missing, so it was never reviewed")
    entries = _dict(obj.get("status")).get("approvals")
    return ModelVersion(
        model=sys.intern(model),
        version=sys.intern(version),
        digest=digest,
        source=_text(spec.get("source")),
        proposer=sys.intern(proposer),
        entries=tuple(_entry(one, name) for one in (entries if isinstance(entries, list) else ())),
    )


def approval_of(read: ModelVersion, required: Required, registry: str = "") -> Approval:
    """What the kernel knows of a version, without an environment.

    ``expires`` is the first of all environments', ``approvers`` are those of all;
    ``Approval.seen_from`` tells one environment from another.
    """
    standings = read.standings(required)
    approved = [one for one in standings if one.state is ApprovalState.APPROVED]
    state = overall(standings)
    speakers = approved or [one for one in standings if one.state is state]
    return Approval(
        model=read.model,
        version=read.version,
        state=state,
        digest=read.digest,
        source=read.source,
        environments=tuple(one.environment for one in approved),
        approvers=tuple(sorted({name for one in speakers for name in one.approvers})),
        expires=min((one.expires for one in approved if one.expires is not None), default=None),
        by_environment=tuple(
            EnvironmentApproval(one.environment, one.approvers, one.expires, one.reason) for one in approved
        ),
        registry=registry,
    )


def moment(value: object, where: str) -> datetime | None:
    """A time of the API as an aware ``datetime``; None where there is none."""
    if value is None or value == "":
        return None
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise UnreadableObjectError(f"{where}: {str(value)[:40]!r} is not a time; write 2027-01-31T00:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _entry(entry: object, name: str) -> Entry:
    found = _dict(entry)
    where = f"{KIND} {name}: status.approvals"
    try:
        state = ApprovalState(_text(found.get("state")))
    except ValueError:
        raise UnreadableObjectError(f"{where}: state {_text(found.get('state'))[:40]!r} is unknown") from None
    return Entry(
        sys.intern(_text(found.get("environment"))),
        sys.intern(_text(found.get("approver"))),
        state,
        moment(found.get("expires"), where),
        _text(found.get("reason")),
    )


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
