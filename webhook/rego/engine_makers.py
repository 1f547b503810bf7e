"""Makes of each kind of engine what a ``PolicyStore`` asks for."""

from __future__ import annotations

from collections.abc import Callable

from admission.validator import RuleSettings
from webhook.rego.answers import OnFailure, ignore_failure
from webhook.rego.child_engine import ChildEngine, ChildLimits
from webhook.rego.combined_engine import Engine
from webhook.rego.embedded_engine import EmbeddedEngine
from webhook.rego.opa_client import OpaServer
from webhook.rego.opa_engine import OpaEngine, OpaLimits
from webhook.rego.policy_set import PolicySet
from webhook.rego.policy_store import MakeEngine

RuleSettingsOf = Callable[[str], RuleSettings]
"""Settings of a rule by its id: ``Settings.rule``."""


def in_process(settings: RuleSettingsOf, on_failure: OnFailure = ignore_failure) -> MakeEngine:
    """For the policies that come with Tidewaiter."""

    async def make(policies: PolicySet) -> Engine:
        return EmbeddedEngine(policies, _of_each(policies, settings), on_failure)

    return make


def in_child(
    settings: RuleSettingsOf, on_failure: OnFailure = ignore_failure, limits: ChildLimits | None = None
) -> MakeEngine:
    """For a team's own policies."""

    async def make(policies: PolicySet) -> Engine:
        engine = ChildEngine(policies, _of_each(policies, settings), on_failure, limits)
        await engine.start()
        return engine

    return make


def by_opa(
    server: OpaServer,
    settings: RuleSettingsOf,
    on_failure: OnFailure = ignore_failure,
    limits: OpaLimits | None = None,
) -> MakeEngine:
    """For clusters that have an OPA server."""

    async def make(policies: PolicySet) -> Engine:
        return OpaEngine(policies, server, _of_each(policies, settings), on_failure, limits)

    return make


def _of_each(policies: PolicySet, settings: RuleSettingsOf) -> dict[str, RuleSettings]:
    return {rule: settings(rule) for rule in policies.rules}
