"""Makes of each kind of engine what a ``PolicyStore`` asks for."""

from __future__ import annotations

from collections.abc import Callable, Collection

from admission.validator import PolicyError, RuleSettings
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
    settings: RuleSettingsOf,
    on_failure: OnFailure = ignore_failure,
    limits: ChildLimits | None = None,
    taken: Collection[str] = (),
) -> MakeEngine:
    """For a team's own policies; a rule whose id is ``taken`` by a shipped one is refused."""

    async def make(policies: PolicySet) -> Engine:
        _refuse_taken(policies, taken)
        engine = ChildEngine(policies, _of_each(policies, settings), on_failure, limits)
        await engine.start()
        return engine

    return make


def by_opa(
    server: OpaServer,
    settings: RuleSettingsOf,
    on_failure: OnFailure = ignore_failure,
    limits: OpaLimits | None = None,
    taken: Collection[str] = (),
) -> MakeEngine:
    """For clusters that have an OPA server; a rule whose id is ``taken`` by a shipped one is refused."""

    async def make(policies: PolicySet) -> Engine:
        _refuse_taken(policies, taken)
        return OpaEngine(policies, server, _of_each(policies, settings), on_failure, limits)

    return make


def _refuse_taken(policies: PolicySet, taken: Collection[str]) -> None:
    """A reload must not bring a second rule of one id: one of the two would fall silent."""
    twice = sorted(set(policies.rules) & set(taken))
    if twice:
        raise PolicyError(
            f"{policies.module(twice[0]).path}: rule id {twice[0]} is that of a policy that comes with Tidewaiter; "
            "rename the rule"
        )


def _of_each(policies: PolicySet, settings: RuleSettingsOf) -> dict[str, RuleSettings]:
    return {rule: settings(rule) for rule in policies.rules}
