"""Label values: at most 63 characters of ``[A-Za-z0-9._-]``, alphanumeric at both ends.

Source: k8s.io/apimachinery/pkg/util/validation, IsValidLabelValue.
"""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 63
_VALID = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?", re.ASCII)
_FOREIGN = re.compile(r"[^A-Za-z0-9._-]+")
_HASH_LENGTH = 8


def is_label_value(text: str) -> bool:
    """Whether the API server accepts ``text`` as a label's value."""
    return len(text) <= MAX_LENGTH and _VALID.fullmatch(text) is not None


def as_label_value(text: str) -> str:
    """Return ``text`` as a label value.

    What fits stays. Anything else is cleaned, and a hash of the full text is
    appended, so that two names never share a label by being shortened.
    """
    if is_label_value(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
    stem = _FOREIGN.sub("-", text).strip("-._")[: MAX_LENGTH - _HASH_LENGTH - 1].rstrip("-._")
    return f"{stem}-{digest}" if stem else digest
