"""The embedded engine: regorus in this process, for the policies that come with Tidewaiter.

A rule has no time limit here: what a team writes runs in ``ChildEngine``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from admission.finding import Finding
from admission.validator import PolicyAnswers, PolicyError, PolicyInput, PolicyRule, RuleFailure, RuleSettings
from webhook.rego.answers import OnFailure, findings_of, ignore_failure
from webhook.rego.policy_set import PolicySet
from webhook.rego.regorus_engine import RegorusEngine
from webhook.rego.regorus_error import sentence

WARM_UP: dict[str, Any] = {
    "operation": "CREATE", "namespace": "", "environment": "", "workload": "", "username": "", "groups": [],
    "labels": {}, "annotations": {}, "containers": [], "spec": {"volumes": []},
    "model": {"name": "", "version": "", "uri": ""},
}  # fmt: skip
"""A pod without anything: unknown functions and recursion show only when a rule is evaluated."""


def loaded_engine(policies: PolicySet) -> RegorusEngine:
    """A regorus engine with modules and data; raises ``PolicyError``."""
    held = RegorusEngine()
    try:
        for module in policies.modules:
            held.engine.add_policy(module.path, module.text)
        held.engine.add_data(policies.data)
    except Exception as error:  # noqa: BLE001  # regorus raises plain exceptions
        raise PolicyError(sentence(error)) from None
    return held


def rules_with_settings(policies: PolicySet, settings: Mapping[str, RuleSettings]) -> dict[str, PolicyRule]:
    """The rules by id, each with what the settings file says of it."""
    return {name: replace(rule, settings=settings.get(name, rule.settings)) for name, rule in policies.rules.items()}


class EmbeddedEngine:
    """Policies of one set, parsed once. Raises ``PolicyError`` where one does not work at all."""

    def __init__(
        self,
        policies: PolicySet,
        settings: Mapping[str, RuleSettings] | None = None,
        on_failure: OnFailure = ignore_failure,
    ) -> None:
        self._engines: list[tuple[RegorusEngine, dict[str, str]]] = [
            (loaded_engine(group), group.queries) for group in policies.groups()
        ]
        self._on_failure: OnFailure = ignore_failure
        self.rules: Mapping[str, PolicyRule] = rules_with_settings(policies, settings or {})
        self.revision = policies.revision
        failed = [one.reason for one in self.evaluate_now(WARM_UP).values() if isinstance(one, RuleFailure)]
        if failed:
            raise PolicyError("\n".join(failed))
        self._on_failure = on_failure

    def evaluate_now(self, policy_input: PolicyInput) -> dict[str, list[Finding] | RuleFailure]:
        """What each rule answers, without an event loop."""
        answers: dict[str, list[Finding] | RuleFailure] = {}
        for held, queries in self._engines:
            held.engine.set_input(policy_input)
            for rule, query in queries.items():
                answer = self._answer(held, rule, query)
                if isinstance(answer, RuleFailure):
                    self._on_failure(rule, "error")
                if answer:
                    answers[rule] = answer
        return answers

    def _answer(self, held: RegorusEngine, rule: str, query: str) -> list[Finding] | RuleFailure:
        try:
            return findings_of(self.rules[rule], orjson.loads(held.engine.eval_rule_as_json(query)))
        except Exception as error:  # noqa: BLE001  # regorus raises plain exceptions
            return RuleFailure(f"rule {rule} failed: {sentence(error)}")

    async def evaluate(self, policy_input: PolicyInput) -> PolicyAnswers:
        """What each rule answers; a rule that fails answers a ``RuleFailure``."""
        return self.evaluate_now(policy_input)

    async def close(self) -> None:
        """Let go of the engines."""
        self._engines.clear()
