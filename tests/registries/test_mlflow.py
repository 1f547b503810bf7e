"""Against a real MLflow server with an SQLite store; models are registered by MLflow's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from admission.approval import (
    Answer,
    Approval,
    ApprovalQuestion,
    ApprovalState,
    EnvironmentApproval,
    NotFound,
    Unavailable,
)
from registries.http_client import HttpClient
from registries.mlflow import Lineage, MlflowRegistry
from registries.opening import World, open_registries
from registries.settings import MlflowSettings, RegistriesSettings
from tests.registries.servers import RealServer, mlflow_server

T = TypeVar("T")
DIGEST = "sha256:" + "a" * 64
ODD = "Größe & Co #1 (百%)"
pytestmark = pytest.mark.usefixtures("run")
CLIENT = Path(__file__).with_name("mlflow_client.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


def do(server: RealServer, *commands: list[Any]) -> list[Any]:
    done: list[Any] = json.loads(server.client(CLIENT, server.url, json.dumps(commands)).splitlines()[-1])
    return done


@pytest.fixture(scope="module")
def run(server: RealServer) -> dict[str, str]:
    """The run that versions 1 and 2 of `bert` come from."""
    made = do(
        server,
        ["run_with_dataset", "reviews"],
        ["create_registered_model", "bert"],
        ["create_registered_model", ODD],
    )[0]
    source = f"{made['artifacts']}/model"
    do(
        server,
        ["create_model_version", "bert", source, made["run"]],
        ["create_model_version", "bert", source, made["run"]],
        ["create_model_version", "bert", source, made["run"]],
        ["create_model_version", ODD, "s3://models/odd"],
        ["set_registered_model_alias", "bert", "champion", "2"],
        ["set_registered_model_alias", "bert", "candidate", "1"],
        ["set_registered_model_alias", ODD, "champion", "1"],
        ["set_model_version_tag", "bert", "2", "digest", DIGEST],
        ["set_model_version_tag", "bert", "2", "approved_by", "ann, bob"],
        ["set_model_version_tag", "bert", "2", "approval_expires", "2030-01-31"],
        ["set_model_version_tag", "bert", "3", "validation_status", "approved"],
    )
    return dict(made)


def settings(server: RealServer, **more: Any) -> MlflowSettings:
    given = {
        "name": "models",
        "type": "mlflow",
        "url": server.url,
        "aliases": {"champion": ["production"], "candidate": ["staging"]},
        **more,
    }
    return MlflowSettings.model_validate(given)


def asked(server: RealServer, question: Callable[[MlflowRegistry], Awaitable[T]], **more: Any) -> T:
    async def run() -> T:
        chosen = settings(server, **more)
        registry = MlflowRegistry(chosen, HttpClient(chosen.name, chosen.url))
        try:
            return await question(registry)
        finally:
            await registry.close()

    return asyncio.run(run())


def fetch(server: RealServer, model: str, version: str, **more: Any) -> Approval | NotFound:
    return asked(server, lambda registry: registry.fetch(model, version), **more)


def approved(found: object) -> Approval:
    assert isinstance(found, Approval), found
    return found


def test_an_alias_approves_the_version_that_it_stands_on_for_its_environments(
    server: RealServer, run: dict[str, str]
) -> None:
    found = approved(fetch(server, "bert", "2"))
    assert found == Approval(
        "bert",
        "2",
        ApprovalState.APPROVED,
        digest=DIGEST,
        source=f"{run['artifacts']}/model",
        by_environment=(
            EnvironmentApproval(
                "production",
                ("ann", "bob"),
                datetime(2030, 1, 31, 23, 59, 59, 999999, tzinfo=UTC),
                f"alias champion; run {run['run']}",
            ),
        ),
    )
    assert [one.environment for one in approved(fetch(server, "bert", "1")).by_environment] == ["staging"]


def test_a_version_without_an_alias_is_not_approved_and_keeps_its_number_when_the_alias_moves(
    server: RealServer, run: dict[str, str]
) -> None:
    assert approved(fetch(server, "bert", "3")).state is ApprovalState.PROPOSED
    do(server, ["create_model_version", "bert", "s3://models/bert", run["run"]])
    do(server, ["set_registered_model_alias", "bert", "rolling", "4"])
    aliases = {"rolling": ["production"]}
    assert approved(fetch(server, "bert", "4", aliases=aliases)).state is ApprovalState.APPROVED
    do(server, ["set_registered_model_alias", "bert", "rolling", "3"])
    assert approved(fetch(server, "bert", "4", aliases=aliases)).state is ApprovalState.PROPOSED
    # An alias is no version: it would be another one tomorrow.
    assert isinstance(fetch(server, "bert", "@rolling", aliases=aliases), NotFound)
    assert isinstance(fetch(server, "bert", "rolling", aliases=aliases), NotFound)


def test_a_tag_approves_for_all_environments_where_tags_do(server: RealServer) -> None:
    found = approved(fetch(server, "bert", "3", approvedBy="tag"))
    assert found.state is ApprovalState.APPROVED
    assert [one.environment for one in found.by_environment] == ["*"]
    assert approved(fetch(server, "bert", "2", approvedBy="tag")).state is ApprovalState.PROPOSED
    assert approved(fetch(server, "bert", "2", approvedBy="both")).state is ApprovalState.PROPOSED


@pytest.mark.parametrize("state", ["revoked", "rejected"])
def test_a_tag_that_revokes_or_rejects_counts_more_than_an_alias(server: RealServer, state: str) -> None:
    do(server, ["set_model_version_tag", "bert", "1", "validation_status", state])
    try:
        found = approved(fetch(server, "bert", "1"))
    finally:
        do(server, ["delete_model_version_tag", "bert", "1", "validation_status"])
    assert (found.state.value, found.by_environment) == (state, ())
    assert approved(fetch(server, "bert", "1")).state is ApprovalState.APPROVED


def test_an_end_that_cannot_be_read_is_no_approval_for_ever(server: RealServer) -> None:
    do(server, ["set_model_version_tag", "bert", "1", "approval_expires", "soon"])
    try:
        assert approved(fetch(server, "bert", "1")).state is ApprovalState.PROPOSED
    finally:
        do(server, ["delete_model_version_tag", "bert", "1", "approval_expires"])


def test_names_with_anything_in_them_are_asked_about_as_they_are(server: RealServer) -> None:
    assert approved(fetch(server, ODD, "1")).state is ApprovalState.APPROVED


def test_an_unknown_version_is_told_which_are_known(server: RealServer) -> None:
    found = fetch(server, "bert", "99")
    assert isinstance(found, NotFound)
    assert {"1", "2", "3"} <= set(found.known)


@pytest.mark.parametrize(
    ("model", "version"),
    [("nobody", "1"), ("bert", "01"), ("bert", "../1"), ("bert", "1&name=other"), ("bert", "9" * 40), ("bert", "²"),
     ("o'neil", "1"), ("org/name", "1")],
)  # fmt: skip
def test_what_mlflow_cannot_know_is_not_found(server: RealServer, model: str, version: str) -> None:
    assert isinstance(fetch(server, model, version), NotFound)


def test_the_lineage_is_the_run_and_the_digests_of_its_datasets(server: RealServer, run: dict[str, str]) -> None:
    found = asked(server, lambda registry: registry.lineage("bert", "2"))
    assert found == Lineage(run["run"], "", run["artifacts"], (("reviews", run["digest"]),))
    assert isinstance(asked(server, lambda registry: registry.lineage("bert", "99")), NotFound)


def test_a_server_that_is_killed_is_stood_in_for_and_says_so(tmp_path: Path) -> None:
    async def play() -> tuple[Answer, Answer, Answer]:
        with mlflow_server(tmp_path) as own:
            do(own, ["create_registered_model", "bert"], ["create_model_version", "bert", "s3://models/bert"])
            do(own, ["set_registered_model_alias", "bert", "champion", "1"])
            one = settings(own).model_copy(
                update={"cache": settings(own).cache.model_copy(update={"fresh_seconds": 0, "revalidate_seconds": 0})}
            )
            chain = open_registries(RegistriesSettings(registries=(one,)), World())
            question = ApprovalQuestion("production", "bert", "1")
            before = await chain.lookup(question)
            own.process.stop()
            after = await chain.lookup(question)
            new = await chain.lookup(ApprovalQuestion("production", "bert", "2"))
            await chain.close()
            return before, after, new

    before, after, new = asyncio.run(play())
    assert (approved(before).stale, approved(after).stale) == (False, True)
    assert approved(after).environments == ("production",)
    assert new == Unavailable("registry models cannot be reached")
