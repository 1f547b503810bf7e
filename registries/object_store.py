"""One small object from a bucket, a web server or a folder, and only if it has changed.

All that a registry of manifests needs of a store is this one question, so that S3, Google
Cloud Storage and web servers are one client with different credentials (docs/adr/0010).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from registries.http_client import MAX_BYTES, HttpClient
from registries.places import url_path
from registries.registry import RegistryError

_MISSING = (404, 410)
_NOT_MODIFIED = 304
_VERSION_HEADERS = ("x-amz-version-id", "x-goog-generation")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's bytes, the tag that tells whether it has changed, and the store's version of it."""

    body: bytes
    tag: str
    version: str


class Missing:
    """The store has no such object."""


class Unchanged:
    """The object is still the one with that tag."""


class ObjectStore(Protocol):
    """Where objects are."""

    async def get(self, path: tuple[str, ...], tag: str) -> StoredObject | Missing | Unchanged:
        """One object; raises ``RegistryError``. ``tag`` is of what is held already, empty for nothing."""

    async def close(self) -> None:
        """Let connections go."""


class HttpObjectStore:
    """Objects over HTTP. ``missing`` is a word that a bucket's 404 must hold: else the bucket is gone."""

    def __init__(
        self,
        name: str,
        client: HttpClient,
        folder: str,
        missing: bytes = b"",
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._name = name
        self._client = client
        self._folder = folder
        self._missing = missing
        self._closing = (client.close, *closing)

    async def get(self, path: tuple[str, ...], tag: str) -> StoredObject | Missing | Unchanged:
        """One object; raises ``RegistryError``."""
        headers = {"if-none-match": tag} if tag else {}
        answer = await self._client.get(f"{self._folder}/{url_path(path)}", headers=headers)
        if answer.status in _MISSING:
            if self._missing not in answer.body:
                raise RegistryError(f"registry {self._name} has no such bucket, or is another server", "garbage")
            return Missing()
        if answer.status == _NOT_MODIFIED:
            if not tag:
                raise RegistryError(f"registry {self._name} answers what was not asked", "garbage")
            return Unchanged()
        version = next((answer.headers[one] for one in _VERSION_HEADERS if one in answer.headers), "")
        return StoredObject(answer.body, answer.headers.get("etag", ""), "" if version == "null" else version)

    async def close(self) -> None:
        """Let connections go."""
        for close in self._closing:
            await close()


class FolderStore:
    """Objects of a folder, such as a mounted volume."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder

    async def get(self, path: tuple[str, ...], tag: str) -> StoredObject | Missing | Unchanged:
        """One file; raises ``RegistryError``."""
        return await asyncio.to_thread(self._read, path, tag)

    async def close(self) -> None:
        """Nothing is held."""

    def _read(self, path: tuple[str, ...], tag: str) -> StoredObject | Missing | Unchanged:
        try:
            root = self._folder.resolve(strict=True)
        except OSError as error:
            raise RegistryError(f"registry {self._name} cannot be read: its folder is not there", "refused") from error
        try:
            file = root.joinpath(*path).resolve(strict=True)
            if not file.is_relative_to(root):
                raise RegistryError(f"registry {self._name}: a link leads out of its folder", "garbage")
            with file.open("rb") as opened:
                body = opened.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return Missing()
        except OSError as error:
            raise RegistryError(f"registry {self._name}: a manifest cannot be read", "garbage") from error
        if len(body) > MAX_BYTES:
            raise RegistryError(f"registry {self._name} answers with more than {MAX_BYTES // 1024} KiB", "too-large")
        found = hashlib.sha256(body).hexdigest()
        return Unchanged() if found == tag else StoredObject(body, found, f"sha256:{found}")
