"""Image registries that want tokens, keep blobs elsewhere and list referrers by pages.

The first half is played by a local server that does what the specifications say; the second
is CNCF Distribution itself, with tokens, in front of a real S3 server.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from admission.image_signature import ImageNotSigned, ImageSignature, ImageSigned, ImageUnknown, SignatureQuestion
from registries.image_signature_settings import ImageRegistrySettings, ImageSignaturesSettings
from registries.opening import World
from registries.opening_images import open_image_signatures
from tests.http.registry_server import RegistryServer, registry_server
from tests.registries.http_server import Reply, Request, reply
from tests.registries.oci_server import COSIGN, COSIGN_IMAGE, INDEX, MANIFEST, Images, public_pem
from tests.registries.servers import image_registry, s3_server

TEAM = ec.generate_private_key(ec.SECP256R1())
IMAGE = f"sha256:{'5' * 64}"
REPOSITORY = "models/resnet"
USER = "Basic " + base64.b64encode(b"robot:word").decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the keys of the settings, and credentials."""
    (tmp_path / "team.pub").write_bytes(public_pem(TEAM))
    (tmp_path / "cosign.pub").write_bytes((COSIGN / "cosign.pub").read_bytes())
    (tmp_path / "user").write_text("robot\n")
    (tmp_path / "password").write_text("word\n")
    return tmp_path


def ask(folder: Path, url: str, *digests: str, monotonic: Callable[[], float] = lambda: 0.0, **registry: Any) -> Any:
    """What is said of images of one repository, one after the other."""
    host = urlsplit(url).netloc
    settings = ImageSignaturesSettings.model_validate(
        {
            "keys": {"team": "team.pub", "cosign": "cosign.pub"},
            "registries": [{"host": host, "url": url, **registry}],
            "require": [{"images": [f"{host}/models/*"]}],
            "deadlineSeconds": 20,
            "fetchSeconds": 20,
            "signedSeconds": 0,
            "staleSeconds": 0,
        }
    )

    async def run() -> list[ImageSignature]:
        source = open_image_signatures(settings, World(folder=folder, monotonic=monotonic))
        assert source is not None
        try:
            images = [f"{host}/{REPOSITORY}@{one}" for one in digests]
            return [(await source.ask(SignatureQuestion((one,))))[one] for one in images]
        finally:
            await source.close()

    found = asyncio.run(run())
    return found[0] if len(found) == 1 else found


def reason(found: ImageSignature) -> str:
    assert isinstance(found, ImageUnknown), found
    return found.reason


# Tokens


@dataclass
class TokenService:
    """Hands out ``t-1``, ``t-2``, ...; a registry that takes only the last one stands beside it."""

    images: Images = field(default_factory=Images)
    realm: str = ""
    given: int = 0
    body: bytes | None = None

    def answer(self, _request: Request) -> Reply:
        self.given += 1
        token = {"token": f"t-{self.given}", "expires_in": 300}
        return reply(self.body if self.body is not None else json.dumps(token).encode())

    def registry(self, request: Request) -> Reply:
        if request.headers.get("authorization") == f"Bearer t-{self.given}" and self.given:
            return self.images.answer(request)
        challenge = f'Bearer realm="{self.realm}",service="registry",scope="repository:other:pull,push"'
        return reply(b"", "401 Unauthorized", WWW_Authenticate=challenge)


@pytest.fixture
def tokens() -> Iterator[tuple[TokenService, RegistryServer, RegistryServer]]:
    """A registry, and its token service on another host."""
    service = TokenService()
    service.images.sign(REPOSITORY, IMAGE, TEAM)
    with registry_server(service.answer) as handing, registry_server(service.registry) as registry:
        service.realm = f"{handing.url}/token"
        yield service, handing, registry


_Tokens = tuple[TokenService, RegistryServer, RegistryServer]
_FILES: dict[str, Any] = {"usernameFile": "user", "passwordFile": "password"}


def test_a_token_is_fetched_where_the_settings_say_and_credentials_go_nowhere_else(
    folder: Path, tokens: _Tokens
) -> None:
    service, handing, registry = tokens

    assert ask(folder, registry.url, IMAGE, tokenService=service.realm, **_FILES) == ImageSigned("team")

    (asked,) = handing.requests
    assert asked.headers["authorization"] == USER
    # What is asked for is ours to say, not the registry's.
    query = parse_qs(urlsplit(asked.target).query)
    assert query == {"service": ["registry"], "scope": [f"repository:{REPOSITORY}:pull"]}
    assert {one.headers.get("authorization") for one in registry.requests} == {None, "Bearer t-1"}


def test_a_token_serves_until_it_ends(folder: Path, tokens: _Tokens) -> None:
    service, handing, registry = tokens
    now = iter(range(0, 10_000_000, 20))  # each look at the clock is 20 s later

    found = ask(folder, registry.url, IMAGE, IMAGE, monotonic=lambda: next(now), tokenService=service.realm)

    assert found == [ImageSigned("team")] * 2
    assert 1 <= len(handing.requests) < len(registry.requests) / 2


def test_a_token_that_is_not_taken_any_more_is_renewed(folder: Path, tokens: _Tokens) -> None:
    service, handing, registry = tokens
    taken: list[str] = []

    def revoking(request: Request) -> Reply:
        answered = service.registry(request)
        if answered is not None and b" 200 OK" in answered[:20] and not taken:
            taken.append(request.target)
            service.given += 1  # the token that was handed out counts no more
        return answered

    registry.answer = revoking

    assert ask(folder, registry.url, IMAGE, tokenService=service.realm) == ImageSigned("team")
    assert len(handing.requests) == 2


def test_a_registry_does_not_choose_who_gets_the_credentials(folder: Path, tokens: _Tokens) -> None:
    service, handing, registry = tokens
    chosen, service.realm = service.realm, f"{handing.url}/elsewhere"

    found = ask(folder, registry.url, IMAGE, tokenService=chosen, **_FILES)

    assert "has its tokens handed out elsewhere than the settings say" in reason(found)
    assert service.realm not in reason(found)
    assert handing.requests == []
    assert all("authorization" not in one.headers for one in registry.requests)


def test_without_a_token_service_in_the_settings_nobody_is_asked_for_one(folder: Path, tokens: _Tokens) -> None:
    _, handing, registry = tokens

    assert "refuses our credentials" in reason(ask(folder, registry.url, IMAGE, **_FILES))
    assert handing.requests == []


@pytest.mark.parametrize(
    "body", [b"{}", b'{"token":"a b"}', b'{"token":"x\\r\\nHost: evil"}', b'{"token":["x"]}', b"<html>", b""]
)
def test_what_is_no_token_is_a_reason(folder: Path, tokens: _Tokens, body: bytes) -> None:
    service, _, registry = tokens
    service.body = body

    found = reason(ask(folder, registry.url, IMAGE, tokenService=service.realm))

    assert found.startswith(f"registry {urlsplit(registry.url).netloc}")
    assert "evil" not in found


def test_a_token_that_is_refused_again_is_not_fetched_for_ever(folder: Path, tokens: _Tokens) -> None:
    service, handing, registry = tokens
    service.body = b'{"token":"never-taken"}'

    assert "refuses our credentials" in reason(ask(folder, registry.url, IMAGE, tokenService=service.realm))
    assert len(handing.requests) == 1


# Storage hosts


@pytest.fixture
def storing() -> Iterator[tuple[RegistryServer, RegistryServer, list[str]]]:
    """A registry that redirects to a storage host for blobs; what it says may be set."""
    images = Images()
    images.sign(REPOSITORY, IMAGE, TEAM)
    where: list[str] = []

    def blobs(request: Request) -> Reply:
        return images.answer(Request("GET", request.target.removeprefix("/store"), request.headers, b""))

    def answer(request: Request) -> Reply:
        if "/blobs/" in request.target:
            return reply(b"", "307 Temporary Redirect", Location=where[0] + request.target + "?signature=s%2Fig")
        return images.answer(request)

    with registry_server(blobs) as storage, registry_server(answer) as registry:
        where.append(f"{storage.url}/store")
        yield registry, storage, where


_Storing = tuple[RegistryServer, RegistryServer, list[str]]


def test_a_blob_comes_from_the_storage_host_of_the_settings_without_our_credentials(
    folder: Path, storing: _Storing
) -> None:
    registry, storage, _ = storing

    assert ask(folder, registry.url, IMAGE, storage=[storage.url], **_FILES) == ImageSigned("team")

    assert {one.headers.get("authorization") for one in registry.requests} == {USER}
    assert storage.requests
    for request in storage.requests:
        assert "authorization" not in request.headers
        assert request.target.endswith("?signature=s%2Fig")


@pytest.mark.parametrize(
    "elsewhere", ["http://127.0.0.1:1", "http://169.254.169.254", "//evil", "http://[", "file:///etc"]
)
def test_a_redirect_elsewhere_is_not_followed(folder: Path, storing: _Storing, elsewhere: str) -> None:
    registry, storage, where = storing
    where[0] = elsewhere

    found = reason(ask(folder, registry.url, IMAGE, storage=[storage.url]))

    assert found.endswith("redirects to a storage host that is not in the settings (storage)")
    assert storage.requests == []


def test_a_storage_host_does_not_redirect_further(folder: Path, storing: _Storing) -> None:
    registry, storage, _ = storing
    storage.answer = lambda _: reply(b"", "302 Found", Location=registry.url)

    assert "answers with a redirect, which is not followed" in reason(
        ask(folder, registry.url, IMAGE, storage=[storage.url])
    )


def test_other_bytes_from_the_storage_host_do_not_count(folder: Path, storing: _Storing) -> None:
    registry, storage, _ = storing
    storage.answer = lambda _: reply(b"other")

    assert "answers with other bytes than the digest says" in reason(
        ask(folder, registry.url, IMAGE, storage=[storage.url])
    )


# Referrers by pages


@dataclass
class Pages:
    """Referrers of cosign's image, one a page; the bundle is on the last one."""

    images: Images
    link: str = '</v2/{repository}/referrers/{digest}?n=1&last={page}>; rel="next"'
    last: int = 4

    def answer(self, request: Request) -> Reply:
        place = urlsplit(request.target)
        if "/referrers/" not in place.path:
            return self.images.answer(request)
        page = int(parse_qs(place.query).get("last", ["0"])[0])
        whole = json.loads(self.images.held[place.path])
        sbom, bundle = whole["manifests"]
        body = json.dumps({**whole, "manifests": [bundle if page == self.last else sbom]}).encode()
        if page == self.last:
            return reply(body)
        values = {"repository": REPOSITORY, "digest": COSIGN_IMAGE, "page": page + 1}
        return reply(body, Link=self.link.format(**values))


@pytest.fixture
def pages() -> Iterator[tuple[Pages, RegistryServer]]:
    images = Images()
    images.hold_cosigns_bundle(REPOSITORY)
    played = Pages(images)
    with registry_server(played.answer) as registry:
        yield played, registry


_RELATIVE = "<?n=1&last={page}>; rel=next"


@pytest.mark.parametrize("absolute", ["", "relative", "absolute"])
def test_a_bundle_on_the_last_page_is_found(folder: Path, pages: tuple[Pages, RegistryServer], absolute: str) -> None:
    played, registry = pages
    if absolute:
        played.link = _RELATIVE if absolute == "relative" else played.link.replace("</v2", f"<{registry.url}/v2")

    assert ask(folder, registry.url, COSIGN_IMAGE) == ImageSigned("cosign")

    asked = [one.target for one in registry.requests if "/referrers/" in one.target]
    assert len(asked) == played.last + 1


@pytest.mark.parametrize(
    "elsewhere", ["<http://169.254.169.254/x?y>", "</v2/other/referrers/x?last=1>", "<//evil/?a>", "<http://[?a>"]
)
def test_a_list_does_not_go_on_elsewhere(folder: Path, pages: tuple[Pages, RegistryServer], elsewhere: str) -> None:
    played, registry = pages
    played.link = f'{elsewhere}; rel="next"'

    assert "continues its list of referrers elsewhere" in reason(ask(folder, registry.url, COSIGN_IMAGE))


def test_a_list_without_end_is_given_up(folder: Path, pages: tuple[Pages, RegistryServer]) -> None:
    played, registry = pages
    played.last = -1

    assert "names more referrers of one image than are looked at" in reason(ask(folder, registry.url, COSIGN_IMAGE))
    assert len([one for one in registry.requests if "/referrers/" in one.target]) == 16


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"tokenService": "http://169.254.169.254/token"}, "never asked"),
        ({"tokenService": "auth.example.com"}, "this is not a URL"),
        ({"tokenService": "https://auth.example.com", "tokenFile": "t"}, "keep one"),
        ({"storage": ["https://storage.example.com/folder"]}, "write https://HOST, without a path"),
        ({"storage": ["ftp://storage.example.com"]}, "only http and https are asked"),
        ({"storage": ["http://169.254.169.254"]}, "never asked"),
    ],
)
def test_settings_that_cannot_hold_are_a_sentence(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as error:
        ImageRegistrySettings.model_validate({"host": "registry.example.com", **more})

    assert sentence in str(error.value)


# The real thing


class RealTokens:
    """The token service of a real registry: ES256 tokens for whoever has the user's password."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        (folder / "tokens.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        self._der = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()

    def token(self, repository: str, *actions: str) -> str:
        now = int(datetime.datetime.now(datetime.UTC).timestamp())
        claims = {
            "iss": "tests",
            "aud": "registry",
            "sub": "robot",
            "jti": "1",
            "iat": now - 60,
            "nbf": now - 60,
            "exp": now + 300,
            "access": [{"type": "repository", "name": repository, "actions": list(actions)}],
        }
        head = {"typ": "JWT", "alg": "ES256", "x5c": [self._der]}
        signed = ".".join(_base64url(json.dumps(one).encode()) for one in (head, claims))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != USER:
            return reply(b"", "401 Unauthorized")
        scope = parse_qs(urlsplit(request.target).query)["scope"][0]
        _, repository, actions = scope.split(":")
        assert actions == "pull"
        return reply(json.dumps({"token": self.token(repository, "pull"), "expires_in": 300}).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Real:
    """CNCF Distribution with tokens, in front of S3."""

    url: str
    tokens: RegistryServer
    storage: str
    tokens_of: RealTokens

    def push(self, images: Images) -> None:
        """Everything that is held, blobs first, with a token that may."""
        token = self.tokens_of.token(REPOSITORY, "pull", "push")
        for path, body in sorted(images.held.items(), key=lambda one: ("/manifests/" in one[0], len(one[1]))):
            if "/blobs/" in path:
                repository, _, digest = path.rpartition("/blobs/")
                _, headers = self._send("POST", f"{repository}/blobs/uploads/", b"", token)
                upload = headers["Location"]
                self._send("PUT", f"{upload}{'&' if '?' in upload else '?'}digest={digest}", body, token)
            else:
                kind = INDEX if b'"manifests"' in body else MANIFEST
                self._send("PUT", path, body, token, {"Content-Type": kind})

    def _send(
        self, method: str, path: str, body: bytes, token: str, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        url = path if path.startswith("http") else self.url + path
        all_headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/octet-stream",
            **(headers or {}),
        }
        request = urllib.request.Request(url, body, all_headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {url}: {error.code} {error.read()!r}") from None


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    folder = tmp_path_factory.mktemp("distribution")
    issuer = RealTokens(folder)
    with contextlib.ExitStack() as ending:
        storage = ending.enter_context(s3_server(folder, "registry", "its own secret"))
        (folder / "buckets" / "images").mkdir()
        service = ending.enter_context(registry_server(issuer.answer))
        token = {"realm": f"{service.url}/token", "service": "registry", "issuer": "tests"}
        s3 = {"accesskey": "registry", "secretkey": "its own secret", "region": "us-east-1", "bucket": "images"}
        settings = {
            "auth": {"token": {**token, "rootcertbundle": str(folder / "tokens.crt")}},
            "storage": {"s3": {**s3, "regionendpoint": storage.url, "forcepathstyle": True, "secure": False}},
            # The index of referrers names an SBOM that nobody pushed.
            "validation": {"manifests": {"indexes": {"platforms": "none"}}},
        }
        url = ending.enter_context(image_registry(folder, settings))
        yield Real(url, service, storage.url, issuer)


def test_a_real_registry_with_tokens_and_s3_behind_it_is_asked(folder: Path, real: Real) -> None:
    images = Images(referrers=False)
    images.sign(REPOSITORY, IMAGE, TEAM)
    images.hold_cosigns_bundle(REPOSITORY)
    real.push(images)
    whole: dict[str, Any] = {"tokenService": f"{real.tokens.url}/token", "storage": [real.storage], **_FILES}

    signed, bundled, unsigned = ask(folder, real.url, IMAGE, COSIGN_IMAGE, f"sha256:{'7' * 64}", **whole)

    assert signed == ImageSigned("team")
    assert bundled == ImageSigned("cosign")
    assert isinstance(unsigned, ImageNotSigned)
    # Each of the settings is needed: this registry does want tokens, and does redirect.
    without = {key: value for key, value in whole.items() if key != "storage"}
    assert "answers with a redirect, which is not followed" in reason(ask(folder, real.url, IMAGE, **without))
    without = {key: value for key, value in whole.items() if key not in ("tokenService", "storage")}
    assert "refuses our credentials" in reason(ask(folder, real.url, IMAGE, **without))
    (folder / "password").write_text("wrong\n")
    assert "refuses our credentials" in reason(ask(folder, real.url, IMAGE, **whole))
