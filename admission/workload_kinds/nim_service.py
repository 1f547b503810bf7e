"""NVIDIA NIM operator: the pods of a NIMService.

Source: k8s-nim-operator ``api/apps/v1alpha1/nimservice_types.go`` (``GetDeploymentParams`` and
what it calls).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from admission.workload import WorkloadClass
from admission.workload_kinds.authored_field import AuthoredField
from admission.workload_kinds.pod_draft import PodDraft, well_formed
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadKind, WorkloadPod

_DEFAULT_USER = 1000
_DEFAULT_GROUP = 2000
_STORE = "model-store"
_COPIED = ("command", "args", "env", "envFrom", "workingDir")
_SPEC_FIELDS = ("nodeSelector", "tolerations", "runtimeClassName", "schedulerName", "priorityClassName")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def _pods(service: AuthoredField, _namespace: str, _facts: WorkloadFacts) -> Iterator[WorkloadPod]:
    metadata, spec = service["metadata"], service["spec"]
    draft = PodDraft("spec")
    _add_server(draft, spec, metadata["name"])
    for key, into in (("sidecarContainers", "containers"), ("initContainers", "initContainers")):
        for one in spec[key].items():
            _add_container(draft, one, {"name": one["name"].text()}, into)
    _add_storage(draft, spec, metadata["name"].text())
    for key in _SPEC_FIELDS:
        draft.place(key, spec[key])
    if spec["affinity"].present:
        draft.place("affinity", spec["affinity"])
    elif spec["podAffinity"].present:
        draft.spec["affinity"] = {"podAffinity": spec["podAffinity"].value}
        draft.written("spec.affinity.podAffinity", spec["podAffinity"].path)
    _add_user(draft, spec)
    _add_claims(draft, spec["draResources"])
    draft.spec["serviceAccountName"] = metadata["name"].text()
    draft.brought("spec.serviceAccountName", metadata["name"].path)
    _describe(draft, metadata["name"], spec)
    yield draft.pod(owner_kind="ReplicaSet", workload=WorkloadClass.INFERENCE)


def _describe(draft: PodDraft, name: AuthoredField, spec: AuthoredField) -> None:
    draft.described_at(spec["labels"], spec["annotations"])
    for key, value in (
        ("app.kubernetes.io/name", name.text()),
        ("app.kubernetes.io/instance", name.text()),
        ("app.kubernetes.io/part-of", "nim-service"),
        ("app.kubernetes.io/managed-by", "k8s-nim-operator"),
    ):
        draft.set_label(key, value, name.path)
    draft.add_labels(spec["labels"])
    draft.add_annotations(spec["annotations"])


def _add_server(draft: PodDraft, spec: AuthoredField, name: AuthoredField) -> None:
    server: dict[str, Any] = {"name": f"{name.text()}-ctr"}
    if spec["resources"].present:
        server["resources"] = spec["resources"].object()
    for key in _PROBES:
        if spec[key]["probe"].present:
            server[key] = spec[key]["probe"].value
    place = _add_container(draft, spec, server, "containers")
    draft.brought(f"{place}.name", name.path)
    for key in _PROBES:
        draft.written(f"{place}.{key}", spec[key]["probe"].path)
    _add_variables(draft, place, spec)


def _add_container(draft: PodDraft, field: AuthoredField, container: dict[str, Any], into: str) -> str:
    """A container whose fields stand at ``field``, the image in two parts."""
    image, policy = field["image"], field["image"]["pullPolicy"]
    repository, tag = image["repository"].text(), image["tag"].text()
    made = dict(container)
    if repository:
        # The operator writes a colon in any case.
        made["image"] = f"{repository}:{tag}" if tag else repository
    if policy.present:
        made["imagePullPolicy"] = policy.text()
    made.update({key: field[key].value for key in _COPIED if field[key].present})
    place = draft.add_container(made, field.path, into)
    draft.brought(f"{place}.image", image.path)
    draft.written(f"{place}.imagePullPolicy", policy.path)
    return place


def _add_variables(draft: PodDraft, place: str, spec: AuthoredField) -> None:
    """The operator's own variables behind the author's, who may set them as well."""
    variables = [one.value for one in spec["env"].items()]
    own = {one["name"].text() for one in spec["env"].items()}
    secret = spec["authSecret"]
    key = {"secretKeyRef": {"name": secret.text(), "key": "NGC_API_KEY"}}
    for name, entry, by in (
        ("NIM_CACHE_PATH", {"value": f"/{_STORE}"}, spec["image"].path),
        ("NGC_API_KEY", {"valueFrom": key}, secret.path),
    ):
        if name not in own:
            draft.brought(f"{place}.env[{len(variables)}]", by)
            draft.brought(f"{place}.env[{name}]", by)
            variables.append({"name": name, **entry})
    containers = list(draft.spec["containers"])
    containers[0] = {**containers[0], "env": variables}
    draft.spec["containers"] = containers


def _add_storage(draft: PodDraft, spec: AuthoredField, name: str) -> None:
    """The volume that keeps the model: a claim, a directory of the node or an empty one."""
    storage = spec["storage"]
    claim, cache = storage["pvc"], storage["nimCache"]["name"]
    if not cache.present:
        # Where the first versions of the operator had it.
        cache = spec["nimCache"]["name"]
    source: dict[str, Any]
    if storage["hostPath"].text():
        source, by = {"hostPath": {"path": storage["hostPath"].text()}}, storage["hostPath"]
    elif cache.text():
        source, by = {"persistentVolumeClaim": {"claimName": f"{cache.text()}-pvc"}}, cache
    elif claim["name"].text() or claim["create"].flag():
        source = {"persistentVolumeClaim": {"claimName": claim["name"].text() or f"{name}-pvc"}}
        by = claim
    else:
        source, by = {"emptyDir": dict(storage["emptyDir"].object())}, storage
    draft.spec["volumes"] = [{"name": "dshm", "emptyDir": {"medium": "Memory"}}, {"name": _STORE, **source}]
    draft.brought("spec.volumes[0]", storage.path)
    draft.brought("spec.volumes[1]", by.path)
    mounts = [{"name": _STORE, "mountPath": f"/{_STORE}"}, {"name": "dshm", "mountPath": "/dev/shm"}]  # noqa: S108
    containers = list(draft.spec["containers"])
    containers[0] = {**containers[0], "volumeMounts": mounts}
    draft.spec["containers"] = containers
    draft.brought("spec.containers[0].volumeMounts", storage.path)


def _add_claims(draft: PodDraft, resources: AuthoredField) -> None:
    """Devices that are claimed (DRA), by a claim of the author's or by a template."""
    claims, names = [], []
    for index, one in enumerate(resources.items()):
        claim = {"name": f"claim-{index}"}
        for key in ("resourceClaimName", "resourceClaimTemplateName"):
            if one[key].present:
                claim[key] = one[key].text()
        draft.written(f"spec.resourceClaims[{index}]", one.path)
        draft.written(f"spec.containers[0].resources.claims[{index}]", one.path)
        claims.append(claim)
        names.append({"name": claim["name"]})
    if claims:
        draft.spec["resourceClaims"] = claims
        containers = list(draft.spec["containers"])
        containers[0] = {**containers[0], "resources": {**(containers[0].get("resources") or {}), "claims": names}}
        draft.spec["containers"] = containers


def _add_user(draft: PodDraft, spec: AuthoredField) -> None:
    user, group = spec["userID"], spec["groupID"]
    draft.spec["securityContext"] = {
        "runAsUser": user.number() if user.present else _DEFAULT_USER,
        "runAsGroup": group.number() if group.present else _DEFAULT_GROUP,
        "fsGroup": group.number() if group.present else _DEFAULT_GROUP,
    }
    draft.written("spec.securityContext.runAsUser", user.path)
    for key in ("runAsGroup", "fsGroup"):
        draft.written(f"spec.securityContext.{key}", group.path)


NIM_SERVICE = WorkloadKind(
    "apps.nvidia.com", "NIMService", "nimservices", ("v1alpha1",), well_formed("NIMService", _pods)
)
