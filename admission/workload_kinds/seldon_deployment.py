"""Seldon Core 1: the pods of a SeldonDeployment, and which of them loads which model.

Sources: Seldon ``operator/apis/machinelearning.seldon.io/v1/defaults.go`` (containers of
prepackaged servers), ``operator/controllers/seldondeployment_controller.go``
(``createDeploymentWithoutEngine``), ``model_initializer_injector.go``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from admission.frameworks import KSERVE_SOURCE_URI
from admission.workload import WorkloadClass
from admission.workload_kinds.authored_field import AuthoredField
from admission.workload_kinds.pod_draft import PodDraft, well_formed
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadKind, WorkloadPod

_NO_SERVERS = ("", "UNKNOWN_IMPLEMENTATION", "SIMPLE_MODEL", "SIMPLE_ROUTER", "RANDOM_ABTEST", "AVERAGE_COMBINER")
"""Implementations that bring no server's container with them."""


@dataclass(frozen=True, slots=True)
class _Predictor:
    deployment: AuthoredField
    spec: AuthoredField
    name: str


def _pods(deployment: AuthoredField, _namespace: str, _facts: WorkloadFacts) -> Iterator[WorkloadPod]:
    for index, spec in enumerate(deployment["spec"]["predictors"].items()):
        predictor = _Predictor(deployment, spec, spec["name"].text() or str(index))
        units = list(_units(spec["graph"]))
        yield from _graph_pods(predictor, units)
        if spec["explainer"].present:
            yield _explainer(predictor)


def _units(graph: AuthoredField) -> Iterator[AuthoredField]:
    """Every unit of the inference graph, parents before children."""
    waiting = [graph]
    while waiting:
        unit = waiting.pop(0)
        if unit.present:
            yield unit
            waiting += unit["children"].items()


def _graph_pods(predictor: _Predictor, units: list[AuthoredField]) -> Iterator[WorkloadPod]:
    specs = predictor.spec["componentSpecs"].items()
    servers = [unit for unit in units if _brings_server(unit) and not _has_container(specs, unit)]
    if not specs and servers:
        # A pod is made for the prepackaged servers.
        draft = PodDraft(predictor.spec.path)
        yield from _with_models(predictor, draft, None, servers, units)
    for index, spec in enumerate(specs):
        draft = PodDraft(spec["spec"].path)
        draft.take_spec(spec["spec"])
        # Servers without a container of their own join the first pod.
        yield from _with_models(predictor, draft, spec, servers if index == 0 else [], units)


def _brings_server(unit: AuthoredField) -> bool:
    return unit["implementation"].text() not in _NO_SERVERS


def _has_container(specs: list[AuthoredField], unit: AuthoredField) -> bool:
    name = unit["name"].text()
    return any(one["name"].text() == name for spec in specs for one in spec["spec"]["containers"].items())


def _with_models(
    predictor: _Predictor,
    draft: PodDraft,
    spec: AuthoredField | None,
    servers: list[AuthoredField],
    units: list[AuthoredField],
) -> Iterator[WorkloadPod]:
    """The pod with its first model, and each further one as a pod without containers."""
    for unit in servers:
        place = draft.add_container({"name": unit["name"].text()}, unit.path)
        draft.brought(place, unit["implementation"].path)
        if unit["serviceAccountName"].present:
            draft.place("serviceAccountName", unit["serviceAccountName"])
    inside = {unit["name"].text() for unit in servers}
    if spec is not None:
        inside |= {one["name"].text() for one in spec["spec"]["containers"].items()}
    models = [unit for unit in units if unit["name"].text() in inside and unit["modelUri"].text()]
    drafts = [draft, *(PodDraft(unit.path) for unit in models[1:])]
    for index, one in enumerate(drafts):
        _describe(one, predictor, spec)
        role = predictor.name
        if models:
            uri = models[index]["modelUri"]
            one.set_annotation(KSERVE_SOURCE_URI, uri.text(), uri.path)
        if index:
            role = f"{predictor.name} {models[index]['name'].text() or index}"
        yield one.pod(role=role, owner_kind="ReplicaSet", workload=WorkloadClass.INFERENCE)


def _describe(draft: PodDraft, predictor: _Predictor, spec: AuthoredField | None) -> None:
    name = predictor.deployment.at("metadata.name")
    draft.described_at(predictor.spec["labels"], predictor.spec["annotations"])
    draft.set_label("seldon-deployment-id", name.text(), name.path)
    draft.set_label("app.kubernetes.io/managed-by", "seldon-core", name.path)
    draft.add_annotations(predictor.deployment["spec"]["annotations"], without=(KSERVE_SOURCE_URI,))
    draft.add_labels(predictor.spec["labels"])
    draft.add_annotations(predictor.spec["annotations"], without=(KSERVE_SOURCE_URI,))
    if spec is not None:
        draft.add_labels(spec["metadata"]["labels"])
        draft.add_annotations(spec["metadata"]["annotations"], without=(KSERVE_SOURCE_URI,))


def _explainer(predictor: _Predictor) -> WorkloadPod:
    """The explainer's pod: one container, of the author where they gave one."""
    explainer = predictor.spec["explainer"]
    container = explainer["containerSpec"]
    draft = PodDraft(explainer.path)
    name = container["name"].text() or f"{predictor.name}-explainer"
    place = draft.add_container({**container.object(), "name": name}, container.path)
    draft.brought(f"{place}.name", explainer.path)
    draft.place("serviceAccountName", explainer["serviceAccountName"])
    _describe(draft, predictor, None)
    uri = explainer["modelUri"]
    if uri.text():
        draft.set_annotation(KSERVE_SOURCE_URI, uri.text(), uri.path)
    return draft.pod(role=f"{predictor.name} explainer", owner_kind="ReplicaSet", workload=WorkloadClass.INFERENCE)


SELDON_DEPLOYMENT = WorkloadKind(
    "machinelearning.seldon.io",
    "SeldonDeployment",
    "seldondeployments",
    ("v1", "v1alpha2", "v1alpha3"),
    well_formed("SeldonDeployment", _pods),
)
