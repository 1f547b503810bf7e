"""The decision record: one JSON object per review."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import orjson

from admission.admission_review import AdmissionRequest
from admission.approval import Answered, Approval
from admission.decision import Decision, Injection
from admission.finding import JudgedFinding
from admission.image_signature import ImageSignature
from admission.json_patch import Operation
from admission.long_text import shortened
from admission.review_mark import REVIEW_KEY
from audit.masking import mask, mask_text
from audit.signed_images import signature_fields

T = TypeVar("T")

SCHEMA = "tidewaiter.dev/decision/v1"
MAX_RECORD_BYTES = 64 * 1024
"""No record has more, whatever the request says: texts are cut, with a mark, and lists end with
their first entries, the number of those left out beside them."""
_LONGEST = 500
_UID = re.compile(r"[0-9A-Za-z-]{1,64}")
_LONGEST_SENTENCE = 1_500
_GROUPS_BYTES = 4_000
_FINDINGS_BYTES = 20_000
_INJECTIONS_BYTES = 6_000
_SIGNATURES_BYTES = 8_000
_PATCH_BYTES = 16_000


def decision_record(
    decision: Decision,
    request: AdmissionRequest | None,
    now: datetime,
    latency_seconds: float,
    policy_revision: str,
    settings_revision: str = "",
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
        "settings_revision": settings_revision,
    }
    if request is not None:
        record.update(_about_request(request))
    record.update(_about_decision(decision))
    return record


def _about_request(request: AdmissionRequest) -> dict[str, Any]:
    metadata = (request.object or {}).get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    generated = metadata.get("generateName")
    annotations = metadata.get("annotations")
    mutation = annotations.get(REVIEW_KEY) if isinstance(annotations, dict) else None
    return {
        "user": _cut(request.user.username),
        **_first("groups", request.user.groups or (), _GROUPS_BYTES, _cut),
        "operation": request.operation,
        "kind": _cut(request.kind.kind),
        "group": _cut(request.kind.group),
        "subresource": _cut(request.sub_resource),
        "namespace": _cut(request.namespace),
        "name": _cut(request.name or (f"{generated}*" if generated else "")),
        "dry_run": bool(request.dry_run),
        **({"mutation": mutation} if isinstance(mutation, str) and _UID.fullmatch(mutation) else {}),
    }


def _about_decision(decision: Decision) -> dict[str, Any]:
    about: dict[str, Any] = {}
    if decision.ignored:
        about["ignored"] = decision.ignored
    if decision.error:
        about["error"] = _cut(decision.error, _LONGEST_SENTENCE)
    if decision.recognised:
        about |= {
            "recognised": _cut(decision.recognised),
            "environment": decision.environment,
            "workload": decision.workload,
            "model": {
                "name": _cut(decision.model.name),
                "version": _cut(decision.model.version),
                "uri": _cut(decision.model.uri),
                "digest": _cut(decision.digest),
            },
        }
    if decision.answered is not None:
        about["approval"] = _approval(decision.answered)
    return about | _lists(decision)


def _lists(decision: Decision) -> dict[str, Any]:
    """What there may be much of: each list has its share of the record."""
    about: dict[str, Any] = {}
    if decision.signatures:
        about |= _first("signatures", tuple(decision.signatures.items()), _SIGNATURES_BYTES, _signature)
    if decision.findings:
        about |= _first("findings", decision.findings, _FINDINGS_BYTES, _finding)
    if decision.recreated:
        about["recreated"] = True
    if decision.tolerated:
        about["tolerated"] = decision.tolerated
    if decision.injections:
        about |= _first("injections", decision.injections, _INJECTIONS_BYTES, _injection)
    if decision.patch:
        about |= _patch(decision.patch)
    return about


def _signature(entry: tuple[str, ImageSignature]) -> dict[str, Any]:
    found = signature_fields(*entry)
    return {name: _cut(value) if isinstance(value, str) else value for name, value in found.items()}


def _finding(judged: JudgedFinding) -> dict[str, Any]:
    return {
        "rule": judged.finding.rule,
        "action": judged.action.value,
        "path": judged.finding.path,
        "container": judged.finding.container,
        "message": mask_text(judged.finding.message),
        "remedy": mask_text(judged.finding.remedy),
        **({"exception": judged.exception} if judged.exception else {}),
        **({"deny_after": judged.deny_after.isoformat()} if judged.deny_after else {}),
    }


def _injection(injection: Injection) -> dict[str, Any]:
    changes = _first("changes", injection.changes, _INJECTIONS_BYTES // 4, _cut)
    return {"mutator": injection.mutator, **changes, "preview": injection.preview}


def _patch(patch: Sequence[Operation]) -> dict[str, Any]:
    """The patch whole, or, since half of one says nothing, its size."""
    size = len(orjson.dumps(patch))
    if size > _PATCH_BYTES:
        return {"patch_left_out": {"operations": len(patch), "bytes": size}}
    return {"patch": [{**one, "value": mask(one["value"])} if "value" in one else one for one in patch]}


def _cut(text: str, most: int = _LONGEST) -> str:
    """The text without secrets, and at most two bytes a character as JSON."""
    # Cut first, since masking takes its time, and again, since what is masked may be longer.
    found = shortened(mask_text(shortened(text, 4 * most)), most)
    if len(found) <= most // 3:
        # A character takes six bytes of JSON at most.
        return found
    return found if _bytes(found) <= 2 * most else shortened(found, most // 3)


def _first(name: str, entries: Sequence[T], most: int, shown: Callable[[T], Any]) -> dict[str, Any]:
    """The first entries, as many as ``most`` bytes of JSON hold; how many more there are is said beside them."""
    kept: list[Any] = []
    for entry in entries:
        about = shown(entry)
        most -= _bytes(about) + 1
        if most < 0:
            return {name: kept, f"{name}_left_out": len(entries) - len(kept)}
        kept.append(about)
    return {name: kept}


def _bytes(value: Any) -> int:
    return len(orjson.dumps(value))


def _approval(answered: Answered) -> dict[str, Any]:
    """Who said what of the model, and how old that is."""
    about: dict[str, Any] = {
        "registry": answered.registry,
        "state": answered.state,
        "freshness": answered.freshness,
        "age_seconds": round(answered.age, 3),
    }
    if isinstance(answered.answer, Approval) and answered.answer.approvers:
        about["approvers"] = list(answered.answer.approvers)
    if answered.revision:
        about["revision"] = answered.revision
    if answered.cause:
        about["cause"] = answered.cause
    return about
