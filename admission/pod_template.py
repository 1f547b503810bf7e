"""The pod that a workload would create, taken from its template, in memory only.

A workload is never mutated, since GitOps tools would see drift (argo-cd #17572).
"""

from __future__ import annotations

from typing import Any

TEMPLATE_PATHS: dict[tuple[str, str], str] = {
    ("apps", "Deployment"): "spec.template",
    ("apps", "StatefulSet"): "spec.template",
    ("apps", "DaemonSet"): "spec.template",
    ("apps", "ReplicaSet"): "spec.template",
    ("batch", "Job"): "spec.template",
    ("batch", "CronJob"): "spec.jobTemplate.spec.template",
}
"""Where the pod template stands, by API group and kind."""


def template_path(group: str, kind: str) -> str | None:
    """The path of the pod template in objects of this kind; None where it has none."""
    return TEMPLATE_PATHS.get((group, kind))


def pod_template(obj: dict[str, Any], path: str) -> dict[str, Any] | None:
    """The template at ``path``, live; None where it is missing or no object."""
    found: Any = obj
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None
