"""Reads a registry by the OCI distribution API: manifests and blobs, with the tokens that it asks for.

A token and a password go to the registry and to the token service that it names, never to the store that a
blob redirects to.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from tidewaiter_runtime.input_files import read_input
from tidewaiter_runtime.preload.source_files import SourceFile
from tidewaiter_runtime.preload.web_client import WebClient, body_of
from tidewaiter_runtime.preload.web_source import answered_range
from tidewaiter_runtime.refusals import BadInput, ModelRefused

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_LARGEST_MANIFEST = 4 << 20
_LARGEST_TOKEN = 1 << 20
_PARAMETER = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index, and the digest of its bytes as they came."""

    content: dict[str, Any]
    media_type: str
    digest: str


class OciRegistry:
    """One repository of one registry, for several threads."""

    def __init__(self, host: str, repository: str, client: WebClient, environment: Mapping[str, str]) -> None:
        hub = host in _DOCKER_HUB
        self._host = "registry-1.docker.io" if hub else host
        self._repository = f"library/{repository}" if hub and "/" not in repository else repository
        self._client = client
        self._credential = _credential(_DOCKER_HUB if hub else (host,), environment)
        self._secret = ""
        self._lock = threading.Lock()

    def manifest(self, reference: str, shown: str) -> tuple[bytes, str]:
        """The bytes of a manifest, and the media type that the registry says."""
        accept = ", ".join((*MANIFESTS, *INDEXES))
        answer = self._get(f"manifests/{reference}", shown, {"Accept": accept})
        return body_of(answer, shown, _LARGEST_MANIFEST), answer.headers.get("Content-Type", "").partition(";")[0]

    def location(self, digest: str) -> str:
        """The URL of a blob."""
        return self._url(f"blobs/{digest}")

    def read(self, file: SourceFile, shown: str, start: int, end: int) -> Iterator[memoryview]:
        """A range of a blob, from the registry or from the store that it redirects to."""
        whole = (start, end) == (0, file.size)
        headers = {} if whole else {"Range": f"bytes={start}-{end - 1}"}
        answer = self._send(file.location, shown, headers)
        return answered_range(answer, file, shown, start, end, whole=whole)

    def _url(self, path: str) -> str:
        return f"https://{self._host}/v2/{self._repository}/{path}"

    def _get(self, path: str, shown: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        return self._send(self._url(path), shown, headers)

    def _send(self, url: str, shown: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        used = self._secret
        answer = self._client.get(url, shown, headers, used, challenge=True)
        if answer.status != 401:
            return answer
        challenge = answer.headers.get("WWW-Authenticate", "")
        answer.drain_conn()
        with self._lock:  # a token lives for minutes, a download may take hours: it is asked for again
            if self._secret == used:
                self._secret = self._authorization(challenge, shown)
        return self._client.get(url, shown, headers, self._secret)

    def _authorization(self, challenge: str, shown: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        basic = f"Basic {base64.b64encode(self._credential.encode()).decode()}" if self._credential else ""
        if scheme.lower() == "basic":
            if not basic:
                raise BadInput(f"{shown}: the registry asks for a credential, and none was given; {_HINT}")
            return basic
        if scheme.lower() != "bearer":
            raise BadInput(f"{shown}: the registry asks for a credential of an unknown kind: {challenge[:80]!r}")
        values = {name.lower(): value for name, value in _PARAMETER.findall(rest)}
        realm = values.pop("realm", "")
        if not realm.startswith("https://"):
            raise BadInput(f"{shown}: the registry's token service is not at https://: {realm[:80]!r}")
        asked = {name: values[name] for name in ("service", "scope") if name in values}
        asked.setdefault("scope", f"repository:{self._repository}:pull")
        url = f"{realm}{'&' if '?' in realm else '?'}{urllib.parse.urlencode(asked)}"
        answer = self._client.get(url, f"{shown}: the token service {realm.partition('?')[0]}", {}, basic)
        try:
            document = json.loads(body_of(answer, shown, _LARGEST_TOKEN))
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise BadInput(f"{shown}: the token service {realm.partition('?')[0]} gave no token")
        return f"Bearer {token}"


_HINT = "set REGISTRY_AUTH_FILE to a mounted .dockerconfigjson, or DOCKER_CONFIG to the folder of a config.json"


def _credential(hosts: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """``user:password`` for the first host that the file of credentials knows; nothing where there is no file."""
    named = environment.get("REGISTRY_AUTH_FILE", "")
    folder = environment.get("DOCKER_CONFIG", "")
    if not named and not folder:
        return ""
    path = Path(named) if named else Path(folder) / "config.json"
    try:
        known = json.loads(read_input(path)).get("auths") or {}
        for key, entry in known.items():
            if re.sub(r"^https?://|/.*$", "", key) in hosts:
                return _user_and_password(entry, path)
    except (ValueError, AttributeError, TypeError):
        raise BadInput(f"{path} is no file of registry credentials; expected a JSON object with auths") from None
    return ""


def _user_and_password(entry: Mapping[str, Any], path: Path) -> str:
    if entry.get("auth"):
        return base64.b64decode(entry["auth"], validate=True).decode()
    if entry.get("username"):
        return f"{entry['username']}:{entry.get('password', '')}"
    raise BadInput(f"{path} has neither auth nor username for this registry; credential stores are not asked")


def parse_document(content: bytes, media_type: str, digest: str, shown: str) -> Document:
    """A manifest or an index as JSON; raises ``ModelRefused``."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ModelRefused(f"{shown}: the manifest is no JSON object; is this an image registry?")
    return Document(document, str(document.get("mediaType") or media_type), digest)
