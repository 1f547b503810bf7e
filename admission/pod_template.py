"""The pod that a workload would create, taken from its template, in memory only.

A workload is never mutated, since GitOps tools would see drift (argo-cd #17572).
"""

from __future__ import annotations

import re
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


_CONTAINER_PATH = re.compile(r"spec\.(initContainers|containers|ephemeralContainers)\[(\d+)\]")


def authored_path(path: str, before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> str:
    """``path`` of the injected pod ``after`` as a path of the pod ``before``, which its author wrote.

    An injected container moves those behind it. One that the author did not write is
    named, not numbered: ``spec.initContainers[tidewaiter-preload]``. ``prefix`` is where
    the template stands in the author's object.
    """
    start = f"{prefix}." if prefix else ""
    match = _CONTAINER_PATH.match(path, len(start)) if path.startswith(start) else None
    if match is None:
        return path
    field, index = match[1], int(match[2])
    moved = (after.get("spec") or {}).get(field) or []
    name = (moved[index].get("name") or "") if index < len(moved) else ""
    names = [one.get("name") or "" for one in (before.get("spec") or {}).get(field) or []]
    if index < len(names) and names[index] == name:
        return path
    where = names.index(name) if name in names else name
    return f"{start}spec.{field}[{where}]{path[match.end() :]}"
