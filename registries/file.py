"""The ``file`` registry: approvals from one YAML file, read again when it changes.

The file holds a list of models, each with versions: ``version``, ``state`` (proposed,
approved, rejected, revoked), ``digest``, ``source``, ``environments`` (empty: all),
``approvers``, ``expires`` (a date or a time; a date ends with its day, UTC).
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from admission.approval import Answer, Approval, ApprovalState, NotFound, Unavailable
from admission.strict_yaml import DocumentError, parse_document
from registries.approvals import Expiry, end_of
from registries.registry import RegistryError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class _Version(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: str = Field(min_length=1)
    state: ApprovalState
    digest: str = ""
    source: str = ""
    environments: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()
    expires: Expiry = None

    @field_validator("digest")
    @classmethod
    def _is_digest(cls, value: str) -> str:
        if value and not _DIGEST.fullmatch(value):
            raise ValueError("a digest is sha256: and 64 hexadecimal digits")
        return value


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    versions: tuple[_Version, ...] = ()


class RegistryFile(BaseModel):
    """The document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[_Model, ...] = ()


_Index = dict[str, dict[str, Approval]]
_MAX_BYTES = 4 * 1024 * 1024
"""Some 16,000 versions. They take a quarter of a minute of one core to parse, beside the reviews."""


class FileRegistry:
    """Approvals of one file. ``lookup`` never raises; a broken file keeps the last good one."""

    def __init__(self, path: Path, name: str = "") -> None:
        self._path = path
        self._name = name
        self._index: _Index | None = None
        self._stamp: tuple[int, int, int] | None = None
        self.problem = ""
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again if it has changed; returns whether anything was tried.

        ``problem`` is a sentence while what is on disk cannot be used.
        """
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return False
            if status.st_size > _MAX_BYTES:
                self._stamp = stamp
                self.problem = (
                    f"registry file {self._path} is refused: it has {status.st_size} bytes, and at most {_MAX_BYTES} "
                    "are read; use another registry for so many versions"
                )
                return True
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._stamp = None
            self.problem = f"registry file {self._path} cannot be read: {error}"
            return True
        self._stamp = stamp
        try:
            self._index = _indexed(parse_document(text, RegistryFile, self._path.name), self._path.name, self._name)
            self.problem = ""
        except DocumentError as error:
            self.problem = f"registry file is refused: {error}"
        return True

    @property
    def name(self) -> str:
        """The registry's name in the settings."""
        return self._name

    async def fetch(self, model: str, version: str) -> Approval | NotFound:
        """What the file says of one version; raises ``RegistryError`` where it was never good."""
        answer = self.lookup(model, version)
        if isinstance(answer, Unavailable):
            raise RegistryError(answer.reason, "garbage")
        return answer

    async def close(self) -> None:
        """Nothing is held."""

    def lookup(self, model: str, version: str) -> Answer:
        """What the file says of one version."""
        if self._index is None:
            return Unavailable(self.problem or "the registry file has not been read")
        versions = self._index.get(model, {})
        return versions.get(version) or NotFound(tuple(sorted(versions)))


def _indexed(document: RegistryFile, name: str, registry: str) -> _Index:
    index: _Index = {}
    for model in document.models:
        versions = index.setdefault(model.name, {})
        for one in model.versions:
            if one.version in versions:
                raise DocumentError([f"{name}: version {model.name}:{one.version} stands twice; keep one"])
            versions[one.version] = Approval(
                model=model.name,
                version=one.version,
                state=one.state,
                digest=one.digest,
                source=one.source,
                environments=one.environments,
                approvers=one.approvers,
                expires=end_of(one.expires),
                registry=registry,
            )
    return index
