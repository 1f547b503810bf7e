"""AES-256-GCM in chunks: what a sealed file is made of. ``docs/encryption.md`` has it byte by byte.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015): the nonce holds the chunk's number and
whether it is the last, so that a chunk that was moved, left out or added does not open, nor does a file
that was cut. Each file has a key of its own, so nonces may start at nought in each.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORMAT = "tidewaiter-seal/1"
KEY_BYTES = 32
TAG_BYTES = 16
NONCE_BYTES = 12
SMALLEST_CHUNK, CHUNK, LARGEST_CHUNK = 1 << 10, 1 << 20, 16 << 20
"""Plain bytes of a chunk: the least, what ``seal`` takes, and the most."""
_CHUNK_AAD = f"{FORMAT} chunk".encode()


class NotOpened(Exception):  # noqa: N818  # an outcome: the bytes are not those that were sealed
    """A chunk, a list or a key was changed, or sealed with another key."""


def derived(key: bytes, purpose: str, salt: bytes = b"") -> bytes:
    """A key for one purpose, by HKDF with SHA-256."""
    return HKDF(hashes.SHA256(), KEY_BYTES, salt or None, f"{FORMAT} {purpose}".encode()).derive(key)


def file_key(model_key: bytes, name: str, salt: bytes) -> bytes:
    """The key of one file; the name is in it, so that files cannot be exchanged."""
    return derived(model_key, f"file {name}", salt)


def count_of(size: int, chunk: int) -> int:
    """How many chunks a file has; an empty one has one, since its end must be seen too."""
    return max(1, -(-size // chunk))


def sealed_size(size: int, chunk: int) -> int:
    """Bytes of the sealed file."""
    return size + TAG_BYTES * count_of(size, chunk)


def seal_chunk(cipher: AESGCM, number: int, plain: bytes | memoryview, *, last: bool) -> bytes:
    """One chunk: its bytes enciphered, and the tag."""
    return cipher.encrypt(_nonce(number, last=last), bytes(plain), _CHUNK_AAD)


def open_chunk(cipher: AESGCM, number: int, sealed: bytes | bytearray, *, last: bool) -> bytes:
    """The plain bytes of one chunk; raises ``NotOpened``."""
    try:
        return cipher.decrypt(_nonce(number, last=last), bytes(sealed), _CHUNK_AAD)
    except InvalidTag:
        raise NotOpened from None


def _nonce(number: int, *, last: bool) -> bytes:
    return bytes(7) + struct.pack(">IB", number, last)
