"""Registries that are down, slow, broken or hostile: what is answered, and that the others go on."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from admission.approval import Approval, ApprovalQuestion, Unavailable
from registries.opening import World, open_registries
from registries.settings import RegistriesSettings
from tests.controlplane import certificates
from tests.registries.http_server import Reply, Request, Server, reply, serving

_MODEL, _SECRET = "team-a/bert", "hidden-word-of-the-server"
_MANIFEST: dict[str, Any] = {
    "format": 1,
    "model": _MODEL,
    "version": "1",
    "state": "approved",
    "approvals": [{"environment": "production", "approvers": ["ann"]}],
}
_DEADLINE = 0.5


def manifest(**changes: Any) -> bytes:
    return orjson.dumps({**_MANIFEST, **changes})


def settings(broken: str, good: str, **more: Any) -> RegistriesSettings:
    cache = {"deadlineSeconds": _DEADLINE, "negativeSeconds": 0, "freshSeconds": 0, "revalidateSeconds": 0}
    common = {"type": "https", "cache": cache}
    return RegistriesSettings.model_validate(
        {
            "deadlineSeconds": 5,
            "registries": [
                {"name": "broken", "url": broken, "models": ["team-a/*"], **common, **more},
                {"name": "good", "url": good, **common},
            ],
        }
    )


def good(_request: Request) -> Reply:
    return reply(manifest(model="bert"))


async def nothing(_request: Request) -> Reply:
    return None


async def late(_request: Request) -> Reply:
    await asyncio.sleep(10 * _DEADLINE)
    return reply(manifest())


ANSWERS: dict[str, tuple[Callable[[Request], Reply | Awaitable[Reply]], str, str]] = {
    "silent": (nothing, "deadline", "registry broken did not answer in time"),
    "slower than the deadline": (late, "deadline", "registry broken did not answer in time"),
    "stops in the middle": (
        lambda _: reply(b"{", content_length="100"),
        "deadline",
        "registry broken did not answer in time",
    ),
    "not HTTP": (lambda _: f"{_SECRET}\r\n\r\n".encode(), "garbage", "registry broken answers what is not HTTP"),
    "not JSON": (lambda _: reply(_SECRET.encode()), "garbage", "registry broken answers with what is not JSON"),
    "no manifest": (
        lambda _: reply(orjson.dumps({_SECRET: 1})),
        "garbage",
        "registry broken answers in another form than expected: an unknown field",
    ),
    "approved for nobody": (
        lambda _: reply(manifest(approvals=[])),
        "garbage",
        "registry broken answers in another form than expected: the document",
    ),
    "an unknown state": (
        lambda _: reply(manifest(state=_SECRET)),
        "garbage",
        "registry broken answers in another form than expected: state",
    ),
    "another model's manifest": (
        lambda _: reply(manifest(model="other")),
        "garbage",
        "registry broken: the manifest is of another model or version",
    ),
    "nested too deeply": (
        lambda _: reply(b'{"a":' * 40 + b"1" + b"}" * 40),
        "garbage",
        "registry broken answers with JSON that is nested too deeply",
    ),
    "nested without end": (
        lambda _: reply(b"[" * 500_000),
        "garbage",
        "registry broken answers with what is not JSON",
    ),
    "10 MiB": (
        lambda _: reply(b" " * (10 << 20)),
        "too-large",
        "registry broken answers with more than 1024 KiB",
    ),
    "10 MiB without a length": (
        lambda _: (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
             b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
            + b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        ),
        "too-large",
        "registry broken answers with more than 1024 KiB",
    ),
    "packed": (
        lambda _: reply(b"\x1f\x8b" + bytes(100), Content_Encoding="gzip"),
        "garbage",
        "registry broken answers in a packed form that was not asked for",
    ),
    "a redirect to another host": (
        lambda _: reply(b"", "302 Found", Location=f"http://169.254.169.254/{_SECRET}"),
        "redirect",
        "registry broken answers with a redirect, which is not followed",
    ),
    "a redirect on the same host": (
        lambda _: reply(b"", "308 Permanent Redirect", Location=f"/{_SECRET}"),
        "redirect",
        "registry broken answers with a redirect, which is not followed",
    ),
    "too many requests": (
        lambda _: reply(_SECRET.encode(), "429 Too Many Requests", Retry_After="30"),
        "throttled",
        "registry broken asks us to wait (too many requests)",
    ),
    "overloaded": (
        lambda _: reply(_SECRET.encode(), "503 Service Unavailable"),
        "failing",
        "registry broken fails (HTTP 503)",
    ),
    "wrong credentials": (
        lambda _: reply(_SECRET.encode(), "403 Forbidden"),
        "denied",
        "registry broken refuses our credentials",
    ),
    "a teapot": (
        lambda _: reply(_SECRET.encode(), "418 I am a teapot"),
        "garbage",
        "registry broken answers what we do not expect (HTTP 418)",
    ),
    "endless headers": (
        lambda _: b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        "garbage",
        "registry broken answers what is not HTTP",
    ),
}  # fmt: skip


@pytest.mark.parametrize("behaviour", ANSWERS)
def test_a_broken_registry_is_unavailable_with_a_reason_and_no_other_is_troubled(behaviour: str) -> None:
    answer, cause, reason = ANSWERS[behaviour]

    async def run() -> None:
        async with serving(answer) as broken, serving(good) as other:
            chain = open_registries(settings(broken.url, other.url), World())
            try:
                asked, fine = await asyncio.gather(
                    chain.ask(ApprovalQuestion("production", _MODEL, "1")),
                    chain.ask(ApprovalQuestion("production", "bert", "1")),
                )
            finally:
                await chain.close()
            assert isinstance(asked.answer, Unavailable)
            assert asked.answer.reason.startswith(reason)
            assert _SECRET not in asked.answer.reason
            assert (asked.cause, asked.registry) == (cause, "broken")
            assert isinstance(fine.answer, Approval)
            # The later registry covers the model too, and was not asked: it might not know of a revocation.
            assert [one.target for one in other.requests] == ["/bert/1/manifest.json"]
            assert all(_SECRET not in one.target for one in broken.requests)

    asyncio.run(run())


def test_a_registry_that_is_killed_leaves_what_it_said_standing_and_is_asked_again_when_back() -> None:
    async def run() -> None:
        async with serving(lambda _: reply(manifest())) as server, serving(good) as other:
            chain = open_registries(settings(server.url, other.url), World())
            question = ApprovalQuestion("production", _MODEL, "1")
            try:
                assert not _stale(await chain.lookup(question))
                await server.kill()
                assert _stale(await chain.lookup(question))
                new = ApprovalQuestion("production", _MODEL, "2")
                assert await chain.lookup(new) == Unavailable("registry broken cannot be reached")
            finally:
                await chain.close()

    asyncio.run(run())


def _stale(answer: object) -> bool:
    assert isinstance(answer, Approval)
    return answer.stale


def test_a_registry_that_asks_to_wait_is_not_asked_until_then() -> None:
    async def run() -> None:
        now = [1000.0]
        answers = [reply(b"", "429 Too Many Requests", Retry_After="30")]
        async with serving(lambda _: answers.pop() if answers else reply(manifest())) as server:
            chain = open_registries(settings(server.url, server.url), World(monotonic=lambda: now[0]))
            question = ApprovalQuestion("production", _MODEL, "1")
            try:
                assert (await chain.ask(question)).cause == "throttled"
                now[0] += 29
                assert (await chain.ask(question)).cause == "open"
                now[0] += 1
                assert isinstance(await chain.lookup(question), Approval)
            finally:
                await chain.close()
            assert len(server.requests) == 2

    asyncio.run(run())


# TLS


def _pair(folder: Path, monkeypatch: pytest.MonkeyPatch, age: datetime.timedelta) -> tuple[Path, ssl.SSLContext]:
    """An authority's certificate, and a server's context that this authority vouched for `age` ago."""
    authority = certificates.Authority(folder)
    if age:
        monkeypatch.setattr(certificates, "CLOCK_SKEW", age)
    pair = authority.issue("server", "server", dns_names=["registry.example.com"], addresses=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return authority.pair.certificate, context


async def _over_tls(context: ssl.SSLContext, url: Callable[[Server], str], world: World, **more: Any) -> Any:
    async with serving(lambda _: reply(manifest()), context) as server:
        chain = open_registries(settings(url(server), url(server), **more), world)
        try:
            return await chain.ask(ApprovalQuestion("production", _MODEL, "1"))
        finally:
            await chain.close()


def test_tls_is_verified_by_the_ca_file_and_the_hosts_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, context = _pair(tmp_path, monkeypatch, datetime.timedelta())
    asked: list[str] = []

    async def look_up(host: str, _port: int, _family: int) -> list[tuple[int, str]]:
        asked.append(host)
        return [(2, "127.0.0.1")]

    def named(name: str) -> Callable[[Server], str]:
        return lambda server: f"https://{name}:{server.port}"

    world = World(look_up=look_up)
    right = asyncio.run(_over_tls(context, named("registry.example.com"), world, caFile=str(ca)))
    assert isinstance(right.answer, Approval), right
    assert asked == ["registry.example.com"]
    for name, more in (("other.example.com", {"caFile": str(ca)}), ("registry.example.com", {})):
        wrong = asyncio.run(_over_tls(context, named(name), world, **more))
        assert wrong.cause == "tls"
        assert wrong.answer == Unavailable("registry broken is not believed: its TLS certificate cannot be verified")


def test_a_certificate_that_has_expired_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LIFETIME", datetime.timedelta(days=-1))
    authority_life = certificates.CLOCK_SKEW
    monkeypatch.setattr(certificates, "CLOCK_SKEW", authority_life + datetime.timedelta(days=2))
    ca, context = _pair(tmp_path, monkeypatch, datetime.timedelta())
    found = asyncio.run(_over_tls(context, lambda server: server.url, World(), caFile=str(ca)))
    assert found.cause == "tls"


def test_a_ca_file_that_cannot_be_read_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, context = _pair(tmp_path, monkeypatch, datetime.timedelta())
    found = asyncio.run(_over_tls(context, lambda server: server.url, World(), caFile=str(tmp_path / "none")))
    assert (found.cause, found.answer.reason) == (
        "credentials",
        "registry broken is not asked: its caFile cannot be read",
    )


# Where nobody may be sent


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200", "64:ff9b::a9fe:a9fe",
     "2002:a9fe:a9fe::1", "0.0.0.0", "fd20:ce::254"],
)  # fmt: skip
def test_a_host_that_resolves_to_a_metadata_address_is_not_asked(address: str) -> None:
    async def look_up(_host: str, _port: int, _family: int) -> list[tuple[int, str]]:
        return [(2, "127.0.0.1"), (10 if ":" in address else 2, address)]

    async def run() -> None:
        async with serving(good) as server:
            url = f"http://registry.example.com:{server.port}"
            chain = open_registries(settings(url, url), World(look_up=look_up))
            try:
                found = await chain.ask(ApprovalQuestion("production", _MODEL, "1"))
            finally:
                await chain.close()
            assert found.cause == "refused-address"
            assert address not in str(found.answer)
            assert server.requests == []

    asyncio.run(run())


def test_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    answers = ["127.0.0.1", "169.254.169.254"]

    async def look_up(_host: str, _port: int, _family: int) -> list[tuple[int, str]]:
        return [(2, answers.pop(0))]

    async def run() -> None:
        async with serving(good) as server:
            url = f"http://registry.example.com:{server.port}"
            chain = open_registries(settings(url, url), World(look_up=look_up))
            try:
                found = await chain.ask(ApprovalQuestion("production", "bert", "1"))
            finally:
                await chain.close()
            assert isinstance(found.answer, Approval)
            assert answers == ["169.254.169.254"]
            assert server.requests[0].headers["host"] == f"registry.example.com:{server.port}"

    asyncio.run(run())
