"""Seldon Core 2: Servers, which have pods, and Models, which are loaded into them.

Sources: Seldon ``operator/apis/mlops/v1alpha1/{model_types,server_types}.go``,
``operator/reconcilers/server``.
"""

from __future__ import annotations

from collections.abc import Iterator

from admission.workload import WorkloadClass
from admission.workload_kinds.authored_field import AuthoredField
from admission.workload_kinds.pod_draft import PodDraft, well_formed
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadKind, WorkloadPod

_MODEL_URI = "tidewaiter.dev/model-uri"
_SIDECARS = ("agent", "rclone")


def _model_pods(model: AuthoredField, _namespace: str, _facts: WorkloadFacts) -> Iterator[WorkloadPod]:
    """A model has no pod of its own: one without containers lets its reference be judged."""
    metadata, uri = model["metadata"], model["spec"]["storageUri"]
    draft = PodDraft("spec")
    draft.add_labels(metadata["labels"])
    draft.add_annotations(metadata["annotations"])
    draft.set_label("seldon.io/model", "true", metadata["name"].path)
    if uri.text():
        draft.set_annotation(_MODEL_URI, uri.text(), uri.path)
    yield draft.pod(role="model", owner_kind="StatefulSet", workload=WorkloadClass.INFERENCE)


def _server_pods(server: AuthoredField, _namespace: str, _facts: WorkloadFacts) -> Iterator[WorkloadPod]:
    """What the author changes of the ServerConfig's pods; what the config says is judged on the pods."""
    metadata, spec = server["metadata"], server["spec"]
    draft = PodDraft(spec["podSpec"].path)
    draft.take_spec(spec["podSpec"])
    own = {one["name"].text() for one in spec["podSpec"]["containers"].items()}
    for name in _SIDECARS:
        override = spec["imageOverrides"][name]
        if override.present and name not in own:
            place = draft.add_container({**override.object(), "name": name}, override.path)
            draft.brought(f"{place}.name", override.path)
    draft.add_labels(metadata["labels"])
    draft.add_annotations(metadata["annotations"])
    draft.set_label("app.kubernetes.io/name", "seldon-server", metadata["name"].path)
    draft.set_label("seldon-server-name", metadata["name"].text(), metadata["name"].path)
    yield draft.pod(owner_kind="StatefulSet", workload=WorkloadClass.INFERENCE, loads_model=False)


_GROUP = "mlops.seldon.io"

SELDON_CORE2_KINDS: tuple[WorkloadKind, ...] = (
    WorkloadKind(_GROUP, "Model", "models", ("v1alpha1",), well_formed("Model", _model_pods)),
    WorkloadKind(_GROUP, "Server", "servers", ("v1alpha1",), well_formed("Server", _server_pods)),
)
