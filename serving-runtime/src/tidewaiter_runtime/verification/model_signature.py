"""OpenSSF model signatures: a Sigstore bundle around an in-toto statement about each file.

Verified with ``cryptography`` alone. The library ``model-signing`` brings some thirty
packages (network clients, TUF, protobuf, OpenSSL bindings) into a container that starts
before every model; the tests hold this module to what that library signs.

Formats: github.com/sigstore/protobuf-specs (bundle), github.com/secure-systems-lab/dsse
(envelope), github.com/sigstore/model-transparency (predicate).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidewaiter_runtime.refusals import BadInput, SignatureRefused
from tidewaiter_runtime.verification.manifest import Manifest
from tidewaiter_runtime.verification.public_keys import PublicKey, has_signed

PREDICATE = "https://model_signing/signature/v1.0"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_BUNDLE = "application/vnd.dev.sigstore.bundle"


@dataclass(frozen=True, slots=True)
class SignedModel:
    """What a signer vouched for: every file, and which paths were left out."""

    manifest: Manifest
    ignored: tuple[str, ...]
    root: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose signature nobody has looked at yet. ``certificates`` are DER, the signer's first."""

    payload: bytes
    payload_type: str
    signatures: tuple[bytes, ...]
    certificates: list[bytes]
    logged: bool


def parse_bundle(text: bytes, source: str) -> Bundle:
    """The parts of a Sigstore bundle with a DSSE envelope."""
    try:
        document = json.loads(text)
        if not str(document.get("mediaType", "")).startswith(_BUNDLE):
            raise BadInput(f"{source}: mediaType: found {document.get('mediaType')!r}; expected {_BUNDLE}...")
        if "dsseEnvelope" not in document:
            raise BadInput(
                f"{source} signs a blob and says nothing about a model's files; sign it with model_signing sign"
            )
        envelope = document["dsseEnvelope"]
        material = document["verificationMaterial"]
        chain = (material.get("x509CertificateChain") or {}).get("certificates") or []
        if material.get("certificate"):
            chain = [material["certificate"]]
        return Bundle(
            payload=_decoded(envelope["payload"]),
            payload_type=str(envelope["payloadType"]),
            signatures=tuple(_decoded(one["sig"]) for one in envelope["signatures"]),
            certificates=[_decoded(one["rawBytes"]) for one in chain],
            logged=bool(material.get("tlogEntries")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"{source} is not a Sigstore bundle: {what}") from None


def verify_bundle(bundle: Bundle, keys: Mapping[str, PublicKey], source: str) -> tuple[SignedModel, str]:
    """What was signed, and the name of the key that signed it; raises ``SignatureRefused``."""
    if bundle.payload_type != _PAYLOAD_TYPE:
        raise SignatureRefused(f"{source}: payloadType: found {bundle.payload_type!r}; expected {_PAYLOAD_TYPE}")
    message = pae(bundle.payload_type, bundle.payload)
    for name, key in keys.items():
        if any(has_signed(key, message, one) for one in bundle.signatures):
            return _signed_model(bundle.payload, source), name
    raise SignatureRefused(f"{source} was not signed by {' or '.join(keys)}, or was changed since")


def pae(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature is over: pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _signed_model(payload: bytes, source: str) -> SignedModel:
    try:
        return _read(json.loads(payload), source)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SignatureRefused(f"{source}: what was signed is not understood: {type(error).__name__} {error}") from None


def _read(statement: dict[str, Any], source: str) -> SignedModel:
    _equal(statement["_type"], _STATEMENT, "_type", source)
    _equal(statement["predicateType"], PREDICATE, "predicateType", source)
    predicate = statement["predicate"]
    method = predicate["serialization"]
    _equal(method["method"], "files", "serialization.method", source)
    _equal(method["hash_type"], "sha256", "serialization.hash_type", source)
    digests: dict[str, str] = {}
    combined = hashlib.sha256()
    for resource in predicate["resources"]:
        name = resource["name"]
        _equal(resource["algorithm"], "sha256", f"algorithm of {name!r}", source)
        if name in digests:
            raise SignatureRefused(f"{source}: file {name!r} was signed twice")
        raw = bytes.fromhex(resource["digest"])
        combined.update(raw)
        digests[name] = raw.hex()
    (subject,) = statement["subject"]
    _equal(subject["digest"]["sha256"], combined.hexdigest(), "root digest", source)
    ignored = tuple(str(one) for one in method.get("ignore_paths") or ())
    return SignedModel(Manifest(digests, {}), ignored, f"sha256:{combined.hexdigest()}")


def _equal(found: Any, expected: str, field: str, source: str) -> None:
    if found != expected:
        raise SignatureRefused(f"{source}: {field}: found {str(found)[:120]!r}; expected {expected!r}")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64: {error}") from None
