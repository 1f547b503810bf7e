"""Files that an argument names."""

from __future__ import annotations

from pathlib import Path

from tidewaiter_runtime.refusals import BadInput

_LARGEST_INPUT = 64 << 20
"""Bytes of a signature, key or manifest; a signature lists some 150 bytes for each file."""


def read_input(path: Path) -> bytes:
    """The file's bytes; BadInput where it cannot be read or is too large."""
    try:
        with path.open("rb") as stream:
            found = stream.read(_LARGEST_INPUT + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    if len(found) > _LARGEST_INPUT:
        raise BadInput(f"{path} is larger than {_LARGEST_INPUT:,} bytes; expected a key, a signature or a manifest")
    return found
