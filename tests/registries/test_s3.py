"""Against a real S3 server (versitygw), which checks signatures; buckets are filled by AWS's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from admission.approval import Approval, ApprovalQuestion, ApprovalState, NotFound, Unavailable
from registries.answered import Answered
from registries.chain import RegistryChain
from registries.opening import World, open_registries
from registries.places import manifest_path
from registries.settings import RegistriesSettings
from tests.registries.servers import RealServer, moto_server, s3_server

ACCESS, SECRET = "tidewaiter-test", "not a secret at all"
CLIENT = Path(__file__).with_name("s3_client.py")
ODD = ["org/Größe & Co", "百% +~'()!*", "a b", "tab\there", "..", "a/../b", "%2E%2E"]


@dataclass(frozen=True)
class Bucket:
    server: RealServer
    folder: Path

    def do(self, *commands: tuple[str, dict[str, Any]]) -> list[str]:
        done: list[str] = json.loads(self.server.client(CLIENT, self.server.url, ACCESS, SECRET, json.dumps(commands)))
        return done

    def put(self, *manifests: tuple[str, str, str]) -> list[str]:
        """Put manifests of (model, version, state); returns the objects' versions."""
        return self.do(*(("put_object", self.object(*one)) for one in manifests))

    def object(self, model: str, version: str, state: str) -> dict[str, Any]:
        path = manifest_path(model, version)
        assert path is not None
        body = {
            "format": 1,
            "model": model,
            "version": version,
            "state": state,
            "approvals": [{"environment": "production", "approvers": ["ann"]}],
        }
        return {"Bucket": "models", "Key": "/".join(("approved", *path)), "Body": json.dumps(body)}

    def chain(self, secret: str = SECRET, url: str = "s3://models/approved", **more: Any) -> RegistryChain:
        for name, value in (("access", ACCESS), ("secret", secret)):
            (self.folder / name).write_text(f"{value}\n")
        one = {
            "name": "bucket",
            "type": "s3",
            "url": url,
            "endpoint": self.server.url,
            "accessKeyFile": "access",
            "secretKeyFile": "secret",
            "cache": {"freshSeconds": 0, "revalidateSeconds": 0, "negativeSeconds": 0},
            **more,
        }
        return open_registries(RegistriesSettings.model_validate({"registries": [one]}), World(folder=self.folder))


async def ask(chain: RegistryChain, model: str = "bert", version: str = "1") -> Answered:
    return await chain.ask(ApprovalQuestion("production", model, version))


def once(chain: RegistryChain, model: str = "bert", version: str = "1") -> Answered:
    async def run() -> Answered:
        try:
            return await ask(chain, model, version)
        finally:
            await chain.close()

    return asyncio.run(run())


def state(found: Answered) -> ApprovalState:
    assert isinstance(found.answer, Approval), found
    return found.answer.state


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder, ACCESS, SECRET) as server:
        bucket = Bucket(server, folder)
        enabled = {"Bucket": "models", "VersioningConfiguration": {"Status": "Enabled"}}
        bucket.do(("create_bucket", {"Bucket": "models"}), ("put_bucket_versioning", enabled))
        yield bucket


def test_a_manifest_is_an_approval_and_the_answer_names_the_objects_version(bucket: Bucket) -> None:
    versions = bucket.put(("bert", "1", "approved"))
    found = once(bucket.chain())
    assert state(found) is ApprovalState.APPROVED
    assert isinstance(found.answer, Approval)
    assert (found.answer.environments, found.answer.approvers) == (("production",), ("ann",))
    assert found.revision == versions[0] != ""


def test_a_manifest_that_is_replaced_or_deleted_is_seen_at_the_next_question(bucket: Bucket) -> None:
    async def run() -> None:
        chain = bucket.chain()
        bucket.put(("moving", "1", "approved"))
        assert state(await ask(chain, "moving")) is ApprovalState.APPROVED
        assert state(await ask(chain, "moving")) is ApprovalState.APPROVED  # by 304
        newer = bucket.put(("moving", "1", "revoked"))
        found = await ask(chain, "moving")
        assert (state(found), found.revision) == (ApprovalState.REVOKED, newer[0])
        bucket.do(("delete_object", {"Bucket": "models", "Key": bucket.object("moving", "1", "")["Key"]}))
        assert (await ask(chain, "moving")).answer == NotFound()
        await chain.close()

    asyncio.run(run())


@pytest.mark.parametrize("model", ODD)
def test_any_name_is_found_where_it_was_put_and_nowhere_else(bucket: Bucket, model: str) -> None:
    bucket.put((model, "v 1/ü", "approved"))
    assert state(once(bucket.chain(), model, "v 1/ü")) is ApprovalState.APPROVED
    assert once(bucket.chain(), model, "v 1").answer == NotFound()


def test_wrong_keys_are_a_reason_and_no_approval(bucket: Bucket) -> None:
    bucket.put(("bert", "1", "approved"))
    found = once(bucket.chain(secret="wrong"))
    assert found.cause == "denied"
    assert isinstance(found.answer, Unavailable)


def test_keys_that_are_rotated_are_used_at_the_next_question(bucket: Bucket) -> None:
    async def run() -> None:
        bucket.put(("rotated", "1", "approved"), ("rotated", "2", "approved"))
        chain = bucket.chain(secret="wrong")
        assert (await ask(chain, "rotated", "1")).cause == "denied"
        await asyncio.to_thread((bucket.folder / "secret").write_text, SECRET)
        assert state(await ask(chain, "rotated", "2")) is ApprovalState.APPROVED
        await chain.close()

    asyncio.run(run())


def test_a_bucket_that_is_not_there_is_no_version_that_is_not_there(bucket: Bucket) -> None:
    found = once(bucket.chain(url="s3://other-bucket/approved"))
    assert found.answer == Unavailable("registry bucket has no such bucket, or is another server")


def test_a_server_that_is_killed_is_stood_in_for(tmp_path: Path) -> None:
    async def run() -> None:
        with s3_server(tmp_path, ACCESS, SECRET) as server:
            own = Bucket(server, tmp_path)
            own.do(("create_bucket", {"Bucket": "models"}))
            own.put(("bert", "1", "approved"))
            chain = own.chain()
            assert state(await ask(chain)) is ApprovalState.APPROVED
            server.process.stop()
            found = await ask(chain)
            assert isinstance(found.answer, Approval)
            assert (found.answer.stale, found.cause) == (True, "refused")
            assert (await ask(chain, "new")).answer == Unavailable("registry bucket cannot be reached")
            await chain.close()

    asyncio.run(run())


def test_the_pods_own_token_is_exchanged_for_keys_of_a_role(tmp_path: Path) -> None:
    """With moto for both: it gives keys for any token, and keeps the bucket."""

    async def run() -> None:
        with moto_server(tmp_path) as server:
            own = Bucket(server, tmp_path)
            own.do(("create_bucket", {"Bucket": "models"}))
            own.put(("bert", "1", "approved"))
            (tmp_path / "token").write_text("e30.e30.e30")
            chain = own.chain(
                accessKeyFile=None,
                secretKeyFile=None,
                role="arn:aws:iam::123456789012:role/models",
                webIdentityFile="token",
                tokenEndpoint=server.url,
            )
            assert state(await ask(chain)) is ApprovalState.APPROVED
            await chain.close()

    asyncio.run(run())
