"""The embedded Rego engine: regorus in process, behind ``PolicyEngine``'s two methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import regorus

from admission.finding import Finding
from admission.validator import PolicyAnswers, PolicyError, PolicyInput, PolicyRule, RuleSettings
from webhook.policy_files import PolicySet

_MAX_FINDINGS = 100


class EmbeddedEngine:
    """Policies of one set, parsed once. Not for use by several threads at a time."""

    def __init__(self, policies: PolicySet, settings: Mapping[str, RuleSettings]) -> None:
        self._engine = regorus.Engine()
        for module in policies.modules:
            try:
                self._engine.add_policy(module.path, module.text)
            except Exception as error:  # noqa: BLE001  # regorus raises plain exceptions
                raise PolicyError(f"policy {module.path} is refused: {_first_lines(error)}") from None
        self._engine.add_data(policies.data)
        self._packages = {f"data.tidewaiter.{one.package}.findings": one.rule.id for one in policies.modules}
        self.rules: Mapping[str, PolicyRule] = {
            one.rule.id: replace(one.rule, settings=settings.get(one.rule.id, RuleSettings()))
            for one in policies.modules
        }
        self.revision = policies.revision
        self._warm_up()

    def _warm_up(self) -> None:
        """Evaluate once: unknown functions and recursion show only then, and the first run is slow."""
        self.evaluate_now({"path": "", "containers": [], "spec": {"volumes": []}, "labels": {}, "operation": "CREATE"})

    async def evaluate(self, policy_input: PolicyInput) -> PolicyAnswers:
        """Findings by rule id; a rule that fails is a ``RuleFailure``."""
        return self.evaluate_now(policy_input)

    def evaluate_now(self, policy_input: Mapping[str, Any]) -> Mapping[str, list[Finding]]:
        """Findings by rule id. A rule that fails raises: it is never skipped in silence."""
        findings: dict[str, list[Finding]] = {}
        self._engine.set_input(policy_input)
        for query, rule in self._packages.items():
            try:
                answer = self._engine.eval_rule_as_json(query)
            except Exception as error:  # noqa: BLE001  # regorus raises plain exceptions
                raise PolicyError(f"rule {rule} failed: {_first_lines(error)}") from None
            found = orjson.loads(answer)
            if found:
                findings[rule] = [_finding(rule, one) for one in found[:_MAX_FINDINGS]]
        return findings


def _finding(rule: str, answer: Any) -> Finding:
    if not isinstance(answer, dict) or not answer.get("message"):
        raise PolicyError(f"rule {rule} answered {str(answer)[:80]!r}; findings have path, message and remedy")
    return Finding(
        rule=rule,
        path=str(answer.get("path") or "object"),
        message=str(answer["message"]),
        remedy=str(answer.get("remedy") or "see the rule's description"),
        container=str(answer.get("container") or ""),
    )


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
