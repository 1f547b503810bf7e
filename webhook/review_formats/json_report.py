"""For scripts: one JSON document. The shape is stable; ``version`` grows when it is not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from admission.json_patch import diff
from webhook.offline_review import Reviewed

_VERSION = 1


def json_report(reviews: Sequence[Reviewed], problems: Sequence[str], assumed: Mapping[str, str]) -> str:
    """Every object with its findings, injections and patch."""
    judged = [one for one in reviews if one.looked_at]
    document = {
        "version": _VERSION,
        "summary": {
            "objects": len(reviews),
            "judged": len(judged),
            "refused": sum(one.refused for one in judged),
            "warned": sum(one.warned for one in judged),
        },
        "assumedEnvironments": dict(assumed),
        "problems": list(problems),
        "objects": [_object(one) for one in reviews],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _object(reviewed: Reviewed) -> dict[str, Any]:
    manifest, decision = reviewed.manifest, reviewed.decision
    about: dict[str, Any] = {
        "file": manifest.source,
        "line": manifest.line(),
        "apiVersion": manifest.obj.get("apiVersion"),
        "kind": manifest.kind,
        "namespace": reviewed.namespace,
        "name": manifest.name,
    }
    if reviewed.skipped or decision is None or decision.ignored:
        reason = reviewed.skipped or (decision.ignored if decision is not None else "")
        return {
            **about,
            "verdict": "skipped" if not reviewed.problem else "problem",
            "reason": reviewed.problem or reason,
        }
    return {
        **about,
        "verdict": decision.verdict.value,
        "allowed": decision.allowed,
        "recognisedBy": decision.recognised,
        "environment": decision.environment,
        "workload": decision.workload,
        "model": {"name": decision.model.name, "version": decision.model.version, "digest": decision.digest},
        "findings": [
            {
                "rule": one.finding.rule,
                "action": one.action.value,
                "path": one.finding.path,
                "line": manifest.line(one.finding.path),
                "container": one.finding.container,
                "message": one.finding.message,
                "remedy": one.finding.remedy,
                "denyAfter": one.deny_after.isoformat() if one.deny_after else None,
                "exception": one.exception or None,
            }
            for one in decision.findings
        ],
        "injections": [
            {"mutator": one.mutator, "changes": list(one.changes), "preview": one.preview, "role": one.role}
            for one in decision.injections
        ],
        "pods": [{"role": one.role, "patch": diff(one.written, one.admitted)} for one in reviewed.pods],
    }
