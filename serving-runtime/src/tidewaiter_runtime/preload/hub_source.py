"""A model of the Hugging Face hub, by its documented HTTP interface.

``GET /api/models/{name}/revision/{revision}?blobs=true`` names the commit, and each file with its
size, its Git blob and, where the file is large, its SHA-256; ``GET /{name}/resolve/{commit}/{file}``
gives the bytes, mostly from another host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from tidewaiter_runtime.preload.source_files import SourceFile
from tidewaiter_runtime.preload.source_uri import SourceUri
from tidewaiter_runtime.preload.web_client import WebClient, pieces
from tidewaiter_runtime.preload.web_source import read_range
from tidewaiter_runtime.refusals import BadInput, ModelRefused

_ENDPOINT = "https://huggingface.co"
_LARGEST_LISTING = 64 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class HubSource:
    """``hf://``; the token is for the hub's own host only."""

    def __init__(self, uri: SourceUri, client: WebClient, environment: Mapping[str, str]) -> None:
        self.shown = uri.shown
        self.revision = ""
        self._uri = uri
        self._client = client
        self._endpoint = (environment.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")
        token = (environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN") or "").strip()
        self._secret = f"Bearer {token}" if token else ""

    def files(self) -> list[SourceFile]:
        """The files of the commit that the revision names now."""
        revision = quote(self._uri.revision, safe="")
        url = f"{self._endpoint}/api/models/{self._uri.path}/revision/{revision}?blobs=true"
        document = self._json(url)
        commit = document.get("sha")
        siblings = document.get("siblings")
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit) or not isinstance(siblings, list):
            raise ModelRefused(f"{self.shown}: the hub's answer names no commit with its files")
        self.revision = commit
        return [self._file(one, commit) for one in siblings]

    def _json(self, url: str) -> dict[str, Any]:
        content = bytearray()
        for piece in pieces(self._client.get(url, self.shown, {}, self._secret)):
            content += piece
            if len(content) > _LARGEST_LISTING:
                raise ModelRefused(f"{self.shown}: the hub's list of files is larger than {_LARGEST_LISTING:,} bytes")
        try:
            document = json.loads(content)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise BadInput(f"{self.shown}: what answered is not the hub: expected a JSON object; see HF_ENDPOINT")
        return document

    def _file(self, entry: Any, commit: str) -> SourceFile:
        try:
            name, size, blob = entry["rfilename"], entry["size"], entry["blobId"]
            sha256 = (entry.get("lfs") or {}).get("sha256") or ""
        except (KeyError, TypeError, AttributeError):
            name = size = blob = sha256 = None
        if not isinstance(name, str) or not isinstance(size, int) or size < 0:
            raise ModelRefused(f"{self.shown}: the hub lists a file without a name or a size")
        stored = sha256 or blob
        if not isinstance(stored, str) or not _BLOB.fullmatch(stored):
            raise ModelRefused(f"{self.shown}: the hub names no blob for file {name!r}")
        location = f"{self._endpoint}/{self._uri.path}/resolve/{commit}/{quote(name)}"
        return SourceFile(name, location, size, commit, sha256=sha256 or "", blob=stored)

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[memoryview]:
        """See ``Source``; a commit does not change."""
        return read_range(self._client, file, self.shown, start, end, secret=self._secret)
