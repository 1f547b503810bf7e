"""Settings of the decision record: where it is kept, for how long, and who signs it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class AuditSettings(BaseModel):
    """Where decision records are kept besides standard output, and who signs them."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True, alias_generator=to_camel
    )

    path: Path | None = None
    """SQLite file of the records; one process writes to it. Unset: standard output is all there is."""
    retention_days: int = Field(default=365, ge=1, le=36500)
    """Records older than this are removed from the file."""
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
