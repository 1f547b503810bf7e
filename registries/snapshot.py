"""The cache's memory on disk: one file per registry, replaced as a whole.

The first line says what follows: the format, for which registry (its settings' own digest, so
that approvals of one registry never speak for another), and the SHA-256 of the second line.
The checksum finds torn and damaged files. It does not find forgery: only the service may
write to the folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from admission.approval import Approval

FORMAT = 1
_MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """One approval, when the registry gave it (seconds since 1970), and from which revision."""

    approval: Approval
    fetched: float
    revision: str = ""


_KEPT = TypeAdapter(list[Kept])


class Snapshot:
    """One file. ``identity`` tells one registry of the settings from another of the same name."""

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self._identity = hashlib.sha256(identity.encode()).hexdigest()

    def write(self, kept: Sequence[Kept]) -> str:
        """Replace the file; returns a sentence where that fails, and the old one stays."""
        body = _KEPT.dump_json(list(kept))
        header = {"format": FORMAT, "registry": self._identity, "sha256": hashlib.sha256(body).hexdigest()}
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(orjson.dumps(header) + b"\n" + body)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(self._path)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            return f"approvals cannot be kept in {self._path}: {error.strerror}; a restart will forget them"
        return ""

    def read(self) -> tuple[list[Kept], str]:
        """What was kept, and a sentence where a file is there that cannot be used."""
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return [], ""
        except OSError as error:
            return [], self._unusable(f"cannot be read: {error.strerror}")
        if len(content) > _MAX_BYTES:
            return [], self._unusable("is too large")
        header, _, body = content.partition(b"\n")
        try:
            stated = orjson.loads(header)
            if not isinstance(stated, dict) or stated.get("format") != FORMAT:
                return [], self._unusable("has another format")
            if stated.get("registry") != self._identity:
                return [], self._unusable("was written for other settings")
            if stated.get("sha256") != hashlib.sha256(body).hexdigest():
                return [], self._unusable("is damaged")
            return _KEPT.validate_json(body), ""
        except (orjson.JSONDecodeError, ValidationError):
            return [], self._unusable("is damaged")

    def _unusable(self, why: str) -> str:
        return f"kept approvals are not used: {self._path} {why}"
