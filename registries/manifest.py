"""The manifest of one model version, ``MODEL/VERSION/manifest.json``: its schema and what it approves."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from admission.approval import Approval, ApprovalState, EnvironmentApproval
from registries.approvals import Expiry, end_of, one_for_all

SCHEMA_ID = "https://tidewaiter.dev/schemas/model-manifest.schema.json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CLOSED = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ManifestApproval(BaseModel):
    """An approval for one environment."""

    model_config = _CLOSED

    environment: str = Field(min_length=1, max_length=63)
    """The environment, or ``*`` for each."""
    approvers: tuple[str, ...] = Field(default=(), max_length=32)
    """Who approved."""
    expires: Expiry = None
    """When it ends; a date ends with its day, UTC. Without it: never."""
    reason: str = Field(default="", max_length=1024)
    """Why, or the ticket."""


class Manifest(BaseModel):
    """What ``manifest.json`` says of one version of one model."""

    model_config = _CLOSED

    format: Literal[1]
    """The version of this schema."""
    model: str = Field(min_length=1, max_length=1024)
    """The model's name, as in the path: a copied manifest approves nothing."""
    version: str = Field(min_length=1, max_length=1024)
    """The version, as in the path."""
    state: ApprovalState
    """``proposed``, ``approved``, ``rejected`` or ``revoked``."""
    digest: str = ""
    """``sha256:`` and 64 hexadecimal digits: fixes the model's bytes."""
    source: str = Field(default="", max_length=4096)
    """Where the bytes are (a URI)."""
    approvals: tuple[ManifestApproval, ...] = Field(default=(), max_length=64)
    """One for each environment. An approved version has at least one."""
    annotations: dict[str, str] = Field(default={}, max_length=64)
    """Free words for people and tools: the run, the dataset, links. Nothing is decided by them."""

    @field_validator("digest")
    @classmethod
    def _is_digest(cls, value: str) -> str:
        if value and not _DIGEST.fullmatch(value):
            raise ValueError("a digest is sha256: and 64 hexadecimal digits")
        return value

    @model_validator(mode="after")
    def _says_for_whom(self) -> Manifest:
        if self.state is ApprovalState.APPROVED and not self.approvals:
            raise ValueError('an approved version says for which environments; "*" is each')
        return self

    def approval(self) -> Approval:
        """What it says, in our words."""
        by_environment = one_for_all(
            EnvironmentApproval(one.environment, one.approvers, end_of(one.expires), one.reason)
            for one in self.approvals
        )
        return Approval(
            model=self.model,
            version=self.version,
            state=self.state,
            digest=self.digest,
            source=self.source,
            by_environment=by_environment,
        )


def schema() -> dict[str, Any]:
    """The JSON Schema that is published in ``registries/schemas``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **Manifest.model_json_schema(),
    }


def schema_text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
