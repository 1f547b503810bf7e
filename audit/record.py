"""The decision record: one JSON object per review."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from admission.admission_review import AdmissionRequest
from admission.approval import Answered
from admission.decision import Decision
from audit.masking import mask, mask_text

SCHEMA = "tidewaiter.dev/decision/v1"


def decision_record(
    decision: Decision, request: AdmissionRequest | None, now: datetime, latency_seconds: float, policy_revision: str
) -> dict[str, Any]:
    """What is written down of one review, with secrets masked.

    ``now`` is aware, UTC. ``request`` is None where it could not be read.
    """
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "uid": decision.uid,
        "webhook": decision.purpose.value,
        "verdict": decision.verdict.value,
        "allowed": decision.allowed,
        "latency_ms": round(latency_seconds * 1000, 3),
        "policy_revision": policy_revision,
    }
    if request is not None:
        record.update(_about_request(request))
    record.update(_about_decision(decision))
    return record


def _about_request(request: AdmissionRequest) -> dict[str, Any]:
    metadata = (request.object or {}).get("metadata")
    generated = metadata.get("generateName") if isinstance(metadata, dict) else None
    return {
        "user": request.user.username,
        "groups": list(request.user.groups or ()),
        "operation": request.operation,
        "kind": request.kind.kind,
        "group": request.kind.group,
        "subresource": request.sub_resource,
        "namespace": request.namespace,
        "name": request.name or (f"{generated}*" if generated else ""),
        "dry_run": bool(request.dry_run),
    }


def _about_decision(decision: Decision) -> dict[str, Any]:
    about: dict[str, Any] = {}
    if decision.ignored:
        about["ignored"] = decision.ignored
    if decision.error:
        about["error"] = mask_text(decision.error)
    if decision.recognised:
        about |= {
            "recognised": decision.recognised,
            "environment": decision.environment,
            "workload": decision.workload,
            "model": {
                "name": decision.model.name,
                "version": decision.model.version,
                "uri": mask_text(decision.model.uri),
                "digest": decision.digest,
            },
        }
    if decision.answered is not None:
        about["approval"] = _approval(decision.answered)
    if decision.findings:
        about["findings"] = [
            {
                "rule": one.finding.rule,
                "action": one.action.value,
                "path": one.finding.path,
                "container": one.finding.container,
                "message": mask_text(one.finding.message),
                "remedy": mask_text(one.finding.remedy),
                **({"exception": one.exception} if one.exception else {}),
                **({"deny_after": one.deny_after.isoformat()} if one.deny_after else {}),
            }
            for one in decision.findings
        ]
    if decision.recreated:
        about["recreated"] = True
    if decision.tolerated:
        about["tolerated"] = decision.tolerated
    if decision.injections:
        about["injections"] = [
            {"mutator": one.mutator, "changes": [mask_text(text) for text in one.changes], "preview": one.preview}
            for one in decision.injections
        ]
    if decision.patch:
        about["patch"] = [{**one, "value": mask(one["value"])} if "value" in one else one for one in decision.patch]
    return about


def _approval(answered: Answered) -> dict[str, Any]:
    """Who said what of the model, and how old that is."""
    about: dict[str, Any] = {
        "registry": answered.registry,
        "state": answered.state,
        "freshness": answered.freshness,
        "age_seconds": round(answered.age, 3),
    }
    if answered.revision:
        about["revision"] = answered.revision
    if answered.cause:
        about["cause"] = answered.cause
    return about
