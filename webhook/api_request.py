"""Plain requests to the API server, without a model made of every object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

JSON = "application/json"
_OK = 200
_PAGE = 500


def request(
    api: ApiClient, path: str, query: Mapping[str, Any], timeout: float | tuple[float, float], accept: str = JSON
) -> Any:
    """The response as it comes, not read yet; raises ``ApiException`` for any status but 200."""
    from kubernetes.client.exceptions import ApiException  # half a second that only a cluster needs

    sent = api.param_serialize(
        "GET", path, query_params=list(query.items()), header_params={"Accept": accept}, auth_settings=["BearerToken"]
    )
    response = api.call_api(*sent, _request_timeout=timeout).response
    if response.status != _OK:
        raise ApiException(status=response.status, reason=response.reason)
    return response


def get_json(
    api: ApiClient, path: str, query: Mapping[str, Any], timeout_seconds: float, accept: str = JSON
) -> dict[str, Any]:
    """One JSON object."""
    found: dict[str, Any] = orjson.loads(request(api, path, query, timeout_seconds, accept).data)
    return found


def list_pages(
    api: ApiClient, path: str, query: Mapping[str, Any], accept: str = JSON, timeout_seconds: float = 30
) -> Iterator[dict[str, Any]]:
    """A list, page by page: each with its ``items`` and ``metadata``."""
    asked = {"limit": _PAGE, **query}
    while True:
        page = get_json(api, path, asked, timeout_seconds, accept)
        yield page
        following = page["metadata"].get("continue")
        if not following:
            return
        asked["continue"] = following
