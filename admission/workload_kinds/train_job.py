"""Kubeflow Trainer's TrainJob: what its author says over the training runtime.

Source: Kubeflow Trainer ``pkg/apis/trainer/v1alpha1/trainjob_types.go``. Training runtimes are
not looked at: what they add is judged on the pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from admission.workload import WorkloadClass
from admission.workload_kinds.authored_field import AuthoredField
from admission.workload_kinds.pod_draft import PodDraft, container_at, well_formed
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadKind, WorkloadPod

_NODE = "node"
_MODEL_INITIALIZER = "model-initializer"
_STEP = "trainer.kubeflow.org/trainjob-ancestor-step"
_LISTS = ("volumes", "initContainers", "imagePullSecrets", "schedulingGates")
"""Lists of the pod's spec to which an override adds."""


def _pods(job: AuthoredField, _namespace: str, _facts: WorkloadFacts) -> Iterator[WorkloadPod]:
    spec = job["spec"]
    yield _node(job)
    if spec.at("initializer.model").present:
        yield _initializer(job, spec.at("initializer.model"))
    others = {name for name, _, _ in _overrides(spec)} - {_NODE, _MODEL_INITIALIZER}
    for name in sorted(others):
        draft = PodDraft("spec")
        _override(draft, job, name)
        yield draft.pod(role=name, owner_kind="Job", workload=WorkloadClass.TRAINING, loads_model=False)


def _node(job: AuthoredField) -> WorkloadPod:
    """The pods that train."""
    trainer = job.at("spec.trainer")
    container: dict[str, Any] = {"name": _NODE, **container_at(trainer)}
    if trainer["resourcesPerNode"].present:
        container["resources"] = trainer["resourcesPerNode"].object()
    draft = PodDraft("spec")
    place = draft.add_container(container, trainer.path)
    draft.brought(f"{place}.name", trainer.path)
    draft.written(f"{place}.resources", trainer["resourcesPerNode"].path)
    _override(draft, job, _NODE)
    draft.set_label(_STEP, "trainer", job.at("metadata.name").path)
    return draft.pod(role=_NODE, owner_kind="Job", workload=WorkloadClass.TRAINING)


def _initializer(job: AuthoredField, initializer: AuthoredField) -> WorkloadPod:
    """The pod that fetches the model that is to be trained further."""
    uri, own = initializer["storageUri"], initializer["env"].items()
    variables = [one.value for one in own]
    draft = PodDraft("spec")
    place = draft.add_container({"name": _MODEL_INITIALIZER}, initializer.path)
    draft.brought(f"{place}.name", initializer.path)
    if uri.text():
        # Behind the author's variables, so that these keep their places.
        variables.append({"name": "STORAGE_URI", "value": uri.text()})
        draft.brought(f"{place}.env[{len(own)}]", uri.path)
        draft.brought(f"{place}.env[STORAGE_URI]", uri.path)
    draft.spec["containers"] = [{"name": _MODEL_INITIALIZER, "env": variables}]
    _override(draft, job, _MODEL_INITIALIZER)
    draft.set_label(_STEP, _MODEL_INITIALIZER, job.at("metadata.name").path)
    return draft.pod(role=_MODEL_INITIALIZER, owner_kind="Job", workload=WorkloadClass.TRAINING)


def _overrides(spec: AuthoredField) -> Iterator[tuple[str, AuthoredField, AuthoredField]]:
    """(replicated job, metadata, pod spec) of every override, in the order in which they are applied."""
    nothing = AuthoredField(None, "metadata", spec.kind)
    for one in spec["podSpecOverrides"].items():
        for target in one["targetJobs"].items():
            yield target["name"].text(), nothing, one
    for one in spec["podTemplateOverrides"].items():
        for target in one["targetJobs"].items():
            yield target["name"].text(), one["metadata"], one["spec"]
    for patch in spec["runtimePatches"].items():
        for one in patch.at("trainingRuntimeSpec.template.spec.replicatedJobs").items():
            template = one.at("template.spec.template")
            yield one["name"].text(), template["metadata"], template["spec"]


def _override(draft: PodDraft, job: AuthoredField, name: str) -> None:
    """What the author writes over the pods of the replicated job ``name``."""
    spec = job["spec"]
    draft.described_at(spec["labels"], spec["annotations"])
    draft.add_labels(spec["labels"])
    draft.add_annotations(spec["annotations"])
    for target, metadata, pod in _overrides(spec):
        if target != name:
            continue
        draft.add_labels(metadata["labels"])
        draft.add_annotations(metadata["annotations"])
        draft.take_spec(pod, without=("containers", "nodeSelector", *_LISTS))
        draft.add_members("nodeSelector", pod["nodeSelector"])
        for key in _LISTS:
            draft.append(key, pod[key])
        for container in pod["containers"].items():
            _override_container(draft, container)


def _override_container(draft: PodDraft, override: AuthoredField) -> None:
    """Over the container of that name; where we know none it is one of the runtime's."""
    containers = list(draft.spec.get("containers") or ())
    names = [one.get("name") for one in containers]
    name = override["name"].text()
    if name not in names:
        draft.add_container(container_at(override), override.path)
        return
    index = names.index(name)
    place, merged = f"spec.containers[{index}]", dict(containers[index])
    for key in ("env", "volumeMounts"):
        if override[key].present:
            merged[key] = _behind(draft, f"{place}.{key}", merged.get(key), override[key])
    if override["securityContext"].present:
        merged["securityContext"] = override["securityContext"].value
        draft.written(f"{place}.securityContext", override["securityContext"].path)
    containers[index] = merged
    draft.spec["containers"] = containers


def _behind(draft: PodDraft, place: str, before: object, over: AuthoredField) -> list[Any]:
    """The override's entries behind the container's own, which win: variables by their names."""
    entries = list(before) if isinstance(before, list) else []
    taken = {one["name"] for one in entries if isinstance(one, dict) and isinstance(one.get("name"), str)}
    for one in over.items():
        name = one["name"].text()
        if place.endswith(".env") and name in taken:
            continue
        draft.written(f"{place}[{len(entries)}]", one.path)
        draft.written(f"{place}[{name}]", one.path)
        entries.append(one.value)
    return entries


TRAIN_JOB = WorkloadKind(
    "trainer.kubeflow.org",
    "TrainJob",
    "trainjobs",
    ("v1alpha1", "v2alpha1"),
    well_formed("TrainJob", _pods),
)
