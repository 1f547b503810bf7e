"""Signatures of images, from a registry that speaks the distribution API, works, and fails."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from admission.image_signature import ImageNotSigned, ImageSignature, ImageSigned, ImageUnknown, SignatureQuestion
from registries.image_signature_settings import ImageSignaturesSettings
from registries.image_signature_source import ImageSignatureSource
from registries.opening import World
from registries.opening_images import open_image_signatures
from tests.registries.http_server import Reply, Request, Server, reply, serving
from tests.registries.oci_server import COSIGN, COSIGN_IMAGE, EVALUATION, Images, public_pem
from webhook.settings import load_settings

TEAM, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
IMAGE = f"sha256:{'5' * 64}"
REPOSITORY = "models/resnet"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the keys of the settings."""
    (tmp_path / "team.pub").write_bytes(public_pem(TEAM))
    (tmp_path / "cosign.pub").write_bytes((COSIGN / "cosign.pub").read_bytes())
    return tmp_path


@dataclass
class Asked:
    """A source and the registry that it asks."""

    source: ImageSignatureSource
    server: Server
    counted: list[str] = field(default_factory=list)
    now: float = 0.0

    def image(self, digest: str = IMAGE, repository: str = REPOSITORY) -> str:
        return f"127.0.0.1:{self.server.port}/{repository}@{digest}"

    async def of(self, digest: str = IMAGE, repository: str = REPOSITORY) -> ImageSignature:
        image = self.image(digest, repository)
        return (await self.source.ask(SignatureQuestion((image,))))[image]


@asynccontextmanager
async def asking(
    keys: Path, answer: Callable[[Request], Reply | Awaitable[Reply]], required: Any = None, **more: Any
) -> AsyncIterator[Asked]:
    """A source of the settings that want images below ``models/`` signed."""
    async with serving(answer) as server:
        host = f"127.0.0.1:{server.port}"
        registry = {"host": host, "url": server.url, **more.pop("registry", {})}
        settings = ImageSignaturesSettings.model_validate(
            {
                "keys": {"team": "team.pub", "cosign": "cosign.pub"},
                "registries": [registry],
                "require": [{"images": [f"{host}/models/*"], **(required or {})}],
                "deadlineSeconds": 5,
                **more,
            }
        )
        asked: list[Asked] = []
        counted: list[str] = []
        world = World(folder=keys, monotonic=lambda: asked[0].now, count=lambda _host, result: counted.append(result))
        source = open_image_signatures(settings, world)
        assert source is not None
        asked.append(Asked(source, server, counted))
        try:
            yield asked[0]
        finally:
            await source.close()


def signed(key: str) -> ImageSigned:
    return ImageSigned(key)


@pytest.mark.parametrize(
    ("hold", "referrers"),
    [(Images.hold_cosigns_signature, True), (Images.hold_cosigns_bundle, True), (Images.hold_cosigns_bundle, False)],
    ids=["signature", "bundle", "bundle without a referrers API"],
)
def test_what_cosign_wrote_is_found_and_counts(
    keys: Path, hold: Callable[[Images, str], None], referrers: bool
) -> None:
    images = Images(referrers)
    hold(images, REPOSITORY)

    async def run() -> None:
        async with asking(keys, images.answer) as it:
            assert await it.of(COSIGN_IMAGE) == signed("cosign")
            assert it.counted == ["signed"]

    asyncio.run(run())


def test_an_attestation_counts_where_its_type_is_asked_for(keys: Path) -> None:
    images = Images()
    images.hold_cosigns_attestation(REPOSITORY)

    async def run() -> None:
        async with asking(keys, images.answer, {"predicateTypes": [EVALUATION]}) as it:
            assert await it.of(COSIGN_IMAGE) == signed("cosign")
        async with asking(keys, images.answer) as it:
            assert await it.of(COSIGN_IMAGE) == ImageNotSigned("it has no signature by team or cosign")
        async with asking(
            keys, images.answer, {"predicateTypes": [EVALUATION, "https://slsa.dev/provenance/v1"]}
        ) as it:
            found = await it.of(COSIGN_IMAGE)
            assert found == ImageNotSigned(
                "it has no attestation of type https://slsa.dev/provenance/v1 by team or cosign"
            )

    asyncio.run(run())


def _sentence(keys: Path, images: Images, required: Any = None) -> str:
    async def run() -> ImageSignature:
        async with asking(keys, images.answer, required) as it:
            return await it.of()

    found = asyncio.run(run())
    assert isinstance(found, ImageNotSigned), found
    return found.reason


def test_an_image_that_nobody_signed_is_not_signed(keys: Path) -> None:
    assert _sentence(keys, Images()) == "it has no signature by team or cosign"


def test_a_key_that_the_settings_do_not_know_does_not_count(keys: Path) -> None:
    images = Images()
    images.sign(REPOSITORY, IMAGE, OTHER)

    assert "by none of the keys team, cosign" in _sentence(keys, images)


def test_a_known_key_that_is_not_the_one_asked_for_is_named(keys: Path) -> None:
    images = Images()
    images.sign(REPOSITORY, IMAGE, TEAM)

    assert _sentence(keys, images, {"keys": ["cosign"]}) == "it has no signature by cosign; it has one by team"


def test_a_signature_that_was_copied_from_another_image_does_not_count(keys: Path) -> None:
    images = Images()
    images.sign(REPOSITORY, IMAGE, TEAM, about=f"sha256:{'6' * 64}")

    assert "the signature is of another image" in _sentence(keys, images)


async def silent(_request: Request) -> Reply:
    return None


FAULTS: dict[str, tuple[Callable[[Request], Reply | Awaitable[Reply]], str, str]] = {
    "silent": (silent, "did not answer in time", ""),
    "not HTTP": (lambda _: b"hello\r\n\r\n", "answers what is not HTTP", "garbage"),
    "not JSON": (lambda _: reply(b"<html>"), "answers with what is not JSON", "garbage"),
    "a list": (lambda _: reply(b"[]"), "answers in another form than expected", "garbage"),
    "a digest of another kind": (
        lambda _: reply(
            b'{"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"../x"}]}'
        ),
        "names no digest that we know (sha256)",
        "garbage",
    ),
    "other bytes than the digest": (
        lambda it: reply(
            b"{}"
            if "/blobs/" in it.target
            else b'{"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"sha256:%s"}]}'
            % (b"1" * 64)
        ),
        "answers with other bytes than the digest says",
        "garbage",
    ),
    "too large": (lambda _: reply(b" " * (2 << 20)), "answers with more than 1024 KiB", "too-large"),
    "failing": (lambda _: reply(b"", "500 Internal Server Error"), "fails (HTTP 500)", "failing"),
    "wrong credentials": (lambda _: reply(b"", "401 Unauthorized"), "refuses our credentials", "denied"),
    "a redirect": (
        lambda _: reply(b"", "307 Temporary Redirect", Location="http://169.254.169.254/"),
        "answers with a redirect, which is not followed",
        "redirect",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_registry_that_fails_is_a_reason_and_no_signature(keys: Path, fault: str) -> None:
    answer, reason, cause = FAULTS[fault]

    async def run() -> None:
        async with asking(keys, answer, deadlineSeconds=0.3) as it:
            found = await it.of()
            assert isinstance(found, ImageUnknown)
            assert found.reason.startswith(f"registry 127.0.0.1:{it.server.port} {reason}")
            assert it.counted == ([cause] if cause else [])

    asyncio.run(run())


def test_what_is_known_is_given_while_the_registry_is_down_and_for_no_longer_than_its_limit(keys: Path) -> None:
    images = Images()
    images.sign(REPOSITORY, IMAGE, TEAM)

    async def run() -> None:
        async with asking(keys, images.answer, signedSeconds=100, staleSeconds=1000, unsignedSeconds=0) as it:
            assert await it.of() == signed("team")
            await it.server.kill()
            for it.now, stale in ((99, False), (101, True), (999, True)):
                found = await it.of()
                assert found == signed("team")
                assert isinstance(found, ImageSigned)
                assert (found.age, found.stale) == (it.now, stale)
            it.now = 1001
            found = await it.of()
            assert isinstance(found, ImageUnknown)
            assert "cannot be reached" in found.reason
            other = await it.of(f"sha256:{'7' * 64}")
            assert isinstance(other, ImageUnknown)

    asyncio.run(run())


def test_a_known_image_asks_nobody_again_and_many_at_once_ask_once(keys: Path) -> None:
    images = Images()
    images.sign(REPOSITORY, IMAGE, TEAM)

    async def run() -> None:
        async with asking(keys, images.answer) as it:
            assert await asyncio.gather(*(it.of() for _ in range(8))) == [signed("team")] * 8
            once = [one.target for one in it.server.requests]
            assert len(once) == len(set(once))
            await it.of()
            assert [one.target for one in it.server.requests] == once

    asyncio.run(run())


def test_a_review_does_not_wait_for_what_takes_long_and_the_next_one_finds_it(keys: Path) -> None:
    images = Images()
    images.sign(REPOSITORY, IMAGE, TEAM)

    async def run() -> None:
        going = asyncio.Event()

        async def slow(request: Request) -> Reply:
            await going.wait()
            return images.answer(request)

        async with asking(keys, slow, deadlineSeconds=0.2) as it:
            found = await it.of()
            assert found == ImageUnknown(f"registry 127.0.0.1:{it.server.port} did not answer in time")
            going.set()
            for _ in range(100):  # each waits for the question that is under way
                found = await it.of()
                if found == signed("team"):
                    break
            assert found == signed("team")
            assert it.counted == ["signed"]

    asyncio.run(run())


def test_an_image_that_is_signed_later_is_seen(keys: Path) -> None:
    images = Images()

    async def run() -> None:
        async with asking(keys, images.answer, unsignedSeconds=10) as it:
            assert isinstance(await it.of(), ImageNotSigned)
            images.sign(REPOSITORY, IMAGE, TEAM)
            it.now = 9
            assert isinstance(await it.of(), ImageNotSigned)
            it.now = 11
            assert await it.of() == signed("team")

    asyncio.run(run())


def test_no_image_chooses_whom_to_ask(keys: Path) -> None:
    async def run() -> None:
        async with asking(keys, Images().answer) as it, serving(Images().answer) as elsewhere:
            foreign = [
                f"127.0.0.1:{elsewhere.port}/models/resnet@{IMAGE}",
                f"localhost:{it.server.port}/models/resnet@{IMAGE}",
                f"127.0.0.1:{it.server.port}/other/resnet@{IMAGE}",
                f"127.0.0.1:{it.server.port}@{elsewhere.port}/models/resnet@{IMAGE}",
                f"models/resnet@{IMAGE}",
                "",
            ]
            assert not any(it.source.wants(one) for one in foreign)
            answers = await it.source.ask(SignatureQuestion(tuple(foreign)))
            assert all(isinstance(one, ImageUnknown) for one in answers.values())
            assert it.server.requests == elsewhere.requests == []

    asyncio.run(run())


def test_an_image_by_tag_is_wanted_and_asks_nobody(keys: Path) -> None:
    async def run() -> None:
        async with asking(keys, Images().answer) as it:
            image = f"127.0.0.1:{it.server.port}/models/resnet:1"
            assert it.source.wants(image)
            found = (await it.source.ask(SignatureQuestion((image,))))[image]
            assert found == ImageNotSigned("it is not named by a sha256 digest, and a signature belongs to one")
            assert it.server.requests == []

    asyncio.run(run())


def test_credentials_come_from_the_files_of_the_settings(keys: Path) -> None:
    (keys / "user").write_text("robot\n")
    (keys / "password").write_text("word\n")

    async def run() -> None:
        files = {"usernameFile": "user", "passwordFile": "password"}
        async with asking(keys, Images().answer, registry=files) as it:
            await it.of()
            expected = "Basic " + base64.b64encode(b"robot:word").decode()
            assert {one.headers.get("authorization") for one in it.server.requests} == {expected}

    asyncio.run(run())


def test_a_registry_that_fails_again_and_again_is_left_alone(keys: Path) -> None:
    async def run() -> None:
        answer = FAULTS["failing"][0]
        async with asking(keys, answer, registry={"breaker": {"failures": 3}}, unsignedSeconds=0) as it:
            for _ in range(3):
                await it.of()
            asked = len(it.server.requests)
            found = await it.of()
            assert isinstance(found, ImageUnknown)
            assert "has failed and is left alone for a while" in found.reason
            assert len(it.server.requests) == asked

    asyncio.run(run())


def test_questions_are_bounded_whoever_names_many_images(keys: Path) -> None:
    async def run() -> None:
        async with asking(keys, silent, questions=4, deadlineSeconds=0.2) as it:
            images = tuple(it.image(f"sha256:{number:064x}") for number in range(50))
            answers = await it.source.ask(SignatureQuestion(images))
            busy = [one for one in answers.values() if isinstance(one, ImageUnknown) and "too many" in one.reason]
            assert len(busy) == 46
            assert len(it.server.requests) <= 4

    asyncio.run(run())


_REGISTRY = {"host": "registry.example.com"}
_KEYS = {"team": "team.pub"}
WRONG = {
    "a host with a wildcard": ([_REGISTRY], {"images": ["*.example.com/models/*"]}, _KEYS, "is none of the registries"),
    "a host that is not there": ([], {"images": ["registry.example.com/models/*"]}, _KEYS, "(none); add it there"),
    "no repository": ([_REGISTRY], {"images": ["registry.example.com"]}, _KEYS, "write the registry's host and a"),
    "an unknown key": ([_REGISTRY], {"images": ["registry.example.com/*"], "keys": ["x"]}, _KEYS, "'x' is none of"),
    "no key": ([_REGISTRY], {"images": ["registry.example.com/*"]}, {}, "no key is given"),
    "a metadata service": ([{"host": "169.254.169.254"}], {"images": ["169.254.169.254/*"]}, _KEYS, "never asked"),
    "the same host twice": ([_REGISTRY, _REGISTRY], {"images": ["registry.example.com/*"]}, _KEYS, "stands twice"),
}


@pytest.mark.parametrize("which", WRONG)
def test_settings_that_cannot_hold_are_a_sentence(which: str) -> None:
    registries, required, keys, sentence = WRONG[which]

    with pytest.raises(ValidationError) as error:
        ImageSignaturesSettings.model_validate({"registries": registries, "require": [required], "keys": keys})

    assert sentence in str(error.value)


@pytest.mark.parametrize(("content", "sentence"), [(None, "cannot be read"), (b"no key", "expected a PEM public key")])
def test_a_key_that_cannot_be_had_is_a_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "team.pub").write_bytes(content)
    settings = ImageSignaturesSettings.model_validate(
        {"registries": [_REGISTRY], "require": [{"images": ["registry.example.com/*"]}], "keys": _KEYS}
    )

    with pytest.raises(ValueError, match=sentence):
        open_image_signatures(settings, World(folder=tmp_path))


def test_without_images_that_must_be_signed_there_is_nothing_to_ask() -> None:
    assert open_image_signatures(ImageSignaturesSettings(), World()) is None


def test_the_documented_settings_are_settings(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "image-signatures.md").read_text(encoding="utf-8")
    (tmp_path / "settings.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")

    found = load_settings(tmp_path / "settings.yaml").image_signatures

    assert [one.host for one in found.registries] == ["registry.example.com"]
    assert found.require[1].keys == ("release",)
    for name in ("deadline_seconds", "signed_seconds", "stale_seconds", "unsigned_seconds"):
        about = ImageSignaturesSettings.model_fields[name]
        assert f"`{about.alias}` ({about.default:g})" in " ".join(page.split())
