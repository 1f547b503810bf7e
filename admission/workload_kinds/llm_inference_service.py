"""KServe's LLMInferenceService: decode and prefill pods, their workers, and the scheduler.

Sources: KServe ``pkg/controller/v1alpha2/llmisvc/{workload_single_node,workload_multi_node,
workload_storage,scheduler}.go``, ``config/llmisvcconfig`` (its presets). Presets are not looked at:
what they add is judged on the pods, but for the command, which says where the model is.
"""

from __future__ import annotations

from collections.abc import Iterator

from admission.frameworks import KSERVE_SOURCE_URI
from admission.workload import WorkloadClass
from admission.workload_kinds.authored_field import AuthoredField
from admission.workload_kinds.pod_draft import PodDraft, well_formed
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadKind, WorkloadPod

_SERVER = "main"
_PRESET_COMMAND = ["vllm", "serve", "/mnt/models"]
"""What the presets run in ``main`` on the model that was fetched; the author's arguments follow."""

_OTHER_ENGINE = "sglang"

_SCHEDULER = "llminferenceservice-router-scheduler"
_PASSED_LABELS = ("kueue.x-k8s.io", "internal.serving.kserve.io/localmodel")
_PASSED_ANNOTATIONS = ("k8s.v1.cni.cncf.io", "prometheus.io", *_PASSED_LABELS)
"""Beginnings of the labels and annotations of the service that its pods get."""


def _pods(service: AuthoredField, _namespace: str, _facts: WorkloadFacts) -> Iterator[WorkloadPod]:
    spec = service["spec"]
    prefill = spec["prefill"]
    if prefill.present:
        yield from _workload(service, spec, "decode", "decode")
        yield from _workload(service, prefill, "prefill", "prefill")
    else:
        yield from _workload(service, spec, "server", "both")
    yield from _adapters(service)
    scheduler = spec.at("router.scheduler")
    if scheduler["template"].present:
        yield _scheduler(service, scheduler)


def _workload(service: AuthoredField, workload: AuthoredField, role: str, served: str) -> Iterator[WorkloadPod]:
    """The pods of ``template``, and those of ``worker`` where the model needs more nodes."""
    multi_node = workload["worker"].present
    for name in ("template", "worker"):
        template = workload[name]
        if name == "worker" and not template.present:
            continue
        draft = PodDraft(template.path)
        draft.take_spec(template)
        if _OTHER_ENGINE not in service.at("spec.runtime").text():
            _add_command(draft, template["containers"], service.at("spec.model"))
        _describe(draft, service, workload, served)
        _set_model(draft, service.at("spec.model.uri"))
        yield draft.pod(
            role=role if name == "template" else f"{role} worker",
            owner_kind="StatefulSet" if multi_node else "ReplicaSet",
            workload=WorkloadClass.INFERENCE,
        )


def _add_command(draft: PodDraft, containers: AuthoredField, model: AuthoredField) -> None:
    entries = containers.items()
    for index, one in enumerate(entries):
        if one["name"].text() == _SERVER and not one["command"].present:
            changed = [other.value for other in entries]
            changed[index] = {**one.object(), "command": _PRESET_COMMAND}
            draft.spec["containers"] = changed
            draft.brought(f"spec.containers[{index}].command", model.path)
            return


def _describe(draft: PodDraft, service: AuthoredField, workload: AuthoredField, served: str) -> None:
    metadata = service["metadata"]
    draft.described_at(workload["labels"], workload["annotations"])
    draft.add_annotations(metadata["annotations"], without=_others(metadata["annotations"], _PASSED_ANNOTATIONS))
    draft.add_labels(metadata["labels"], without=_others(metadata["labels"], _PASSED_LABELS))
    component = "llminferenceservice-workload-prefill" if served == "prefill" else "llminferenceservice-workload"
    name = metadata["name"]
    for key, value in (
        ("app.kubernetes.io/component", component),
        ("app.kubernetes.io/name", name.text()),
        ("app.kubernetes.io/part-of", "llminferenceservice"),
        ("kserve.io/component", "workload"),
        ("llm-d.ai/role", served),
    ):
        draft.set_label(key, value, name.path)
    draft.add_labels(workload["labels"])
    draft.add_annotations(workload["annotations"], without=(KSERVE_SOURCE_URI,))


def _others(field: AuthoredField, beginnings: tuple[str, ...]) -> list[str]:
    return [key for key in field.object() if not key.startswith(beginnings)]


def _set_model(draft: PodDraft, uri: AuthoredField) -> None:
    """Name the model by the annotation of KServe's initializer.

    The controller writes the initializer (or the claim, or the image) into the pod itself;
    the annotation says the same in one place.
    """
    if uri.text():
        draft.set_annotation(KSERVE_SOURCE_URI, uri.text(), uri.path)


def _adapters(service: AuthoredField) -> Iterator[WorkloadPod]:
    """LoRA adapters are models of their own, in the same pods: a pod without containers for each."""
    for index, adapter in enumerate(service.at("spec.model.lora.adapters").items()):
        draft = PodDraft(adapter.path)
        _describe(draft, service, service["spec"], "both")
        _set_model(draft, adapter["uri"])
        role = f"adapter {adapter['name'].text() or index}"
        yield draft.pod(role=role, owner_kind="ReplicaSet", workload=WorkloadClass.INFERENCE)


def _scheduler(service: AuthoredField, scheduler: AuthoredField) -> WorkloadPod:
    draft = PodDraft(scheduler["template"].path)
    draft.take_spec(scheduler["template"])
    name = service["metadata"]["name"]
    draft.described_at(scheduler["labels"], scheduler["annotations"])
    draft.set_label("app.kubernetes.io/component", _SCHEDULER, name.path)
    draft.set_label("app.kubernetes.io/name", name.text(), name.path)
    draft.set_label("app.kubernetes.io/part-of", "llminferenceservice", name.path)
    draft.add_labels(scheduler["labels"])
    draft.add_annotations(scheduler["annotations"])
    return draft.pod(role="scheduler", owner_kind="ReplicaSet", workload=WorkloadClass.INFERENCE, loads_model=False)


LLM_INFERENCE_SERVICE = WorkloadKind(
    "serving.kserve.io",
    "LLMInferenceService",
    "llminferenceservices",
    ("v1alpha1", "v1alpha2"),
    well_formed("LLMInferenceService", _pods),
)
