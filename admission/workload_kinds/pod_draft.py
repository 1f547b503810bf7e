"""``PodDraft``: a pod put together from several places of the author's object."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from admission.pod_schema import check_shape
from admission.workload import WorkloadClass
from admission.workload_kinds.authored_field import AuthoredField
from admission.workload_kinds.workload_pod import Pods, WorkloadFacts, WorkloadPod

POD_SPEC_FIELDS = frozenset(
    [
        "activeDeadlineSeconds",
        "affinity",
        "automountServiceAccountToken",
        "containers",
        "dnsConfig",
        "dnsPolicy",
        "enableServiceLinks",
        "ephemeralContainers",
        "hostAliases",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostUsers",
        "hostname",
        "hostnameOverride",
        "imagePullSecrets",
        "initContainers",
        "nodeName",
        "nodeSelector",
        "os",
        "overhead",
        "preemptionPolicy",
        "priority",
        "priorityClassName",
        "readinessGates",
        "resourceClaims",
        "resources",
        "restartPolicy",
        "runtimeClassName",
        "schedulerName",
        "schedulingGates",
        "schedulingGroup",
        "securityContext",
        "serviceAccount",
        "serviceAccountName",
        "setHostnameAsFQDN",
        "shareProcessNamespace",
        "subdomain",
        "terminationGracePeriodSeconds",
        "tolerations",
        "topologySpreadConstraints",
        "volumes",
    ]
)
"""Fields of a pod's spec (Kubernetes 1.37): kinds inline them among fields of their own."""

CONTAINER_FIELDS = frozenset(
    [
        "args",
        "command",
        "env",
        "envFrom",
        "image",
        "imagePullPolicy",
        "lifecycle",
        "livenessProbe",
        "name",
        "ports",
        "readinessProbe",
        "resizePolicy",
        "resources",
        "restartPolicy",
        "restartPolicyRules",
        "securityContext",
        "startupProbe",
        "stdin",
        "stdinOnce",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "tty",
        "volumeDevices",
        "volumeMounts",
        "workingDir",
    ]
)
"""Fields of a container (Kubernetes 1.37)."""


class PodDraft:
    """A pod in the making. Nothing of the author's is edited: lists and maps are made anew before they grow."""

    def __init__(self, spec_path: str = "") -> None:
        self.labels: dict[str, str] = {}
        self.annotations: dict[str, str] = {}
        self.spec: dict[str, Any] = {}
        self._origins: dict[str, str] = {"": ""}
        self._brought: dict[str, str] = {}
        if spec_path:
            self._origins["spec"] = spec_path

    def written(self, path: str, where: str) -> None:
        """The author wrote ``path`` of the pod at ``where``."""
        self._brought.pop(path, None)
        self._origins[path] = where

    def brought(self, path: str, by: str) -> None:
        """The author did not write ``path`` of the pod: the field ``by`` brought it in."""
        self._origins.pop(path, None)
        self._brought[path] = by

    def described_at(self, labels: AuthoredField, annotations: AuthoredField) -> None:
        """Where the author would write labels and annotations that are missing."""
        self.written("metadata.labels", labels.path)
        self.written("metadata.annotations", annotations.path)

    def add_labels(self, field: AuthoredField, by: str = "", without: Collection[str] = ()) -> None:
        """Labels at ``field``, over those there are; ``by`` where the author did not write them."""
        _add(self, "labels", self.labels, field, by, without)

    def add_annotations(self, field: AuthoredField, by: str = "", without: Collection[str] = ()) -> None:
        """Annotations at ``field``, over those there are."""
        _add(self, "annotations", self.annotations, field, by, without)

    def set_label(self, key: str, value: str, by: str) -> None:
        """A label that the controller sets, whatever the author wrote."""
        self.labels[key] = value
        self.brought(f"metadata.labels[{key}]", by)

    def set_annotation(self, key: str, value: str, by: str) -> None:
        """An annotation that the controller sets from the field ``by``."""
        self.annotations[key] = value
        self.brought(f"metadata.annotations[{key}]", by)

    def take_spec(self, field: AuthoredField, without: Collection[str] = ()) -> None:
        """The fields of a pod's spec that stand in ``field``."""
        for key, value in field.object().items():
            if key in POD_SPEC_FIELDS and key not in without and value is not None:
                self.spec[key] = value
                self.written(f"spec.{key}", f"{field.path}.{key}")

    def place(self, key: str, field: AuthoredField) -> None:
        """``field`` as the field ``key`` of the pod's spec, where the author wrote it."""
        if field.present:
            self.spec[key] = field.value
            self.written(f"spec.{key}", field.path)

    def append(self, key: str, field: AuthoredField) -> None:
        """The entries of the list at ``field`` behind those of the list ``key`` of the pod's spec."""
        entries = list(self.spec.get(key) or ())
        for one in field.items():
            self.written(f"spec.{key}[{len(entries)}]", one.path)
            entries.append(one.value)
        if entries:
            self.spec[key] = entries

    def add_members(self, key: str, field: AuthoredField) -> None:
        """The members of the map at ``field`` over those of the map ``key`` of the pod's spec."""
        members = dict(self.spec.get(key) or {})
        for name, one in field.members():
            members[name] = one.value
            self.written(f"spec.{key}[{name}]", one.path)
        if members:
            self.spec[key] = members

    def add_container(self, container: Mapping[str, Any], path: str, into: str = "containers") -> str:
        """Append a container that the author wrote at ``path``; returns its path in the pod."""
        containers = list(self.spec.get(into) or ())
        containers.append(container)
        self.spec[into] = containers
        made = f"spec.{into}[{len(containers) - 1}]"
        self.written(made, path)
        return made

    def pod(
        self,
        *,
        role: str = "",
        owner_kind: str = "",
        workload: WorkloadClass | None = None,
        loads_model: bool = True,
    ) -> WorkloadPod:
        """The finished pod."""
        described = {"labels": self.labels, "annotations": self.annotations}
        metadata = {key: value for key, value in described.items() if value}
        return WorkloadPod(
            pod={"metadata": metadata, "spec": self.spec},
            origins=tuple(self._origins.items()),
            role=role,
            owner_kind=owner_kind,
            workload=workload,
            brought=tuple(self._brought.items()),
            loads_model=loads_model,
        )


def _add(
    draft: PodDraft,
    name: str,
    into: dict[str, str],
    field: AuthoredField,
    by: str,
    without: Collection[str] = (),
) -> None:
    for key, one in field.texts():
        if key in without:
            continue
        into[key] = one.value
        path = f"metadata.{name}[{key}]"
        if by:
            draft.brought(path, by)
        else:
            draft.written(path, one.path)


def container_at(field: AuthoredField) -> dict[str, Any]:
    """The fields of a container that stand in ``field`` among others."""
    return {key: value for key, value in field.object().items() if key in CONTAINER_FIELDS and value is not None}


PodsOfField = Callable[[AuthoredField, str, WorkloadFacts], Iterator[WorkloadPod]]


def well_formed(kind: str, pods: PodsOfField) -> Pods:
    """``pods`` with each pod's shape checked; errors name the field of the author's object."""

    def checked(obj: Mapping[str, Any], namespace: str, facts: WorkloadFacts) -> tuple[WorkloadPod, ...]:
        found = tuple(pods(AuthoredField(obj, "", kind.lower()), namespace, facts))
        for one in found:
            check_shape(one.pod, authored=one.authored)
        return found

    return checked
