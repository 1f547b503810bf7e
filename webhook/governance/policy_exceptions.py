"""``PolicyException`` under review, read, and kept.

Pure: questions to RBAC are returned, not asked. Expiry is the kernel's to judge
(``PolicyException.covers``), at each review: an expired exception is gone at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Set
from datetime import datetime, timedelta
from typing import Any

from admission.admission_review import AdmissionRequest
from admission.policy_exception import PolicyException
from registries.model_version import UnreadableObjectError, moment
from webhook.governance.access import EXCEPT, GROUP, RULES, may_except
from webhook.governance.model_versions import Asked, Verdict
from webhook.governance.settings import GovernanceSettings

KIND = "PolicyException"
_CLOCKS_APART = timedelta(minutes=2)
_LOG = logging.getLogger("tidewaiter.governance")


def stamp_request(request: AdmissionRequest, obj: dict[str, Any]) -> None:
    """Write who requests; an update that leaves the name out keeps it."""
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    if request.operation == "CREATE":
        spec["requestedBy"] = request.user.username
    elif "requestedBy" not in spec:
        before = ((request.old_object or {}).get("spec") or {}).get("requestedBy")
        if before:
            spec["requestedBy"] = before


def stamp_approval(request: AdmissionRequest, obj: dict[str, Any], now: datetime) -> None:
    """Write who approves and when, where the approval is new or changed."""
    approval = _approval(obj)
    if approval is not None and approval != _approval(request.old_object):
        approval["approvedBy"] = request.user.username
        approval["approvedAt"] = now.strftime("%Y-%m-%dT%H:%M:%SZ")


def judge_request(
    request: AdmissionRequest, settings: GovernanceSettings, own_namespace: str, now: datetime
) -> Verdict:
    """A new exception: in our namespace, with an end that is near enough, by who sent it."""
    if request.operation != "CREATE":
        return Verdict()  # the schema keeps the spec as it is
    spec = (request.object or {}).get("spec") or {}
    refusals: list[str] = []
    if request.namespace != own_namespace:
        refusals.append(
            f"metadata.namespace: exceptions are honoured only in namespace {own_namespace}, "
            f"not in {request.namespace}; request it there"
        )
    if spec.get("requestedBy") != request.user.username:
        refusals.append(
            f"spec.requestedBy: {spec.get('requestedBy') or 'nobody'!r} did not send this; leave it out, Tidewaiter "
            "writes it (is its mutating webhook installed?)"
        )
    expires, latest = _moment(spec.get("expires")), now + timedelta(days=settings.max_exception_days)
    if expires is None or expires <= now:
        refusals.append(f"spec.expires: {spec.get('expires')} is past; give a time to come")
    elif expires > latest:
        refusals.append(
            f"spec.expires: {spec.get('expires')} is more than {settings.max_exception_days} days away; give at most "
            f"{latest.strftime('%Y-%m-%dT%H:%M:%SZ')} (settings: governance.maxExceptionDays)"
        )
    return Verdict(tuple(refusals))


def judge_approval(request: AdmissionRequest, settings: GovernanceSettings, now: datetime) -> Verdict:
    """A change of the approval: not by the requester, and with leave for each of its rules."""
    old, new = _approval(request.old_object), _approval(request.object)
    if old == new:
        return Verdict()
    spec, user = (request.object or {}).get("spec") or {}, request.user.username
    asked = tuple(
        Asked(
            may_except(request.user, str(rule), request.namespace),
            f"{user} may not approve exceptions of rule {rule}: that takes a Role in namespace {request.namespace} "
            f"with verb {EXCEPT} on resource {RULES} of group {GROUP}"
            f"{' without resourceNames' if '*' in str(rule) else f', resourceNames [{rule}]'}",
        )
        for rule in dict.fromkeys(spec.get("rules") or ())
    )
    return Verdict(tuple(_wrong(new, spec, user, settings, now)), asked)


def _wrong(
    new: dict[str, Any] | None, spec: Mapping[str, Any], user: str, settings: GovernanceSettings, now: datetime
) -> list[str]:
    if new is None:
        return []  # whoever may approve may take it back
    refusals = []
    stamped = _moment(new.get("approvedAt"))
    if new.get("approvedBy") != user or stamped is None or abs(now - stamped) > _CLOCKS_APART:
        refusals.append("status.approval: it was not written by Tidewaiter; is its mutating webhook installed?")
    if user == spec.get("requestedBy"):
        refusals.append(
            f"status.approval: {user} requested this exception, and nobody approves their own; somebody else has to"
        )
    if user.startswith("system:serviceaccount:") and not settings.service_accounts_may_approve:
        refusals.append(
            f"status.approval: {user} is a service account, and those may request but not approve "
            "(settings: governance.serviceAccountsMayApprove)"
        )
    return refusals


def read_policy_exception(obj: Mapping[str, Any], own_namespace: str) -> PolicyException | None:
    """An exception as the kernel takes it; None where it is not approved or not in our namespace.

    Raises ``UnreadableObjectError`` for one that cannot be believed.
    """
    metadata, spec = _dict(obj.get("metadata")), _dict(obj.get("spec"))
    approval = _approval(obj)
    name = str(metadata.get("name"))
    if metadata.get("namespace") != own_namespace or approval is None or not approval.get("approvedBy"):
        return None
    match, where = _dict(spec.get("match")), f"{KIND} {name}: spec"
    expires = moment(spec.get("expires"), f"{KIND} {name}: spec.expires")
    requester, approver = str(spec.get("requestedBy") or ""), str(approval["approvedBy"])
    if expires is None or not requester or requester == approver:
        raise UnreadableObjectError(f"{KIND} {name}: it was never reviewed, so it does not hold")
    return PolicyException(
        name=name,
        rules=_words(spec.get("rules"), f"{where}.rules"),
        namespaces=_words(match.get("namespaces"), f"{where}.match.namespaces"),
        expires=expires,
        kinds=_words(match.get("kinds"), f"{where}.match.kinds"),
        names=_words(match.get("names"), f"{where}.match.names"),
        labels=dict(_dict(match.get("labels"))),
        reason=str(spec.get("reason") or ""),
        ticket=str(spec.get("ticket") or ""),
        requester=requester,
        approver=approver,
    )


class PolicyExceptions:
    """The approved exceptions of our namespace, as a watch brings them."""

    def __init__(self, own_namespace: str) -> None:
        self._own_namespace = own_namespace
        self._lock = threading.Lock()
        self._kept: dict[str, PolicyException] = {}
        self.current: tuple[PolicyException, ...] = ()
        """For ``ReviewContext.exceptions``; it may hold some that have expired."""

    def put(self, obj: Mapping[str, Any]) -> None:
        """Take an object in."""
        metadata = obj["metadata"]
        try:
            read = read_policy_exception(obj, self._own_namespace)
        except UnreadableObjectError as error:
            _LOG.warning("%s", error)
            read = None
        if read is None:
            self.remove(metadata.get("namespace") or "", metadata["name"])
            return
        with self._lock:
            self._kept[read.name] = read
            self.current = tuple(self._kept.values())

    def remove(self, namespace: str, name: str) -> None:
        """Forget an object."""
        with self._lock:
            if namespace == self._own_namespace and self._kept.pop(name, None) is not None:
                self.current = tuple(self._kept.values())

    def keep_only(self, keys: Set[tuple[str, str]]) -> None:
        """Forget what a complete list does not have any more."""
        for name in self._kept.keys() - {name for namespace, name in keys if namespace == self._own_namespace}:
            self.remove(self._own_namespace, name)


def _approval(obj: Mapping[str, Any] | None) -> dict[str, Any] | None:
    approval = _dict((obj or {}).get("status")).get("approval")
    return approval if isinstance(approval, dict) else None


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _words(value: object, where: str) -> tuple[str, ...]:
    """A list of texts. One that is read wrong would hold for too much: no kinds stand for all kinds."""
    words = value if isinstance(value, list) else [] if value is None else [None]
    if not all(isinstance(one, str) for one in words):
        raise UnreadableObjectError(f"{where}: this is no list of texts")
    return tuple(words)


def _moment(value: object) -> datetime | None:
    try:
        return moment(value, "")
    except UnreadableObjectError:
        return None
