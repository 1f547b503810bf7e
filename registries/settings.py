"""Settings of the registries: which there are, in which order, and what each is asked about.

The order of the list is the order of asking. Every URL and credential stands here and nowhere
else: nothing that a pod says ever names a place to ask.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from admission.approval import ApprovalState
from registries.addresses import refused_host
from registries.places import URL, Place

_CLOSED = ConfigDict(
    frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True, alias_generator=to_camel
)


class CacheSettings(BaseModel):
    """What is kept of a registry's answers, and for how long.

    A change in a registry that answers is seen within ``freshSeconds`` +
    ``revalidateSeconds`` + ``deadlineSeconds``; one that does not answer is believed for
    ``staleSeconds`` since it last did.
    """

    model_config = _CLOSED

    fresh_seconds: float = Field(default=20, ge=0, le=3600)
    """An answer this young is given without asking; what is in use is asked again before."""
    revalidate_seconds: float = Field(default=10, ge=0, le=3600)
    """So long after that, it is given at once while the registry is asked behind it."""
    stale_seconds: float = Field(default=4 * 3600, ge=0, le=7 * 86400)
    """How old an answer may be, at most, while the registry does not answer."""
    negative_seconds: float = Field(default=3, ge=0, le=60)
    """How long "not found" and a failure are remembered."""
    deadline_seconds: float = Field(default=2, gt=0, le=25)
    """How long a question may take; keep it below the webhook's timeout."""
    keep_warm_seconds: float = Field(default=600, ge=0, le=86400)
    """What was asked about so recently is asked again in the background."""
    entries: int = Field(default=10_000, ge=1, le=1_000_000)
    """How many answers are kept at most; the one asked about least recently goes first."""
    questions: int = Field(default=64, ge=1, le=1024)
    """How many questions may be open at once, at most."""
    folder: Path | None = None
    """Where answers are kept over a restart; none: in memory only. Only the service may write there."""


class BreakerSettings(BaseModel):
    """When a registry that fails is left alone."""

    model_config = _CLOSED

    failures: int = Field(default=5, ge=1, le=1000)
    """So many failures in a row, and it is not asked for a while."""
    wait_seconds: float = Field(default=1, gt=0, le=3600)
    """How long at first; it doubles with each failed trial."""
    longest_wait_seconds: float = Field(default=60, gt=0, le=3600)
    """How long at most, whatever the registry itself asks for."""


class CommonSettings(BaseModel):
    """What every registry has."""

    model_config = _CLOSED

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    """For messages, metrics and audit records."""
    environments: tuple[str, ...] = ()
    """Asked about these environments only; empty: about all."""
    models: tuple[str, ...] = ()
    """Asked about models whose names fit one of these patterns (``team-a/*``); empty: about all."""


class ConnectionSettings(CommonSettings):
    """What every registry behind a network has."""

    cache: CacheSettings = CacheSettings()
    breaker: BreakerSettings = BreakerSettings()
    ca_file: Path | None = None
    """Certificates (PEM) to trust instead of the system's; read again when it changes."""
    token_file: Path | None = None
    """A file with a bearer token, such as the pod's service account token; read again when it changes."""
    username_file: Path | None = None
    """A file with a user name, for basic authentication; needs ``passwordFile``."""
    password_file: Path | None = None
    """A file with the password that goes with it."""

    @model_validator(mode="after")
    def _one_credential(self) -> ConnectionSettings:
        if (self.username_file is None) != (self.password_file is None):
            raise ValueError("usernameFile and passwordFile go together; give both or none")
        if self.token_file is not None and self.username_file is not None:
            raise ValueError("tokenFile and usernameFile exclude each other; keep one")
        return self


def _web_address(value: str) -> str:
    """A URL of http or https without credentials, query or fragment, whose host may be asked."""
    place = URL.read(value)
    if place.scheme not in ("http", "https"):
        raise ValueError("only http and https are asked; write https://HOST/PATH")
    if reason := refused_host(place.host):
        raise ValueError(f"the host {reason}; name the registry's own host")
    return value


class FileSettings(CommonSettings):
    """Approvals from one YAML file."""

    type: Literal["file"]
    path: Path
    """The file; relative to the settings file."""


class ClusterSettings(CommonSettings):
    """Approvals from ModelVersion objects of the cluster, which is watched."""

    type: Literal["cluster"]
    fresh_seconds: float = Field(default=150, ge=10, le=3600)
    """So long after the API server was last heard of the objects, approvals count as stale; it sends
    a bookmark about each minute."""
    stale_seconds: float = Field(default=4 * 3600, ge=0, le=7 * 86400)
    """So long after that moment, nobody can say any more what is approved."""


class AliasSettings(ConnectionSettings):
    """What aliases and tags mean, where a registry has no approvals of its own."""

    aliases: dict[str, tuple[str, ...]] = Field(default={}, min_length=0)
    """The environments for which each alias approves the version that it stands on (``*``: all)."""
    approved_by: Literal["alias", "tag", "both"] = "alias"
    """Whether an alias approves, the state's tag (for all environments), or only both together."""
    digest_key: str = "digest"
    """The tag, or the key of the metadata, that holds the digest of the bytes (``sha256:...``)."""
    approvers_key: str = "approved_by"
    """The same for who approved; commas between several."""
    expires_key: str = "approval_expires"
    """The same for the day or time when the approval ends."""
    state_key: str = "validation_status"
    """The same for the state."""
    states: dict[str, ApprovalState] = Field(default={state.value: state for state in ApprovalState})
    """What each value of the state means. Rejected and revoked count whatever the aliases say."""

    @model_validator(mode="after")
    def _can_approve(self) -> AliasSettings:
        if self.approved_by != "tag" and not self.aliases:
            raise ValueError(
                f"approvedBy is {self.approved_by!r} and no alias is given, so that nothing is ever approved; "
                "give aliases, or set approvedBy to tag"
            )
        return self


class MlflowSettings(AliasSettings):
    """An MLflow server's model registry."""

    type: Literal["mlflow"]
    url: str
    """Where the server is, without ``/api``."""

    _is_web = field_validator("url")(_web_address)


class WandbSettings(AliasSettings):
    """A registry of Weights & Biases."""

    type: Literal["wandb"]
    url: str = "https://api.wandb.ai"
    """Where the API is, without ``/graphql``."""
    entity: str = Field(min_length=1)
    """The organization's or team's entity."""
    project: str = Field(min_length=1)
    """The project, for a registry ``wandb-registry-NAME``."""
    key_file: Path
    """A file with the API key; read again when it changes."""

    _is_web = field_validator("url")(_web_address)


class ObjectSettings(ConnectionSettings):
    """Manifests ``MODEL/VERSION/manifest.json`` in a bucket, on a web server or in a folder."""

    type: Literal["s3", "gs", "https", "folder"]
    url: str
    """``s3://BUCKET/PREFIX``, ``gs://BUCKET/PREFIX``, ``https://HOST/PATH`` or a folder's path."""
    endpoint: str = ""
    """For s3 and gs: another server that speaks the same protocol."""
    region: str = Field(default="us-east-1", pattern=r"^[a-z0-9-]{1,32}$")
    """For s3: the bucket's region."""
    access_key_file: Path | None = None
    """For s3, and for gs with HMAC keys: a file with the access key's id."""
    secret_key_file: Path | None = None
    """A file with the secret key that goes with it."""
    session_token_file: Path | None = None
    """A file with a session token, where the keys are temporary."""
    role: str = ""
    """For s3: a role to assume by the token of ``webIdentityFile`` (IAM roles for service accounts)."""
    audience: str = ""
    """For gs: the workload identity provider to show the token of ``webIdentityFile`` to."""
    web_identity_file: Path | None = None
    """A file with a token that AWS or Google trusts: a projected service account token."""
    token_endpoint: str = ""
    """Where tokens are exchanged; empty: the cloud's own endpoint."""

    @field_validator("endpoint", "token_endpoint")
    @classmethod
    def _is_web(cls, value: str) -> str:
        return _web_address(value) if value else value

    @model_validator(mode="after")
    def _fits_its_type(self) -> ObjectSettings:
        place = Place.read(self.type, self.url)
        if place.host and (reason := refused_host(place.host)):
            raise ValueError(f"the host of url {reason}; name the registry's own host")
        if (self.access_key_file is None) != (self.secret_key_file is None):
            raise ValueError("accessKeyFile and secretKeyFile go together; give both or none")
        exchanged = bool(self.role or self.audience)
        if exchanged != (self.web_identity_file is not None):
            raise ValueError("webIdentityFile goes with role (s3) or audience (gs); give both or none")
        if (self.role and self.type != "s3") or (self.audience and self.type != "gs"):
            raise ValueError("role is for s3 and audience for gs; remove the other")
        given = sum((self.access_key_file is not None, exchanged, bool(self.token_file or self.username_file)))
        if given > 1:
            raise ValueError("several credentials are given; keep one of keys, role, audience, token or user name")
        return self


RegistrySettings = Annotated[
    FileSettings | ClusterSettings | MlflowSettings | WandbSettings | ObjectSettings, Field(discriminator="type")
]
"""One registry, told apart by ``type``."""


class RegistriesSettings(BaseModel):
    """All registries, in the order in which they are asked."""

    model_config = _CLOSED

    registries: tuple[RegistrySettings, ...] = ()
    """In the order in which they are asked."""
    deadline_seconds: float = Field(default=2, gt=0, le=25)
    """How long one question may take, whatever number of registries it goes to."""

    @model_validator(mode="after")
    def _names_differ(self) -> RegistriesSettings:
        return self if not (problem := same_names(self.registries)) else _refuse(problem)


def same_names(registries: tuple[RegistrySettings, ...]) -> str:
    """A sentence where two registries have one name; empty where none have."""
    names = [one.name for one in registries]
    twice = sorted({name for name in names if names.count(name) > 1})
    return f"registry {twice[0]!r} stands twice; give each its own name" if twice else ""


def _refuse(problem: str) -> RegistriesSettings:
    raise ValueError(problem)
