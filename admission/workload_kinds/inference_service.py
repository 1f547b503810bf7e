"""KServe's InferenceService: predictor, transformer and explainer, each with its serving runtime.

Sources: KServe ``pkg/controller/v1beta1/inferenceservice/components/{predictor,transformer,
explainer,component}.go``, ``pkg/apis/serving/v1beta1/inference_service_defaults.go``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from admission.frameworks import KSERVE_SOURCE_URI
from admission.workload import WorkloadClass
from admission.workload_kinds.authored_field import AuthoredField, below
from admission.workload_kinds.pod_draft import POD_SPEC_FIELDS, PodDraft, container_at, well_formed
from admission.workload_kinds.serving_runtimes import (
    DEFAULT_PROTOCOL,
    ServingRuntime,
    WantedRuntime,
    chosen_runtime,
    image_of_gpu_build,
    image_of_version,
    with_placeholders_filled,
)
from admission.workload_kinds.strategic_merge import merge
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadKind, WorkloadPod

_SERVER = "kserve-container"
_WORKER = "worker-container"
_TRANSFORMER = "transformer-container"
_NOT_PASSED_ON = (
    "autoscaling.knative.dev/min-scale",
    "autoscaling.knative.dev/max-scale",
    KSERVE_SOURCE_URI,
    "kubectl.kubernetes.io/last-applied-configuration",
)
"""Annotations that KServe keeps from its pods, unless its configuration says otherwise."""

_FRAMEWORKS = (
    "sklearn",
    "tensorflow",
    "xgboost",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
)
"""Fields of a predictor from before ``model``, in KServe's order; each names its model format."""

_EXPLAINERS = ("art", "alibi", "aix")
_SECOND_PROTOCOL = ("triton", "onnx", "huggingface")
"""Old fields whose servers speak v2 where nobody says otherwise: the others are asked for v1."""

_RUNTIME_SPEC_FIELDS = (
    "affinity",
    "hostIPC",
    "imagePullSecrets",
    "nodeSelector",
    "resourceClaims",
    "schedulerName",
    "tolerations",
    "volumes",
)
"""Fields of a runtime's spec that belong to its pods, beside the containers."""


@dataclass(frozen=True, slots=True)
class _Component:
    """One component of an InferenceService."""

    service: AuthoredField
    spec: AuthoredField
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class _Uri:
    """A model that is to be loaded, as KServe would write it, and the field that says so."""

    text: str
    path: str
    exact: bool = True


def _pods(service: AuthoredField, namespace: str, facts: WorkloadFacts) -> Iterator[WorkloadPod]:
    spec = service["spec"]
    predictors = [_Component(service, spec["predictor"], "predictor", "predictor")]
    for index, canary in enumerate(spec["canary"].items()):
        role = f"canary predictor {index + 1}" if index else "canary predictor"
        predictors.append(_Component(service, canary["predictor"], "predictor", role))
    for predictor in predictors:
        if predictor.spec.present:
            yield from _predictor(predictor, namespace, facts)
    for name in ("transformer", "explainer"):
        if spec[name].present:
            yield from _other(_Component(service, spec[name], name, name))


def _predictor(component: _Component, namespace: str, facts: WorkloadFacts) -> Iterator[WorkloadPod]:
    model, format_name = _model(component.spec)
    if not model.present:
        yield from _custom(component)
        return
    if _model_mesh(component.service):
        # Its runtimes run already: the model comes to them.
        yield from _with_models(component, PodDraft(component.spec.path), _uris(component, model))
        return
    wanted = _wanted(component, model, format_name)
    runtime = chosen_runtime(wanted, namespace, facts)
    by = model["runtime"].path if wanted.name else model.path
    uris = _uris(component, model)
    yield from _with_models(component, _served(component, model, runtime, by), uris, runtime, by)
    worker = component.spec["workerSpec"]
    if worker.present:
        yield from _with_models(
            replace(component, role=f"{component.role} worker"), _worker(component, worker, runtime, by), uris[:1]
        )


def _model(spec: AuthoredField) -> tuple[AuthoredField, str]:
    """The model's field and its format: ``model``, or a field from before there was one."""
    if spec["model"].present:
        return spec["model"], spec["model"]["modelFormat"]["name"].text()
    for name in _FRAMEWORKS:
        if spec[name].present:
            return spec[name], name
    return spec["model"], ""


def _model_mesh(service: AuthoredField) -> bool:
    return service.at("metadata.annotations")["serving.kserve.io/deploymentMode"].text() == "ModelMesh"


def _wanted(component: _Component, model: AuthoredField, format_name: str) -> WantedRuntime:
    name = model["runtime"].text()
    protocol = model["protocolVersion"].text()
    old_field = not component.spec["model"].present
    if not protocol and (format_name == "triton" or (old_field and format_name in _SECOND_PROTOCOL)):
        protocol = "v2"
    if not protocol and not name:
        protocol = DEFAULT_PROTOCOL
    version = model["modelFormat"]["version"].text()
    return WantedRuntime(name, format_name, version, protocol, component.spec["workerSpec"].present)


def _served(component: _Component, model: AuthoredField, runtime: ServingRuntime | None, by: str) -> PodDraft:
    """The pod of a predictor with a model: the runtime's containers with what the author says over them."""
    draft = PodDraft(component.spec.path)
    _take_runtime_spec(draft, component.spec, runtime.spec if runtime else None, by)
    given = _named(runtime.spec["containers"], _SERVER) if runtime else None
    server = _merged_container(draft, "spec.containers[0]", given, model, by, _SERVER)
    if runtime is not None:
        server = with_placeholders_filled(server, component.service["metadata"])
        server = _with_image(draft, server, model, runtime)
    draft.spec["containers"] = [server]
    own = component.spec["containers"].items()
    beside = [one for one in own if one["name"].text() != _TRANSFORMER]
    _add_transformer(draft, runtime, _named(component.spec["containers"], _TRANSFORMER), by)
    for one in runtime.spec["containers"].items() if runtime else ():
        if one["name"].text() not in (_SERVER, _TRANSFORMER):
            made = draft.add_container(one.object(), by)
            draft.brought(made, by)
    for one in beside:
        draft.add_container(one.object(), one.path)
    return draft


def _add_transformer(draft: PodDraft, runtime: ServingRuntime | None, own: AuthoredField | None, by: str) -> None:
    """A transformer in the predictor's pod, of the runtime, of the author or of both."""
    given = _named(runtime.spec["containers"], _TRANSFORMER) if runtime else None
    if own is None and given is None:
        return
    place = f"spec.containers[{len(draft.spec['containers'])}]"
    if own is None:
        assert given is not None  # noqa: S101 - one of both is there
        draft.spec["containers"].append(given.object())
        draft.brought(place, by)
    else:
        draft.spec["containers"].append(_merged_container(draft, place, given, own, by, _TRANSFORMER))


def _merged_container(
    draft: PodDraft, place: str, given: AuthoredField | None, own: AuthoredField, by: str, name: str
) -> dict[str, Any]:
    """The author's container over the runtime's. Arguments add up, everything else overrides."""
    written = AuthoredField(container_at(own), own.path, own.kind)
    base = given or AuthoredField(None, own.path, own.kind)
    # What nobody wrote the author would write in their own container.
    draft.written(place, own.path)
    merged = {
        key: merge(draft, below(place, key), base[key], written[key], by)
        for key in dict.fromkeys((*base.object(), *written.object()))
    }
    merged["name"] = name
    if not written["name"].present:
        draft.brought(f"{place}.name", own.path)
    theirs, ours = base["args"].items(), written["args"].items()
    if theirs:
        merged["args"] = [one.value for one in (*theirs, *ours)]
        for index in range(len(theirs)):
            draft.brought(f"{place}.args[{index}]", by)
        for index, one in enumerate(ours):
            draft.written(f"{place}.args[{len(theirs) + index}]", one.path)
    return merged


def _with_image(
    draft: PodDraft, server: dict[str, Any], model: AuthoredField, runtime: ServingRuntime
) -> dict[str, Any]:
    """The server with the image of the version that is asked for, or of the GPU build."""
    image, version = server.get("image"), model["runtimeVersion"].text()
    if not isinstance(image, str):
        return server
    if version:
        changed = image_of_version(image, version)
        if changed != image:
            draft.brought("spec.containers[0].image", model["runtimeVersion"].path)
    else:
        resources = AuthoredField(server.get("resources"), f"{model.path}.resources", model.kind)
        asked = {name: resources[name].object() for name in ("limits", "requests")}
        changed = image_of_gpu_build(image, runtime.name, asked)
    return {**server, "image": changed}


def _take_runtime_spec(draft: PodDraft, own: AuthoredField, runtime: AuthoredField | None, by: str) -> None:
    """The pod's spec but for its containers: the author's over the runtime's."""
    theirs = [key for key in _RUNTIME_SPEC_FIELDS if key in runtime.object()] if runtime is not None else []
    ours = [key for key in own.object() if key in POD_SPEC_FIELDS and key != "containers"]
    for key in dict.fromkeys((*theirs, *ours)):
        given = runtime[key] if runtime is not None and key in theirs else AuthoredField(None, own[key].path, own.kind)
        value = merge(draft, f"spec.{key}", given, own[key], by)
        if value is not None:
            draft.spec[key] = value


def _named(containers: AuthoredField, name: str) -> AuthoredField | None:
    return next((one for one in containers.items() if one["name"].text() == name), None)


def _worker(component: _Component, worker: AuthoredField, runtime: ServingRuntime | None, by: str) -> PodDraft:
    """The pods that help the predictor's on other nodes."""
    draft = PodDraft(worker.path)
    given = runtime.spec["workerSpec"] if runtime and runtime.spec["workerSpec"].present else None
    _take_runtime_spec(draft, worker, given, by)
    theirs = _named(given["containers"], _WORKER) if given else None
    own = next(iter(worker["containers"].items()), None)
    if own is not None:
        draft.spec["containers"] = [_merged_container(draft, "spec.containers[0]", theirs, own, by, _WORKER)]
    elif theirs is not None:
        draft.spec["containers"] = [with_placeholders_filled(dict(theirs.object()), component.service["metadata"])]
        draft.brought("spec.containers[0]", by)
    if given is not None:
        draft.add_labels(given["labels"], by)
        draft.add_annotations(given["annotations"], by, without=_NOT_PASSED_ON)
    return draft


def _custom(component: _Component) -> Iterator[WorkloadPod]:
    """A component that brings its own containers."""
    draft = PodDraft(component.spec.path)
    draft.take_spec(component.spec)
    containers = component.spec["containers"].items()
    if containers and (len(containers) == 1 or not containers[0]["name"].text()):
        first = containers[0]
        if first["name"].text() != _SERVER:
            draft.spec["containers"] = [{**first.object(), "name": _SERVER}, *(one.value for one in containers[1:])]
    yield from _with_models(component, draft, _uris(component, None))


def _other(component: _Component) -> Iterator[WorkloadPod]:
    """A transformer or explainer: containers of its own, or an explainer that KServe knows."""
    known = next((component.spec[name] for name in _EXPLAINERS if component.spec[name].present), None)
    if component.name != "explainer" or known is None:
        yield from _custom(component)
        return
    draft = PodDraft(component.spec.path)
    draft.take_spec(component.spec, without=("containers",))
    place = draft.add_container({**container_at(known), "name": _SERVER}, known.path)
    draft.brought(f"{place}.name", known.path)
    for one in component.spec["containers"].items()[1:]:
        draft.add_container(one.object(), one.path)
    yield from _with_models(component, draft, _uris(component, known))


def _with_models(
    component: _Component,
    draft: PodDraft,
    uris: list[_Uri],
    runtime: ServingRuntime | None = None,
    by: str = "",
) -> Iterator[WorkloadPod]:
    """The component's pod with its first model, and each further one as a pod without containers."""
    if runtime is not None:
        draft.add_labels(runtime.spec["labels"], by)
        draft.add_annotations(runtime.spec["annotations"], by, without=_NOT_PASSED_ON)
    drafts = [draft, *(PodDraft(component.spec.path) for _ in uris[1:])]
    for index, one in enumerate(drafts):
        _describe(one, component)
        if uris:
            uri = uris[index]
            one.set_annotation(KSERVE_SOURCE_URI, uri.text, uri.path)
        role = component.role if index == 0 else f"{component.role} model {index + 1}"
        yield one.pod(role=role, owner_kind="ReplicaSet", workload=WorkloadClass.INFERENCE)


def _describe(draft: PodDraft, component: _Component) -> None:
    """Labels and annotations: the component's over those of the service."""
    metadata = component.service["metadata"]
    draft.add_labels(metadata["labels"])
    draft.add_labels(component.spec["labels"])
    draft.set_label("serving.kserve.io/inferenceservice", metadata["name"].text(), metadata["name"].path)
    draft.set_label("component", component.name, component.spec.path)
    draft.add_annotations(metadata["annotations"], without=_NOT_PASSED_ON)
    draft.add_annotations(component.spec["annotations"], without=_NOT_PASSED_ON)


def _uris(component: _Component, model: AuthoredField | None) -> list[_Uri]:
    """Every model that the component is to load, the first of which its pod's annotation names."""
    found = []
    if model is not None:
        uri, storage = model["storageUri"], model["storage"]
        if uri.text():
            found.append(_Uri(uri.text(), uri.path))
        elif storage["path"].text():
            found.append(_stored(storage))
    else:
        found += _custom_uri(component.spec["containers"])
    for one in component.spec["storageUris"].items():
        if one["uri"].text():
            found.append(_Uri(one["uri"].text(), one["uri"].path))
    return found


def _stored(storage: AuthoredField) -> _Uri:
    """The URI of ``storage``: KServe leaves the scheme open where only a secret knows it."""
    path, parameters = storage["path"], storage["parameters"]
    rest = path.text().removeprefix("/")
    scheme, bucket = parameters["type"].text(), parameters["bucket"].text()
    if scheme and bucket:
        return _Uri(f"{scheme}://{bucket}/{rest}", path.path)
    return _Uri(f"<scheme-placeholder>://{rest}", path.path)


def _custom_uri(containers: AuthoredField) -> list[_Uri]:
    """The variable by which a container of the author's own asks for a model."""
    entries = containers.items()
    named = [one for one in entries if one["name"].text() in (_SERVER, "")] or entries[:1]
    for container in named[:1]:
        for variable in container["env"].items():
            if variable["name"].text() == "STORAGE_URI" and variable["value"].text():
                return [_Uri(variable["value"].text(), variable["value"].path)]
    return []


def _runtime_pods(runtime: AuthoredField, _namespace: str, _facts: WorkloadFacts) -> Iterator[WorkloadPod]:
    """The pods that a runtime stands for: one for models, and one for helpers on other nodes."""
    spec = runtime["spec"]
    for field, role in ((spec, ""), (spec["workerSpec"], "worker")):
        if not field.present:
            continue
        draft = PodDraft(field.path)
        draft.take_spec(field)
        draft.described_at(field["labels"], field["annotations"])
        draft.add_labels(field["labels"])
        draft.add_annotations(field["annotations"])
        yield draft.pod(role=role, owner_kind="ReplicaSet", workload=WorkloadClass.INFERENCE, loads_model=False)


_ROUTER: dict[str, Any] = {
    "privileged": False,
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
"""What KServe gives a graph's router (``pkg/controller/v1alpha1/inferencegraph/raw_ig.go``); no manifest can."""


def _graph_pods(graph: AuthoredField, _namespace: str, _facts: WorkloadFacts) -> Iterator[WorkloadPod]:
    """The router of an InferenceGraph; its image is KServe's."""
    spec, metadata = graph["spec"], graph["metadata"]
    draft = PodDraft(spec.path)
    draft.take_spec(spec, without=("containers", "resources"))
    place = draft.add_container({"name": metadata["name"].text(), "securityContext": {**_ROUTER}}, spec.path)
    draft.brought(f"{place}.name", metadata["name"].path)
    draft.brought(f"{place}.securityContext", spec.path)
    draft.spec["automountServiceAccountToken"] = False
    if spec["resources"].present:
        draft.spec["containers"] = [{**draft.spec["containers"][0], "resources": spec["resources"].object()}]
    draft.add_labels(metadata["labels"])
    draft.add_annotations(metadata["annotations"], without=_NOT_PASSED_ON)
    draft.set_label("serving.kserve.io/inferencegraph", metadata["name"].text(), metadata["name"].path)
    yield draft.pod(role="router", owner_kind="ReplicaSet", workload=WorkloadClass.INFERENCE, loads_model=False)


_GROUP = "serving.kserve.io"

_OLD_GROUP = "serving.kubeflow.org"
"""KServe's group when it was called KFServing: its manifests are still about."""

KSERVE_KINDS: tuple[WorkloadKind, ...] = (
    WorkloadKind(_GROUP, "InferenceService", "inferenceservices", ("v1beta1",), well_formed("InferenceService", _pods)),
    WorkloadKind(
        _OLD_GROUP, "InferenceService", "inferenceservices", ("v1beta1",), well_formed("InferenceService", _pods)
    ),
    WorkloadKind(
        _GROUP, "ServingRuntime", "servingruntimes", ("v1alpha1",), well_formed("ServingRuntime", _runtime_pods)
    ),
    WorkloadKind(
        _GROUP,
        "ClusterServingRuntime",
        "clusterservingruntimes",
        ("v1alpha1",),
        well_formed("ClusterServingRuntime", _runtime_pods),
    ),
    WorkloadKind(
        _GROUP, "InferenceGraph", "inferencegraphs", ("v1alpha1",), well_formed("InferenceGraph", _graph_pods)
    ),
)
