"""What a workload is told when it is applied is what its pods would be told: on our own examples of every kind,
and on every workload of a corpus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from admission.frameworks import KSERVE_SOURCE_URI
from admission.kserve_storage import KSERVE_INITIALIZER, KSERVE_VOLUME
from admission.workload_kinds.kinds import workload_kind
from admission.workload_kinds.workload_pod import WorkloadFacts, WorkloadPod
from tests.cluster import corpus
from tests.cluster.conftest import opted_in
from tests.cluster.corpus import Document
from tests.cluster.manifests import DIGEST, Object
from tests.controlplane.api_client import ApiClient
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import wait_until

NAMESPACE = "workloads-warn"
INVALID = 422
BUILT_IN = {
    "ReplicaSet": "replicaset-controller",
    "StatefulSet": "statefulset-controller",
    "DaemonSet": "daemon-set-controller",
    "Job": "job-controller",
}
# One runtime for every format: the API server has the kind, and KServe would choose it.
FORMATS = ("sklearn", "xgboost", "lightgbm", "tensorflow", "pytorch", "onnx", "triton", "huggingface", "pmml", "paddle")
RUNTIME = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "ClusterServingRuntime",
    "metadata": {"name": "a-runtime"},
    "spec": {
        "supportedModelFormats": [{"name": name, "version": "1", "autoSelect": True} for name in FORMATS],
        "protocolVersions": ["v1", "v2", "grpc-v2"],
        "containers": [{"name": "kserve-container", "image": "docker.io/kserve/sklearnserver:v0.15.0"}],
    },
}
INITIALIZER = {
    "name": KSERVE_INITIALIZER,
    "image": f"docker.io/kserve/storage-initializer:v0.15.0@{DIGEST}",
    "resources": {key: {"cpu": "100m", "memory": "100Mi"} for key in ("requests", "limits")},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "volumeMounts": [{"name": KSERVE_VOLUME, "mountPath": "/mnt/models"}],
}
"""What KServe's own webhook, which is not installed here, makes of its annotation; nothing about it is found."""
FACTS = WorkloadFacts({("", "a-runtime"): RUNTIME})
Told = set[tuple[str, str, str]]
"""(rule, container, message): what does not depend on where the pod stands."""


class Records:
    """The decision records of the running process."""

    def __init__(self, tidewaiter: Tidewaiter) -> None:
        self._log = tidewaiter.process.log

    def of(self, kind: str, name: str) -> dict[str, Any]:
        """The newest record of /validate for one object."""
        return wait_until(lambda: self._find(kind, name), f"the decision on {kind} {name}")

    def _find(self, kind: str, name: str) -> dict[str, Any] | None:
        for line in reversed(self._log.read_text(errors="replace").splitlines()):
            if line.startswith("{") and f'"name":"{name}"' in line and '"webhook":"validate"' in line:
                record: dict[str, Any] = json.loads(line)
                if record["kind"] == kind and record["namespace"] == NAMESPACE:
                    return record
        return None


@pytest.fixture(scope="module")
def client(tidewaiter: Tidewaiter) -> Iterator[ApiClient]:
    crds = corpus.folder("TIDEWAITER_CRDS", "crds")
    opted_in(tidewaiter.plane, NAMESPACE, "staging")
    corpus.install(tidewaiter.plane, crds)
    with tidewaiter.plane.client() as client:
        if client.create(RUNTIME).ok:
            probe = _inference_service("runtime-probe")
            wait_until(lambda: "sklearnserver" in _warnings(client, probe), "the runtime to be known", timeout_s=60)
        yield client


def test_a_workload_is_told_what_its_pods_would_be_told(tidewaiter: Tidewaiter, client: ApiClient) -> None:
    records, compared, different = Records(tidewaiter), 0, []
    for number, document in enumerate(_workloads()):
        name = f"w{number}"
        sent = {**document.obj, "metadata": {**document.obj["metadata"], "name": name}}
        answer = client.create(sent, NAMESPACE, dry_run=True)
        if not answer.ok:
            continue  # the API server itself does not take it, or does not know the kind
        stored = answer.body
        pods = list(_pods(stored))
        if not all(_creatable(one) for one in pods):
            continue
        at_apply = _told(records.of(document.kind, name))
        of_pods: Told | None = set()
        for index, origin in enumerate(pods):
            pod = _as_made(origin, f"{name}-{index}", document.kind)
            _service_account(pod, client)
            made = client.create(pod, NAMESPACE, dry_run=True, user=_maker(origin, document.kind))
            if made.status == INVALID:
                of_pods = None  # the API server itself does not take such a pod
                break
            assert made.ok, f"{document.title}: {made.message}"
            of_pods |= _told(records.of("Pod", f"{name}-{index}"))
        if of_pods is None:
            continue
        compared += 1
        if at_apply != of_pods:
            different.append(f"{document.title}: only at apply {at_apply - of_pods}; only of pods {of_pods - at_apply}")
    print(f"{compared} workloads compared with their pods")
    assert compared > 10
    assert not different, "\n".join(different)


def _workloads() -> Iterator[Document]:
    folder = corpus.folder("TIDEWAITER_CORPUS", "corpus")
    found = list(corpus.examples())
    for document in [*found, *(corpus.documents(folder) if folder is not None else ())]:
        group = str(document.obj.get("apiVersion", "")).rpartition("/")[0]
        kind = workload_kind(group, document.kind)
        if kind is not None and kind.namespaced and document.obj.get("metadata"):
            yield document


def _pods(obj: Object) -> Iterator[WorkloadPod]:
    kind = workload_kind(str(obj["apiVersion"]).rpartition("/")[0], obj["kind"])
    assert kind is not None
    yield from kind.pods(obj, NAMESPACE, FACTS)


def _creatable(origin: WorkloadPod) -> bool:
    """Whether the API server takes the pod: not where a runtime that nobody has here would give the image."""
    containers = [one for key in ("initContainers", "containers") for one in origin.pod["spec"].get(key) or ()]
    return bool(containers) and all(one.get("image") for one in containers)


def _as_made(origin: WorkloadPod, name: str, kind: str) -> Object:
    metadata = {
        key: value for key, value in (origin.pod.get("metadata") or {}).items() if key in ("labels", "annotations")
    }
    spec = origin.pod["spec"]
    uri = (metadata.get("annotations") or {}).get(KSERVE_SOURCE_URI)
    if uri and not any(one["name"] == KSERVE_INITIALIZER for one in spec.get("initContainers") or ()):
        spec = {
            **spec,
            "initContainers": [*(spec.get("initContainers") or ()), {**INITIALIZER, "args": [uri, "/mnt/models"]}],
            "volumes": [*(spec.get("volumes") or ()), {"name": KSERVE_VOLUME, "emptyDir": {}}],
        }
    owner = {"apiVersion": "v1", "kind": origin.owner_kind or kind, "name": "o", "uid": "u", "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "name": name, "ownerReferences": [owner]},
        "spec": spec,
    }


def _maker(origin: WorkloadPod, kind: str) -> str:
    owner = origin.owner_kind or kind
    if owner in BUILT_IN:
        return f"system:serviceaccount:kube-system:{BUILT_IN[owner]}"
    return f"system:serviceaccount:operators:{owner.lower()}"


def _service_account(pod: Object, client: ApiClient) -> None:
    name = pod["spec"].get("serviceAccountName")
    if name:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        assert client.create(account, NAMESPACE).status in (201, 409)


def _told(record: dict[str, Any]) -> Told:
    return {(one["rule"], one["container"], one["message"]) for one in record.get("findings", ())}


def _inference_service(name: str) -> Object:
    predictor = {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://models/iris"}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": predictor},
    }


def _warnings(client: ApiClient, obj: Object) -> str:
    return "".join(client.create(obj, NAMESPACE, dry_run=True).warnings)
