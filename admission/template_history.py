"""Which pod templates a workload had before: going back to one is no new deployment.

Sources: pkg/controller/deployment/util (a ReplicaSet has its Deployment's template, with one
label more), pkg/controller/history (a ControllerRevision holds a patch of the template).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from admission.model_reference import MODEL_KEY, URI_KEY, VERSION_KEY

HASH_LABELS = ("pod-template-hash", "controller-revision-hash")

TemplateHistory = Callable[[str, str, str], bool]
"""``had(namespace, uid, fingerprint)``: whether the workload of this UID had that template.

Never raises, never blocks."""


PodHistory = Callable[[str, str, str], bool]
"""``had(namespace, uid, hash)``: whether the owner of this UID has or had a pod of the template of that hash,
which its controller wrote into the pod's labels. Never raises, never blocks."""


def no_pods(_namespace: str, _uid: str, _template_hash: str) -> bool:
    """The history of a process without a cluster."""
    return False


def no_history(_namespace: str, _uid: str, _fingerprint: str) -> bool:
    """The history of a process without a cluster."""
    return False


def template_fingerprint(template: Mapping[str, Any]) -> str:
    """A hash that is equal for a workload's template and for what its controller kept of it."""
    metadata = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key not in HASH_LABELS}
    annotations = metadata.get("annotations") or {}
    content = {"labels": labels, "annotations": annotations, "spec": template.get("spec")}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def owner_and_template(pod: Mapping[str, Any]) -> tuple[str, str] | None:
    """(UID of the controller, what tells its templates apart) of a controller's pod; None for a bare one.

    The controller's hash alone would not do: whoever edits a ReplicaSet of their own keeps
    its label and changes the model. So what the pod says of its model is part of it.
    """
    metadata = pod.get("metadata") or {}
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    if owner is None or not owner.get("uid"):
        return None
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    said = [labels.get(key) or "" for key in HASH_LABELS]
    said += [annotations.get(key) or labels.get(key) or "" for key in (MODEL_KEY, VERSION_KEY, URI_KEY)]
    return str(owner["uid"]), " ".join(map(str, said))


def kept_template(obj: Mapping[str, Any]) -> tuple[str, str] | None:
    """(UID of the owner, fingerprint) of a ReplicaSet or ControllerRevision; None where nobody owns it."""
    owner = next(
        (one for one in (obj.get("metadata") or {}).get("ownerReferences") or () if one.get("controller")), None
    )
    holder = obj.get("data") if obj.get("kind") == "ControllerRevision" else obj
    spec = holder.get("spec") if isinstance(holder, Mapping) else None
    template = spec.get("template") if isinstance(spec, Mapping) else None
    if owner is None or not isinstance(template, Mapping):
        return None
    return str(owner.get("uid") or ""), template_fingerprint(template)
