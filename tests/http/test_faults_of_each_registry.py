"""Registries of every kind behind a running service, and everything that can be wrong with one of them.

All stand in one service, and break one after the other: what is still whole is not troubled.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from tests.controlplane import certificates
from tests.controlplane.waiting import wait_until
from tests.http.registry_faults import DEADLINE_S, FAULTS, SECRET, Played, played_registries
from tests.http.service import Service, pod, review, running
from tests.registries.http_server import Reply, Request, reply
from tests.registries.played import KINDS, good, model_of, played_settings, source_of, version_of

_NUMBERS = itertools.count()
_CACHE = {"freshSeconds": 0, "revalidateSeconds": 0, "negativeSeconds": 0, "deadlineSeconds": DEADLINE_S}


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Mapping[str, Played]]:
    """One server for each kind."""
    with played_registries(certificates.Authority(tmp_path), KINDS) as found:
        yield found


def settings(folder: Path, played: Mapping[str, Played], **cache: Any) -> dict[str, Any]:
    """All kinds, each for its own model, and a file."""
    more = {"caFile": "ca.crt", "cache": {**_CACHE, **cache}, "breaker": {"failures": 1000}}
    registries = [played_settings(kind, one.server.url, folder, **more) for kind, one in played.items()]
    file = {"name": "the-file", "type": "file", "path": "registry.yaml"}
    write_file(folder)
    return {
        "environments": {"development": {}, "production": {"action": "deny"}},
        # The service makes its own CA in the same folder.
        # What a registry names as the source has to be brought from there.
        "mutators": {"preload": {"image": f"nvcr.io/company/preloader@sha256:{'d' * 64}"}},
        "registries": [{**one, "caFile": "registries/ca.crt"} for one in registries] + [file],
    }


def write_file(folder: Path) -> None:
    (folder / "registry.yaml").write_text(
        'models: [{name: file-model, versions: [{version: "3", state: approved, environments: [production]}]}]\n',
        encoding="utf-8",
    )


def service_folder(tmp_path: Path) -> Path:
    """Beside the authority of the registries, which has a CA of its own."""
    folder = tmp_path / "service"
    (folder / "registries").mkdir(parents=True)
    (folder / "registries" / "ca.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
    return folder


def judged(service: Service, model: str, version: str, source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer to a pod that went through both webhooks, and what its record says of the approval."""
    uid, obj = f"u-{next(_NUMBERS)}", pod(version)
    obj["metadata"]["labels"]["tidewaiter.dev/model"] = model
    obj["metadata"]["annotations"] = {"tidewaiter.dev/model-uri": source} if source else {}
    first = service.post("/mutate", review(obj, f"m-{uid}")).response
    after = jsonpatch.apply_patch(obj, json.loads(base64.b64decode(first["patch"])))
    response = service.post("/validate", review(after, uid)).response
    record = wait_until(lambda: next((one for one in service.records if one["uid"] == uid), None), f"record {uid}")
    return response, record["approval"]


def of(service: Service, kind: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return judged(service, model_of(kind), version_of(kind, number), source_of(kind, number))


@pytest.mark.parametrize("which", FAULTS)
def test_what_fails_holds_up_its_own_new_versions_only(
    tmp_path: Path, played: Mapping[str, Played], which: str
) -> None:
    fault, folder = FAULTS[which], service_folder(tmp_path)
    with running(folder, settings(folder, played)) as service:
        for kind in KINDS:
            response, approval = of(service, kind, 3)
            assert response["allowed"] is True, response
            assert (approval["registry"], approval["freshness"]) == (f"the-{kind}", "fresh")
        for position, kind in enumerate(KINDS):
            fault.begin(played[kind])

            response, approval = of(service, kind, 3)

            assert response["allowed"] is True, response
            told = {key: approval[key] for key in ("registry", "state", "freshness", "cause")}
            assert told == {
                "registry": f"the-{kind}", "state": "approved", "freshness": "stale", "cause": fault.cause
            }  # fmt: skip
            assert approval["age_seconds"] > 0
            response, approval = of(service, kind, 4)
            message = response["status"]["message"]
            assert response["allowed"] is False
            reason = fault.new_reason or fault.reason
            about = f"{model_of(kind)}:{version_of(kind, 4)}"
            assert f"nobody can say whether {about} is approved: registry the-{kind} {reason}" in message
            assert SECRET not in message
            assert approval == {
                "registry": f"the-{kind}",
                "state": "unavailable",
                "freshness": "unavailable",
                "age_seconds": 0.0,
                "cause": fault.new_cause or fault.cause,
            }
            for other in (*KINDS[position + 1 :], "file"):
                response, approval = of(service, other, 3)
                assert response["allowed"] is True, response
                assert (approval["registry"], approval["freshness"]) == (f"the-{other}", "fresh")
        assert service.metric("tidewaiter_errors_total") == 0
        assert SECRET not in service.log
        assert "Traceback" not in service.log


def test_who_asks_us_to_wait_is_left_in_peace(tmp_path: Path, played: Mapping[str, Played]) -> None:
    folder = service_folder(tmp_path)
    with running(folder, settings(folder, played)) as service:
        FAULTS["429 with Retry-After"].begin(played["https"])
        for number in range(4):
            assert of(service, "https", number)[0]["allowed"] is False

    assert len(played["https"].server.requests) == 1


@pytest.mark.parametrize("failed_before", [False, True], ids=["not heard of yet", "known to fail"])
def test_a_version_that_is_known_is_answered_while_its_registry_has_not_said_a_word(
    tmp_path: Path, played: Mapping[str, Played], failed_before: bool
) -> None:
    """The registry speaks only after the admission has its answer: who waited for it would wait for ever."""
    folder, admitted = service_folder(tmp_path), threading.Event()
    spoken: list[str] = []
    # The deadline is longer than the test's patience with the webhook: an answer by its deadline is none.
    cache = {"deadlineSeconds": 25, "revalidateSeconds": 0 if failed_before else 3600}

    async def held(request: Request) -> Reply:
        while not admitted.is_set():  # noqa: ASYNC110  # another thread's event
            await asyncio.sleep(0.01)
        spoken.append(request.target)
        return good(request)

    with running(folder, settings(folder, played, **cache)) as service:
        for kind in KINDS:
            of(service, kind, 3)
            if failed_before:
                played[kind].server.answer = lambda _: reply(b"?")
                assert of(service, kind, 3)[1]["cause"] == "garbage"
            played[kind].server.answer = held
        asked = {kind: len(played[kind].server.requests) for kind in KINDS}

        for kind in KINDS:
            response, approval = of(service, kind, 3)

            assert response["allowed"] is True, response
            assert approval["freshness"] == ("stale" if failed_before else "fresh")
            wait_until(partial(_asked_more_than, played[kind], asked[kind]), "it to be asked behind")
        assert spoken == []
        admitted.set()
        for kind in KINDS:
            wait_until(partial(_is_fresh, service, kind), f"{kind} to be believed")
        assert spoken


def _asked_more_than(played: Played, times: int) -> bool:
    return len(played.server.requests) > times


def _is_fresh(service: Service, kind: str) -> bool:
    fresh: bool = of(service, kind, 3)[1]["freshness"] == "fresh"
    return fresh


@pytest.mark.parametrize(
    "content", [None, "<html>proxy login</html>", " " * (10 << 20)], ids=["gone", "garbage", "10 MiB"]
)
def test_a_file_that_breaks_leaves_what_it_last_said_standing(
    tmp_path: Path, played: Mapping[str, Played], content: str | None
) -> None:
    folder = service_folder(tmp_path)
    with running(folder, settings(folder, played)) as service:
        if content is None:
            (folder / "registry.yaml").unlink()
        else:
            (folder / "registry.yaml").write_text(content, encoding="utf-8")
        wait_until(lambda: "registry file" in service.log, "the file to be refused")

        response, approval = of(service, "file", 3)
        assert response["allowed"] is True, response
        assert (approval["registry"], approval["freshness"]) == ("the-file", "fresh")
        response, approval = of(service, "file", 4)
        assert "file-model:4 is not in the registry" in response["status"]["message"]
        assert approval["state"] == "not-found"
        assert of(service, "https", 3)[1]["freshness"] == "fresh"
