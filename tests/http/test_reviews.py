"""Reviews over HTTPS: what the API server gets, and what is written down."""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonpatch

from tests.controlplane.waiting import wait_until
from tests.http.service import Service, pod, post, review

SECRET = "hf_abcdefghijklmnopqrstuvwx"


def mutated(service: Service, obj: dict[str, Any], uid: str) -> dict[str, Any]:
    response = service.post("/mutate", review(obj, uid)).response
    patched: dict[str, Any] = jsonpatch.apply_patch(obj, json.loads(base64.b64decode(response["patch"])))
    return patched


def record(service: Service, uid: str) -> dict[str, Any]:
    return wait_until(lambda: next((one for one in service.records if one["uid"] == uid), None), f"record {uid}")


def test_a_mutated_pod_is_what_validate_asks_for(service: Service) -> None:
    after = mutated(service, pod(), "m-1")

    answer = service.post("/validate", review(after, "v-1"))

    assert answer.status == 200
    assert answer.response["uid"] == "v-1"
    assert answer.response["allowed"] is True
    assert after["spec"]["priorityClassName"] == "tidewaiter-inference-production"
    assert after["spec"]["containers"][0]["image"] == pod()["spec"]["containers"][0]["image"]


def test_the_patch_of_a_mutated_pod_is_empty(service: Service) -> None:
    response = service.post("/mutate", review(mutated(service, pod(), "m-2"), "m-3")).response

    assert response["uid"] == "m-3"
    assert "patch" not in response
    assert "patchType" not in response


def test_an_unapproved_pod_is_refused_with_a_reason(service: Service) -> None:
    answer = service.post("/validate", review(mutated(service, pod("4"), "m-4"), "v-4"))

    status = answer.response["status"]
    assert (answer.status, answer.response["uid"], answer.response["allowed"]) == (200, "v-4", False)
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert "resnet50:4 is not in the registry; known versions: 3" in status["message"]


def test_what_only_warns_is_a_warning_and_no_refusal(service: Service) -> None:
    response = service.post("/validate", review(pod("4"), "v-5", namespace="ml-staging")).response

    assert response["allowed"] is True
    assert any("resnet50:4 is not in the registry" in one for one in response["warnings"])


def test_many_reviews_on_one_connection_keep_their_uids(service: Service) -> None:
    with service.connection() as connection:
        uids = [post(connection, "/mutate", review(pod(), f"same-{turn}")).response["uid"] for turn in range(20)]

    assert uids == [f"same-{turn}" for turn in range(20)]


def test_every_review_leaves_one_record(service: Service) -> None:
    service.post("/mutate", review(pod(), "r-1"))
    service.post("/validate", review(pod(), "r-2"))

    first, second = record(service, "r-1"), record(service, "r-2")

    assert (first["webhook"], first["verdict"], first["user"]) == ("mutate", "mutated", "mia")
    assert (second["webhook"], second["verdict"]) == ("validate", "denied")
    assert [one["uid"] for one in service.records].count("r-1") == 1


def test_secrets_are_masked_in_the_record(service: Service) -> None:
    obj = pod()
    obj["metadata"]["annotations"] = {"tidewaiter.dev/model-uri": f"https://mia:hunter2@models/{SECRET}/m.onnx"}

    service.post("/mutate", review(obj, "s-1"))

    written = json.dumps(record(service, "s-1"))
    assert "m.onnx" in written
    assert "hunter2" not in written
    assert SECRET not in (service.folder / "stdout").read_text(encoding="utf-8")


def test_reviews_are_counted_by_verdict(service: Service) -> None:
    before = service.metric("tidewaiter_reviews_total", webhook="mutate", verdict="mutated")

    service.post("/mutate", review(pod()))

    assert service.metric("tidewaiter_reviews_total", webhook="mutate", verdict="mutated") == before + 1


def test_health_is_told_on_both_ports(service: Service) -> None:
    with service.connection() as connection:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"ok\n")
    assert service.health("/healthz").status == 200
