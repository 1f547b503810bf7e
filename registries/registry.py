"""What a registry is: something that answers for one version of one model, over a network or not."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from admission.approval import Approval, NotFound


class RegistryError(Exception):
    """The registry did not answer, or answered what cannot be believed.

    The text is a sentence for people who deploy: it names the registry and what is wrong, and
    never repeats what the registry sent. ``cause`` is a word for metrics: ``deadline``,
    ``refused``, ``tls``, ``failing``, ``throttled``, ``denied``, ``redirect``, ``garbage``,
    ``too-large``, ``refused-address``, ``credentials``, ``open`` (left alone for a while),
    ``busy``, ``internal``. ``retry_after`` are seconds that the registry asked us to wait.
    """

    def __init__(self, message: str, cause: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        self.retry_after = retry_after


class Registry(Protocol):
    """One registry. ``name`` is the settings' own."""

    @property
    def name(self) -> str:
        """The registry's name in the settings."""

    async def fetch(self, model: str, version: str) -> Approval | NotFound:
        """Ask for one version; raises ``RegistryError``. Whoever calls sets the deadline."""

    async def close(self) -> None:
        """Let connections go."""


@runtime_checkable
class Revisioned(Protocol):
    """A registry that can tell which revision of its own record it answered from."""

    def revision(self, model: str, version: str) -> str:
        """The revision (an object's version, an ETag, a digest) behind the last answer; empty where unknown."""
