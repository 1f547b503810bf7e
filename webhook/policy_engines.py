"""The Rego engines that the settings ask for: for the policies that come with Tidewaiter, and for a team's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from webhook.rego.answers import OnFailure
from webhook.rego.child_engine import ChildLimits
from webhook.rego.combined_engine import CombinedEngine
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.engine_makers import by_opa, in_child, in_process
from webhook.rego.joined_source import JoinedSource
from webhook.rego.opa_client import OpaServer
from webhook.rego.opa_engine import OpaLimits
from webhook.rego.overlaid_source import OverlaidSource
from webhook.rego.policy_store import PolicyStore
from webhook.rego.sources import (
    BundleSource,
    ConfigMapSource,
    FolderSource,
    PolicySource,
    built_in_policies,
)
from webhook.settings import OpaSettings, PolicySettings, Settings, refuse_unknown_rules

_MEGABYTE = 1024 * 1024
OnChange = Callable[[PolicyStore], None]


def shipped_source(policies: PolicySettings) -> PolicySource | None:
    """The policies that come with Tidewaiter; None where the settings do without."""
    if not policies.built_in:
        return None
    source = FolderSource(built_in_policies())
    return source if policies.data is None else OverlaidSource(source, policies.data)


def own_source(policies: PolicySettings) -> PolicySource | None:
    """A team's own policies; None where there are none."""
    if policies.directory is not None:
        return FolderSource(policies.directory)
    if policies.bundle is not None:
        return BundleSource(policies.bundle, policies.public_key)
    return ConfigMapSource(policies.config_map) if policies.config_map else None


def every_source(policies: PolicySettings) -> PolicySource:
    """All policies of the settings as one; without a ConfigMap's, which are not at hand on the command line."""
    found = [shipped_source(policies), own_source(policies)]
    return JoinedSource([one for one in found if one is not None and not isinstance(one, ConfigMapSource)])


def embedded_engines(settings: Settings, settings_name: str = "settings") -> CombinedEngine:
    """Every policy of the settings in this process, once and without reload: for the command line.

    Raises ``PolicyError``, and ``DocumentError`` where the settings name a rule that does not
    exist. A ConfigMap's policies are not at hand here.
    """
    sources = [shipped_source(settings.policies), own_source(settings.policies)]
    sets = [one.read() for one in sources if one is not None and not isinstance(one, ConfigMapSource)]
    if not settings.policies.config_map:
        refuse_unknown_rules(
            settings, {rule: one for found in sets for rule, one in found.rules.items()}, settings_name
        )
    engines = [EmbeddedEngine(found, {rule: settings.rule(rule) for rule in found.rules}) for found in sets]
    return CombinedEngine(engines)


class PolicyEngines:
    """The engines of a running service, each over a source that is read again when it changes.

    ``start`` first. ``problems`` are sentences about what is on disk and not in force.
    """

    def __init__(self, settings: Settings, settings_name: str, on_failure: OnFailure, on_change: OnChange) -> None:
        self._settings = settings
        self._settings_name = settings_name
        self._on_failure = on_failure
        self._on_change = on_change
        self.own = own_source(settings.policies)
        self.stores: list[PolicyStore] = []
        self.engine = CombinedEngine([])

    async def start(self) -> None:
        """Load everything; raises ``PolicyError`` or ``DocumentError``."""
        policies, settings = self._settings.policies, self._settings
        limits = policies.limits
        shipped, taken = shipped_source(policies), frozenset[str]()
        if shipped is not None:
            make = in_process(settings.rule, self._on_failure)
            if policies.opa is not None:
                make = by_opa(_server(policies.opa), settings.rule, self._on_failure, _opa_limits(policies.opa))
            store = PolicyStore(shipped, make, on_change=self._on_change)
            await store.start()
            taken = frozenset(store.rules)
            self.stores.append(store)
        if self.own is not None:
            make = in_child(
                settings.rule,
                self._on_failure,
                ChildLimits(rule_seconds=limits.rule_seconds, memory_bytes=limits.memory_megabytes * _MEGABYTE),
                taken,
            )
            if policies.opa is not None:
                make = by_opa(_server(policies.opa), settings.rule, self._on_failure, _opa_limits(policies.opa), taken)
            store = PolicyStore(self.own, make, on_change=self._on_change)
            await store.start()
            self.stores.append(store)
        self.engine = CombinedEngine(self.stores)
        refuse_unknown_rules(settings, self.engine.rules, self._settings_name)

    @property
    def problems(self) -> list[str]:
        """What is not in force, and why."""
        return [store.problem for store in self.stores if store.problem]

    async def follow(self) -> None:
        """Read again what changes, until cancelled."""
        await asyncio.gather(*(store.follow() for store in self.stores))

    async def close(self) -> None:
        """End children and connections."""
        for store in self.stores:
            await store.close()


def _server(opa: OpaSettings) -> OpaServer:
    return OpaServer(
        url=opa.url,
        ca_file=opa.ca_file,
        certificate=opa.certificate,
        key=opa.key,
        token_file=opa.token_file,
        connections=opa.connections,
    )


def _opa_limits(opa: OpaSettings) -> OpaLimits:
    return OpaLimits(deadline_seconds=opa.deadline_seconds)
