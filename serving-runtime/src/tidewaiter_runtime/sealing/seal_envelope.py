"""The envelope of a sealed model: its wrapped key, and the enciphered list of its files.

``docs/encryption.md`` has the format. The list is sealed as a whole, so that no file can be added, left out,
renamed or taken from another model; the model's plain digest is in it, and is known before a file is read.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidewaiter_runtime.refusals import BadInput, ModelRefused
from tidewaiter_runtime.sealing.key_wrapping import WrappingKey
from tidewaiter_runtime.sealing.sealed_chunks import (
    FORMAT,
    KEY_BYTES,
    LARGEST_CHUNK,
    NONCE_BYTES,
    SMALLEST_CHUNK,
    derived,
)
from tidewaiter_runtime.verification.manifest import Manifest

ENVELOPE = "tidewaiter-seal.json"
LARGEST_ENVELOPE = 64 << 20


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One file: its plain name, size and SHA-256, the salt of its key, and the name that it is stored under."""

    name: str
    size: int
    sha256: str
    salt: bytes
    stored: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A model that was sealed; ``key`` is the model's own."""

    key: bytes
    chunk: int
    files: tuple[SealedFile, ...]

    @property
    def manifest(self) -> Manifest:
        """That of the plain model."""
        return Manifest({one.name: one.sha256 for one in self.files}, {one.name: one.size for one in self.files})


def close_envelope(envelope: Envelope, by: WrappingKey) -> bytes:
    """The envelope as a text."""
    listing = [
        {"name": one.name, "size": one.size, "sha256": one.sha256, "salt": one.salt.hex(), "stored": one.stored}
        for one in envelope.files
    ]
    nonce = os.urandom(NONCE_BYTES)
    plain = json.dumps({"digest": envelope.manifest.digest, "files": listing}, ensure_ascii=False).encode()
    sealed = nonce + AESGCM(derived(envelope.key, "list")).encrypt(nonce, plain, _list_aad(envelope.chunk))
    document = {
        "format": FORMAT,
        "chunk": envelope.chunk,
        "key": {"by": by.kind, "name": by.name, "wrapped": base64.b64encode(by.wrap(envelope.key)).decode()},
        "list": base64.b64encode(sealed).decode(),
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def open_envelope(text: bytes, by: WrappingKey, shown: str) -> Envelope:
    """Read an envelope; raises ``ModelRefused`` where it was changed, ``BadInput`` where the key is another."""
    try:
        document = json.loads(text)
        found, chunk, key = document["format"], document["chunk"], document["key"]
        kind, name, wrapped = key["by"], key["name"], base64.b64decode(key["wrapped"], validate=True)
        sealed = base64.b64decode(document["list"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelRefused(f"{shown}: {ENVELOPE} is no envelope: {type(error).__name__} {error}"[:300]) from None
    if found != FORMAT:
        raise ModelRefused(f"{shown}: {ENVELOPE}: format: found {str(found)[:40]!r}; expected {FORMAT!r}")
    if not isinstance(chunk, int) or isinstance(chunk, bool) or not SMALLEST_CHUNK <= chunk <= LARGEST_CHUNK:
        raise ModelRefused(
            f"{shown}: {ENVELOPE}: chunk: found {str(chunk)[:40]}; expected {SMALLEST_CHUNK} to {LARGEST_CHUNK}"
        )
    if (kind, name) != (by.kind, by.name):
        raise BadInput(
            f"{shown} was sealed with {str(kind)[:20]} key {str(name)[:80]!r}; --key gives {by.kind} key {by.name!r}"
        )
    model_key = by.unwrap(wrapped)
    if len(model_key) != KEY_BYTES:
        raise BadInput(f"--key: {by.kind} key {by.name!r} gave {len(model_key)} bytes; expected {KEY_BYTES}")
    return Envelope(model_key, chunk, _files(_open_list(model_key, chunk, sealed, shown), shown))


def _open_list(key: bytes, chunk: int, sealed: bytes, shown: str) -> bytes:
    try:
        return AESGCM(derived(key, "list")).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _list_aad(chunk))
    except (InvalidTag, ValueError):
        raise ModelRefused(f"{shown}: {ENVELOPE} was changed since it was sealed: its list does not open") from None


def _files(plain: bytes, shown: str) -> tuple[SealedFile, ...]:
    """Whoever wrote it had the key; it is held to its form all the same."""
    try:
        document: dict[str, Any] = json.loads(plain)
        files = tuple(
            SealedFile(
                str(one["name"]), int(one["size"]), str(one["sha256"]), bytes.fromhex(one["salt"]), one["stored"]
            )
            for one in document["files"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelRefused(f"{shown}: the list of {ENVELOPE} is not understood: {error}") from None
    if len({one.name for one in files}) != len(files) or any(one.size < 0 for one in files):
        raise ModelRefused(f"{shown}: the list of {ENVELOPE} has a name twice, or a size below nought")
    return files


def _list_aad(chunk: int) -> bytes:
    return f"{FORMAT} list {chunk}".encode()
