"""Chains of records, keys and files of them, for tests."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from admission.decision import Decision, Purpose
from admission.finding import Action, Finding, JudgedFinding
from admission.model_reference import ModelReference
from audit.chain import START, Chain, Entry
from audit.checkpoint import CLOSE, INTERVAL, Reach, Signer, key_name
from audit.record import decision_record
from audit.records import JsonLines
from audit.sqlite_records import SqliteRecords
from audit.sqlite_store import SqliteStore
from audit.verification import Verified, verify
from tests.kernel import request

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()


def public(*keys: Ed25519PrivateKey) -> dict[str, Ed25519PublicKey]:
    return {key_name(one.public_key()): one.public_key() for one in keys}


def key_files(folder: Path, key: Ed25519PrivateKey = KEY, name: str = "key") -> tuple[Path, Path]:
    """The files of the private and the public key."""
    private, shown = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    shown.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, shown


def record(number: int = 0, *, now: datetime | None = None, **more: Any) -> dict[str, Any]:
    """Denied where the number is even. Users, models and namespaces take turns."""
    denied = number % 2 == 0
    finding = JudgedFinding(
        Finding("image-pinned", "spec.containers[0]", f"found {number}", "pin it", "main"), Action.DENY
    )
    decision = Decision(
        uid=f"uid-{number}",
        purpose=Purpose.VALIDATE,
        allowed=not denied,
        recognised="triton",
        environment="production",
        model=ModelReference(f"model-{number % 3}", "1", "s3://models/m"),
        findings=(finding,) if denied else (),
    )
    asked = request({}, namespace=f"team-{number % 4}", userInfo={"username": f"user-{number % 5}", "groups": []})
    when = now or NOW + timedelta(minutes=number)
    return decision_record(replace(decision, **more), asked, when, 0.001, "p1")


def chain_of(
    length: int,
    replica: str = "pod-1/aaaa",
    *,
    every: int = 10,
    key: Ed25519PrivateKey | None = KEY,
    close: bool = True,
    previous: str = START,
) -> list[Entry]:
    """Records, a checkpoint after every few, and one at the end."""
    chain, signer, entries = Chain(replica, previous), Signer(key), []
    for number in range(1, length + 1):
        entries.append(chain.seal(record(number)))
        if key is not None and number % every == 0:
            entries.append(signer.sign(Reach(replica, number, chain.last), INTERVAL, NOW))
    if key is not None and close:
        entries.append(signer.sign(Reach(replica, length, chain.last), CLOSE, NOW))
    return entries


def records_of(entries: Iterable[Entry]) -> list[Entry]:
    return [one for one in entries if "signature" not in one.value]


def edited(entry: Entry, **changes: Any) -> Entry:
    """The same line with something else in it, and the hash as it was."""
    value = {**entry.value, **changes}
    return Entry(value, orjson.dumps(value))


def stored(path: Path, entries: Sequence[Entry]) -> Path:
    store = SqliteStore(path)
    store.append(entries)
    store.close()
    return path


def lines(entries: Iterable[Entry]) -> bytes:
    return b"".join(one.line + b"\n" for one in entries)


def verified_lines(data: bytes, keys: dict[str, Ed25519PublicKey] | None = None, **more: Any) -> Verified:
    return verify(JsonLines(io.BytesIO(data)).entries(), keys or {}, whole=False, **more)


def verified_file(path: Path, keys: dict[str, Ed25519PublicKey] | None = None, **more: Any) -> Verified:
    records = SqliteRecords(path)
    try:
        return verify(records.entries(), keys or {}, whole=True, **more)
    finally:
        records.close()
