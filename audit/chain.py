"""The chain: every record carries the hash of the one before it.

Each process has a chain of its own. A chain that went on where the last process ended would
fork whenever a process died with records on standard output that its store never got.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from audit.masking import mask

START = "0" * 64
"""``previous`` of the first record of all."""
_HASH_KEY = b',"hash":"'
_HASH_LENGTH = len(_HASH_KEY) + 64 + len(b'"}')
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A record or a checkpoint: its JSON value, and the very bytes that are written down."""

    value: dict[str, Any]
    line: bytes


def canonical(value: Mapping[str, Any]) -> bytes:
    """JSON as it is hashed: keys sorted, no blanks, UTF-8, numbers in their shortest form."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def hash_of(entry: Entry) -> str:
    """SHA-256, in hexadecimal digits, of a record without its ``hash``.

    Our own lines end with the hash, and what stands before it is canonical already; a line
    that another program wrote anew is brought into canonical form first.
    """
    line = entry.line
    if line[-_HASH_LENGTH : -_HASH_LENGTH + len(_HASH_KEY)] == _HASH_KEY and line.endswith(b'"}'):
        found = hashlib.sha256(line[:-_HASH_LENGTH] + b"}").hexdigest()
        if found == entry.value.get("hash"):
            return found
    rest = {key: value for key, value in entry.value.items() if key != "hash"}
    return hashlib.sha256(canonical(rest)).hexdigest()


class Chain:
    """Seals records one after another; not for several threads.

    ``replica`` names the process: ``<pod>/<run>``, where the run is new with every start.
    ``previous`` is the hash of a record that was written before this chain began, so that
    nobody can take away a whole chain that another one follows.
    """

    def __init__(self, replica: str, previous: str = START) -> None:
        self.replica = replica
        self.sequence = 0
        self.last = previous
        self._run = replica.rpartition("/")[2]

    def seal(self, record: Mapping[str, Any]) -> Entry:
        """The record without secrets and with its place in the chain."""
        value: dict[str, Any] = mask(dict(record))
        sequence = self.sequence + 1
        value |= {
            "id": f"{self._run}-{sequence}",
            "replica": self.replica,
            "sequence": sequence,
            "previous": self.last,
        }
        try:
            body = canonical(value)
        except orjson.JSONEncodeError:
            # Whoever gets something unwritable into a record must not vanish from the log by it.
            value = _writable(value)
            body = canonical(value)
        self.last = hashlib.sha256(body).hexdigest()
        self.sequence = sequence
        value["hash"] = self.last
        return Entry(value, body[:-1] + _HASH_KEY + self.last.encode() + b'"}')


def _writable(value: Any) -> Any:
    """The same with a text for everything that JSON cannot hold."""
    if isinstance(value, dict):
        return {_text(str(key)): _writable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(one) for one in value]
    if isinstance(value, bool | float | None):
        return value
    if isinstance(value, int) and -_LARGEST <= value <= _LARGEST:
        return value
    return _text(str(value))


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
