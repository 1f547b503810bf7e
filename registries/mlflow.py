"""The ``mlflow`` registry: versions of an MLflow server, by its REST API.

Source: MLflow's ``/api/2.0/mlflow/model-versions/get``, ``.../get-download-uri``,
``.../search`` and ``runs/get``. Stages are deprecated since 2.9 and count for nothing; aliases
move, so that a pod is held to a version's number, never to an alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from pydantic import BaseModel, Field

from admission.approval import Approval, NotFound
from registries.aliases import approval_of
from registries.bounded_json import read_json
from registries.http_client import HttpAnswer, HttpClient
from registries.registry import RegistryError
from registries.settings import MlflowSettings

_API = "/api/2.0/mlflow"
_MISSING = 404
_KNOWN = 20
_LONGEST_VERSION = 18  # what fits the server's integer


class _Tag(BaseModel):
    key: str
    value: str = ""


class _Version(BaseModel):
    name: str
    version: str
    source: str = ""
    run_id: str = ""
    model_id: str = ""
    status: str = "READY"
    last_updated_timestamp: int = 0
    tags: list[_Tag] = []
    aliases: list[str] = []


class _VersionAnswer(BaseModel):
    model_version: _Version


class _SearchAnswer(BaseModel):
    model_versions: list[_Version] = []


class _UriAnswer(BaseModel):
    artifact_uri: str = ""


class _Problem(BaseModel):
    error_code: str


class _Dataset(BaseModel):
    name: str = ""
    digest: str = ""


class _DatasetInput(BaseModel):
    dataset: _Dataset


class _Inputs(BaseModel):
    dataset_inputs: list[_DatasetInput] = []


class _Info(BaseModel):
    run_id: str
    artifact_uri: str = ""


class _Run(BaseModel):
    info: _Info
    inputs: _Inputs = Field(default=_Inputs())


class _RunAnswer(BaseModel):
    run: _Run


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from, as far as MLflow knows: its run, logged model, and the datasets' digests."""

    run: str = ""
    logged_model: str = ""
    artifacts: str = ""
    datasets: tuple[tuple[str, str], ...] = ()


class MlflowRegistry:
    """Approvals of one MLflow server."""

    def __init__(self, settings: MlflowSettings, client: HttpClient) -> None:
        self._settings = settings
        self._client = client

    @property
    def name(self) -> str:
        """The registry's name in the settings."""
        return self._settings.name

    async def fetch(self, model: str, version: str) -> Approval | NotFound:
        """What aliases and tags say; raises ``RegistryError``."""
        found = await self._version(model, version)
        if found is None:
            return NotFound(await self._known(model))
        source = found.source
        if found.status == "READY":
            source = await self._source(model, version) or source
        made_by = [f"run {found.run_id}"] if found.run_id else []
        made_by += [f"logged model {found.model_id}"] if found.model_id else []
        return approval_of(
            model,
            version,
            found.aliases,
            {one.key: one.value for one in found.tags},
            self._settings,
            source=source,
            lineage=", ".join(made_by),
        )

    async def lineage(self, model: str, version: str) -> Lineage | NotFound:
        """Where a version comes from; raises ``RegistryError``."""
        found = await self._version(model, version)
        if found is None:
            return NotFound()
        if not found.run_id:
            return Lineage(logged_model=found.model_id)
        answer = await self._get("runs/get", run_id=found.run_id)
        if answer.status == _MISSING:
            return Lineage(found.run_id, found.model_id)
        run = read_json(self.name, answer.body, _RunAnswer).run
        datasets = tuple((one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs)
        return Lineage(found.run_id, found.model_id, run.info.artifact_uri, datasets)

    async def close(self) -> None:
        """Let connections go."""
        await self._client.close()

    async def _version(self, model: str, version: str) -> _Version | None:
        # Of what MLflow cannot know it says only that the question is bad. And "01" would be 1.
        if not model or "/" in model or ":" in model:
            return None
        if not (version.isascii() and version.isdigit() and len(version) <= _LONGEST_VERSION and version[0] != "0"):
            return None
        answer = await self._get("model-versions/get", name=model, version=version)
        if answer.status == _MISSING:
            self._refuse_other_problems(answer)
            return None
        found = read_json(self.name, answer.body, _VersionAnswer).model_version
        if (found.name, found.version) != (model, version):
            raise RegistryError(f"registry {self.name} answers for another model or version", "garbage")
        return found

    async def _source(self, model: str, version: str) -> str:
        answer = await self._get("model-versions/get-download-uri", name=model, version=version)
        return "" if answer.status == _MISSING else read_json(self.name, answer.body, _UriAnswer).artifact_uri

    async def _known(self, model: str) -> tuple[str, ...]:
        """Versions to name in a message; none where a name cannot stand in MLflow's filter."""
        if "'" in model or "\\" in model:
            return ()
        try:
            answer = await self._get(
                "model-versions/search",
                filter=f"name='{model}'",
                max_results=str(_KNOWN),
                order_by="version_number DESC",
            )
            found = read_json(self.name, answer.body, _SearchAnswer).model_versions
        except RegistryError:
            return ()  # only the message is poorer
        return tuple(one.version for one in found if one.version.isdigit())

    async def _get(self, what: str, **query: str) -> HttpAnswer:
        return await self._client.get(f"{_API}/{what}", urlencode(query, encoding="utf-8", errors="replace"))

    def _refuse_other_problems(self, answer: HttpAnswer) -> None:
        """A 404 counts only where MLflow itself says so: a proxy in front of it has its own."""
        if read_json(self.name, answer.body, _Problem).error_code != "RESOURCE_DOES_NOT_EXIST":
            raise RegistryError(f"registry {self.name} answers what we do not expect (HTTP 404)", "garbage")
