"""Plain requests to the API server, for tests that make hundreds of them.

kubectl takes a tenth of a second to start; a request on an open connection takes milliseconds.
"""

import http.client
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.controlplane.certificates import KeyPair

REQUEST_LIMIT_S = 30.0
_API_VERSION = re.compile(r"[a-z0-9.-]+(/[a-z0-9.-]+)?")
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class ApiResponse:
    """What the API server answered; `warnings` are those that kubectl would print."""

    status: int
    body: dict[str, Any]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the request was granted."""
        return self.status < 300

    @property
    def message(self) -> str:
        """The reason of a refusal; empty where there is none."""
        return "" if self.ok else str(self.body.get("message", ""))


class ApiClient:
    """One connection, authenticated by a client certificate. Use as a context manager."""

    def __init__(self, server: str, authority: Path, pair: KeyPair) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        context.load_cert_chain(pair.certificate, pair.key)
        self._connection = http.client.HTTPSConnection(
            urlsplit(server).netloc, context=context, timeout=REQUEST_LIMIT_S
        )
        self._plurals: dict[str, dict[str, tuple[str, bool]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None, user: str = "") -> ApiResponse:
        """One request; `path` begins with /api or /apis. An administrator may act as another `user`."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if user:
            headers |= {"Impersonate-User": user, "Impersonate-Group": "system:masters"}
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        warnings = (found for line in answer.headers.get_all("Warning", ()) for found in _WARNING.findall(line))
        return ApiResponse(
            answer.status,
            dict(json.loads(content)) if content.startswith(b"{") else {"message": content.decode()},
            tuple(re.sub(r"\\(.)", r"\1", one) for one in warnings),
        )

    def create(
        self, obj: Mapping[str, Any], namespace: str = "", *, dry_run: bool = False, user: str = ""
    ) -> ApiResponse:
        """Create an object; a namespaced one goes into `namespace`, wherever it says it belongs.

        A kind that the API server does not serve is answered with 404, as by kubectl.
        """
        api_version, kind = str(obj.get("apiVersion", "")), str(obj.get("kind", ""))
        prefix = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        served = self._resources(prefix) if _API_VERSION.fullmatch(api_version) else {}
        plural, namespaced = served.get(kind, ("", False))
        if not plural:
            return ApiResponse(404, {"message": f"no matches for kind {kind!r} in version {api_version!r}"}, ())
        if namespaced:
            obj = {**obj, "metadata": {**obj.get("metadata", {}), "namespace": namespace}}
            prefix = f"{prefix}/namespaces/{namespace}"
        return self.send("POST", f"{prefix}/{plural}{'?dryRun=All' if dry_run else ''}", obj, user)

    def items(self, path: str) -> list[dict[str, Any]]:
        """The objects of a list, each with its kind, which a list's items lack."""
        listed = self.send("GET", path).body
        kind = str(listed["kind"]).removesuffix("List")
        return [{**one, "kind": kind} for one in listed["items"]]

    def _resources(self, prefix: str) -> dict[str, tuple[str, bool]]:
        if prefix not in self._plurals:
            found = self.send("GET", prefix).body.get("resources", ())
            plurals = {one["kind"]: (one["name"], one["namespaced"]) for one in found if "/" not in one["name"]}
            if not plurals:
                return {}
            self._plurals[prefix] = plurals
        return self._plurals[prefix]
