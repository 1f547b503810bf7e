"""CEL and Python agree: what `ModelPod` recognises, the match conditions let through. More may be, less never."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from admission.accelerators import ACCELERATOR_PREFIXES, ACCELERATOR_RESOURCES, GPU_NODE_KEYS
from admission.admission_review import AdmissionRequest, decode
from admission.frameworks import FRAMEWORKS, KSERVE_SOURCE_URI, OUR_LABELS
from admission.model_servers import SERVER_PROGRAMS
from admission.pod import ModelPod
from tests.cluster import corpus
from tests.cluster.manifests import DIGEST, Object
from tests.controlplane.api_client import ApiResponse
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.tidewaiter import Tidewaiter
from tests.controlplane.waiting import wait_until
from tests.controlplane.webhook_server import WebhookServer
from tests.property.pods import CLEAN_PODS, GPU_PODS, PODS

NAMESPACE = "parity"
EXAMPLES = 150
Verdicts = dict[str, tuple[AdmissionRequest, bool]]


def _generated() -> list[Object]:
    """The same pods in every run."""
    found: list[Object] = []

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), deadline=None,
    )  # fmt: skip
    @given(PODS | GPU_PODS | CLEAN_PODS)
    def collect(pod: Any) -> None:
        found.append(copy.deepcopy(pod))

    collect()
    return found


def _one_sign_each() -> Iterator[Object]:
    """Pods with a single sign of a model each: in others one sign hides that another is overlooked."""
    for framework in FRAMEWORKS:
        for key, value in framework.labels:
            yield _template(labels={key: value or "x"})
        for part in framework.images:
            for image in (f"{part.rstrip('/')}/x", f"registry.example:5000/{part}-x:1@{DIGEST}"):
                yield _template(image=image)
                yield _template(init=[{"name": "init", "image": image}])
    for key in OUR_LABELS:
        yield _template(labels={key: ""})
    for name in (*ACCELERATOR_RESOURCES, *(f"{prefix}x" for prefix in ACCELERATOR_PREFIXES)):
        quantities = {"limits": {name: "1"}, "requests": {name: "1"}}
        for resources in ({"limits": {name: "1"}}, quantities):
            yield _template(resources=resources)
            yield _template(init=[{"name": "init", "image": "acme/init:1", "resources": resources}])
    yield _template(annotations={KSERVE_SOURCE_URI: "s3://models/m"})
    yield from _one_program_or_placement_each()
    yield _template(resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "gpu"}])


def _one_program_or_placement_each() -> Iterator[Object]:
    for program in SERVER_PROGRAMS:
        for command in (
            ["python3", "-m", program, "--port=1"],
            ["sh", "-c", f"cd /x && exec /usr/bin/{program} --port=1"],
        ):
            yield _template(command=command)
            yield _template(args=command)
    for key in GPU_NODE_KEYS:
        yield _template(nodeSelector={key: "x"})
        yield _template(tolerations=[{"key": key, "operator": "Exists"}])
        term = {"matchExpressions": [{"key": key, "operator": "Exists"}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        yield _template(affinity={"nodeAffinity": required})


def _look_alikes() -> Iterator[Object]:
    """Pods of other people, some of which come close."""
    for framework in FRAMEWORKS:
        for key, value in framework.labels:
            yield _template(labels={f"{key}-not" if not value else key: "something-else"})
    for name in ("nvidia.com/gpuless", "amd.com/cpu", "example.com/nvidia.com-gpu", "hugepages-2Mi"):
        yield _template(resources={"limits": {name: "1"}, "requests": {name: "1"}})
    yield _template(
        nodeSelector={"kubernetes.io/os": "linux"}, tolerations=[{"key": "dedicated", "operator": "Exists"}]
    )
    yield _template(command=["/bin/server"], args=["--models=none", "serve"])
    for image in ("nginx", "docker.io/library/redis:8", "quay.io/prometheus/node-exporter", "acme/arrayproject:1"):
        yield _template(image=image, labels={"app": "web"}, annotations={"a": "b"})
        yield _template(init=[{"name": "init", "image": image}])


def _template(image: str = "acme/web:1", **more: Any) -> Object:
    container = {"name": "main", "image": image, "resources": more.pop("resources", {})}
    container |= {field: more.pop(field) for field in ("command", "args") if field in more}
    metadata = {"labels": more.pop("labels", {}), "annotations": more.pop("annotations", {})}
    return {"metadata": metadata, "spec": {"initContainers": more.pop("init", []), "containers": [container], **more}}


def _manifests() -> Iterator[Object]:
    templates = [*_generated(), *_one_sign_each(), *_look_alikes()]
    path = corpus.folder("TIDEWAITER_CORPUS", "corpus")
    if path is not None:
        templates += [one for document in corpus.documents(path) for _, one in corpus.pod_templates(document)]
    for number, template in enumerate(templates):
        yield corpus.as_pod(template, f"pod-{number}")
        labelled = {"metadata": template.get("metadata") or {}, "spec": template["spec"]}
        yield _workload("apps/v1", "Deployment", f"deployment-{number}", {"template": labelled})
        job = {"jobTemplate": {"spec": {"template": labelled}}, "schedule": "@daily"}
        yield _workload("batch/v1", "CronJob", f"cronjob-{number}", job)


LOOK_ALIKES = len(list(_look_alikes()))


def _workload(version: str, kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def verdicts(tidewaiter: Tidewaiter) -> Verdicts:
    """Of every object: the request that a webhook without conditions got, and whether one with ours got it too."""
    plane = tidewaiter.plane
    plane.create_namespace(NAMESPACE)
    webhooks = []
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}}
    _, validating = tidewaiter.configurations()
    for of in validating["webhooks"]:
        if of["name"].startswith("other."):
            name = of["name"].removesuffix(".tidewaiter.dev").replace(".", "-")
            rules = {"rules": of["rules"], "failurePolicy": of["failurePolicy"], **selector}
            webhooks.append({"name": f"all-{name}", **rules})
            conditions = {"matchConditions": of["matchConditions"]} if "matchConditions" in of else {}
            webhooks.append({"name": f"matched-{name}", **rules, **conditions})
    # A mutating one: that sees also what the API server would refuse afterwards.
    with WebhookServer(plane, "parity") as server, plane.client() as client:
        plane.apply(server.configuration(*webhooks))
        _wait_until_seen(server, lambda obj: client.create(obj, NAMESPACE, dry_run=True))
        server.reviews.clear()
        for manifest in _manifests():
            client.create(manifest, NAMESPACE, dry_run=True)
        matched = {_name(body) for path, body in server.reviews if path.startswith("matched-")}
        return {
            _name(body): (decode(body), _name(body) in matched)
            for path, body in server.reviews
            if path.startswith("all-")
        }


@pytest.mark.parametrize("kind", ["Pod", "Deployment", "CronJob"])
def test_nothing_that_python_recognises_is_missed(verdicts: Verdicts, kind: str) -> None:
    of_kind = {name: one for name, one in verdicts.items() if one[0].kind.kind == kind}
    recognised = {name for name, (request, _) in of_kind.items() if _recognised(request)}
    matched = {name for name, (_, seen) in of_kind.items() if seen}

    missed = [json.dumps(of_kind[name][0].object)[:2000] for name in sorted(recognised - matched)]
    assert missed == []
    # Otherwise nothing was shown: there were model pods, and there were others that were kept away.
    assert len(recognised) >= EXAMPLES // 2
    assert len(of_kind) - len(matched) >= LOOK_ALIKES // 2


def test_a_web_pod_costs_no_call(tidewaiter: Tidewaiter, plane: ControlPlane) -> None:
    """A model pod in the same namespace does, and comes later."""
    reviewed = tidewaiter.process.log.read_text
    if plane.get("namespace", NAMESPACE) is None:
        plane.create_namespace(NAMESPACE)
    for name, image in (("only-web", "docker.io/library/nginx:1"), ("some-model", "nvcr.io/nvidia/tritonserver:1")):
        plane.kubectl("run", name, "-n", NAMESPACE, f"--image={image}")

    wait_until(lambda: '"some-model"' in reviewed(), "the record of the model pod")
    assert '"only-web"' not in reviewed()


def _recognised(request: AdmissionRequest) -> str:
    obj = copy.deepcopy(request.object)
    assert obj is not None
    if request.kind.kind == "Pod":
        return ModelPod(obj).recognised_by
    holder = obj["spec"]["jobTemplate"] if request.kind.kind == "CronJob" else obj
    return ModelPod(holder["spec"]["template"]).recognised_by


def _wait_until_seen(server: WebhookServer, create: Callable[[Object], ApiResponse]) -> None:
    pod = {"metadata": {"labels": {"tidewaiter.dev/model": "m"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    probes = [corpus.as_pod(pod, "probe"), _workload("apps/v1", "Deployment", "probe", {"template": pod})]

    def seen() -> bool:
        for probe in probes:
            create(probe)
        return len({(path, decode(body).kind.kind) for path, body in server.reviews}) == 2 * len(probes)

    wait_until(seen, "the webhooks to be called about both probes")


def _name(body: bytes) -> str:
    return str(json.loads(body)["request"]["name"])
