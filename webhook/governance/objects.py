"""Our own objects on an API server, for the command line: refusals become sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhook.cluster import ClusterUnavailableError, connect
from webhook.governance.access import GROUP

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_PAGE = 500
_TIMEOUT_SECONDS = 30
_CREATED = (200, 201)
_CONFLICT, _FORBIDDEN, _NOT_FOUND, _SERVER_ERROR = 409, 403, 404, 500
_BY_WEBHOOK = "denied the request: "
_CALL_FAILED = "failed calling webhook"
_VERBS = {"GET": "get", "POST": "create", "PUT": "update"}


class RefusedError(Exception):
    """The cluster refuses; the text is a sentence for whoever asked."""


class ConflictError(Exception):
    """The object exists already, or was changed meanwhile."""


def connect_as(kubeconfig: Path | None, context: str) -> ApiClient:
    """A client by a kubeconfig and context, by the usual places, or by this pod's own account.

    Raises ``ClusterUnavailableError``.
    """
    if kubeconfig is not None and not kubeconfig.exists():
        raise ClusterUnavailableError(f"kubeconfig {kubeconfig} does not exist")
    from kubernetes import config  # half a second that only this needs

    try:
        client: ApiClient = config.new_client_from_config(  # type: ignore[no-untyped-call]
            config_file=str(kubeconfig) if kubeconfig is not None else None, context=context or None
        )
    except Exception as error:  # noqa: BLE001  # a kubeconfig that is no YAML, or lacks a key, comes out as whatever
        if isinstance(error, config.ConfigException) and kubeconfig is None and not context:
            return _own_account(error)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ClusterUnavailableError(f"no cluster by {kubeconfig or 'your kubeconfig'}: {reason}") from None
    else:
        return client


def _own_account(missing: Exception) -> ApiClient:
    try:
        return connect(None)
    except ClusterUnavailableError:
        raise ClusterUnavailableError(
            f"no cluster: {missing}, and this is no pod of one; give --kubeconfig FILE, or set KUBECONFIG"
        ) from None


@dataclass
class Objects:
    """One resource of ours. ``namespace`` is empty for cluster-scoped ones.

    Errors: ``RefusedError``, ``ConflictError``, ``ClusterUnavailableError``. ``warnings`` are
    what the webhook said besides.
    """

    api: ApiClient
    resource: str
    namespace: str = ""
    warnings: list[str] = field(default_factory=list)

    def get(self, name: str, role: str) -> dict[str, Any] | None:
        """One object; None where there is none. ``role`` is the one that may."""
        return self._send("GET", f"/{name}", role)

    def everything(self, role: str) -> list[dict[str, Any]]:
        """All of them."""
        found: list[dict[str, Any]] = []
        following = ""
        while True:
            query = {"limit": str(_PAGE), **({"continue": following} if following else {})}
            page = self._send("GET", "", role, query=query, verb="list")
            if page is None:
                raise self._not_installed()
            found += page.get("items") or ()
            following = (page.get("metadata") or {}).get("continue") or ""
            if not following:
                return found

    def create(self, obj: Mapping[str, Any], role: str) -> dict[str, Any]:
        """Create an object."""
        made = self._send("POST", "", role, obj)
        if made is None:
            raise self._not_installed()
        return made

    def replace_status(self, obj: Mapping[str, Any], role: str) -> dict[str, Any] | None:
        """Write the status, of the version that was read; None where the object is gone."""
        return self._send("PUT", f"/{obj['metadata']['name']}/status", role, obj)

    def user(self) -> str:
        """The name that the API server knows us by."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        status, found, _ = self._call("POST", path, body, {})
        if status not in _CREATED:
            raise ClusterUnavailableError(f"the cluster does not say who you are: {found.get('message') or status}")
        return str(found["status"]["userInfo"]["username"])

    def _send(
        self,
        method: str,
        rest: str,
        role: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        verb: str = "",
    ) -> dict[str, Any] | None:
        scope = f"/namespaces/{self.namespace}" if self.namespace else ""
        path = f"/apis/{GROUP}/v1alpha1{scope}/{self.resource}{rest}"
        status, found, warnings = self._call(method, path, body, query or {})
        self.warnings += warnings
        if status in _CREATED:
            return found
        message = str(found.get("message") or f"HTTP status {status}")
        if _CALL_FAILED in message:
            raise RefusedError(f"Tidewaiter does not answer, and without its review nothing is changed: {message}")
        if _BY_WEBHOOK in message:
            raise RefusedError(message.partition(_BY_WEBHOOK)[2].replace("tidewaiter: ", ""))
        if status == _NOT_FOUND:
            return None
        if status == _CONFLICT:
            raise ConflictError(message)
        if status == _FORBIDDEN:
            subresource = "/status" if rest.endswith("/status") else ""
            raise RefusedError(
                f"{message}. That takes a role with apiGroups [{GROUP}], resources [{self.resource}{subresource}], "
                f"verbs [{verb or _VERBS[method]}]; {role} is one: have it bound to you"
            )
        if status >= _SERVER_ERROR:
            raise ClusterUnavailableError(f"the cluster does not answer: {message}")
        raise RefusedError(message)

    def _not_installed(self) -> ClusterUnavailableError:
        return ClusterUnavailableError(
            f"this cluster knows no {self.resource}.{GROUP}; install Tidewaiter's CustomResourceDefinitions"
        )

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str]
    ) -> tuple[int, dict[str, Any], list[str]]:
        request = self.api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self.api.call_api(*request, _request_timeout=_TIMEOUT_SECONDS).response
            content = bytes(response.data or b"")
        except Exception as error:
            reason = (str(getattr(error, "reason", "") or error).splitlines() or [type(error).__name__])[0][:300]
            raise ClusterUnavailableError(f"the cluster does not answer: {reason}") from error
        try:
            found = json.loads(content)
        except ValueError:
            found = {"message": content.decode(errors="replace")[:300]}
        headers = response.headers.getlist("Warning") if hasattr(response.headers, "getlist") else []
        return int(response.status), found if isinstance(found, dict) else {}, [_warning(one) for one in headers]


def _warning(header: str) -> str:
    """The text of ``299 - "text"``."""
    return header.partition('"')[2].rpartition('"')[0].replace('\\"', '"').removeprefix("tidewaiter: ")
