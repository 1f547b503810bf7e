"""KubeRay: the head and the worker groups of RayCluster, RayService and RayJob.

Source: KubeRay ``ray-operator/controllers/ray/common/pod.go`` (``DefaultHeadPodTemplate``,
``labelPod``, ``BuildAutoscalerContainer``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from admission.workload import WorkloadClass
from admission.workload_kinds.authored_field import AuthoredField
from admission.workload_kinds.pod_draft import PodDraft, PodsOfField, container_at, well_formed
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadKind, WorkloadPod

_AUTOSCALER = "autoscaler"
_AUTOSCALER_RESOURCES = {"limits": {"cpu": "500m", "memory": "512Mi"}, "requests": {"cpu": "500m", "memory": "512Mi"}}


def _cluster(
    obj: AuthoredField, cluster: AuthoredField, owner: str, workload: WorkloadClass | None
) -> Iterator[WorkloadPod]:
    """The pods of a cluster whose spec stands at ``cluster``."""
    head = cluster["headGroupSpec"]
    if head["template"].present:
        draft = _node(obj, head, "head", "headgroup")
        _add_autoscaler(draft, cluster)
        yield draft.pod(role="head", owner_kind=owner, workload=workload)
    for index, group in enumerate(cluster["workerGroupSpecs"].items()):
        if group["template"].present:
            name = group["groupName"].text()
            draft = _node(obj, group, "worker", name)
            yield draft.pod(role=f"worker {name or index}", owner_kind=owner, workload=workload)


def _node(obj: AuthoredField, group: AuthoredField, node_type: str, group_name: str) -> PodDraft:
    template, name = group["template"], obj.at("metadata.name")
    draft = PodDraft(template["spec"].path)
    draft.written("metadata", template["metadata"].path)
    for key, value in (("ray.io/is-ray-node", "yes"), ("app.kubernetes.io/name", "kuberay")):
        draft.set_label(key, value, name.path)
    draft.add_labels(template["metadata"]["labels"])
    draft.add_labels(group["labels"])
    # These three KubeRay lets nobody override.
    draft.set_label("ray.io/cluster", name.text(), name.path)
    draft.set_label("ray.io/node-type", node_type, group.path)
    draft.set_label("ray.io/group", group_name, group.path)
    draft.add_annotations(template["metadata"]["annotations"])
    for key, value in template["spec"].object().items():
        draft.spec[key] = value
    return draft


def _add_autoscaler(draft: PodDraft, cluster: AuthoredField) -> None:
    """The sidecar that KubeRay adds to the head; without an image of its own it has Ray's."""
    if not cluster["enableInTreeAutoscaling"].flag():
        return
    options = cluster["autoscalerOptions"]
    container: dict[str, Any] = {"name": _AUTOSCALER, **container_at(options)}
    ray = next(iter(cluster.at("headGroupSpec.template.spec.containers").items()), None)
    place = draft.add_container(container, options.path)
    draft.brought(f"{place}.name", cluster["enableInTreeAutoscaling"].path)
    if "image" not in container and ray is not None and ray["image"].present:
        container["image"] = ray["image"].value
        draft.written(f"{place}.image", ray["image"].path)
    if "resources" not in container:
        container["resources"] = _AUTOSCALER_RESOURCES
        draft.brought(f"{place}.resources", cluster["enableInTreeAutoscaling"].path)


def _of(spec_path: str, workload: WorkloadClass | None) -> PodsOfField:
    def pods(obj: AuthoredField, _namespace: str, _facts: WorkloadFacts) -> Iterator[WorkloadPod]:
        yield from _cluster(obj, obj.at(spec_path), "RayCluster", workload)
        submitter = obj["spec"]["submitterPodTemplate"]
        if submitter.present:
            yield WorkloadPod(
                pod=dict(_template(submitter)),
                origins=(("", submitter.path),),
                role="submitter",
                owner_kind="Job",
                workload=workload,
                loads_model=False,
            )

    return pods


def _template(template: AuthoredField) -> Mapping[str, Any]:
    return template.object()


def _kind(kind: str, plural: str, spec_path: str, workload: WorkloadClass | None) -> WorkloadKind:
    pods = well_formed(kind, _of(spec_path, workload))
    return WorkloadKind("ray.io", kind, plural, ("v1", "v1alpha1"), pods)


KUBERAY_KINDS: tuple[WorkloadKind, ...] = (
    _kind("RayCluster", "rayclusters", "spec", None),
    _kind("RayService", "rayservices", "spec.rayClusterConfig", WorkloadClass.INFERENCE),
    # Its pods belong to a RayCluster, which says nothing of the class: neither may this.
    _kind("RayJob", "rayjobs", "spec.rayClusterSpec", None),
)
