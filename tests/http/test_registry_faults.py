"""A running service whose registry is killed, slow, broken or back: what is decided, and what is written down."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import orjson
import pytest

from tests.controlplane.waiting import wait_until
from tests.http.conftest import REGISTRY
from tests.http.registry_server import RegistryServer, failing, garbage, registry_server, silent
from tests.http.service import Service, pod, review, running
from tests.registries.http_server import Reply, Request, reply

_NUMBERS = itertools.count()
_CACHE = {"freshSeconds": 0, "revalidateSeconds": 0, "negativeSeconds": 0, "deadlineSeconds": 0.5}
FAULTS: dict[str, tuple[Callable[[RegistryServer], None], str, str]] = {
    "killed": (RegistryServer.kill, "refused", "registry company cannot be reached"),
    "silent": (lambda it: setattr(it, "answer", silent), "deadline", "registry company did not answer in time"),
    "garbage": (lambda it: setattr(it, "answer", garbage), "garbage", "registry company answers with what is not JSON"),
    "failing": (lambda it: setattr(it, "answer", failing), "failing", "registry company fails (HTTP 500)"),
}


def good(request: Request) -> Reply:
    """Approves every version below 100 of resnet50 for production."""
    model, version, _ = request.target.strip("/").split("/")
    if int(version) >= 100:
        return reply(b"", "404 Not Found")
    approvals = [{"environment": "production", "approvers": ["ann"]}]
    return reply(
        orjson.dumps({"format": 1, "model": model, "version": version, "state": "approved", "approvals": approvals})
    )


def settings(url: str, **cache: Any) -> dict[str, Any]:
    """Production asks the server, staging a file."""
    company = {
        "name": "company",
        "type": "https",
        "url": url,
        "environments": ["production"],
        "cache": {**_CACHE, **cache},
        "breaker": {"failures": 1000},
    }
    lab = {"name": "lab", "type": "file", "path": "registry.yaml", "environments": ["staging"]}
    return {
        "environments": {"development": {}, "staging": {"action": "deny"}, "production": {"action": "deny"}},
        "registries": [company, lab],
    }


@pytest.fixture
def company() -> Iterator[RegistryServer]:
    with registry_server(good) as server:
        yield server


def folder(path: Path) -> Path:
    """With the file of the registry that staging asks."""
    (path / "registry.yaml").write_text(REGISTRY.replace("production", "staging"), encoding="utf-8")
    return path


def judged(service: Service, version: str, namespace: str = "ml-production") -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer to a pod that went through both webhooks, and the record of its judgement."""
    uid, obj = f"u-{next(_NUMBERS)}", pod(version)
    first = service.post("/mutate", review(obj, f"m-{uid}", namespace=namespace)).response
    after = jsonpatch.apply_patch(obj, json.loads(base64.b64decode(first["patch"])))
    response = service.post("/validate", review(after, uid, namespace=namespace)).response
    found = wait_until(lambda: next((one for one in service.records if one["uid"] == uid), None), f"record {uid}")
    return response, found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_registry_that_fails_holds_up_new_versions_only_and_the_record_says_so(
    tmp_path: Path, company: RegistryServer, fault: str
) -> None:
    fail, cause, reason = FAULTS[fault]
    with running(folder(tmp_path), settings(company.url)) as service:
        response, record = judged(service, "3")
        assert response["allowed"] is True, response
        assert record["approval"].pop("age_seconds") >= 0
        record["approval"].pop("approvers", None)
        assert record["approval"] == {"registry": "company", "state": "approved", "freshness": "fresh"}

        fail(company)

        response, record = judged(service, "3")
        assert response["allowed"] is True, response
        assert record["approval"].pop("age_seconds") > 0
        record["approval"].pop("approvers", None)
        assert record["approval"] == {
            "registry": "company",
            "state": "approved",
            "freshness": "stale",
            "cause": cause,
        }
        response, record = judged(service, "4")
        assert response["allowed"] is False
        assert f"nobody can say whether resnet50:4 is approved: {reason}" in response["status"]["message"]
        assert (
            "try again once the registry answers; new versions are not admitted without it"
            in (response["status"]["message"])
        )
        assert record["approval"] == {
            "registry": "company",
            "state": "unavailable",
            "freshness": "unavailable",
            "age_seconds": 0.0,
            "cause": cause,
        }
        response, record = judged(service, "3", "ml-staging")
        assert response["allowed"] is True, response
        assert (record["approval"]["registry"], record["approval"]["freshness"]) == ("lab", "fresh")
        assert service.metric("tidewaiter_registry_questions_total", registry="company", result="stale") >= 1
        assert service.metric("tidewaiter_registry_questions_total", registry="company", result="unavailable") >= 1
        assert service.metric("tidewaiter_errors_total") == 0
        assert "Traceback" not in service.log


@pytest.mark.parametrize("fault", [one for one in FAULTS if one != "killed"])
def test_a_registry_that_is_back_is_believed_again(tmp_path: Path, company: RegistryServer, fault: str) -> None:
    with running(folder(tmp_path), settings(company.url)) as service:
        judged(service, "3")
        FAULTS[fault][0](company)
        assert judged(service, "3")[1]["approval"]["freshness"] == "stale"
        company.answer = good

        wait_until(lambda: judged(service, "3")[1]["approval"]["freshness"] == "fresh", "a fresh answer")

        assert judged(service, "4")[0]["allowed"] is True


def test_an_answer_beyond_its_limit_does_not_stand_in(tmp_path: Path, company: RegistryServer) -> None:
    with running(folder(tmp_path), settings(company.url, staleSeconds=0)) as service:
        assert judged(service, "3")[0]["allowed"] is True
        company.kill()

        response, record = judged(service, "3")

        assert response["allowed"] is False
        assert (
            "registry company cannot be reached, and what it last said is older than 0 s"
            in (response["status"]["message"])
        )
        assert record["approval"]["freshness"] == "unavailable"


def test_a_version_that_is_not_there_is_told_from_a_registry_that_is_not(
    tmp_path: Path, company: RegistryServer
) -> None:
    with running(folder(tmp_path), settings(company.url)) as service:
        response, record = judged(service, "100")

        assert "resnet50:100 is not in the registry" in response["status"]["message"]
        assert (record["approval"]["state"], record["approval"]["freshness"]) == ("not-found", "fresh")


def test_a_pod_that_names_no_model_asks_nobody(tmp_path: Path, company: RegistryServer) -> None:
    with running(folder(tmp_path), settings(company.url)) as service:
        obj = pod()
        del obj["metadata"]["labels"]
        service.post("/validate", review(obj, "nameless"))

        record = wait_until(lambda: next(iter(service.records), None), "the record")

        assert "approval" not in record
        assert company.requests == []
