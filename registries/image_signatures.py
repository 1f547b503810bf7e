"""Cosign signatures and attestations of images, verified against given public keys.

Pure: bytes in, an outcome out. Fetching them from a registry, and caching outcomes by digest,
is the caller's business. Three formats:

- *simple signing* (cosign up to 2 by default): a JSON payload that names the image's digest,
  and beside it the annotation ``dev.cosignproject.cosign/signature``, base64 over the payload.
  Source: github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md.
- *attestations*: a DSSE envelope around an in-toto statement whose subject is the digest.
- *bundles* (cosign 3 by default): the same envelope in a Sigstore bundle; a signature is an
  attestation with the predicate type ``https://sigstore.dev/cosign/sign/v1``.

Not verified: keyless signatures, transparency logs, timestamps. With a given key they add
when something was signed, not by whom.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
_PAYLOAD_TYPE = "cosign container image signature"
_ENVELOPE_TYPE = "application/vnd.in-toto+json"
_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle"
_STATEMENTS = ("https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HUB_NAMES = {"docker.io", "index.docker.io", "registry-1.docker.io"}
_SMALLEST_RSA = 2048
_LARGEST = 16 << 20
"""Bytes of a payload, envelope or bundle; an SBOM attestation has a few megabytes."""

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and what messages call it."""

    name: str
    key: PublicKey


@dataclass(frozen=True, slots=True)
class Signed:
    """The image is signed. ``annotations`` are what the signer added; ``reference`` what it called the image."""

    key: str
    reference: str = ""
    annotations: Mapping[str, Any] = field(default_factory=dict)
    predicate_type: str = ""
    predicate: Any = None


@dataclass(frozen=True, slots=True)
class NotSigned:
    """The signature does not count; ``reason`` is a sentence about what was expected and found."""

    reason: str


Outcome = Signed | NotSigned


class _Unacceptable(Exception):  # noqa: N818  # becomes NotSigned
    """Why a document does not count."""


def load_verification_key(pem: str | bytes, name: str) -> VerificationKey:
    """A key as ``cosign generate-key-pair`` writes it, or one of RSA or Ed25519; raises ``ValueError``."""
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        found = "a private key" if b"PRIVATE KEY" in data else "something else"
        raise ValueError(f"key {name}: found {found}; expected a PEM public key") from None
    if isinstance(key, ed25519.Ed25519PublicKey):
        return VerificationKey(name, key)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1", "secp521r1"):
        return VerificationKey(name, key)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _SMALLEST_RSA:
        return VerificationKey(name, key)
    raise ValueError(f"key {name}: use ECDSA on P-256, P-384 or P-521, Ed25519, or RSA of {_SMALLEST_RSA} bits or more")


def verify_image_signature(
    image_digest: str,
    payload: bytes,
    signature: str,
    keys: Sequence[VerificationKey],
    *,
    reference: str | None = None,
) -> Outcome:
    """Whether one of ``keys`` signed ``payload``, and whether that payload is about ``image_digest``.

    ``signature`` is the annotation's value. ``reference`` is the repository that the payload
    must name; None accepts any, for images that were copied to a mirror after signing.
    """
    try:
        _check_digest(image_digest)
        _check_size(payload, "payload")
        signer = _signer(keys, payload, [_base64(signature, f"annotation {SIGNATURE_ANNOTATION}")], "the signature")
        return _simple_signing(_mapping(_json(payload, "payload"), "payload"), image_digest, signer, reference)
    except _Unacceptable as refusal:
        return NotSigned(str(refusal))


def verify_attestation(
    image_digest: str, envelope: bytes, keys: Sequence[VerificationKey], *, predicate_type: str | None = None
) -> Outcome:
    """Whether one of ``keys`` signed the DSSE ``envelope`` and its statement is about ``image_digest``.

    ``predicate_type`` is the type that the statement must have; None accepts any: look at the
    outcome's, before its predicate is believed.
    """
    try:
        _check_digest(image_digest)
        _check_size(envelope, "envelope")
        return _statement(_mapping(_json(envelope, "envelope"), "envelope"), image_digest, keys, predicate_type)
    except _Unacceptable as refusal:
        return NotSigned(str(refusal))


def verify_bundle(
    image_digest: str, bundle: bytes, keys: Sequence[VerificationKey], *, predicate_type: str | None = SIGN_PREDICATE
) -> Outcome:
    """The same for a Sigstore bundle; by default it must be an image signature of cosign 3."""
    try:
        _check_digest(image_digest)
        _check_size(bundle, "bundle")
        document = _mapping(_json(bundle, "bundle"), "bundle")
        return _statement(_envelope(document), image_digest, keys, predicate_type)
    except _Unacceptable as refusal:
        return NotSigned(str(refusal))


def repository(reference: str) -> str:
    """The repository of an image reference, with Docker Hub's other names made one."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = f"{head}{slash}{last.partition(':')[0]}"
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", name
    if first in _HUB_NAMES:
        first, rest = "docker.io", rest if "/" in rest else f"library/{rest}"
    return f"{first}/{rest}"


def _simple_signing(payload: dict[str, Any], image_digest: str, signer: str, reference: str | None) -> Signed:
    critical = _mapping(payload.get("critical"), "payload: critical")
    kind = critical.get("type")
    if kind != _PAYLOAD_TYPE:
        raise _Unacceptable(f"payload: critical.type: found {str(kind)[:80]!r}; expected {_PAYLOAD_TYPE!r}")
    image = _mapping(critical.get("image"), "payload: critical.image")
    found = image.get("docker-manifest-digest")
    if found != image_digest:
        raise _Unacceptable(f"the signature is of another image: expected {image_digest}, found {str(found)[:80]}")
    identity = _mapping(critical.get("identity"), "payload: critical.identity")
    named = str(identity.get("docker-reference") or "")
    if reference is not None and (not named or repository(named) != repository(reference)):
        raise _Unacceptable(
            f"the signature was made for another repository: expected {repository(reference)}, "
            f"found {named or 'none'}; sign the image where it is pulled from"
        )
    optional = payload.get("optional")
    return Signed(signer, named, optional if isinstance(optional, dict) else {})


def _envelope(bundle: dict[str, Any]) -> dict[str, Any]:
    media_type = str(bundle.get("mediaType"))
    if not media_type.startswith(_BUNDLE_TYPE):
        raise _Unacceptable(f"bundle: mediaType: found {media_type[:80]!r}; expected {_BUNDLE_TYPE}...")
    if "dsseEnvelope" not in bundle:
        raise _Unacceptable("bundle: it signs a blob (messageSignature), which does not say that it is this image")
    return _mapping(bundle["dsseEnvelope"], "dsseEnvelope")


def _statement(
    envelope: dict[str, Any], image_digest: str, keys: Sequence[VerificationKey], predicate_type: str | None
) -> Signed:
    kind = envelope.get("payloadType")
    if kind != _ENVELOPE_TYPE:
        raise _Unacceptable(f"envelope: payloadType: found {str(kind)[:80]!r}; expected {_ENVELOPE_TYPE!r}")
    payload = _base64(envelope.get("payload"), "envelope: payload")
    entries = envelope.get("signatures")
    if not isinstance(entries, list) or not entries:
        raise _Unacceptable("envelope: it has no signatures")
    signatures = [_base64(_mapping(one, "envelope: signature").get("sig"), "envelope: sig") for one in entries]
    signer = _signer(keys, _pae(_ENVELOPE_TYPE, payload), signatures, "the attestation")
    statement = _mapping(_json(payload, "statement"), "statement")
    if statement.get("_type") not in _STATEMENTS:
        raise _Unacceptable(f"statement: _type: found {str(statement.get('_type'))[:80]!r}; expected in-toto's")
    found = str(statement.get("predicateType"))
    if predicate_type is not None and found != predicate_type:
        raise _Unacceptable(f"statement: predicateType: found {found[:120]!r}; expected {predicate_type!r}")
    subjects = _digests(statement.get("subject"))
    if image_digest not in subjects:
        about = ", ".join(subjects[:3]) or "none"
        raise _Unacceptable(f"the attestation is about another image: expected {image_digest}, found {about}")
    return Signed(signer, predicate_type=found, predicate=statement.get("predicate"))


def _digests(subjects: Any) -> list[str]:
    if not isinstance(subjects, list):
        raise _Unacceptable("statement: subject: expected a list")
    digests = [_mapping(_mapping(one, "subject").get("digest"), "subject: digest") for one in subjects]
    return [f"sha256:{one['sha256']}" for one in digests if "sha256" in one]


def _signer(keys: Sequence[VerificationKey], message: bytes, signatures: Sequence[bytes], what: str) -> str:
    if not keys:
        raise _Unacceptable("no key is given that could have signed it")
    for one in keys:
        if any(_has_signed(one.key, message, signature) for signature in signatures):
            return one.name
    raise _Unacceptable(f"{what} is by none of the keys {', '.join(one.name for one in keys)}, or was changed since")


def _has_signed(key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether the signature is the key's own, by any hash that cosign takes for its kind.

    Its older signatures take SHA-256 on every curve, its bundles the curve's own hash.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        own = {"secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}.get(key.curve.name, hashes.SHA256())
        return any(_verifies(key, message, signature, algorithm) for algorithm in (hashes.SHA256(), own))
    return _verifies(key, message, signature, hashes.SHA256())


def _verifies(key: PublicKey, message: bytes, signature: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), algorithm)
        else:
            key.verify(signature, message, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def _pae(payload_type: str, payload: bytes) -> bytes:
    """What a DSSE signature is over. Source: github.com/secure-systems-lab/dsse."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _check_digest(image_digest: str) -> None:
    if not _DIGEST.fullmatch(image_digest):
        raise _Unacceptable(f"image digest: found {image_digest[:80]!r}; expected sha256: and 64 lower-case hex digits")


def _check_size(document: bytes, what: str) -> None:
    if len(document) > _LARGEST:
        raise _Unacceptable(f"{what}: it has {len(document):,} bytes; {_LARGEST:,} are allowed")


def _base64(text: Any, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise _Unacceptable(f"{what}: found {str(text)[:40]!r}; expected base64") from None


def _json(document: bytes, what: str) -> Any:
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        raise _Unacceptable(f"{what}: it is not JSON") from None


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Unacceptable(f"{what}: found {str(value)[:40]!r}; expected an object")
    return value
