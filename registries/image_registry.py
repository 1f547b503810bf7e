"""Cosign's signatures of an image, from its own registry, over the OCI distribution API.

Three places, each of which may be empty: the tag ``sha256-HEX.sig`` (signatures), the tag
``sha256-HEX.att`` (attestations), and the referrers of the digest (Sigstore bundles), for
which the tag ``sha256-HEX`` stands in where a registry has no referrers API. Whatever is
fetched by a digest must have that digest.
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

import orjson

from registries.http_client import HttpClient
from registries.image_signatures import SIGNATURE_ANNOTATION
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
    """One registry; ``host`` is its name in images and in messages."""

    def __init__(self, host: str, client: HttpClient) -> None:
        self._host = host
        self._client = client

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

    async def _tagged(self, repository: str, tag: str, form: Form) -> AsyncIterator[Evidence]:
        manifest = await self._json(f"/v2/{repository}/manifests/{tag}", _MANIFEST)
        for layer in _entries(manifest, "layers"):
            wanted = _SIMPLE_SIGNING if form is Form.SIGNATURE else _ENVELOPE
            if layer.get("mediaType") == wanted:
                signature = _mapping(layer.get("annotations")).get(SIGNATURE_ANNOTATION)
                yield Evidence(form, await self._blob(repository, layer), str(signature or ""))

    async def _referring(self, repository: str, digest: str, tag: str) -> AsyncIterator[Evidence]:
        index = await self._json(f"/v2/{repository}/referrers/{digest}", _INDEX)
        if index is None:
            index = await self._json(f"/v2/{repository}/manifests/{tag}", _INDEX)
        for one in _entries(index, "manifests"):
            if not str(one.get("artifactType") or "").startswith(_BUNDLE):
                continue
            found = self._digest(one)
            manifest = await self._json(f"/v2/{repository}/manifests/{found}", _MANIFEST, digest=found)
            for layer in _entries(manifest, "layers"):
                if str(layer.get("mediaType") or "").startswith(_BUNDLE):
                    yield Evidence(Form.BUNDLE, await self._blob(repository, layer))

    async def _json(self, path: str, media_type: str, digest: str = "") -> Mapping[str, Any] | None:
        answer = await self._client.get(path, headers={"accept": media_type})
        if answer.status in _MISSING:
            return None
        if digest:
            self._check(answer.body, digest)
        try:
            document = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            raise self._garbage("answers with what is not JSON") from None
        if not isinstance(document, dict):
            raise self._garbage("answers in another form than expected")
        return document

    async def _blob(self, repository: str, layer: Mapping[str, Any]) -> bytes:
        digest = self._digest(layer)
        answer = await self._client.get(f"/v2/{repository}/blobs/{digest}")
        if answer.status in _MISSING:
            raise self._garbage("does not have what its manifest names")
        self._check(answer.body, digest)
        return answer.body

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
    found = (document or {}).get(key)
    return [_mapping(one) for one in found[-_MOST:]] if isinstance(found, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
