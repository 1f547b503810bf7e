"""The cluster's facts from the API server: list, then watch, for each kind that is kept.

``kubernetes.informer.SharedInformer`` does the same, but keeps whole objects in memory,
lists without pages and reconnects without a pause. This keeps what ``ClusterState``
keeps, lists in pages of 500, resumes at the last resource version (bookmarks move it
on), lists again after 410 Gone, and backs off with jitter.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import orjson
import yaml

from admission.namespace import Namespace
from webhook.access_review import AccessQuestion, AskCluster
from webhook.api_request import JSON, get_json, list_pages, request
from webhook.governance.state import watched_paths
from webhook.owner_events import PostEvent

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_LOG = logging.getLogger("tidewaiter.cluster")
_WATCH_SECONDS = 300
_SHORT_SECONDS = 1.0
"""A watch that ends sooner, with nothing seen, is no watch: going on at once would be a flood."""
_FIRST_PAUSE_SECONDS = 0.4
_MAX_PAUSE_SECONDS = 30.0
_METADATA = "application/json;as={};g=meta.k8s.io;v=v1"
_LIST_ACCEPT = (JSON, _METADATA.format("PartialObjectMetadataList"))
_WATCH_ACCEPT = (JSON, _METADATA.format("PartialObjectMetadata"))
_CONFLICT = 409
_GONE = 410
_NOT_FOUND = 404
_FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind to follow; ``optional`` ones may be missing from an older cluster.

    Of a kind that is ``metadata_only`` the API server sends no more than that.
    """

    kind: str
    path: str
    optional: bool = False
    metadata_only: bool = False
    field_selector: str = ""


KINDS = (
    _Kind("Namespace", "/api/v1/namespaces"),
    _Kind("Node", "/api/v1/nodes"),
    _Kind("PriorityClass", "/apis/scheduling.k8s.io/v1/priorityclasses"),
    _Kind("Service", "/api/v1/services"),
    _Kind("NetworkPolicy", "/apis/networking.k8s.io/v1/networkpolicies"),
    _Kind("PodDisruptionBudget", "/apis/policy/v1/poddisruptionbudgets"),
    _Kind("ReplicaSet", "/apis/apps/v1/replicasets"),
    _Kind("ControllerRevision", "/apis/apps/v1/controllerrevisions"),
    _Kind("Pod", "/api/v1/pods", metadata_only=True),
    _Kind("ResourceClaimTemplate", "/apis/resource.k8s.io/v1/resourceclaimtemplates", optional=True),
    _Kind("ServingRuntime", "/apis/serving.kserve.io/v1alpha1/servingruntimes", optional=True),
    _Kind("ClusterServingRuntime", "/apis/serving.kserve.io/v1alpha1/clusterservingruntimes", optional=True),
)


class Feed(Protocol):
    """Whoever is told of objects; on the threads that follow them."""

    def put(self, obj: Mapping[str, Any]) -> None:
        """A new or changed object, with its kind."""

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """An object that is gone."""

    def keep_only(self, kind: str, keys: set[tuple[str, str]]) -> None:
        """A complete list: what is not in it is gone."""


@runtime_checkable
class Listening(Protocol):
    """A feed that wants to know whether it is still up to date."""

    def heard(self, kind: str) -> None:
        """What it was told of a kind is how things stand now: an event, a bookmark, a complete list."""


def config_map_kind(namespace: str, name: str) -> tuple[_Kind, ...]:
    """One ConfigMap, to follow it."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    return (_Kind("ConfigMap", path, field_selector=f"metadata.name={name}"),)


def governance_kinds(own_namespace: str) -> tuple[_Kind, ...]:
    """Our own objects, to follow them; without their CustomResourceDefinitions there are none."""
    return tuple(_Kind(kind, path, optional=True) for kind, path in watched_paths(own_namespace).items())


def _selected(kind: _Kind) -> dict[str, str]:
    return {"fieldSelector": kind.field_selector} if kind.field_selector else {}


class ClusterUnavailableError(Exception):
    """The API server did not answer; the text says why."""


class _GoneError(Exception):
    """The resource version is too old: list again."""


def connect(kubeconfig: Path | None) -> ApiClient:
    """A client for the cluster of ``kubeconfig``, or for the one that this pod runs in."""
    from kubernetes import client, config  # half a second that only this needs

    try:
        if kubeconfig is not None:
            loaded: ApiClient = config.new_client_from_config(config_file=str(kubeconfig))  # type: ignore[no-untyped-call]
            return loaded
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except (config.ConfigException, yaml.YAMLError, ValueError, TypeError) as error:
        where = kubeconfig or "this pod's service account"
        raise ClusterUnavailableError(
            f"no cluster by {where}: {_one_line(error)}; give --kubeconfig FILE or --cluster FILE"
        ) from None
    return client.ApiClient()


class ClusterWatch:
    """Follows every kind on a thread of its own and feeds ``state``."""

    def __init__(self, api: ApiClient, state: Feed, kinds: tuple[_Kind, ...] = KINDS) -> None:
        self._api = api
        self._state = state
        self._heard: Callable[[str], None] = state.heard if isinstance(state, Listening) else lambda _kind: None
        self._kinds = kinds
        self._stopped = threading.Event()
        self._synced = {kind.kind: threading.Event() for kind in kinds}

    def start(self) -> None:
        """Begin to follow; returns at once."""
        for kind in self._kinds:
            threading.Thread(target=self._follow, args=(kind,), name=f"watch-{kind.kind}", daemon=True).start()

    def list_once(self) -> None:
        """Take in everything once, without following it; raises ``ClusterUnavailableError``."""
        from kubernetes.client.exceptions import ApiException

        for kind in self._kinds:
            try:
                self._list(kind)
            except ApiException as error:
                if not (kind.optional and error.status in (_NOT_FOUND, _FORBIDDEN)):
                    raise ClusterUnavailableError(f"{kind.kind} objects cannot be listed: {error.reason}") from None
            except Exception as error:
                raise ClusterUnavailableError(f"the cluster does not answer: {_reason(error)}") from error

    def stop(self) -> None:
        """End the threads; open watches end with their time limit or the process."""
        self._stopped.set()

    @property
    def missing(self) -> list[str]:
        """Kinds that have not been listed yet: until then the process is not ready."""
        return [kind for kind, synced in self._synced.items() if not synced.is_set()]

    def wait_until_listed(self, seconds: float) -> bool:
        """Block until every kind was listed once, within a limit; whether it was."""
        end = time.monotonic() + seconds
        return all(synced.wait(max(0, end - time.monotonic())) for synced in self._synced.values())

    def read_namespace(self, name: str, timeout_seconds: float = 2) -> Namespace | None:
        """One namespace straight from the API server; None where it does not exist.

        For a pod in a namespace so new that the watch has not brought it yet.
        """
        from kubernetes.client.exceptions import ApiException

        try:
            obj = get_json(self._api, f"/api/v1/namespaces/{name}", {}, timeout_seconds)
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            raise ClusterUnavailableError(f"namespace {name} cannot be read: {error.reason}") from None
        except Exception as error:
            raise ClusterUnavailableError(f"namespace {name} cannot be read: {type(error).__name__}") from error
        metadata = obj["metadata"]
        return Namespace(name, metadata.get("labels") or {}, metadata.get("annotations") or {})

    def _follow(self, kind: _Kind) -> None:
        from kubernetes.client.exceptions import ApiException

        version, failures = "", 0
        while not self._stopped.is_set():
            begun = time.monotonic()
            try:
                if not version:
                    version = self._list(kind)
                    self._synced[kind.kind].set()
                for seen in self._watch(kind, version):
                    version, failures = seen, 0
                    if self._stopped.is_set():
                        return
                if time.monotonic() - begun > _SHORT_SECONDS:
                    # Ended in order, by the API server's own time limit: cut off, it would have raised.
                    self._heard(kind.kind)
                    failures = 0
                    continue
                reason = "the watch ended at once"
            except _GoneError:
                version, reason = "", "the resource version is too old"
            except Exception as error:  # noqa: BLE001  # whatever it is, following goes on
                if isinstance(error, ApiException) and error.status == _GONE:
                    version = ""
                elif kind.optional and isinstance(error, ApiException) and error.status in (_NOT_FOUND, _FORBIDDEN):
                    self._synced[kind.kind].set()
                    self._stopped.wait(_MAX_PAUSE_SECONDS)  # until somebody installs it
                    continue
                reason = _reason(error)
            failures += 1
            self._pause(kind, reason, failures)

    def _pause(self, kind: _Kind, reason: str, failures: int) -> None:
        seconds = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 8)) * random.uniform(0.5, 1)  # noqa: S311
        _LOG.warning("following %s is interrupted (%s); again in %.2f s", kind.kind, reason, seconds)
        self._stopped.wait(seconds)

    def _list(self, kind: _Kind) -> str:
        """Read everything in pages; returns the resource version to watch from."""
        keys: set[tuple[str, str]] = set()
        for page in list_pages(self._api, kind.path, _selected(kind), _LIST_ACCEPT[kind.metadata_only]):
            for obj in page.get("items") or ():
                obj["kind"] = kind.kind
                self._state.put(obj)
                keys.add(_key(obj))
            version = str(page["metadata"]["resourceVersion"])
        self._state.keep_only(kind.kind, keys)
        self._heard(kind.kind)
        return version

    def _watch(self, kind: _Kind, version: str) -> Iterator[str]:
        """Take events in; yields the resource version after each."""
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": _WATCH_SECONDS,
            **_selected(kind),
        }
        for event in self._stream(kind.path, query, _WATCH_ACCEPT[kind.metadata_only]):
            obj, what = event["object"], event["type"]
            if what == "ERROR":
                if obj.get("code") == _GONE:
                    raise _GoneError
                raise ClusterUnavailableError(str(obj.get("message")))
            if what == "DELETED":
                self._state.remove(kind.kind, *_key(obj))
            elif what in ("ADDED", "MODIFIED"):
                obj["kind"] = kind.kind
                self._state.put(obj)
            self._heard(kind.kind)
            yield str(obj["metadata"]["resourceVersion"])

    def _stream(self, path: str, query: dict[str, Any], accept: str) -> Iterator[dict[str, Any]]:
        response = request(self._api, path, query, (5, _WATCH_SECONDS + 30), accept)
        rest = b""
        try:
            for chunk in response.stream(amt=None, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield orjson.loads(line)
        finally:
            response.close()
            response.release_conn()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]


def _key(obj: dict[str, Any]) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error).splitlines()[0][:200] if str(error) else type(error).__name__


def access_asker(api: ApiClient) -> AskCluster:
    """Asks this cluster's authorizer by SubjectAccessReview."""
    from kubernetes.client import AuthorizationV1Api

    reviews = AuthorizationV1Api(api)

    def ask(question: AccessQuestion) -> bool:
        attributes = {
            "namespace": question.namespace,
            "verb": question.verb,
            "group": question.group,
            "resource": question.resource,
            "name": question.name,
        }
        spec = {"user": question.username, "groups": list(question.groups), "resourceAttributes": attributes}
        body: Any = {"spec": spec}  # the client takes plain objects, and says so nowhere
        status = reviews.create_subject_access_review(body, _request_timeout=2).status
        return status is not None and bool(status.allowed)

    return ask


def event_poster(api: ApiClient) -> PostEvent:
    """Writes an Event; where it exists already, its count and time move on."""
    from kubernetes.client import CoreV1Api
    from kubernetes.client.exceptions import ApiException

    events = CoreV1Api(api)

    def post(event: dict[str, Any]) -> None:
        name, namespace = event["metadata"]["name"], event["metadata"]["namespace"]
        body: Any = event
        try:
            events.create_namespaced_event(namespace, body, _request_timeout=5)
        except ApiException as error:
            if error.status != _CONFLICT:
                raise
            before = events.read_namespaced_event(name, namespace, _request_timeout=5)
            again = {"count": (before.count or 1) + 1, "lastTimestamp": event["lastTimestamp"]}
            events.patch_namespaced_event(name, namespace, again, _request_timeout=5)

    return post
