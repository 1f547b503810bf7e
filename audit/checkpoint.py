"""Checkpoints: signed statements of how far a chain has come.

A chain by itself shows edits in its middle; only a signature shows that its end was cut off,
or that somebody wrote the whole of it anew.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from audit.chain import Entry, canonical

SCHEMA = "tidewaiter.dev/checkpoint/v1"
INTERVAL, CLOSE, RETENTION = "interval", "close", "retention"
"""Why a checkpoint was written: in passing, at the end of a process, or since what it covers is removed."""
_HOW_TO = "make one with `openssl genpkey -algorithm ed25519`"


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a chain has come: its last record's number and hash."""

    replica: str
    sequence: int
    hash: str


class Signer:
    """Signs checkpoints. Without a key it writes them unsigned, which proves nothing to anybody."""

    def __init__(self, key: Ed25519PrivateKey | None) -> None:
        self._key = key
        self._name = "" if key is None else key_name(key.public_key())

    def sign(self, reach: Reach, reason: str, now: datetime) -> Entry:
        """A checkpoint; ``now`` is aware, UTC."""
        value: dict[str, Any] = {
            "schema": SCHEMA,
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "replica": reach.replica,
            "sequence": reach.sequence,
            "hash": reach.hash,
            "reason": reason,
            "key": self._name,
        }
        signature = b"" if self._key is None else self._key.sign(canonical(value))
        value["signature"] = base64.b64encode(signature).decode()
        return Entry(value, canonical(value))

    @property
    def public_keys(self) -> dict[str, Ed25519PublicKey]:
        """What its signatures are checked with, by name; none without a key."""
        return {} if self._key is None else {self._name: self._key.public_key()}

    @property
    def signs(self) -> bool:
        """Whether there is a key."""
        return self._key is not None


def key_name(key: Ed25519PublicKey) -> str:
    """Sixteen hexadecimal digits that tell keys apart."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def load_signer(path: Path | None) -> Signer:
    """The signer with the key of a PEM file; raises ``ValueError`` with a sentence."""
    if path is None:
        return Signer(None)
    data = _read(path)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no unencrypted private key in PEM; {_HOW_TO}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} holds a key that is not Ed25519; {_HOW_TO}")  # noqa: TRY004  # the file is wrong
    return Signer(key)


def load_public_keys(paths: Iterable[Path]) -> dict[str, Ed25519PublicKey]:
    """Public keys of PEM files by their names; raises ``ValueError`` with a sentence."""
    keys: dict[str, Ed25519PublicKey] = {}
    for path in paths:
        data = _read(path)
        try:
            key = load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError(f"{path} holds no public key in PEM; get it with `openssl pkey -pubout`") from None
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"{path} holds a key that is not Ed25519; give the one that belongs to the signing key")  # noqa: TRY004  # the file is wrong
        keys[key_name(key)] = key
    return keys


def signature_problem(checkpoint: Mapping[str, Any], keys: Mapping[str, Ed25519PublicKey]) -> str:
    """Why a checkpoint's signature is not believed, or ""."""
    name = checkpoint.get("key")
    key = keys.get(name) if isinstance(name, str) else None
    if key is None:
        return f"it is signed by key {name or '(none)'}, and the keys given are {', '.join(keys)}"
    rest = {field: value for field, value in checkpoint.items() if field != "signature"}
    try:
        key.verify(base64.b64decode(str(checkpoint.get("signature")), validate=True), canonical(rest))
    except (InvalidSignature, binascii.Error):
        return f"its signature is not that of key {name}"
    return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"key file {path} cannot be read: {error.strerror}") from None
