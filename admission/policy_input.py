"""The input that Rego policies see: only what they read, since handing over costs most.

The shape is the same in every engine.
"""

from __future__ import annotations

from typing import Any

from admission.context import ReviewContext
from admission.pod import ModelPod

_HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC")
_CONTAINER_FIELDS = ("name", "image", "resources", "ports")


def policy_input(pod: ModelPod, context: ReviewContext) -> dict[str, Any]:
    """The review as a Rego input.

    ``input.containers`` lists init, main and ephemeral containers alike, each with
    ``kind`` and ``path``; ``input.spec`` has host flags and volumes (by name and
    ``hostPath``); the rest is about who, where and which model.
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
        "containers": [
            {
                "kind": container.kind.value,
                "path": container.path,
                **{key: container.spec[key] for key in _CONTAINER_FIELDS if container.spec.get(key) is not None},
            }
            for container in pod.containers
        ],
        "spec": {
            **{key: spec[key] for key in _HOST_FIELDS if spec.get(key)},
            "volumes": [
                {"name": volume.get("name"), "hostPath": volume["hostPath"], "index": index}
                for index, volume in enumerate(spec.get("volumes") or ())
                if volume.get("hostPath") is not None
            ],
        },
        "model": {"name": context.model.name, "version": context.model.version, "uri": context.model.uri},
    }
