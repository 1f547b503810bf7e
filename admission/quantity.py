"""Kubernetes quantities (``500m``, ``16Gi``, ``1e3``) as exact numbers.

Source: k8s.io/apimachinery/pkg/api/resource, the serialization format of Quantity.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

_FORMAT = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(?:([eE][+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i))?", re.ASCII)
_MAX_LENGTH = 64
_SUFFIX: dict[str, Fraction] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}


def parse_quantity(value: object) -> Fraction | None:
    """Return the exact value, or None where ``value`` is no quantity."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value)
    if isinstance(value, float):
        return Fraction(str(value)) if math.isfinite(value) else None
    return _parsed(value) if isinstance(value, str) and len(value) <= _MAX_LENGTH else None


@lru_cache(maxsize=4096)
def _parsed(value: str) -> Fraction | None:
    if value.isascii() and value.isdigit():
        return Fraction(int(value))
    match = _FORMAT.fullmatch(value)
    if match is None:
        return None
    sign, number, exponent, suffix = match.groups()
    result = Fraction(number)
    if exponent:
        result *= Fraction(10) ** int(exponent[1:])
    elif suffix:
        result *= _SUFFIX[suffix]
    return -result if sign == "-" else result
