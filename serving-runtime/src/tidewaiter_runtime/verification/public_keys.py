"""Public keys and what they signed: ECDSA on the NIST curves, and Ed25519.

A curve fixes its hash, as in Sigstore's bundles: P-256 SHA-256, P-384 SHA-384, P-521 SHA-512.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tidewaiter_runtime.refusals import BadInput

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_ALLOWED = "use a PEM public key: ECDSA on P-256, P-384 or P-521, or Ed25519"


def load_public_key(pem: bytes, source: str) -> PublicKey:
    """One key of a PEM file."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        found = "a private key" if b"PRIVATE KEY" in pem else "something else"
        raise BadInput(f"{source} is {found}; {_ALLOWED}") from None
    return supported(key, source)


def supported(key: object, source: str) -> PublicKey:
    """``key``, where it is of a kind that may sign models."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
        return key
    found = f"ECDSA on {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
    raise BadInput(f"{source} is a key of another kind ({found}); {_ALLOWED}")


def has_signed(key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is the key's over ``message``."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature:
        return False
    return True
