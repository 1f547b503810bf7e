"""Settings of the decision record: where it is kept, for how long, and who signs it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel


class PostgresSettings(BaseModel):
    """A PostgreSQL database that all replicas write their records to."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True, alias_generator=to_camel
    )

    url: str = Field(pattern=r"^postgres(ql)?://")
    """``postgresql://user@host/database?sslmode=verify-full``, without the password."""
    password_file: Path | None = None
    """File of the password, read at every connection; unset: libpq's own ways (a client certificate, PGPASSFILE)."""
    waiting: Path
    """File on a disk of this replica, in which records wait while the database does not take them."""

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str) -> str:
        if urlsplit(url).password is not None or "password=" in urlsplit(url).query:
            raise ValueError("the URL holds a password; put it into a file and name that under passwordFile")
        return url


class AuditSettings(BaseModel):
    """Where decision records are kept besides standard output, and who signs them."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True, alias_generator=to_camel
    )

    path: Path | None = None
    """SQLite file of the records; one process writes to it. Unset: standard output is all there is."""
    postgres: PostgresSettings | None = None
    """Database of the records of all replicas, in place of a file."""
    retention_days: int = Field(default=365, ge=1, le=36500)
    """Records older than this are removed from the file or database."""
    signing_key: Path | None = None
    """PEM file of the Ed25519 private key that signs checkpoints; unset: there are none."""
    checkpoint_records: int = Field(default=1000, ge=1, le=1_000_000)
    """A checkpoint is signed after so many records, and at the end of the process."""
    checkpoint_seconds: float = Field(default=60, gt=0, le=86400)
    """A checkpoint is signed this long after a record that none covers yet."""
    queue_records: int = Field(default=10_000, ge=1, le=1_000_000)
    """How many records may wait in memory; one more is dropped and counted."""
    spill_megabytes: int = Field(default=512, ge=0, le=1_000_000)
    """How much is put down beside the file while it cannot be written; what is beyond that waits in memory."""

    @model_validator(mode="after")
    def _one_store(self) -> AuditSettings:
        if self.path is not None and self.postgres is not None:
            raise ValueError("records are kept in one place: give path or postgres")
        return self
