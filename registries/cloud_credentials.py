"""Credentials for buckets: key files, or the pod's own token exchanged for short-lived ones.

Sources: AWS ``AssumeRoleWithWebIdentity`` (IAM roles for service accounts), Google's
``sts.googleapis.com/v1/token`` (Workload Identity Federation). The metadata services, from
which cloud libraries take credentials, are never asked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

import orjson
from pydantic import BaseModel

from registries.bounded_json import read_json
from registries.credentials import SecretFile
from registries.http_client import HttpClient, Sent
from registries.registry import RegistryError
from registries.sigv4 import Keys, signed_headers

_EARLY_SECONDS = 300.0
_ROLE_SECONDS = 3600
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"

TakeKeys = Callable[[], Awaitable[Keys]]


class KeyFiles:
    """Keys from files."""

    def __init__(self, access: SecretFile, secret: SecretFile, session: SecretFile | None) -> None:
        self._access, self._secret, self._session = access, secret, session

    async def __call__(self) -> Keys:
        """The keys as they are now."""
        session = self._session.read() if self._session is not None else ""
        return Keys(self._access.read(), self._secret.read(), session)


@dataclass(frozen=True, slots=True)
class _Lease:
    keys: Keys
    ends: float


class AssumedRole:
    """Keys of a role that AWS gives for the pod's token; kept until shortly before they end."""

    def __init__(
        self, registry: str, role: str, token: SecretFile, client: HttpClient, clock: Callable[[], float]
    ) -> None:
        self._registry, self._role, self._token = registry, role, token
        self._client = client
        self._clock = clock
        self._lease: _Lease | None = None
        self._lock = asyncio.Lock()

    async def __call__(self) -> Keys:
        """Keys that hold for some minutes yet; raises ``RegistryError``."""
        async with self._lock:
            if self._lease is None or self._clock() >= self._lease.ends - _EARLY_SECONDS:
                self._lease = await self._assume()
            return self._lease.keys

    async def _assume(self) -> _Lease:
        question = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self._role,
            "RoleSessionName": "tidewaiter",
            "DurationSeconds": str(_ROLE_SECONDS),
            "WebIdentityToken": self._token.read(),
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = await self._client.post("/", urlencode(question).encode(), headers)
        text = answer.body.decode(errors="replace")
        access, secret, session, ends = (
            _element(text, name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
        )
        try:
            lease = _Lease(Keys(access, secret, session), datetime.fromisoformat(ends).timestamp())
        except ValueError:
            lease = None
        if lease is None or not (access and secret and session):
            raise RegistryError(f"registry {self._registry} is not asked: its role gets no keys", "credentials")
        return lease


class SignedS3:
    """Authorizes by Signature Version 4."""

    def __init__(self, keys: TakeKeys, region: str, clock: Callable[[], float]) -> None:
        self._keys, self._region, self._clock = keys, region, clock

    async def __call__(self, sent: Sent) -> Mapping[str, str]:
        """The headers."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        return signed_headers(await self._keys(), host=sent.host, path=sent.path, region=self._region, now=now)


class _GoogleToken(BaseModel):
    access_token: str
    expires_in: float = 3600


class GoogleFederation:
    """Authorizes by a token that Google gives for the pod's; kept until shortly before it ends."""

    def __init__(
        self, registry: str, audience: str, token: SecretFile, client: HttpClient, clock: Callable[[], float]
    ) -> None:
        self._registry, self._audience, self._token = registry, audience, token
        self._client = client
        self._clock = clock
        self._held: tuple[str, float] = ("", 0.0)
        self._lock = asyncio.Lock()

    async def __call__(self, _sent: Sent) -> Mapping[str, str]:
        """The header; raises ``RegistryError``."""
        async with self._lock:
            if self._clock() >= self._held[1] - _EARLY_SECONDS:
                self._held = await self._exchange()
            return {"authorization": f"Bearer {self._held[0]}"}

    async def _exchange(self) -> tuple[str, float]:
        question = {
            "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
            "audience": self._audience,
            "scope": _GOOGLE_SCOPE,
            "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
            "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
            "subjectToken": self._token.read(),
        }
        answer = await self._client.post("/v1/token", orjson.dumps(question), {"content-type": "application/json"})
        given = read_json(self._registry, answer.body, _GoogleToken)
        if not given.access_token.isprintable():
            raise RegistryError(f"registry {self._registry} is not asked: Google gives no token", "credentials")
        return given.access_token, self._clock() + given.expires_in


def _element(text: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<>\s]{{1,8192}})</{name}>", text)
    return found[1] if found else ""
