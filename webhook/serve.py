"""``tidewaiter serve``: puts the parts together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.routing import Route

from admission.admission_review import AdmissionRequest
from admission.decision import Decision
from admission.namespace import Namespace
from admission.policy_exception import PolicyException
from audit.trail import Trail, open_trail
from registries.chain import RegistryChain
from registries.cluster import ClusterRegistry
from registries.opening import World, open_registries
from registries.opening_images import open_image_signatures
from registries.watched import WatchedRegistry
from webhook.access_review import AccessReviews
from webhook.cluster import (
    ClusterWatch,
    access_asker,
    config_map_kind,
    connect,
    event_poster,
    governance_kinds,
)
from webhook.cluster_files import cluster_objects, load_cluster_files, sample_cluster
from webhook.cluster_state import ClusterState
from webhook.config_map_feed import ConfigMapFeed
from webhook.governance.access import asking
from webhook.governance.offline import OwnObjects
from webhook.governance.policy_exceptions import PolicyExceptions
from webhook.governance.review import GovernanceReviewer
from webhook.governance.routes import governance_routes
from webhook.governance.state import GovernanceState
from webhook.http_protocol import bounded_loop
from webhook.metrics import Metrics
from webhook.owner_events import OwnerEvents
from webhook.policy_engines import OnChange, PolicyEngines
from webhook.policy_events import policy_event
from webhook.process import Process
from webhook.registry_problems import RegistryProblems
from webhook.rego.policy_store import PolicyStore
from webhook.rego.sources import ConfigMapSource
from webhook.reviewer import Reviewer
from webhook.serving_certificate import serving_certificate
from webhook.settings import Settings, registries_settings

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from webhook.page.serving import ServedPage

_LOG = logging.getLogger("tidewaiter")
_FIRST_SIGHT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ClusterSource:
    """Where the cluster's facts come from: an API server, or manifests."""

    kubeconfig: Path | None = None
    in_cluster: bool = False
    manifests: Path | None = None


def serve(settings: Settings, source: ClusterSource, certificates: Path | None, settings_name: str) -> None:
    """Run until a signal ends it. Raises ``DocumentError`` or ``PolicyError`` where it cannot start."""
    metrics = Metrics()
    # Closed after the loop: a request that its end cuts off is written down too.
    records = open_trail(settings.audit, sys.stdout.buffer, on_drop=metrics.records_dropped.inc)
    with (
        contextlib.closing(records),
        serving_certificate(settings.server, certificates) as context,
        asyncio.Runner(loop_factory=lambda: bounded_loop(settings.server.read_seconds)) as runner,
    ):
        runner.run(_serve(settings, source, context, settings_name, metrics, records))


async def _serve(
    settings: Settings,
    source: ClusterSource,
    context: ssl.SSLContext,
    settings_name: str,
    metrics: Metrics,
    records: Trail,
) -> None:
    state = ClusterState()
    api = _api(source)
    async with contextlib.AsyncExitStack() as ending:
        watch = _follow_cluster(api, source, state)
        if watch is not None:
            ending.callback(watch.stop)
        events = None if api is None else OwnerEvents(event_poster(api), metrics.events_dropped.inc)
        if events is not None:
            ending.callback(events.close)
        changed = _on_policy_change(settings, metrics, events)
        policies = PolicyEngines(settings, settings_name, metrics.count_policy_failure, changed)
        ending.push_async_callback(policies.close)
        if api is not None:
            await _hand_over_config_map(policies, api, settings, ending)
        await policies.start()
        watches = [] if watch is None else [watch]
        versions, exceptions = _own_objects(api, source, settings, ending, watches)
        metrics.follow_exceptions(lambda: exceptions.current)
        routes = [] if api is None else _governance(api, settings, records, metrics)
        world = World(
            folder=settings.folder,
            count=metrics.count_registry,
            tell_problem=RegistryProblems(metrics).tell,
            cluster=lambda one: WatchedRegistry(one, versions, metrics.count_registry),
        )
        registries = open_registries(registries_settings(settings), world)
        ending.push_async_callback(registries.close)
        images = open_image_signatures(settings.image_signatures, world)
        if images is not None:
            ending.push_async_callback(images.close)
        reviewer = Reviewer(
            settings,
            state,
            policies.engine,
            approvals=registries,
            images=images,
            exceptions=lambda: exceptions.current,
            metrics=metrics,
            record=records.write,
            read_namespace=None if watch is None else _namespace_reader(watch),
            access=None if api is None else AccessReviews(access_asker(api)),
            tell_owner=_tell_nobody if events is None else events.tell,
        )
        page = _page(settings, api, state, policies, registries, lambda: exceptions.current)
        if page is not None:
            ending.callback(page.end)
        await Process(settings, reviewer, watches, registries, policies, context, routes, page).run()


def _page(
    settings: Settings,
    api: ApiClient | None,
    state: ClusterState,
    policies: PolicyEngines,
    registries: RegistryChain,
    exceptions: Callable[[], tuple[PolicyException, ...]],
) -> ServedPage | None:
    """The page over decision records; None where the settings have none."""
    if not settings.page.enabled:
        return None
    # Its templates take a moment to import, which nobody else should wait for.
    from webhook.page.facts import Facts
    from webhook.page.opening import open_page
    from webhook.page.serving import served_page
    from webhook.page.token_review import token_reviewer

    facts = Facts(settings, policies, registries, exceptions, state.namespace)
    ask, review = (None, None) if api is None else (access_asker(api), token_reviewer(api))
    return served_page(open_page(settings, facts, ask, review), settings.page)


def _own_objects(
    api: ApiClient | None,
    source: ClusterSource,
    settings: Settings,
    ending: contextlib.AsyncExitStack,
    watches: list[ClusterWatch],
) -> tuple[ClusterRegistry, PolicyExceptions]:
    """ModelVersion and PolicyException objects: followed (``watches`` grows), or taken from manifests once."""
    own_namespace = settings.server.namespace
    if api is None:
        own = OwnObjects(settings.governance, own_namespace)
        own.take(cluster_objects(source.manifests or sample_cluster()))
        return own.versions, own.exceptions
    versions, exceptions = ClusterRegistry(settings.governance.approvers), PolicyExceptions(own_namespace)
    followed = ClusterWatch(api, GovernanceState(versions, exceptions), governance_kinds(own_namespace))
    followed.start()
    ending.callback(followed.stop)
    watches.append(followed)
    return versions, exceptions


def _governance(api: ApiClient, settings: Settings, records: Trail, metrics: Metrics) -> list[Route]:
    """The webhooks for our own resources."""
    ask = asking(access_asker(api))
    own = settings.server.namespace
    reviewer = GovernanceReviewer(
        settings.governance,
        settings.environments,
        own,
        ask,
        record=records.write,
        count=metrics.count_governance,
    )
    return governance_routes(reviewer, settings.server.read_seconds)


async def _hand_over_config_map(
    policies: PolicyEngines, api: ApiClient, settings: Settings, ending: contextlib.AsyncExitStack
) -> None:
    """Follow the ConfigMap that holds a team's policies, and wait for its first sight."""
    if not isinstance(policies.own, ConfigMapSource):
        return
    name, namespace = settings.policies.config_map, settings.server.namespace
    follower = ClusterWatch(api, ConfigMapFeed(policies.own), config_map_kind(namespace, name))
    follower.start()
    ending.callback(follower.stop)
    await asyncio.to_thread(follower.wait_until_listed, _FIRST_SIGHT_SECONDS)


def _on_policy_change(settings: Settings, metrics: Metrics, events: OwnerEvents | None) -> OnChange:
    def changed(store: PolicyStore) -> None:
        metrics.policies_changed(store)
        if events is not None:
            namespace, config_map = settings.server.namespace, settings.policies.config_map
            events.write(policy_event(store, namespace, config_map, datetime.now(UTC)))

    return changed


def _api(source: ClusterSource) -> ApiClient | None:
    """A client for the cluster; None where facts come from manifests."""
    return connect(source.kubeconfig) if source.kubeconfig is not None or source.in_cluster else None


def _tell_nobody(_request: AdmissionRequest, _decision: Decision) -> None:
    """Without a cluster there is no owner."""


def _follow_cluster(api: ApiClient | None, source: ClusterSource, state: ClusterState) -> ClusterWatch | None:
    """Begin to follow the API server, or take the facts from manifests once."""
    if api is None:
        load_cluster_files(state, source.manifests or sample_cluster())
        return None
    watch = ClusterWatch(api, state)
    watch.start()
    return watch


def _namespace_reader(watch: ClusterWatch) -> Callable[[str], Awaitable[Namespace | None]]:
    async def read(name: str) -> Namespace | None:
        return await asyncio.to_thread(watch.read_namespace, name)

    return read
