"""Cosign's signatures of an image, from its own registry, over the OCI distribution API.

Three places, each of which may be empty: the tag ``sha256-HEX.sig`` (signatures), the tag
``sha256-HEX.att`` (attestations), and the referrers of the digest (Sigstore bundles), for
which the tag ``sha256-HEX`` stands in where a registry has no referrers API. Whatever is
fetched by a digest must have that digest.

Blobs may lie on a storage host: a redirect is followed once, to a host that the settings
name, and without credentials. Nothing else is followed elsewhere.
Sources: github.com/opencontainers/distribution-spec/blob/main/spec.md,
github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any
from urllib.parse import urljoin, urlsplit

import orjson

from registries.http_client import HttpAnswer, HttpClient
from registries.image_signatures import SIGNATURE_ANNOTATION
from registries.image_tokens import RegistryTokens
from registries.registry import RegistryError

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
_ENVELOPE = "application/vnd.dsse.envelope.v1+json"
_BUNDLE = "application/vnd.dev.sigstore.bundle"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST = 32
"""Signatures of one image that are looked at, of each kind; the last ones are the latest."""
_MISSING = (404, 410)
_UNAUTHORIZED = 401
_REDIRECTS = (301, 302, 303, 307, 308)
_PAGES = 16
_NEXT = re.compile(r'<([^<>]*)>\s*;(?:[^,<]*;)?\s*rel="?next"?', re.IGNORECASE)


class Form(StrEnum):
    """How a signature is written."""

    SIGNATURE = "signature"
    ATTESTATION = "attestation"
    BUNDLE = "bundle"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One document that may prove something; ``signature`` is beside it for simple signing."""

    form: Form
    document: bytes
    signature: str = ""


class ImageRegistry:
    """One registry; ``host`` is its name in images and in messages, and ``origin`` where it is asked.

    ``tokens`` are asked for where it wants some. ``storage`` are clients by origin.
    """

    def __init__(
        self,
        host: str,
        client: HttpClient,
        *,
        origin: str = "",
        tokens: RegistryTokens | None = None,
        storage: Mapping[str, HttpClient] | None = None,
    ) -> None:
        self._host = host
        self._client = client
        self._origin = origin
        self._tokens = tokens
        self._storage = dict(storage or {})

    async def evidence(self, repository: str, digest: str) -> list[Evidence]:
        """Everything about one image; raises ``RegistryError``."""
        tag = digest.replace(":", "-")
        found = [one async for one in self._tagged(repository, f"{tag}.sig", Form.SIGNATURE)]
        found += [one async for one in self._tagged(repository, f"{tag}.att", Form.ATTESTATION)]
        found += [one async for one in self._referring(repository, digest, tag)]
        return found

    async def close(self) -> None:
        """Let connections go."""
        await self._client.close()
        if self._tokens is not None:
            await self._tokens.close()
        for one in self._storage.values():
            await one.close()

    async def _tagged(self, repository: str, tag: str, form: Form) -> AsyncIterator[Evidence]:
        manifest = await self._manifest(repository, tag, _MANIFEST)
        for layer in _entries(manifest, "layers"):
            wanted = _SIMPLE_SIGNING if form is Form.SIGNATURE else _ENVELOPE
            if layer.get("mediaType") == wanted:
                signature = _mapping(layer.get("annotations")).get(SIGNATURE_ANNOTATION)
                yield Evidence(form, await self._blob(repository, layer), str(signature or ""))

    async def _referring(self, repository: str, digest: str, tag: str) -> AsyncIterator[Evidence]:
        referrers = await self._referrers(repository, digest)
        if referrers is None:
            referrers = _all_entries(await self._manifest(repository, tag, _INDEX), "manifests")
        bundles = [one for one in referrers if str(one.get("artifactType") or "").startswith(_BUNDLE)]
        for one in bundles[-_MOST:]:
            found = self._digest(one)
            manifest = await self._manifest(repository, found, _MANIFEST, digest=found)
            for layer in _entries(manifest, "layers"):
                if str(layer.get("mediaType") or "").startswith(_BUNDLE):
                    yield Evidence(Form.BUNDLE, await self._blob(repository, layer))

    async def _referrers(self, repository: str, digest: str) -> list[Mapping[str, Any]] | None:
        """All pages of the referrers; None where the registry does not have that API."""
        path = f"/v2/{repository}/referrers/{digest}"
        found: list[Mapping[str, Any]] = []
        query = ""
        for page in range(_PAGES):
            answer = await self._get(repository, path, query, _INDEX)
            if answer.status in _MISSING and page == 0:
                return None
            found += _all_entries(self._document(answer), "manifests")
            following = _NEXT.search(answer.headers.get("link", ""))
            if following is None:
                return found
            query = self._next_query(path, following[1])
        raise RegistryError(f"registry {self._host} names more referrers of one image than are looked at", "too-large")

    def _next_query(self, path: str, link: str) -> str:
        """The query of the next page, which is of the same list on the same host."""
        try:
            parts = urlsplit(urljoin(f"{self._origin}{path}", link))
        except ValueError:
            parts = urlsplit("")
        if f"{parts.scheme}://{parts.netloc}" != self._origin or parts.path != path or not parts.query:
            raise self._garbage("continues its list of referrers elsewhere")
        return parts.query

    async def _manifest(
        self, repository: str, reference: str, media_type: str, digest: str = ""
    ) -> Mapping[str, Any] | None:
        answer = await self._get(repository, f"/v2/{repository}/manifests/{reference}", "", media_type)
        if answer.status in _MISSING:
            return None
        if digest:
            self._check(answer.body, digest)
        return self._document(answer)

    def _document(self, answer: HttpAnswer) -> Mapping[str, Any]:
        try:
            document = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            raise self._garbage("answers with what is not JSON") from None
        if not isinstance(document, dict):
            raise self._garbage("answers in another form than expected")
        return document

    async def _blob(self, repository: str, layer: Mapping[str, Any]) -> bytes:
        digest = self._digest(layer)
        path = f"/v2/{repository}/blobs/{digest}"
        answer = await self._get(repository, path, "", "*/*", _REDIRECTS if self._storage else ())
        if answer.status in _REDIRECTS:
            answer = await self._stored(path, answer.headers.get("location", ""))
        if answer.status in _MISSING:
            raise self._garbage("does not have what its manifest names")
        self._check(answer.body, digest)
        return answer.body

    async def _stored(self, path: str, location: str) -> HttpAnswer:
        """From a storage host of the settings, with nothing but what the address itself says."""
        try:
            parts = urlsplit(urljoin(f"{self._origin}{path}", location))
            client = self._storage.get(f"{parts.scheme}://{parts.netloc}")
        except ValueError:
            client = None
        if client is None:
            raise RegistryError(
                f"registry {self._host} redirects to a storage host that is not in the settings (storage)",
                "redirect",
            )
        return await client.get(parts.path, parts.query)

    async def _get(
        self, repository: str, path: str, query: str, accept: str, expected: tuple[int, ...] = ()
    ) -> HttpAnswer:
        """With a token where one is wanted; a token that is not taken any more is renewed once."""
        headers = {"accept": accept}
        if self._tokens is None:
            return await self._client.get(path, query, headers, expected)
        held = self._tokens.headers(repository)
        answer = await self._client.get(path, query, {**headers, **held}, (*expected, _UNAUTHORIZED))
        if answer.status != _UNAUTHORIZED:
            return answer
        await self._tokens.renew(repository, answer.headers.get("www-authenticate", ""))
        return await self._client.get(path, query, {**headers, **self._tokens.headers(repository)}, expected)

    def _digest(self, descriptor: Mapping[str, Any]) -> str:
        digest = str(descriptor.get("digest"))
        if not _DIGEST.fullmatch(digest):
            raise self._garbage("names no digest that we know (sha256)")
        return digest

    def _check(self, body: bytes, digest: str) -> None:
        if f"sha256:{sha256(body).hexdigest()}" != digest:
            raise self._garbage("answers with other bytes than the digest says")

    def _garbage(self, what: str) -> RegistryError:
        return RegistryError(f"registry {self._host} {what}", "garbage")


def _entries(document: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    return _all_entries(document, key)[-_MOST:]


def _all_entries(document: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    found = (document or {}).get(key)
    return [_mapping(one) for one in found] if isinstance(found, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
