"""What decides which code and which model a pod runs, apart from all else that an update may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from admission.frameworks import KSERVE_SOURCE_URI

_OURS = "tidewaiter.dev/"
_LISTS = ("initContainers", "containers", "ephemeralContainers")
_CONTAINER = ("name", "image", "command", "args", "env", "envFrom", "volumeMounts", "volumeDevices", "lifecycle")
_SPEC = ("volumes", "serviceAccountName")


def what_runs(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Images, commands, variables, mounts and what the pod says of its model.

    Scheduling gates, tolerations, resources, status and other labels are left out: they are
    changed by schedulers and autoscalers, and nobody deploys a model by them.
    """
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    said = {
        kind: {key: value for key, value in (metadata.get(kind) or {}).items() if _says_model(key)}
        for kind in ("labels", "annotations")
    }
    containers = {
        field: [{key: one.get(key) for key in _CONTAINER} for one in spec.get(field) or ()] for field in _LISTS
    }
    return {**said, **containers, **{key: spec.get(key) for key in _SPEC}}


def _says_model(key: str) -> bool:
    return key.startswith(_OURS) or key == KSERVE_SOURCE_URI
