"""Against a local server that answers as W&B's documented schema says. It is not W&B."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from admission.approval import Approval, ApprovalQuestion, ApprovalState, NotFound, Unavailable
from registries.answered import Answered
from registries.opening import World, open_registries
from registries.settings import RegistriesSettings
from tests.registries.http_server import Reply, Request, reply, serving

DIGEST = "sha256:" + "b" * 64


def membership(version: int = 3, collection: str = "bert", **changes: Any) -> dict[str, Any]:
    return {
        "versionIndex": version,
        "aliases": [{"alias": "production"}, {"alias": f"v{version}"}],
        "artifactCollection": {"name": collection},
        "artifact": {
            "id": "QXJ0aWZhY3Q6MQ==",
            "state": "COMMITTED",
            "digest": "d41d8cd98f00b204e9800998ecf8427e",
            "metadata": orjson.dumps({"digest": DIGEST, "approved_by": "ann", "layers": 12}).decode(),
            **changes,
        },
    }


def project(member: dict[str, Any] | None) -> Reply:
    return reply(orjson.dumps({"data": {"project": {"artifactCollectionMembership": member}}}))


def ask(
    folder: Path, answer: Callable[[Request], Reply], version: str = "v3", model: str = "bert"
) -> tuple[Answered, list[Request]]:
    (folder / "key").write_text("0123456789abcdef\n")

    async def run() -> tuple[Answered, list[Request]]:
        async with serving(answer) as server:
            one = {
                "name": "registry",
                "type": "wandb",
                "url": server.url,
                "entity": "acme",
                "project": "wandb-registry-model",
                "keyFile": "key",
                "aliases": {"production": ["production"]},
            }
            chain = open_registries(RegistriesSettings.model_validate({"registries": [one]}), World(folder=folder))
            found = await chain.ask(ApprovalQuestion("production", model, version))
            await chain.close()
            return found, server.requests

    return asyncio.run(run())


def test_an_alias_of_the_linked_version_approves_it_with_the_digest_of_its_metadata(tmp_path: Path) -> None:
    found, requests = ask(tmp_path, lambda _: project(membership()))
    assert isinstance(found.answer, Approval)
    assert (found.answer.state, found.answer.digest) == (ApprovalState.APPROVED, DIGEST)
    assert (found.answer.environments, found.answer.approvers) == (("production",), ("ann",))
    assert found.answer.source == "wandb-artifact://acme/wandb-registry-model/bert:v3"
    asked = orjson.loads(requests[0].body)
    assert asked["variables"] == {"entity": "acme", "project": "wandb-registry-model", "name": "bert:v3"}
    assert (requests[0].method, requests[0].target) == ("POST", "/graphql")
    key = base64.b64decode(requests[0].headers["authorization"].removeprefix("Basic ")).decode()
    assert key == "api:0123456789abcdef"


def test_a_version_without_the_alias_is_not_approved(tmp_path: Path) -> None:
    found, _ = ask(tmp_path, lambda _: project({**membership(), "aliases": [{"alias": "latest"}]}))
    assert isinstance(found.answer, Approval)
    assert found.answer.state is ApprovalState.PROPOSED


def test_metadata_that_revokes_counts_more_than_an_alias(tmp_path: Path) -> None:
    metadata = orjson.dumps({"validation_status": "revoked"}).decode()
    found, _ = ask(tmp_path, lambda _: project(membership(metadata=metadata)))
    assert isinstance(found.answer, Approval)
    assert found.answer.state is ApprovalState.REVOKED


@pytest.mark.parametrize("member", [None, membership(state="DELETED"), membership(state="PENDING")])
def test_what_is_not_linked_or_not_committed_is_not_found(tmp_path: Path, member: dict[str, Any] | None) -> None:
    assert ask(tmp_path, lambda _: project(member))[0].answer == NotFound()


@pytest.mark.parametrize(
    ("model", "version"), [("bert", "latest"), ("bert", "v03"), ("bert", "3"), ("bert:v1", "v3"), ("org/bert", "v3")]
)
def test_an_alias_or_a_name_that_w_and_b_cannot_have_is_not_asked_about(
    tmp_path: Path, model: str, version: str
) -> None:
    found, requests = ask(tmp_path, lambda _: project(membership()), version, model)
    assert (found.answer, requests) == (NotFound(), [])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"errors": [{"message": "secret"}], "data": None}, "registry registry refuses the question"),
        ({"data": {"project": None}}, "registry registry has no such project, or hides it from our key"),
        ({"data": {"project": {"artifactCollectionMembership": membership(4)}}}, "registry registry answers for another model or version"),
        ({"data": {"project": {"artifactCollectionMembership": membership(collection="other")}}}, "registry registry answers for another model or version"),
        ({"data": {"project": {"artifactCollectionMembership": {}}}}, "registry registry answers in another form than expected: data"),
        ({"data": {"project": {"artifactCollectionMembership": membership(metadata="{")}}}, "registry registry answers with what is not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_answer_to_the_question_is_not_believed(tmp_path: Path, answer: dict[str, Any], reason: str) -> None:
    assert ask(tmp_path, lambda _: reply(orjson.dumps(answer)))[0].answer == Unavailable(reason)
