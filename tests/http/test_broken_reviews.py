"""Valid reviews, broken at random: the application answers each, and never with an error of its own."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admission.decision import Purpose
from tests.http.service import pod, review
from webhook.app import webhook_app
from webhook.cluster_files import load_cluster_files, sample_cluster
from webhook.cluster_state import ClusterState
from webhook.policy_engines import embedded_engines
from webhook.reviewer import Reviewer
from webhook.settings import Settings

VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, -1, 2**63, 1e308, "", "x", "\u0000", "😀", [], [None], [[]], {}, {"": None}, {"name": []}]
)
PARTS: dict[str, Any] = {
    "initContainers": [{"name": "init", "image": "busybox", "command": ["sh"]}],
    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}],
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "nodeSelector": {"pool": "gpu"},
    "securityContext": {"runAsUser": 1000, "sysctls": [{"name": "kernel.msgmax", "value": "1"}]},
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]
            }
        }
    },
    "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}],
    "overhead": {"cpu": "1"},
    "priorityClassName": "x",
    "os": {"name": "linux"},
}


class Webhook:
    """The application in this process: no socket, so that thousands of reviews take seconds."""

    def __init__(self) -> None:
        state = ClusterState()
        load_cluster_files(state, sample_cluster())
        own = Settings.model_validate({"environments": {"production": {"action": "deny"}, "staging": {}}})
        self.records: list[dict[str, Any]] = []
        self.reviewer = Reviewer(own, state, embedded_engines(own), record=self.records.append)
        self._app = webhook_app(self.reviewer, list, 5)

    def post(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """The status and the AdmissionReview that come back."""
        return asyncio.run(self._post(path, body))

    async def _post(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
        }
        await self._app(scope, receive, send)
        return sent[0]["status"], json.loads(b"".join(one.get("body", b"") for one in sent[1:]))


@pytest.fixture(scope="module")
def webhook() -> Webhook:
    return Webhook()


@st.composite
def broken(draw: st.DrawFn) -> dict[str, Any]:
    """A review of a full pod in which up to three places hold something else."""
    found = copy.deepcopy(review(pod(**copy.deepcopy(PARTS)), "u-7"))
    for _ in range(draw(st.integers(1, 3))):
        parent: Any = found
        key: Any = "request"
        while isinstance(parent[key], dict | list) and parent[key] and draw(st.integers(0, 9)):
            parent = parent[key]
            key = draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
        parent[key] = copy.deepcopy(draw(VALUES))
    return found


@pytest.mark.parametrize("purpose", list(Purpose))
@settings(max_examples=400)
@given(found=broken())
def test_a_broken_review_is_answered_and_written_down(
    webhook: Webhook, purpose: Purpose, found: dict[str, Any]
) -> None:
    webhook.records.clear()

    status, answer = webhook.post(f"/{purpose.value}", json.dumps(found).encode())

    (record,) = webhook.records
    assert json.dumps(record)
    assert "an error in Tidewaiter itself" not in record.get("error", "")
    uid = found["request"].get("uid") if isinstance(found["request"], dict) else None
    if isinstance(uid, str) and uid:
        assert (status, answer["response"]["uid"]) == (200, uid)
    else:
        assert status == 400
    assert answer["response"]["allowed"] or answer["response"]["status"]["message"]


PLACES = {
    "metadata": ("metadata",),
    "labels": ("metadata", "labels"),
    "spec": ("spec",),
    "containers": ("spec", "containers"),
    "a container": ("spec", "containers", 0),
    "its image": ("spec", "containers", 0, "image"),
    "its variables": ("spec", "containers", 0, "env"),
    "its resources": ("spec", "containers", 0, "resources"),
    "its limits": ("spec", "containers", 0, "resources", "limits"),
    "volumes": ("spec", "volumes"),
    "tolerations": ("spec", "tolerations"),
    "affinity": ("spec", "affinity"),
    "node selector": ("spec", "nodeSelector"),
    "security context": ("spec", "securityContext"),
}


def value_at(obj: Any, place: tuple[str | int, ...]) -> Any:
    for key in place:
        obj = obj[key]
    return obj


WRONG = {
    f"{name}: {value!r}": (place, value)
    for name, place in PLACES.items()
    for value in (7, "text", True, ["x"], {"x": 1})
    if type(value) is not type(value_at(pod(**PARTS), place))
}


@pytest.mark.parametrize(("place", "value"), WRONG.values(), ids=WRONG)
def test_a_wrong_type_is_refused_with_the_fields_path(
    webhook: Webhook, place: tuple[str | int, ...], value: Any
) -> None:
    obj = pod(**copy.deepcopy(PARTS))
    value_at(obj, place[:-1])[place[-1]] = value

    status, answer = webhook.post("/validate", json.dumps(review(obj)).encode())

    message = answer["response"]["status"]["message"]
    assert (status, answer["response"]["allowed"]) == (200, False)
    assert "an error in Tidewaiter itself" not in message
    assert str(place[-2] if isinstance(place[-1], int) else place[-1]) in message
