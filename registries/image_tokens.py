"""Tokens of image registries: what ``WWW-Authenticate: Bearer`` asks for, from where the settings say.

A registry names the service that hands tokens out (its *realm*). Credentials go only to the
service of the settings: another realm ends the question. A token is asked for pulling one
repository, whatever the registry asks for, and kept until shortly before it ends.
Source: github.com/distribution/distribution/blob/main/docs/content/spec/auth/token.md.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from pydantic import BaseModel

from registries.bounded_json import read_json
from registries.http_client import HttpClient
from registries.registry import RegistryError

_PARAMETER = re.compile(r'([A-Za-z_]+)="([^"\\]*)"')
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_DEFAULT_SECONDS = 60.0
_LONGEST_SECONDS = 3600.0
_EARLY_SECONDS = 10.0
_MOST = 1000


class _Answer(BaseModel):
    """``token`` and ``access_token`` are the same; OAuth's name came later."""

    token: str = ""
    access_token: str = ""
    expires_in: float = _DEFAULT_SECONDS


@dataclass(frozen=True, slots=True)
class _Lease:
    token: str
    ends: float


class RegistryTokens:
    """Tokens of the registry ``name`` by repository. ``service`` is the realm's URL, and ``client`` asks there."""

    def __init__(self, name: str, service: str, client: HttpClient, clock: Callable[[], float]) -> None:
        self._name = name
        self._service = service
        self._client = client
        self._clock = clock
        self._leases: OrderedDict[str, _Lease] = OrderedDict()

    def headers(self, repository: str) -> Mapping[str, str]:
        """What authorizes a question about a repository, as far as a token is held."""
        lease = self._leases.get(repository)
        if lease is None or lease.ends <= self._clock():
            return {}
        return {"authorization": f"Bearer {lease.token}"}

    async def renew(self, repository: str, challenge: str) -> None:
        """Ask for a token, as a ``WWW-Authenticate`` header says; raises ``RegistryError``."""
        scheme, _, rest = challenge.strip().partition(" ")
        said = {name.lower(): value for name, value in _PARAMETER.findall(rest)}
        if scheme.lower() != "bearer":
            raise self._error("refuses our credentials; check the files that hold them")
        if said.get("realm", "").rstrip("/") != self._service.rstrip("/"):
            raise self._error("has its tokens handed out elsewhere than the settings say; see tokenService")
        query = {"scope": f"repository:{repository}:pull"}
        query |= {"service": said["service"]} if said.get("service") else {}
        answer = await self._client.get("", urlencode(query))
        found = read_json(self._name, answer.body, _Answer) if answer.body else _Answer()
        token = found.token or found.access_token
        if not _TOKEN.fullmatch(token):
            raise RegistryError(f"registry {self._name}: its token service hands out no token", "denied")
        lasts = min(max(found.expires_in, _DEFAULT_SECONDS), _LONGEST_SECONDS) - _EARLY_SECONDS
        self._leases[repository] = _Lease(token, self._clock() + lasts)
        self._leases.move_to_end(repository)
        while len(self._leases) > _MOST:
            self._leases.popitem(last=False)

    async def close(self) -> None:
        """Let connections go."""
        await self._client.close()

    def _error(self, what: str) -> RegistryError:
        return RegistryError(f"registry {self._name} {what}", "denied")
