"""What runs in a cluster: pods, and the workloads that made them, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from admission.workload_kinds.workload_pod import WorkloadKind
from webhook.api_request import get_json, list_pages
from webhook.cluster import ClusterUnavailableError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Object = dict[str, Any]
_SECONDS = 30
_NOT_FOUND = 404


def live_objects(
    api: ApiClient, kinds: Iterable[WorkloadKind], namespace: str, problems: list[str]
) -> Iterator[Object]:
    """Workloads that nothing else made, then pods; each with ``kind`` and ``apiVersion``.

    Kinds that the cluster does not have are passed over; one that may not be listed is a sentence
    in ``problems``. Raises ``ClusterUnavailableError`` where pods cannot be listed, or nobody answers.
    """
    served = _served(api)
    for kind in kinds:
        version = next((one for one in kind.versions if (kind.group, one) in served), "")
        if version and kind.kind != "Pod" and (kind.namespaced or not namespace):
            for obj in _listed(api, kind.group, version, kind.plural, namespace if kind.namespaced else "", problems):
                if _controller(obj) is None:
                    yield {**obj, "kind": kind.kind, "apiVersion": f"{kind.group}/{version}".removeprefix("/")}
    before = len(problems)
    for obj in _listed(api, "", "v1", "pods", namespace, problems):
        if (obj.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            # The scheduler wrote the node: as it came in, the pod had none, or was refused for that.
            spec = {key: value for key, value in obj["spec"].items() if key != "nodeName"}
            yield {**obj, "spec": spec, "kind": "Pod", "apiVersion": "v1"}
    if len(problems) > before:
        raise ClusterUnavailableError(problems.pop())


def controller_of(obj: Object) -> tuple[str, str] | None:
    """Kind and name of the controlling owner."""
    owner = _controller(obj)
    return None if owner is None else (str(owner.get("kind") or ""), str(owner.get("name") or ""))


def _controller(obj: Object) -> Object | None:
    owners = obj["metadata"].get("ownerReferences") or ()
    return next((one for one in owners if one.get("controller")), None)


def _served(api: ApiClient) -> set[tuple[str, str]]:
    """Group and version of everything that the API server serves."""
    try:
        groups = get_json(api, "/apis", {}, _SECONDS).get("groups") or ()
    except Exception as error:  # noqa: BLE001  # whatever the client makes of a broken connection
        raise ClusterUnavailableError(f"the cluster does not answer: {_reason(error)}") from None
    found = {(str(one["name"]), str(version["version"])) for one in groups for version in one.get("versions") or ()}
    return {*found, ("", "v1")}


def _listed(
    api: ApiClient, group: str, version: str, plural: str, namespace: str, problems: list[str]
) -> Iterator[Object]:
    from kubernetes.client.exceptions import ApiException  # half a second that only a cluster needs

    start = f"/apis/{group}/{version}" if group else f"/api/{version}"
    path = f"{start}/namespaces/{namespace}/{plural}" if namespace else f"{start}/{plural}"
    try:
        for page in list_pages(api, path, {}):
            yield from page.get("items") or ()
    except ApiException as error:
        if error.status == _NOT_FOUND:
            return
        problems.append(f"{plural} cannot be listed: {error.status} {error.reason}; they were not judged")
    except Exception as error:  # noqa: BLE001  # whatever the client makes of a broken connection
        raise ClusterUnavailableError(f"the cluster does not answer: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
