"""Signatures of OPA bundles: ``.signatures.json``, a JWT over the hashes of all files.

https://www.openpolicyagent.org/docs/management-bundles#signing
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from admission.validator import PolicyError
from webhook.rego.data_file import read_data

_SIGNATURES = ".signatures.json"
_STRUCTURED = ("data.json", "data.yaml", "data.yml", ".manifest")
_HASHES = {"SHA-256": hashlib.sha256, "SHA-384": hashlib.sha384, "SHA-512": hashlib.sha512}
_P256_BYTES = 32


class _RefusedError(Exception):
    """Why a signature is not taken."""


def verify_bundle(name: str, files: Mapping[str, bytes], public_key: bytes) -> None:
    """Raise ``PolicyError`` unless the bundle's signature is good and covers exactly its files."""
    try:
        _compare(files, _signed_hashes(files, public_key))
    except _RefusedError as error:
        raise PolicyError(f"{name} is refused: {error}; sign it with `opa build --signing-key`") from None


def _compare(files: Mapping[str, bytes], signed: Mapping[str, tuple[str, str]]) -> None:
    present = {path for path in files if path != _SIGNATURES}
    if unsigned := sorted(present - set(signed)):
        raise _RefusedError(f"{unsigned[0]} is not covered by its signature")
    if missing := sorted(set(signed) - present):
        raise _RefusedError(f"{missing[0]} is signed and missing")
    for path, (algorithm, digest) in signed.items():
        if _digest(path, files[path], algorithm) != digest:
            raise _RefusedError(f"{path} was changed after it was signed")


def _signed_hashes(files: Mapping[str, bytes], public_key: bytes) -> dict[str, tuple[str, str]]:
    if _SIGNATURES not in files:
        raise _RefusedError(f"it is not signed: it has no {_SIGNATURES}")
    try:
        tokens = json.loads(files[_SIGNATURES])["signatures"]
        (token,) = tokens
        payload = _payload(str(token), public_key)
        return {
            str(one["name"]).lstrip("/"): (str(one["algorithm"]), str(one["hash"]).lower()) for one in payload["files"]
        }
    except (ValueError, KeyError, TypeError):
        raise _RefusedError(f"{_SIGNATURES} must hold one JSON Web Token with `files`") from None


def _payload(token: str, public_key: bytes) -> Any:
    head, body, signature = token.split(".")
    algorithm = json.loads(_decoded(head))["alg"]
    _check(algorithm, f"{head}.{body}".encode(), _decoded(signature), public_key)
    return json.loads(_decoded(body))


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _check(algorithm: str, text: bytes, signature: bytes, public_key: bytes) -> None:
    """The key's type says which algorithm is taken, never the token alone."""
    try:
        key = load_pem_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm):
        raise _RefusedError("the public key is no PEM file of an RSA or P-256 key") from None
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm == "RS256":
            key.verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm == "ES256" and key.curve.name == "secp256r1":
            numbers = [int.from_bytes(half) for half in (signature[:_P256_BYTES], signature[_P256_BYTES:])]
            key.verify(encode_dss_signature(*numbers), text, ec.ECDSA(hashes.SHA256()))
        else:
            raise _RefusedError(f"its signature is {algorithm}; the public key takes RS256 (RSA) or ES256 (P-256)")
    except InvalidSignature:
        raise _RefusedError("its signature does not belong to the public key") from None


def _digest(path: str, content: bytes, algorithm: str) -> str:
    if algorithm not in _HASHES:
        raise _RefusedError(f"the hash of {path} is {algorithm}; {', '.join(_HASHES)} are taken")
    if PurePosixPath(path).name in _STRUCTURED:
        # Data is hashed by its meaning, so that it may be written another way.
        content = _canonical(path, content)
    return _HASHES[algorithm](content).hexdigest()


def _canonical(path: str, content: bytes) -> bytes:
    try:
        if path.endswith(("yaml", "yml")):
            value = read_data(path, content.decode())
        else:
            value = json.loads(content, parse_float=_Written)
    except (ValueError, PolicyError):
        raise _RefusedError(f"{path} is not valid") from None
    return _written(value).encode()


class _Written(float):
    """A number that keeps how it was written."""

    def __new__(cls, text: str) -> _Written:
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_written(str(key))}:{_written(value[key])}" for key in sorted(value, key=str)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, _Written):
        return value.text
    # Go escapes these two, Python does not.
    return json.dumps(value, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
