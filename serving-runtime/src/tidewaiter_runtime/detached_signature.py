"""A plain signature beside the model: over the digest, as ``tidewaiter-runtime digest`` prints it.

The message is ``sha256:<hex>`` and a newline. It is small, whatever the model's size, and the
digest covers every byte and name. The file holds the signature raw (openssl) or in base64 (cosign
sign-blob).
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping

from tidewaiter_runtime.public_keys import PublicKey, has_signed
from tidewaiter_runtime.refusals import SignatureRefused


def message(digest: str) -> bytes:
    """What is signed."""
    return f"{digest}\n".encode()


def verify_detached(signature: bytes, digest: str, keys: Mapping[str, PublicKey], source: str) -> str:
    """The name of the key that signed ``digest``; raises ``SignatureRefused``."""
    readings = [signature]
    with contextlib.suppress(ValueError):  # not base64: it is raw
        readings.append(base64.b64decode(signature.strip(), validate=True))
    for name, key in keys.items():
        if any(has_signed(key, message(digest), one) for one in readings):
            return name
    raise SignatureRefused(f"{source} is no signature by {' or '.join(keys)} of {digest}")
