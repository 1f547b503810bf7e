"""What is written down of a review of our own objects: who said what, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from admission.admission_review import AdmissionRequest
from admission.decision import Decision, Purpose
from admission.finding import Action, Finding, JudgedFinding
from audit.masking import mask_text
from audit.record import decision_record

RULE = "governance"


def governance_record(
    request: AdmissionRequest | None,
    purpose: Purpose,
    refusals: tuple[str, ...],
    error: str,
    now: datetime,
    latency_seconds: float,
) -> dict[str, Any]:
    """A decision record as of any review, and under ``governance`` what the request says.

    ``error`` is why there was no review, ``refusals`` are what it found.
    """
    decision = Decision(
        uid=request.uid if request is not None else "",
        purpose=purpose,
        allowed=not refusals and not error,
        findings=tuple(JudgedFinding(Finding(RULE, "", one, ""), Action.DENY) for one in refusals),
        error=error,
    )
    record = decision_record(decision, request, now, latency_seconds, "")
    if request is not None and not error:
        record["governance"] = _about(request)
    return record


def _about(request: AdmissionRequest) -> dict[str, Any]:
    spec = _dict((request.object or request.old_object or {}).get("spec"))
    about: dict[str, Any] = {key: mask_text(str(spec[key])) for key in _NAMED if key in spec}
    if "rules" in spec:
        about["rules"] = spec["rules"]
    if request.sub_resource == "status":
        about["changes"] = list(_changes(request.old_object, request.object))
    return about


_NAMED = ("model", "version", "digest", "proposedBy", "requestedBy", "expires", "ticket", "reason")


def _changes(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Entries that were written or taken away."""
    before, after = _said(old), _said(new)
    for one in after:
        if one not in before:
            yield {**one, "reason": mask_text(str(one.get("reason") or ""))}
    keys = [_key(one) for one in after]
    for one in before:
        if _key(one) not in keys:
            yield {**_key(one), "state": "withdrawn"}


def _said(obj: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    status = _dict((obj or {}).get("status"))
    entries = status.get("approvals")
    said = [*(entries if isinstance(entries, list) else ()), status.get("approval")]
    return [one for one in said if isinstance(one, dict)]


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _key(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("environment", "approver", "approvedBy") if key in entry}
