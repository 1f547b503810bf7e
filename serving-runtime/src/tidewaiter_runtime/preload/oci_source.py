"""A model in an image registry: ``oci://HOST/REPOSITORY[:TAG][@sha256:...]``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from tidewaiter_runtime.preload.oci_artifact import chosen, layers_of
from tidewaiter_runtime.preload.oci_registry import INDEXES, MANIFESTS, Document, OciRegistry, parse_document
from tidewaiter_runtime.preload.source_files import SourceFile
from tidewaiter_runtime.preload.source_uri import SourceUri
from tidewaiter_runtime.preload.web_client import WebClient
from tidewaiter_runtime.refusals import ModelRefused


class OciSource:
    """``revision`` is the digest of the manifest that was brought, also where a tag was asked for."""

    def __init__(self, uri: SourceUri, client: WebClient, environment: Mapping[str, str]) -> None:
        self.shown = uri.shown
        self.revision = ""
        self._reference = uri.revision
        self._registry = OciRegistry(uri.place, uri.path, client, environment)

    def files(self) -> list[SourceFile]:
        """The layers of the manifest; every digest on the way is compared with the bytes that came."""
        document = self._document(self._reference)
        if document.media_type in INDEXES or "manifests" in document.content:
            document = self._document(chosen(document, self.shown))
        if document.media_type not in MANIFESTS:
            raise ModelRefused(f"{self.shown}: expected an image manifest; found {document.media_type[:80]!r}")
        self.revision = document.digest
        return [
            replace(file, location=self._registry.location(digest)) for file, digest in layers_of(document, self.shown)
        ]

    def _document(self, reference: str) -> Document:
        content, media_type = self._registry.manifest(reference, self.shown)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if reference.startswith("sha256:") and digest != reference:
            raise ModelRefused(
                f"{self.shown}: the registry sent another manifest: expected {reference}, found {digest}"
            )
        return parse_document(content, media_type, digest, self.shown)

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[memoryview]:
        """See ``Source``; a blob does not change, its name is its digest."""
        return self._registry.read(file, self.shown, start, end)
