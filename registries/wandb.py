"""The ``wandb`` registry: versions linked to a registry of Weights & Biases, by its GraphQL API.

Source: the query ``ArtifactMembershipByName`` of the W&B SDK
(``wandb/sdk/artifacts/_generated/operations.py``). W&B's own digest is of its manifest and no
SHA-256: the digest that binds a pod is taken from the artifact's metadata.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
from pydantic import BaseModel, Field

from admission.approval import Approval, NotFound
from registries.aliases import approval_of
from registries.bounded_json import read_json
from registries.http_client import HttpClient
from registries.registry import RegistryError
from registries.settings import WandbSettings

_QUERY = """
query ApprovedVersion($entity: String!, $project: String!, $name: String!) {
  project(name: $project, entityName: $entity) {
    artifactCollectionMembership(name: $name) {
      versionIndex
      aliases { alias }
      artifactCollection { name }
      artifact { id state digest metadata }
    }
  }
}
"""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,127}")
_VERSION = re.compile(r"v(0|[1-9][0-9]{0,8})")
_COMMITTED = "COMMITTED"


class _Alias(BaseModel):
    alias: str


class _Collection(BaseModel):
    name: str


class _Artifact(BaseModel):
    id: str
    state: str
    digest: str = ""
    metadata: str | None = None


class _Membership(BaseModel):
    version_index: int = Field(alias="versionIndex")
    aliases: list[_Alias] = []
    collection: _Collection = Field(alias="artifactCollection")
    artifact: _Artifact


class _Project(BaseModel):
    membership: _Membership | None = Field(default=None, alias="artifactCollectionMembership")


class _Data(BaseModel):
    project: _Project | None = None


class _Answer(BaseModel):
    data: _Data | None = None
    errors: list[Any] | None = None


class _Metadata(BaseModel):
    model_config = {"extra": "allow"}


class WandbRegistry:
    """Approvals of one registry of W&B."""

    def __init__(self, settings: WandbSettings, client: HttpClient) -> None:
        self._settings = settings
        self._client = client

    @property
    def name(self) -> str:
        """The registry's name in the settings."""
        return self._settings.name

    async def fetch(self, model: str, version: str) -> Approval | NotFound:
        """What aliases and metadata say; raises ``RegistryError``."""
        # ":" would ask for another version, and an alias moves.
        if not _NAME.fullmatch(model) or not _VERSION.fullmatch(version):
            return NotFound()
        variables = {
            "entity": self._settings.entity,
            "project": self._settings.project,
            "name": f"{model}:{version}",
        }
        body = orjson.dumps({"query": _QUERY, "variables": variables})
        answer = await self._client.post("/graphql", body, {"content-type": "application/json"})
        found = read_json(self.name, answer.body, _Answer)
        if found.errors or found.data is None:
            raise RegistryError(f"registry {self.name} refuses the question", "garbage")
        if found.data.project is None:
            raise RegistryError(f"registry {self.name} has no such project, or hides it from our key", "denied")
        member = found.data.project.membership
        if member is None or member.artifact.state != _COMMITTED:
            return NotFound()
        if (member.collection.name, f"v{member.version_index}") != (model, version):
            raise RegistryError(f"registry {self.name} answers for another model or version", "garbage")
        return approval_of(
            model,
            version,
            [one.alias for one in member.aliases],
            self._words(member.artifact),
            self._settings,
            source=f"wandb-artifact://{self._settings.entity}/{self._settings.project}/{model}:{version}",
            lineage=f"artifact {member.artifact.digest}" if member.artifact.digest.isalnum() else "",
        )

    async def close(self) -> None:
        """Let connections go."""
        await self._client.close()

    def _words(self, artifact: _Artifact) -> dict[str, str]:
        """Those entries of the metadata that are text."""
        if not artifact.metadata:
            return {}
        extra = read_json(self.name, artifact.metadata.encode(), _Metadata).model_extra or {}
        return {key: value for key, value in extra.items() if isinstance(value, str)}
