"""A plain signature beside the model: over the digest, as ``tidewaiter-runtime digest`` prints it.

The message is ``sha256:<hex>`` and a newline. It is small, whatever the model's size, and the
digest covers every byte and name. The file holds the signature raw (openssl), in base64, or in a
Sigstore bundle of a blob (cosign sign-blob).
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping

from tidewaiter_runtime.refusals import SignatureRefused
from tidewaiter_runtime.verification.public_keys import PublicKey, has_signed


def message(digest: str) -> bytes:
    """What is signed."""
    return f"{digest}\n".encode()


def verify_detached(signature: bytes, digest: str, keys: Mapping[str, PublicKey], source: str) -> str:
    """The name of the key that signed ``digest``; raises ``SignatureRefused``."""
    readings = [signature, *_in_bundle(signature)]
    with contextlib.suppress(ValueError):  # not base64: it is raw
        readings.append(base64.b64decode(signature.strip(), validate=True))
    for name, key in keys.items():
        if any(has_signed(key, message(digest), one) for one in readings):
            return name
    raise SignatureRefused(f"{source} is no signature by {' or '.join(keys)} of {digest}")


def is_json(signature: bytes) -> bool:
    """Whether the file is text that may be a bundle; a raw signature may begin with a brace too."""
    try:
        return signature.decode().lstrip().startswith("{")
    except UnicodeDecodeError:
        return False


def is_bundle_of_blob(signature: bytes) -> bool:
    """Whether the file is a bundle that signs bytes (``messageSignature``), as cosign sign-blob writes it."""
    return bool(_in_bundle(signature))


def _in_bundle(signature: bytes) -> list[bytes]:
    if not is_json(signature):
        return []
    try:
        return [base64.b64decode(json.loads(signature)["messageSignature"]["signature"], validate=True)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []  # it is another bundle, or none
