"""Pods that cost much more than they weigh, or weigh much: answered, bounded, and in nobody's way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from admission.decision import MAX_DENIAL_LENGTH
from admission.subject import MAX_CONTAINERS
from audit.record import MAX_RECORD_BYTES
from tests.controlplane.waiting import wait_until
from tests.http.service import Service, pod, review

VLLM = {"name": "c", "image": "vllm/vllm-openai:v1"}
DOUBLING = [{"name": f"E{n}", "value": f"$(E{n - 1})$(E{n - 1})" if n else "a" * 100} for n in range(23)]


def many(count: int, **more: Any) -> dict[str, Any]:
    """A model pod of as many servers."""
    [server] = pod()["spec"]["containers"]
    return pod(containers=[{**server, **more, "name": f"c{number}"} for number in range(count)])


BOMBS: dict[str, Callable[[], dict[str, Any]]] = {
    "variables that double": lambda: pod(containers=[{**VLLM, "args": ["--model", "$(E22)"], "env": DOUBLING}]),
    "a line that names a variable often": lambda: pod(
        containers=[{**VLLM, "command": ["sh", "-c", "vllm serve " + "$E9 " * 20_000], "env": DOUBLING[:10]}]
    ),
    "a long argument": lambda: pod(containers=[{**VLLM, "args": ["--model", "x" * 1_000_000]}]),
    "a long image of dashes": lambda: pod(containers=[{**VLLM, "image": "-" * 500_000 + " token"}]),
    "a long name of a model": lambda: {
        **pod(),
        "metadata": {"name": "p", "annotations": {"tidewaiter.dev/model": "x" * 1_000_000}},
    },
    "a long name of the pod": lambda: {**pod(), "metadata": {"name": "p", "generateName": "\x01" * 100_000}},
    "many containers with much wrong": lambda: many(MAX_CONTAINERS, securityContext={"privileged": True}),
    "many mounts": lambda: pod(
        containers=[{**VLLM, "volumeMounts": [{"name": "v", "mountPath": f"/{n}"} for n in range(10_000)]}],
        volumes=[{"name": f"v{n}", "emptyDir": {}} for n in range(10_000)],
    ),
    "shells without a line": lambda: pod(containers=[{**VLLM, "command": ["sh"] * 100_000}]),
    "an option that takes many words": lambda: pod(containers=[{**VLLM, "args": ["--lora-modules", *["a"] * 100_000]}]),
    "an option that is given often": lambda: pod(containers=[{**VLLM, "args": ["--model", "m"] * 50_000}]),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("path", ["/mutate", "/validate"])
def test_a_pod_that_costs_more_than_it_weighs_is_answered_and_its_record_bounded(
    service: Service, path: str, bomb: Callable[[], dict[str, Any]]
) -> None:
    uid = f"bomb{path}-{len(service.records)}"

    response = service.post(path, review(bomb(), uid)).response

    assert response["uid"] == uid
    assert len(response.get("status", {}).get("message", "")) <= MAX_DENIAL_LENGTH
    line = wait_until(lambda: line_of(service, uid), f"the record of {uid}")
    assert len(line) <= MAX_RECORD_BYTES
    assert json.loads(line)["verdict"] != "error"
    assert service.still_answers()


def line_of(service: Service, uid: str) -> bytes | None:
    """The line of a record, as it was written."""
    *lines, _ = (service.folder / "stdout").read_bytes().split(b"\n")
    return next((line for line in lines if json.loads(line)["uid"] == uid), None)


@pytest.mark.parametrize(
    ("path", "namespace", "allowed"),
    [
        ("/validate", "ml-production", False),
        ("/validate", "unlabelled", True),
        ("/mutate", "ml-production", True),
        ("/mutate", "unlabelled", True),
    ],
)
@pytest.mark.parametrize("kind", ["Pod", "Deployment"])
def test_more_containers_than_can_be_reviewed_in_time_are_not_reviewed(
    service: Service, path: str, namespace: str, kind: str, *, allowed: bool
) -> None:
    counted = service.metric("tidewaiter_errors_total", webhook=path[1:], cause="too-many-containers")
    obj = many(MAX_CONTAINERS + 1)
    about: dict[str, Any] = {"namespace": namespace}
    if kind == "Deployment":
        obj = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "d"}, "spec": {"template": obj}}
        about["kind"] = {"group": "apps", "version": "v1", "kind": kind}

    response = service.post(path, review(obj, **about)).response

    said = response["warnings"][0] if allowed else response["status"]["message"]
    assert response["allowed"] is allowed
    assert f"{kind} has {MAX_CONTAINERS + 1} containers and cannot be reviewed in time" in said
    assert service.metric("tidewaiter_errors_total", webhook=path[1:], cause="too-many-containers") == counted + 1


@pytest.mark.parametrize(("changed", "allowed"), [(False, True), (True, False)], ids=["unchanged", "changed"])
def test_a_pod_that_has_too_many_containers_already_may_lose_its_finalizer(
    service: Service, *, changed: bool, allowed: bool
) -> None:
    old = many(MAX_CONTAINERS + 1)
    new = many(MAX_CONTAINERS + 1, **({"image": "other"} if changed else {}))
    old["metadata"]["finalizers"] = ["example.com/x"]

    assert service.post("/validate", review(new, operation="UPDATE", oldObject=old)).response["allowed"] is allowed
