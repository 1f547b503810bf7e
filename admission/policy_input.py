"""The input that Rego policies see: only what they read, since handing over costs most.

The shape is the same in every engine, and ``policies/schemas/input.json`` describes it.
Paths are those of the pod, whatever object its author wrote.
"""

from __future__ import annotations

from typing import Any

from admission.context import ReviewContext
from admission.pod import Container, ModelPod

_SPEC_FIELDS = ("hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "runtimeClassName", "nodeName")
_CONTAINER_FIELDS = ("name", "image", "resources", "ports")


def policy_input(pod: ModelPod, context: ReviewContext) -> dict[str, Any]:
    """The review as a Rego input.

    ``input.containers`` lists init, main and ephemeral containers alike, each with
    ``kind`` and ``path``; ``input.spec`` has volumes by name and ``hostPath`` and what
    ties a pod to its node; the rest is about who, where and which model.
    """
    spec = pod.spec
    return {
        "operation": context.operation,
        "namespace": context.namespace.namespace.name,
        "environment": context.environment,
        "workload": context.workload.value,
        "username": context.username,
        "groups": list(context.groups),
        "labels": dict(pod.labels),
        "annotations": dict(pod.annotations),
        "containers": [_container(one) for one in pod.containers],
        "spec": {
            **{key: spec[key] for key in _SPEC_FIELDS if spec.get(key)},
            "volumes": [
                {"name": volume.get("name"), "hostPath": volume["hostPath"], "index": index}
                for index, volume in enumerate(spec.get("volumes") or ())
                if volume.get("hostPath") is not None
            ],
        },
        "model": {"name": context.model.name, "version": context.model.version, "uri": context.model.uri},
    }


def _container(container: Container) -> dict[str, Any]:
    spec = container.spec
    seen: dict[str, Any] = {"kind": container.kind.value, "path": container.path}
    for key in _CONTAINER_FIELDS:
        if spec.get(key) is not None:
            seen[key] = spec[key]
    if (spec.get("securityContext") or {}).get("privileged"):
        seen["privileged"] = True
    if container.framework is not None:
        seen["framework"] = container.framework.name
    return seen
