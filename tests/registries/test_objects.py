"""Manifests on web servers, in Google's buckets and in folders; S3 has a file of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from admission.approval import Approval, ApprovalQuestion, ApprovalState, NotFound, Unavailable
from registries import manifest
from registries.answered import Answered
from registries.chain import RegistryChain
from registries.opening import World, open_registries
from registries.settings import RegistriesSettings
from tests.registries.http_server import Reply, Request, Server, reply, serving

MANIFEST: dict[str, Any] = {
    "format": 1,
    "model": "bert",
    "version": "1",
    "state": "approved",
    "digest": "sha256:" + "c" * 64,
    "source": "s3://models/bert/1",
    "approvals": [{"environment": "*", "approvers": ["ann", "bob"], "expires": "2030-01-31", "reason": "T-1"}],
}
UNCACHED = {"freshSeconds": 0, "revalidateSeconds": 0, "negativeSeconds": 0}


def opened(folder: Path, kind: str, url: str, world: World | None = None, **more: Any) -> RegistryChain:
    one = {"name": "models", "type": kind, "url": url, "cache": UNCACHED, **more}
    settings = RegistriesSettings.model_validate({"registries": [one]})
    return open_registries(settings, world or World(folder=folder))


async def ask(chain: RegistryChain, model: str = "bert", version: str = "1") -> Answered:
    return await chain.ask(ApprovalQuestion("production", model, version))


def state(found: Answered) -> ApprovalState:
    assert isinstance(found.answer, Approval), found
    assert not found.answer.stale
    return found.answer.state


def write(folder: Path, model: str = "bert", version: str = "1", **changes: Any) -> Path:
    path = folder / model / version / "manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps({**MANIFEST, "model": model, "version": version, **changes}))
    return path


def test_everything_that_a_manifest_says_is_in_the_approval(tmp_path: Path) -> None:
    write(tmp_path)
    found = asyncio.run(ask(opened(tmp_path, "folder", "."))).answer
    assert isinstance(found, Approval)
    assert found.environments == ()
    assert found.approvers == ("ann", "bob")
    assert found.expires == datetime(2030, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert (found.digest, found.source, found.registry) == (MANIFEST["digest"], MANIFEST["source"], "models")
    assert found.by_environment[0].reason == "T-1"


def test_a_folders_manifest_is_read_again_when_it_changes_and_goes(tmp_path: Path) -> None:
    async def run() -> None:
        path = write(tmp_path)
        chain = opened(tmp_path, "folder", ".")
        first = await ask(chain)
        assert state(first) is ApprovalState.APPROVED
        assert first.revision.startswith("sha256:")
        assert state(await ask(chain)) is ApprovalState.APPROVED
        write(tmp_path, state="revoked")
        second = await ask(chain)
        assert state(second) is ApprovalState.REVOKED
        assert second.revision != first.revision
        path.unlink()
        assert (await ask(chain)).answer == NotFound()

    asyncio.run(run())


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    write(outside)
    inside.mkdir()
    (inside / "bert").symlink_to(outside / "bert")
    found = asyncio.run(ask(opened(tmp_path, "folder", "inside"))).answer
    assert found == Unavailable("registry models: a link leads out of its folder")


def test_a_link_to_the_folder_itself_is_followed_as_git_sync_makes_it(tmp_path: Path) -> None:
    write(tmp_path / "revision-1")
    (tmp_path / "current").symlink_to("revision-1")
    assert state(asyncio.run(ask(opened(tmp_path, "folder", "current")))) is ApprovalState.APPROVED


def test_a_version_that_climbs_finds_nothing(tmp_path: Path) -> None:
    write(tmp_path / "secret", "x", "1")
    write(tmp_path / "models")
    for model, version in (("bert", "../../../secret/x/1"), ("../secret/x", "1"), ("bert/../../secret/x", "1")):
        chain = opened(tmp_path, "folder", "models")
        assert asyncio.run(ask(chain, model, version)).answer == NotFound()


def test_a_folder_that_is_not_mounted_is_unavailable_and_not_empty(tmp_path: Path) -> None:
    found = asyncio.run(ask(opened(tmp_path, "folder", "none"))).answer
    assert found == Unavailable("registry models cannot be read: its folder is not there")


def test_a_manifest_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    write(tmp_path).write_bytes(b" " * (2 << 20))
    assert asyncio.run(ask(opened(tmp_path, "folder", "."))).cause == "too-large"


def over_http(
    folder: Path, kind: str, url: Callable[[Server], dict[str, Any]], answer: Callable[[Request], Reply], times: int = 1
) -> tuple[list[Answered], list[Request]]:
    async def run() -> tuple[list[Answered], list[Request]]:
        async with serving(answer) as server:
            given = url(server)
            chain = opened(folder, kind, given.pop("url"), **given)
            found = [await ask(chain) for _ in range(times)]
            await chain.close()
            return found, server.requests

    return asyncio.run(run())


def test_a_web_server_is_asked_only_whether_the_manifest_has_changed(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        if request.headers.get("if-none-match") == '"one"':
            return reply(b"", "304 Not Modified", ETag='"one"')
        return reply(orjson.dumps(MANIFEST), ETag='"one"')

    found, requests = over_http(tmp_path, "https", lambda server: {"url": f"{server.url}/a b"}, answer, times=2)
    assert [state(one) for one in found] == [ApprovalState.APPROVED] * 2
    assert [one.headers.get("if-none-match") for one in requests] == [None, '"one"']
    assert [one.revision for one in found] == ['"one"'] * 2


def test_a_server_that_says_unchanged_of_what_is_not_held_is_not_believed(tmp_path: Path) -> None:
    found, _ = over_http(
        tmp_path, "https", lambda server: {"url": server.url}, lambda _: reply(b"", "304 Not Modified")
    )
    assert found[0].cause == "garbage"


def test_a_bearer_token_is_read_anew_for_each_question(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")

    def answer(_request: Request) -> Reply:
        token.write_text("second, longer\n")
        return reply(b"", "404 Not Found")

    _, requests = over_http(
        tmp_path, "https", lambda server: {"url": server.url, "tokenFile": "token"}, answer, times=2
    )
    assert [one.headers["authorization"] for one in requests] == ["Bearer first", "Bearer second, longer"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read"),
        (b"", "is empty or holds more than one line"),
        (b"a\nb", "is empty or holds more than one line"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_credential_that_cannot_be_used_is_a_reason_without_its_words(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    found, requests = over_http(
        tmp_path, "https", lambda server: {"url": server.url, "tokenFile": "token"}, lambda _: reply(b"")
    )
    assert found[0].answer == Unavailable(f"registry models is not asked: its credential file token {why}")
    assert requests == []


def test_basic_authentication_takes_both_from_files(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("ann")
    (tmp_path / "password").write_text("pass:word")
    _, requests = over_http(
        tmp_path,
        "https",
        lambda server: {"url": server.url, "usernameFile": "user", "passwordFile": "password"},
        lambda _: reply(b"", "404 Not Found"),
    )
    assert requests[0].headers["authorization"] == "Basic YW5uOnBhc3M6d29yZA=="


# Google's XML API, as documented; not Google


def test_a_google_bucket_is_asked_with_a_token_for_the_pods_own(tmp_path: Path) -> None:
    (tmp_path / "pod-token").write_text("of-the-pod")

    def answer(request: Request) -> Reply:
        if request.target == "/v1/token":
            return reply(orjson.dumps({"access_token": "of-google", "expires_in": 3600, "token_type": "Bearer"}))
        return reply(orjson.dumps(MANIFEST), ETag='"e"', x_goog_generation="1700000000000001")

    found, requests = over_http(
        tmp_path,
        "gs",
        lambda server: {
            "url": "gs://models/approved",
            "endpoint": server.url,
            "tokenEndpoint": server.url,
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
            "webIdentityFile": "pod-token",
        },
        answer,
        times=2,
    )
    assert state(found[0]) is ApprovalState.APPROVED
    assert found[0].revision == "1700000000000001"
    assert [one.target for one in requests] == ["/v1/token"] + ["/models/approved/bert/1/manifest.json"] * 2
    assert orjson.loads(requests[0].body)["subjectToken"] == "of-the-pod"
    assert {one.headers["authorization"] for one in requests[1:]} == {"Bearer of-google"}


def test_a_bucket_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    for code, expected in (("NoSuchKey", NotFound()), ("NoSuchBucket", None)):
        body = f"<Error><Code>{code}</Code></Error>".encode()
        found, _ = over_http(
            tmp_path,
            "gs",
            lambda server: {"url": "gs://models", "endpoint": server.url},
            lambda _, body=body: reply(body, "404 Not Found"),  # type: ignore[misc]  # bound now
        )
        assert found[0].answer == expected or (expected is None and isinstance(found[0].answer, Unavailable))


def test_the_published_schema_is_the_one_that_is_checked() -> None:
    published = Path(manifest.__file__).with_name("schemas") / "model-manifest.schema.json"
    assert published.read_text() == manifest.schema_text(), "run: python -m registries.manifest > " + str(
        published.name
    )
