"""``ModelVersion`` under review: what is stamped, and what is refused.

Pure: questions to RBAC are returned, not asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from admission.admission_review import AdmissionRequest
from admission.approval import ApprovalState
from registries.model_version import (
    Standing,
    UnreadableObjectError,
    moment,
    object_name,
    overall,
    read_model_version,
)
from webhook.access_review import AccessQuestion
from webhook.governance.access import ENVIRONMENTS, FORGET, GROUP, may_approve, may_forget
from webhook.governance.settings import GovernanceSettings

_SERVICE_ACCOUNT = "system:serviceaccount:"
_CLOCKS_APART = timedelta(minutes=2)
"""Between our mutating and our validating replica."""
_Key = tuple[str, str]
_Entry = dict[str, Any]
_CONDITION_REASONS = {
    ApprovalState.APPROVED: "Approved",
    ApprovalState.PROPOSED: "MoreApproversNeeded",
    ApprovalState.REJECTED: "Rejected",
    ApprovalState.REVOKED: "Revoked",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to RBAC, and the sentence that a no becomes."""

    question: AccessQuestion
    refusal: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong in any case, and what RBAC still has to allow."""

    refusals: tuple[str, ...] = ()
    asked: tuple[Asked, ...] = ()
    warnings: tuple[str, ...] = ()


def stamp_proposal(request: AdmissionRequest, obj: dict[str, Any]) -> None:
    """Write who proposes; an update that leaves the name out keeps it."""
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    if request.operation == "CREATE":
        spec["proposedBy"] = request.user.username
    elif "proposedBy" not in spec:
        before = ((request.old_object or {}).get("spec") or {}).get("proposedBy")
        if before:
            spec["proposedBy"] = before


def stamp_approvals(
    request: AdmissionRequest, obj: dict[str, Any], settings: GovernanceSettings, now: datetime
) -> None:
    """Write who approved and when into new and changed entries, and what follows from all of them."""
    status = obj.get("status")
    if not isinstance(status, dict):
        return
    user, before = request.user.username, _entries(request.old_object)
    sent = _list(status.get("approvals"))
    mine = {id(one) for one in sent if isinstance(one, dict) and _is_new(one, user, before)}
    spoken = {str(one.get("environment")) for one in sent if id(one) in mine}
    status["approvals"] = [
        {**one, "approver": user, "at": _written(now)} if id(one) in mine else one
        for one in sent
        # Who writes a new entry without a name means to replace what they said before.
        if id(one) in mine or not _said_by(one, user) or str(one.get("environment")) not in spoken
    ]
    if not status["approvals"]:
        del status["approvals"]
    _derive(obj, status, settings, now)


def _is_new(entry: _Entry, user: str, before: Mapping[_Key, _Entry]) -> bool:
    """Whether the user says something that is not there yet."""
    return (entry.get("approver") or user) == user and entry != before.get(_key(entry))


def _said_by(entry: object, user: str) -> bool:
    return isinstance(entry, dict) and entry.get("approver") == user


def _derive(obj: dict[str, Any], status: dict[str, Any], settings: GovernanceSettings, now: datetime) -> None:
    """The parts of the status that are for people and printer columns; nothing else reads them."""
    for key in ("state", "environments", "conditions"):
        status.pop(key, None)
    try:
        read = read_model_version(obj)
    except UnreadableObjectError:
        return  # the validating review says what is wrong
    standings = read.standings(settings.approvers)
    status["state"] = overall(standings).value
    environments = [one.environment for one in standings if one.state is ApprovalState.APPROVED]
    if environments:
        status["environments"] = environments
    conditions = [_condition(one, now) for one in standings]
    if conditions:
        status["conditions"] = conditions


def _condition(standing: Standing, now: datetime) -> dict[str, Any]:
    approved = standing.state is ApprovalState.APPROVED
    if standing.state in (ApprovalState.APPROVED, ApprovalState.PROPOSED):
        message = f"{len(standing.approvers)} of {standing.needed} approvals"
    else:
        message = f"{standing.state.value} by {', '.join(standing.approvers)}"
    return {
        "type": f"Approved-{standing.environment}",
        "status": "True" if approved else "False",
        "reason": _CONDITION_REASONS[standing.state],
        "message": message[:1024],
        "lastTransitionTime": _written(now),
    }


def keep_transition_times(old: Mapping[str, Any] | None, obj: dict[str, Any]) -> None:
    """A condition that did not change keeps its time."""
    known = {one.get("type"): one for one in _list(((old or {}).get("status") or {}).get("conditions"))}
    for one in _list((obj.get("status") or {}).get("conditions")):
        before = known.get(one["type"])
        if before is not None and before.get("status") == one["status"]:
            one["lastTransitionTime"] = before.get("lastTransitionTime", one["lastTransitionTime"])


def judge_proposal(request: AdmissionRequest) -> Verdict:
    """A new version: its name follows from it, and its proposer is who sent it."""
    obj = request.object or {}
    spec, name = obj.get("spec") or {}, (obj.get("metadata") or {}).get("name") or ""
    refusals: list[str] = []
    wanted = object_name(str(spec.get("model")), str(spec.get("version")))
    if name != wanted:
        refusals.append(
            f"metadata.name: {name!r} is not the name of {_text(spec)}; name it {wanted}, "
            "so that a version is proposed only once"
        )
    if request.operation == "CREATE" and spec.get("proposedBy") != request.user.username:
        refusals.append(
            f"spec.proposedBy: {spec.get('proposedBy') or 'nobody'!r} did not send this; leave it out, Tidewaiter "
            "writes it (is its mutating webhook installed?)"
        )
    return Verdict(tuple(refusals))


def judge_deletion(request: AdmissionRequest) -> Verdict:
    """A version that was revoked stays, so that nobody proposes it again as if nothing had been."""
    if request.old_object is None:
        return Verdict(("what is deleted was not sent along, so that nobody can say whether it was revoked",))
    spec, user = request.old_object.get("spec") or {}, request.user.username
    revoked = {where: one for (where, _), one in _entries(request.old_object).items() if _revoked(one)}
    asked = tuple(
        Asked(
            may_forget(request.user, environment),
            f"{_text(spec)} was revoked for {environment} by {one.get('approver')} at {one.get('at')}, and a "
            f"revocation holds for good; {user} may not delete it: that takes a ClusterRole with verb {FORGET} on "
            f"resource {ENVIRONMENTS} of group {GROUP}, resourceNames [{environment}] "
            "(tidewaiter-revocation-eraser)",
        )
        for environment, one in sorted(revoked.items())
    )
    return Verdict(asked=asked)


def judge_approvals(
    request: AdmissionRequest, settings: GovernanceSettings, environments: Collection[str], now: datetime
) -> Verdict:
    """A change of the status: each entry is its approver's own, and each change needs leave."""
    before, after = _entries(request.old_object), _entries(request.object)
    spec = (request.object or {}).get("spec") or {}
    refusals: list[str] = []
    asked: dict[str, Asked] = {}
    approves = False
    for index, key in enumerate(dict.fromkeys([*after, *before])):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        where = f"status.approvals[{index}]" if new is not None else "status.approvals"
        wrong = list(_wrong(key, old, new, spec, before, request.user.username, environments, settings, now))
        refusals += (f"{where}: {one}" for one in wrong)
        approves |= new is not None and new.get("state") == ApprovalState.APPROVED.value
        environment = key[0]
        if environment in environments and environment not in asked:
            asked[environment] = Asked(may_approve(request.user, environment), _no_leave(request, environment))
    warnings = tuple(evidence_gaps(spec)) if approves else ()
    return Verdict(tuple(refusals), tuple(asked.values()), warnings)


def _wrong(
    key: _Key,
    old: _Entry | None,
    new: _Entry | None,
    spec: Mapping[str, Any],
    before: Mapping[_Key, _Entry],
    user: str,
    environments: Collection[str],
    settings: GovernanceSettings,
    now: datetime,
) -> Iterator[str]:
    environment, approver = key
    if environment not in environments:
        yield f"there is no environment {environment!r}; the environments are {', '.join(environments)}"
    if approver != user:
        yield _of_another(approver, environment, user, old, new)
        return
    revocation = next((one for (where, _), one in before.items() if where == environment and _revoked(one)), None)
    if revocation is not None and not _revoked(new):
        yield (
            f"{_text(spec)} was revoked for {environment} by {revocation.get('approver')} at {revocation.get('at')}, "
            "and a revocation holds for good; propose another version"
        )
    if new is None:
        return
    stamped = _moment(new.get("at"))
    if stamped is None or abs(now - stamped) > _CLOCKS_APART:
        yield "the time was not written by Tidewaiter; is its mutating webhook installed?"
    if new.get("state") == ApprovalState.APPROVED.value:
        yield from _approval_wrong(new, spec, user, settings, now)


def _approval_wrong(
    new: _Entry, spec: Mapping[str, Any], user: str, settings: GovernanceSettings, now: datetime
) -> Iterator[str]:
    if user == spec.get("proposedBy"):
        yield f"{user} proposed {_text(spec)}, and nobody approves their own; somebody else has to"
    if user.startswith(_SERVICE_ACCOUNT) and not settings.service_accounts_may_approve:
        yield (
            f"{user} is a service account, and those may propose but not approve "
            "(settings: governance.serviceAccountsMayApprove)"
        )
    expires = _moment(new.get("expires"))
    if expires is not None and expires <= now:
        yield f"expires: {new.get('expires')} is past; give a time to come, or none"


def _of_another(approver: str, environment: str, user: str, old: _Entry | None, new: _Entry | None) -> str:
    if old is None:
        return f"{user} cannot speak as {approver} for {environment}; leave approver out, Tidewaiter writes it"
    what = "taken away" if new is None else "changed"
    return (
        f"the entry of {approver} for {environment} would be {what}, and only {approver} may do that; "
        "read the object again if it changed meanwhile, and write an entry of your own"
    )


def _no_leave(request: AdmissionRequest, environment: str) -> str:
    return (
        f"{request.user.username} may not approve for {environment}: that takes a ClusterRole with verb approve on "
        f"resource {ENVIRONMENTS} of group {GROUP}, resourceNames [{environment}] "
        f"(tidewaiter-model-approver-{environment})"
    )


def evidence_gaps(spec: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about what the evidence of a version lacks or misses."""
    evidence = spec.get("evidence") or {}
    name = _text(spec)
    for one in _list(evidence.get("evaluation")):
        value, least, most = one.get("value"), one.get("atLeast"), one.get("atMost")
        if least is not None and value < least:
            yield f"{name}: metric {one.get('metric')} is {value}, below its threshold {least}"
        if most is not None and value > most:
            yield f"{name}: metric {one.get('metric')} is {value}, above its threshold {most}"
    critical = (evidence.get("vulnerabilityScan") or {}).get("critical")
    if critical:
        yield f"{name}: its vulnerability scan found {critical} critical"
    for key, what in (("biasAudit", "bias audit"), ("dataValidation", "data validation")):
        if key in evidence and not (evidence.get(key) or {}).get("passed"):
            yield f"{name}: its {what} did not pass"
    missing = [what for key, what in (("evaluation", "evaluation"), ("vulnerabilityScan", "vulnerability scan"))
               if not evidence.get(key)]  # fmt: skip
    if missing:
        yield f"{name}: there is no {' and no '.join(missing)} among its evidence"


def _revoked(entry: _Entry | None) -> bool:
    return entry is not None and entry.get("state") == ApprovalState.REVOKED.value


def _entries(obj: Mapping[str, Any] | None) -> dict[_Key, _Entry]:
    entries = _list(((obj or {}).get("status") or {}).get("approvals"))
    return {_key(one): one for one in entries if isinstance(one, dict)}


def _key(entry: Mapping[str, Any]) -> _Key:
    return str(entry.get("environment")), str(entry.get("approver"))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(spec: Mapping[str, Any]) -> str:
    return f"{spec.get('model')}:{spec.get('version')}"


def _moment(value: object) -> datetime | None:
    try:
        return moment(value, "")
    except UnreadableObjectError:
        return None


def _written(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
