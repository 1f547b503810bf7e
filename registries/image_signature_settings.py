"""Settings of image signatures: which images must be signed, by whom, and where signatures are asked for.

Every host and credential stands here: an image's reference only chooses among these hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from admission.image_reference import ImageReference
from registries.addresses import refused_host
from registries.places import URL
from registries.settings import BreakerSettings

_CLOSED = ConfigDict(
    frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True, alias_generator=to_camel
)


class ImageRegistrySettings(BaseModel):
    """One image registry, which speaks the OCI distribution API."""

    model_config = _CLOSED

    host: str = Field(min_length=1)
    """Its host, as images name it: ``registry.example.com`` or ``registry.example.com:5000``."""
    url: str = ""
    """Where its API is; empty: ``https://`` and the host. Redirects are not followed but to ``storage``."""
    token_service: str = ""
    """Where it has tokens handed out (``WWW-Authenticate: Bearer realm="..."``), for example
    ``https://auth.docker.io/token``; user name and password then go there only. Empty: no token is asked for."""
    storage: tuple[str, ...] = ()
    """Origins that it may redirect to for blobs, for example ``https://pkg-containers.githubusercontent.com``;
    no credential is sent there."""
    ca_file: Path | None = None
    """Certificates (PEM) to trust instead of the system's; read again when it changes."""
    token_file: Path | None = None
    """A file with a bearer token; read again when it changes."""
    username_file: Path | None = None
    """A file with a user name, for basic authentication; needs ``passwordFile``."""
    password_file: Path | None = None
    """A file with the password that goes with it."""
    breaker: BreakerSettings = BreakerSettings()

    @property
    def address(self) -> str:
        """Where its API is."""
        return self.url or f"https://{self.host}"

    @field_validator("host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        if "/" in value or "*" in value or value != value.lower():
            raise ValueError("write a host in lower case, with its port where images name one")
        return value

    @model_validator(mode="after")
    def _may_be_asked(self) -> ImageRegistrySettings:
        place = URL.read(self.address)
        if place.scheme not in ("http", "https") or place.path:
            raise ValueError("url: write https://HOST, without a path")
        if reason := refused_host(place.host):
            raise ValueError(f"the host {reason}; name the registry's own host")
        if (self.username_file is None) != (self.password_file is None):
            raise ValueError("usernameFile and passwordFile go together; give both or none")
        if self.token_file is not None and self.username_file is not None:
            raise ValueError("tokenFile and usernameFile exclude each other; keep one")
        if self.token_file is not None and self.token_service:
            raise ValueError("tokenFile is a token already, and tokenService hands out others; keep one")
        if self.token_service:
            _web("tokenService", self.token_service)
        for origin in self.storage:
            if _web("storage", origin).origin != origin:
                raise ValueError(f"storage {origin!r}: write https://HOST, without a path")
        return self


def _web(field: str, text: str) -> URL:
    try:
        place = URL.read(text)
    except ValueError as error:
        raise ValueError(f"{field} {text!r}: {error}") from error
    if place.scheme not in ("http", "https"):
        raise ValueError(f"{field} {text!r}: only http and https are asked; write https://HOST")
    if reason := refused_host(place.host):
        raise ValueError(f"{field} {text!r}: the host {reason}")
    return place


class SignedImages(BaseModel):
    """Images that must be signed."""

    model_config = _CLOSED

    images: tuple[str, ...] = Field(min_length=1)
    """Registry and repository, with ``*`` for any part of the repository: ``registry.example.com/models/*``."""
    keys: tuple[str, ...] = ()
    """One of these keys must have signed, by name; empty: any of the settings' keys."""
    predicate_types: tuple[str, ...] = ()
    """Attestations of all these types must be there; empty: a signature of the image."""

    def covers(self, image: ImageReference) -> bool:
        """Whether an image must be signed so."""
        return any(fnmatchcase(f"{image.registry}/{image.repository}", pattern) for pattern in self.images)


class ImageSignaturesSettings(BaseModel):
    """Which images must carry a cosign signature; the rule image-signed finds those that do not."""

    model_config = _CLOSED

    keys: dict[str, Path] = Field(default_factory=dict)
    """Public keys by name: PEM files, as ``cosign generate-key-pair`` writes them."""
    registries: tuple[ImageRegistrySettings, ...] = ()
    """Image registries that are asked for signatures."""
    require: tuple[SignedImages, ...] = ()
    """What must be signed; the first entry that covers an image holds. Empty: nothing must."""
    deadline_seconds: float = Field(default=2, gt=0, le=25)
    """How long a review waits for signatures that are not known yet; keep it below the webhook's timeout."""
    fetch_seconds: float = Field(default=10, gt=0, le=60)
    """How long fetching them may take, behind the review: the next one finds them."""
    signed_seconds: float = Field(default=3600, ge=0, le=7 * 86400)
    """So long is a signature that was found believed without asking again."""
    stale_seconds: float = Field(default=24 * 3600, ge=0, le=30 * 86400)
    """So long it is believed while the registry is asked again, or does not answer."""
    unsigned_seconds: float = Field(default=10, ge=0, le=3600)
    """So long is it remembered that there is none, or that the registry failed."""
    entries: int = Field(default=10_000, ge=1, le=1_000_000)
    """How many images are remembered at most."""
    questions: int = Field(default=32, ge=1, le=1024)
    """How many may be asked about at once, at most."""

    @model_validator(mode="after")
    def _agrees(self) -> ImageSignaturesSettings:
        if problem := next(self._problems(), ""):
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        hosts = [one.host for one in self.registries]
        if twice := sorted({one for one in hosts if hosts.count(one) > 1}):
            yield f"registry {twice[0]!r} stands twice; give each host once"
        for entry in self.require:
            for pattern in entry.images:
                host, slash, repository = pattern.partition("/")
                if not slash or not repository:
                    yield f"images {pattern!r}: write the registry's host and a repository, for example {pattern}/*"
                elif host not in hosts:
                    known = ", ".join(hosts) or "none"
                    yield f"images {pattern!r}: {host!r} is none of the registries ({known}); add it there"
            for key in entry.keys:
                if key not in self.keys:
                    yield f"key {key!r} is none of the keys ({', '.join(self.keys) or 'none'}); add it there"
        if self.require and not self.keys:
            yield "images must be signed, and no key is given that could have signed them; give keys"
